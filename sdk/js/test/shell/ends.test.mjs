// What an app may do at the worst moment: close the device in any callback, bring an option that breaks its promise;
// and what a gateway may: say something before it says welcome. The device neither lingers nor stands still.

import assert from "node:assert/strict";
import { once } from "node:events";
import { test } from "node:test";

import WebSocket from "ws";

import { device, gateway, sha, Time, until } from "./gateway.mjs";

const CONTENT = '{"stages":{"live":{}}}';
const DIGEST = sha(CONTENT);
const inline = (rev) => ({
  t: "prefetch", campaign: "cup", rev, from: Date.now(), window_ms: 0,
  bundle: { sha256: DIGEST, bytes: CONTENT.length, inline: CONTENT }
});
const activate = (rev) => ({
  t: "activate", campaign: "cup", rev, stage: "live", bundle: DIGEST, at: Date.now(), window_ms: 0, miss: "generic"
});

// Closes a device in a callback; returns what it told its app after it had said that it ended. Started again it comes
// back: nothing that lingered is in its way.
async function closedIn(t, callback, when, options = {}, state = [inline(10), activate(20)]) {
  const there = await gateway(t, { meet: (peer) => peer.welcome({ state }) });
  const after = [];
  let ended = false;
  const told = {};
  for (const name of ["Prefetched", "Activate", "State", "Error", "Log"]) {
    told[`on${name}`] = (event) => {
      if (ended) after.push([name, event]);
      if (event.state === "ended" && name === "State") ended = true;
      else if (`on${name}` === callback && !ended && when(event)) tv.close();
    };
  }
  const tv = device(t, { url: there.url, ...options, ...told });
  tv.start();
  await until(() => ended);
  const said = after.filter(([name]) => name !== "Log");
  // A socket that it had still opened would have come before this one, and would stay.
  const probe = new WebSocket(there.url, "probe");
  await once(probe, "open");
  await until(() => there.peers.filter((peer) => peer.code === null).length === 1, "all others are closed");
  probe.close();
  tv.start();
  await until(() => tv.state() === "connected");
  return said;
}

for (const state of ["connecting", "connected"]) {
  test(`closed while it says it is ${state}, it says and does nothing more`, async (t) => {
    assert.deepEqual(await closedIn(t, "onState", (event) => event.state === state), []);
  });
}

test("closed while it says what it could not keep, it opens no socket", async (t) => {
  const digests = () => {
    throw new Error("disk");
  };
  const cache = { digests, get: () => null, put: () => [], drop() {} };
  assert.deepEqual(await closedIn(t, "onError", () => true, { cache }), []);
});

test("closed while it says that it opens a socket, it opens none", async (t) => {
  assert.deepEqual(await closedIn(t, "onLog", ({ event }) => event === "open"), []);
});

test("closed while it says that a bundle could not be kept, it does not say that the bundle is there", async (t) => {
  const put = () => {
    throw new Error("disk");
  };
  const cache = { digests: () => [], get: () => null, put, drop() {} };
  const fetch = () => Promise.resolve(new Response(CONTENT));
  const { inline: _, ...bundle } = inline(10).bundle;
  const state = [{ ...inline(10), bundle }];
  assert.deepEqual(await closedIn(t, "onError", ({ kind }) => kind === "storage", { cache, fetch }, state), []);
});

test("an app's cache that breaks its promise once costs one attempt", async (t) => {
  const time = new Time();
  const there = await gateway(t);
  const answers = [Promise.resolve([])];
  const cache = { digests: () => answers.pop() ?? [], get: () => null, put: () => [], drop() {} };
  const tv = device(t, { url: there.url, cache, ...time.options, random: () => 0 });
  tv.start();
  assert.equal((await tv.heard("onError")).kind, "internal");
  time.run(15_000);
  time.run(1);
  await there.peer();
  await until(() => tv.state() === "connected");
});

test("what comes before a welcome counts for nothing", async (t) => {
  const meet = (peer, n) => (n === 1 ? peer.welcome() : peer.send(activate(20)));
  const there = await gateway(t, { meet });
  const tv = device(t, { url: there.url, random: () => 0 });
  tv.start();
  await until(() => tv.state() === "connected");
  (await there.peer()).socket.terminate();
  const peer = await there.peer(2);
  peer.socket.send("no message"); // comes after, so when it is reported the activation was read
  await tv.heard("onError");
  assert.deepEqual(tv.of("onActivate"), []);
  peer.welcome({ state: [activate(20)] });
  await tv.heard("onActivate");
});

test("a text that names a number, where bytes belong, is no message of that many bytes", async (t) => {
  const seen = [];
  const decode = (bytes) => {
    seen.push(bytes.length);
    throw new Error("no message");
  };
  const there = await gateway(t, { meet: (peer) => peer.socket.send("100000000") });
  const tv = device(t, {
    url: there.url, codec: { subprotocol: "fanout.v1.msgpack", encode: JSON.stringify, decode }
  });
  tv.start();
  assert.equal((await tv.heard("onError")).kind, "message");
  assert.deepEqual(seen, []);
});
