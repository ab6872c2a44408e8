// A scripted gateway on a real socket, a real origin, and a device in front of them. Knows the protocol, not the SDK's
// insides: whatever it sends and expects is in docs/protocol.md.

import { createHash } from "node:crypto";
import { once } from "node:events";
import { createServer } from "node:http";

import WebSocket, { WebSocketServer } from "ws";

// FANOUT_SDK names another build to be tested, for instance dist/fanout-device.umd.min.js.
const sdk = await import(process.env.FANOUT_SDK ?? "../../src/index.js");
export const { Cache, Device, slotMs } = sdk.default ?? sdk;
export const sha = (text) => createHash("sha256").update(text).digest("hex");
// Far beyond what anything here takes, so that a slow machine is no failure; only a real failure waits for it.
export const DEADLINE_MS = 45_000;

// Waits until `condition` holds, and returns what it gave.
export async function until(condition, what = String(condition)) {
  // Not by Date: a test may set that.
  for (const began = performance.now(); performance.now() - began < DEADLINE_MS; ) {
    const found = condition();
    if (found) return found;
    await new Promise((resolve) => setTimeout(resolve, 2));
  }
  throw new Error(`never: ${what}`);
}

const part = (object) => Buffer.from(JSON.stringify(object)).toString("base64url");

export function token(claims = {}) {
  return `${part({ alg: "HS256" })}.${part({ sub: "tv-1", topics: ["cup"], ...claims })}.c2ln`;
}

// One connection as the gateway sees it.
class Peer {
  heard = [];
  code = null;

  constructor(socket, request, options) {
    this.socket = socket;
    this.query = new URL(request.url, "http://x").searchParams;
    this.path = request.url.split("?")[0];
    this.protocols = request.headers["sec-websocket-protocol"].split(/, ?/);
    this.extensions = request.headers["sec-websocket-extensions"];
    socket.on("message", (data, binary) => this.heard.push((options.decode ?? JSON.parse)(data, binary)));
    socket.on("close", (code) => (this.code = code));
  }

  send(message) {
    this.socket.send(JSON.stringify(message));
  }

  welcome(fields = {}) {
    this.send({
      t: "welcome", session: "s", now: Date.now(), beacon_s: 10, reconnect: { base_ms: 5, cap_ms: 20 }, state: [], ...fields
    });
  }

  reports(kind) {
    return this.heard.filter((message) => message.t === "report" && message.kind === kind);
  }
}

// options: refuse(request) gives {status, headers} for a handshake to be refused; meet(peer, n) instead of a welcome.
export async function gateway(t, options = {}) {
  const server = createServer();
  const sockets = new WebSocketServer({
    noServer: true,
    handleProtocols: (offered) => [...offered][0]
  });
  const peers = [];
  const tries = [];
  server.on("upgrade", (request, socket, head) => {
    tries.push(request);
    const refusal = options.refuse?.(request, tries.length);
    if (refusal) {
      const headers = Object.entries(refusal.headers ?? {}).map(([name, value]) => `${name}: ${value}\r\n`);
      socket.end(`HTTP/1.1 ${refusal.status} No\r\n${headers.join("")}Content-Length: 0\r\nConnection: close\r\n\r\n`);
      return;
    }
    sockets.handleUpgrade(request, socket, head, (accepted) => {
      const peer = new Peer(accepted, request, options);
      peers.push(peer);
      if (options.meet) options.meet(peer, peers.length);
      else peer.welcome();
    });
  });
  server.listen(0, "127.0.0.1");
  await once(server, "listening");
  t.after(() => {
    for (const socket of sockets.clients) socket.terminate();
    server.closeAllConnections();
    server.close();
  });
  return { url: `ws://127.0.0.1:${server.address().port}`, peers, tries, peer: (n = 1) => until(() => peers[n - 1], `connection ${n}`) };
}

// answer(path, response, n) writes what the origin says.
export async function origin(t, answer) {
  const asked = [];
  const server = createServer((request, response) => {
    asked.push(request.url);
    answer(request.url, response, asked.length);
  });
  server.listen(0, "127.0.0.1");
  await once(server, "listening");
  t.after(() => {
    server.closeAllConnections();
    server.close();
  });
  return { url: `http://127.0.0.1:${server.address().port}`, asked };
}

// A device and everything it told its app, in order: [name, event].
export function device(t, options) {
  const told = [];
  const callbacks = {};
  for (const name of ["Prefetched", "Activate", "Rehearse", "Cancel", "Close", "State", "Error", "Log"]) {
    callbacks[`on${name}`] = (event) => told.push([`on${name}`, event]);
  }
  const tv = new Device({ WebSocket, getToken: () => token(), ...callbacks, ...options });
  t.after(() => tv.close());
  const of = (name) => told.filter(([called]) => called === name).map(([, event]) => event);
  return Object.assign(tv, { told, of, heard: (name, n = 1) => until(() => of(name)[n - 1], `${name} ${n}`) });
}

// Like localStorage, with a quota in characters.
export class Storage {
  constructor(quota = Infinity) {
    this.map = new Map();
    this.quota = quota;
  }
  get length() {
    return this.map.size;
  }
  key(at) {
    return [...this.map.keys()][at];
  }
  getItem(key) {
    return this.map.get(key) ?? null;
  }
  setItem(key, value) {
    let used = 0;
    for (const [name, text] of this.map) if (name !== key) used += name.length + text.length;
    if (used + key.length + value.length > this.quota) throw new Error("QuotaExceededError");
    this.map.set(key, value);
  }
  removeItem(key) {
    this.map.delete(key);
  }
}

// Clocks that stand until they are moved; `run(ms)` fires what is due on the way. `sleep(ms)` is a TV in standby: the
// clocks go on, or the wall clock alone, and no timer fires.
export class Time {
  mono = 1000;
  wall = 1.8e12;
  timers = [];
  clock = { monoMs: () => this.mono, wallMs: () => this.wall };

  set = (work, ms) => {
    const timer = { work, at: this.mono + ms };
    this.timers.push(timer);
    return timer;
  };
  clear = (timer) => {
    this.timers = this.timers.filter((other) => other !== timer);
  };
  get options() {
    return { clock: this.clock, timers: { set: this.set, clear: this.clear } };
  }
  run(ms) {
    const end = this.mono + ms;
    for (;;) {
      const next = this.timers.filter((timer) => timer.at <= end).sort((a, b) => a.at - b.at)[0];
      this.to(Math.max(this.mono, next ? next.at : end));
      if (!next) return;
      this.clear(next);
      next.work();
    }
  }
  to(mono) {
    this.wall += mono - this.mono;
    this.mono = mono;
  }
  sleep(ms, monoStands = false) {
    this.wall += ms;
    if (!monoStands) this.mono += ms;
  }
}
