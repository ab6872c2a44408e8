// A device from outside: a real WebSocket to a scripted gateway, bundles from a real HTTP server.

import assert from "node:assert/strict";
import { test } from "node:test";

import { device, gateway, origin, sha, slotMs, Time, token, until } from "./gateway.mjs";

const CONTENT = '{"stages":{"live":{"title":"LIVE 試合"}}}';
const DIGEST = sha(CONTENT);
// Its window is long over, by any clock: a device whose clock stands still acts on it at once, too.
const prefetch = (fields = {}, bundle = {}) => ({
  t: "prefetch", campaign: "cup", rev: 10, from: 0, window_ms: 1,
  bundle: { sha256: DIGEST, bytes: Buffer.byteLength(CONTENT), ...bundle }, ...fields
});
const inline = (fields) => prefetch(fields, { inline: CONTENT });
const activate = (fields = {}) => ({
  t: "activate", campaign: "cup", rev: 20, stage: "live", bundle: DIGEST, at: Date.now(), window_ms: 20, ...fields
});
const beacon = (rev = 0) => ({ t: "beacon", now: Date.now(), rev });
const served = (text) => (path, response) => response.end(text);

async function connected(t, options = {}, gatewayOptions = {}) {
  const there = await gateway(t, gatewayOptions);
  const tv = device(t, { url: there.url, ...options });
  tv.start();
  const peer = await there.peer();
  return { there, tv, peer };
}

// --- Options

test("wrong options throw a TypeError that says what was sent and what to send", () => {
  const right = { url: "ws://gw", getToken: () => "t" };
  for (const [name, value, says] of [
    ["url", "http://gw", /url is "http:\/\/gw"; send /],
    ["url", "ws://gw/x?a=1", /url is/],
    ["url", undefined, /url is undefined/],
    ["getToken", "abc", /getToken is "abc"; send a function/],
    ["originUrl", "cdn.example", /originUrl/],
    ["deviceId", 12, /deviceId is 12/],
    ["topics", ["A b"], /topics is \["A b"\]/],
    ["topics", "cup", /topics/],
    ["cache", {}, /digests,get,put,drop/],
    ["storage", 5, /getItem/],
    ["onActivate", {}, /onActivate is {}; send a function/],
    ["onActivated", () => {}, /"onActivated"; send one of .*onActivate/]
  ]) {
    assert.throws(() => device({ after() {} }, { ...right, [name]: value }), (error) => {
      assert.ok(error instanceof TypeError);
      assert.match(error.message, says);
      return true;
    });
  }
});

// --- Connecting

test("it asks as the protocol says, and says what it holds when it comes back", async (t) => {
  const { there, tv, peer } = await connected(t);
  assert.equal(peer.path, "/v1/connect");
  assert.deepEqual(peer.protocols, ["fanout.v1.json", `bearer.${token()}`]);
  assert.equal(String(peer.query), "since=0");
  peer.send(inline());
  await tv.heard("onPrefetched");
  peer.socket.close(1012);
  const next = await there.peer(2);
  assert.equal(next.query.get("have"), DIGEST);
  assert.equal(next.query.get("since"), "10");
});

test("a path in the url is kept", async (t) => {
  const there = await gateway(t);
  device(t, { url: `${there.url}/tv/connect` }).start();
  assert.equal((await there.peer()).path, "/tv/connect");
});

for (const [style, getToken] of [
  ["a string", () => token()],
  ["a promise", () => Promise.resolve(token())],
  ["a callback", (done) => void setTimeout(done, 1, token())]
]) {
  test(`getToken may give ${style}`, async (t) => {
    const { tv } = await connected(t, { getToken });
    await until(() => tv.state() === "connected");
  });
}

test("the token is kept while gateways take it, and renewed when one says it has expired", async (t) => {
  let asked = 0;
  const { there, tv, peer } = await connected(t, { getToken: () => token({ n: ++asked }) });
  await tv.heard("onState", 2);
  peer.socket.close(1012);
  const second = await there.peer(2);
  assert.equal(asked, 1);
  await until(() => tv.stats().connections === 2);
  second.socket.close(4001);
  assert.deepEqual((await there.peer(3)).protocols, ["fanout.v1.json", `bearer.${token({ n: 2 })}`]);
});

test("a token that has expired by the server's clock is renewed before it is shown", async (t) => {
  const now = 2e12; // neither this machine's clock nor the gateway's real one
  let asked = 0;
  const getToken = () => token({ n: ++asked, exp: asked === 1 ? now / 1000 - 1 : now / 1000 + 3600 });
  const { there, tv, peer } = await connected(t, { getToken }, { meet: (peer) => peer.welcome({ now }) });
  await until(() => tv.stats().connections === 1);
  assert.equal(asked, 1);
  peer.socket.terminate();
  await there.peer(2);
  assert.equal(asked, 2);
});

test("a refusal without a status renews the token after 8 failures, then 16, 32, ever more seldom", async (t) => {
  let asked = 0;
  const Blind = class {
    // As in a browser: no reason is given.
    constructor() {
      queueMicrotask(() => this.onclose({ code: 1006, reason: "" }));
    }
    close() {}
  };
  const time = new Time();
  const tv = device(t, { url: "ws://gw", WebSocket: Blind, getToken: () => token({ n: ++asked }), random: () => 0, ...time.options });
  tv.start();
  for (let failures = 1; failures <= 33; failures++) {
    await until(() => tv.of("onState").filter((event) => event.state === "waiting").length === failures);
    assert.equal(asked, [8, 16, 32].filter((n) => n < failures).length + 1, `after ${failures} failures`);
    time.run(0);
  }
});

test("a handshake refused with 401 renews the token", async (t) => {
  let asked = 0;
  const { tv } = await connected(t, { getToken: () => token({ n: ++asked }), random: () => 0 }, {
    refuse: (request, n) => n === 1 && { status: 401 }
  });
  assert.equal(asked, 2);
  assert.equal(tv.of("onState")[1].status, 401);
});

test("Retry-After of a refused handshake is waited for, with the backoff on top", async (t) => {
  const there = await gateway(t, { refuse: () => ({ status: 503, headers: { "Retry-After": "7" } }) });
  const tv = device(t, { url: there.url, random: () => 0.5 });
  tv.start();
  const waiting = await tv.heard("onState", 2);
  assert.equal(waiting.state, "waiting");
  assert.equal(waiting.status, 503);
  assert.equal(Math.round(waiting.retry_in_ms), 7000 + 250);
});

test("after 4500 it does not come back, until it is started again", async (t) => {
  const { there, tv, peer } = await connected(t);
  await until(() => tv.state() === "connected");
  peer.socket.close(4500, "topic forbidden");
  const ended = await tv.heard("onState", 3);
  assert.deepEqual(ended, { state: "ended", reason: "topic forbidden", code: 4500 });
  tv.wake();
  assert.equal(tv.state(), "ended");
  assert.equal(there.tries.length, 1);
  tv.start();
  await there.peer(2);
  await until(() => tv.state() === "connected");
});

test("a getToken that throws, rejects, or gives no JWT is reported and asked again", async (t) => {
  let asked = 0;
  const answers = [() => { throw new Error("one"); }, () => Promise.reject(new Error("two")), () => "spaces are none"];
  const { tv } = await connected(t, { getToken: () => (answers[asked++] ?? (() => token()))(), random: () => 0 });
  await until(() => tv.state() === "connected");
  const told = tv.of("onLog").filter((entry) => entry.event === "error");
  assert.deepEqual(told.map((error) => [error.kind, error.detail, error.count]), [
    ["token", "one", 1], ["token", "two", 2], ["token", "getToken gave no JWT", 3]
  ]);
});

test("an opaque token needs a deviceId", async (t) => {
  const there = await gateway(t);
  const lost = device(t, { url: there.url, getToken: () => "opaque" });
  lost.start();
  assert.match((await lost.heard("onError")).detail, /give deviceId/);
  const tv = device(t, { url: there.url, getToken: () => "opaque", deviceId: "tv-9" });
  tv.start();
  await until(() => tv.state() === "connected");
  assert.equal(tv.stats().deviceId, "tv-9");
});

test("a token for other topics asks for everything again", async (t) => {
  let topics = ["cup"];
  const { there, tv, peer } = await connected(t, { getToken: () => token({ topics }) });
  peer.send(inline());
  await tv.heard("onPrefetched");
  topics = ["cup", "news"];
  peer.socket.close(4001);
  const next = await there.peer(2);
  assert.equal(next.query.get("since"), "0");
  assert.equal(next.query.get("have"), DIGEST);
});

test("it opens the new socket before it leaves the old one", async (t) => {
  const { there, tv, peer } = await connected(t, {}, { meet: (peer, n) => n === 1 && peer.welcome() });
  await until(() => tv.state() === "connected");
  peer.send({ t: "reconnect", within_ms: 1 });
  const next = await there.peer(2);
  peer.send(inline());
  await tv.heard("onPrefetched"); // the old one still counts
  assert.equal(peer.code, null);
  next.welcome();
  assert.equal(await until(() => peer.code), 1000);
  assert.deepEqual(tv.of("onState").map((event) => event.state), ["connecting", "connected", "connected"]);
});

test("if the new socket fails, it keeps the old one", async (t) => {
  const { there, tv, peer } = await connected(t, {}, { refuse: (request, n) => n === 2 && { status: 503 } });
  await until(() => tv.state() === "connected");
  peer.send({ t: "reconnect", within_ms: 1 });
  await there.peer(2); // the third try
  assert.equal(there.tries.length, 3);
  assert.equal(await until(() => peer.code), 1000);
  assert.deepEqual(tv.of("onState").map((event) => event.state), ["connecting", "connected", "connected"]);
});

test("a server that chooses no subprotocol is left", async (t) => {
  class Deaf extends (await import("ws")).default {
    get protocol() {
      return "";
    }
  }
  const { tv } = await connected(t, { WebSocket: Deaf });
  assert.match((await tv.heard("onState", 2)).reason, /subprotocol/);
});

test("close leaves with 1000, says so, and nothing is told afterwards", async (t) => {
  const { tv, peer } = await connected(t);
  await until(() => tv.state() === "connected");
  tv.close();
  tv.close();
  assert.equal(tv.state(), "ended");
  assert.equal(await until(() => peer.code), 1000);
  assert.equal(tv.of("onState").length, 3);
});

// --- Content

test("a bundle is fetched from the origin, checked, and reported ready", async (t) => {
  const there = await origin(t, served(CONTENT));
  const { tv, peer } = await connected(t, { originUrl: there.url });
  peer.send(prefetch());
  assert.deepEqual(await tv.heard("onPrefetched"), { campaign: "cup", rev: 10, sha256: DIGEST, via: "fetch" });
  assert.deepEqual(there.asked, [`/v1/bundles/${DIGEST}`]);
  assert.equal(tv.content(DIGEST), CONTENT);
  assert.equal((await until(() => peer.reports("ready")[0])).via, "fetch");
});

test("a bundle's own url is used, and a path of it is one on the origin", async (t) => {
  const there = await origin(t, served(CONTENT));
  const { tv, peer } = await connected(t, { originUrl: `${there.url}/base` });
  peer.send(prefetch({}, { url: "/elsewhere/x" }));
  await tv.heard("onPrefetched");
  assert.deepEqual(there.asked, ["/elsewhere/x"]);
});

for (const [what, answer, says] of [
  ["wrong bytes", served("something else"), /sha256 is/],
  ["too many bytes", (path, response) => { response.write("x".repeat(4096)); }, /over \d+ bytes/],
  ["a 404", (path, response) => response.writeHead(404).end(), /HTTP 404/],
  ["no answer", (path, response) => response.destroy(), /v1\/bundles/]
]) {
  test(`${what} from the origin are not stored, and it is tried again`, async (t) => {
    const there = await origin(t, (path, response, n) => (n === 1 ? answer(path, response) : response.end(CONTENT)));
    const { tv, peer } = await connected(t, { originUrl: there.url, random: () => 0 });
    peer.send(prefetch());
    await tv.heard("onPrefetched");
    assert.equal(there.asked.length, 2);
    assert.equal(tv.of("onError")[0].kind, "fetch");
    assert.match(tv.of("onError")[0].detail, says);
  });
}

test("the origin's Retry-After is added to the wait", async (t) => {
  const there = await origin(t, (path, response) => response.writeHead(503, { "Retry-After": "30" }).end());
  const time = new Time();
  const { tv, peer } = await connected(t, { originUrl: there.url, random: () => 0, ...time.options });
  await until(() => tv.state() === "connected");
  peer.send(prefetch());
  await until(() => tv.of("onLog").some((entry) => entry.t === "prefetch"));
  time.run(1);
  await tv.heard("onError");
  time.run(29000);
  assert.equal(there.asked.length, 1);
  time.run(1100);
  await until(() => there.asked.length === 2);
});

test("a bundle that drips is given up after 30 s", async (t) => {
  const there = await origin(t, (path, response) => response.write("x"));
  const time = new Time();
  const { tv, peer } = await connected(t, { originUrl: there.url, ...time.options });
  await until(() => tv.state() === "connected");
  peer.send(prefetch());
  await until(() => tv.of("onLog").some((entry) => entry.t === "prefetch"));
  time.run(1);
  await until(() => there.asked.length);
  time.run(30000);
  assert.match((await tv.heard("onError")).detail, /too slow/);
});

// --- Flips

test("it flips from its cache at its slot, and reports", async (t) => {
  const { tv, peer } = await connected(t);
  peer.send(inline());
  const at = Date.now() + 1500; // it hears of it before the window is over, or it would have another instant
  peer.send(activate({ at, window_ms: 50 }));
  const event = await tv.heard("onActivate");
  assert.equal(event.due_ms, at + slotMs("tv-1", 20, 50));
  assert.ok(Date.now() >= event.due_ms - 1);
  assert.equal(event.content, CONTENT);
  assert.equal(event.shadow, false);
  assert.deepEqual(tv.shown("cup"), ["live", DIGEST]);
  assert.equal((await until(() => peer.reports("active")[0])).rev, 20);
});

test("a rehearsal reaches onRehearse alone", async (t) => {
  const { tv, peer } = await connected(t);
  peer.send(inline());
  peer.send(activate({ shadow: true }));
  assert.equal((await tv.heard("onRehearse")).shadow, true);
  assert.equal(tv.of("onActivate").length, 0);
  assert.equal(tv.shown("cup"), null);
});

test("outside the share nothing happens, and a share of all includes it", async (t) => {
  const { tv, peer } = await connected(t);
  peer.send(inline());
  peer.send(activate({ share: 0 }));
  peer.send(activate({ rev: 21, share: 1 }));
  assert.equal((await tv.heard("onActivate")).rev, 21);
  assert.equal(tv.of("onActivate").length, 1);
});

test("without the bundle: fetch fetches, generic shows the app's own, silent does nothing", async (t) => {
  const there = await origin(t, served(CONTENT));
  const { tv, peer } = await connected(t, { originUrl: there.url });
  peer.send(activate({ campaign: "silent", miss: "silent" }));
  peer.send(activate({ campaign: "generic", miss: "generic" }));
  peer.send(activate({ campaign: "fetch", miss: "fetch" }));
  await tv.heard("onActivate", 2);
  const [generic, fetched] = tv.of("onActivate");
  assert.deepEqual([generic.campaign, generic.bundle, generic.content], ["generic", null, null]);
  assert.deepEqual([fetched.campaign, fetched.bundle, fetched.content], ["fetch", DIGEST, CONTENT]);
  assert.equal((await until(() => peer.reports("failed")[0])).campaign, "silent");
});

test("cancel and close are told, and a closed campaign's content goes", async (t) => {
  const { tv, peer } = await connected(t);
  peer.send(inline());
  peer.send(activate({ at: Date.now() + 60000 }));
  peer.send({ t: "cancel", campaign: "cup", rev: 30 });
  assert.deepEqual(await tv.heard("onCancel"), { campaign: "cup", rev: 30 });
  peer.send({ t: "close", campaign: "cup", rev: 40 });
  assert.deepEqual(await tv.heard("onClose"), { campaign: "cup", rev: 40 });
  assert.equal(tv.content(DIGEST), null);
});

// --- Hostile input, failing apps

test("what is no message is counted and reported, and the device goes on", async (t) => {
  const { tv, peer } = await connected(t);
  const bad = [
    "", "not json", "[]", "1", '{"t":5}', '{"t":"prefetch"}', '{"t":"beacon","now":1.5,"rev":0}',
    `{"t":"activate","x":${"[".repeat(100000)}`, "x".repeat(3 * 1024 * 1024), Buffer.from([0xc1, 0x00])
  ];
  for (const data of bad) peer.socket.send(data);
  peer.send({ t: "from the future" });
  peer.send(inline());
  await tv.heard("onPrefetched");
  const errors = tv.of("onLog").filter((entry) => entry.event === "error");
  assert.deepEqual(errors.map((error) => error.kind), bad.map(() => "message"));
  assert.deepEqual(errors.map((error) => error.count), bad.map((data, at) => at + 1));
  assert.equal(tv.stats().errors.message, bad.length);
});

test("onError is told of each kind once a second, and its count misses none", async (t) => {
  t.mock.timers.enable({ apis: ["Date"], now: Date.now() });
  const { tv, peer } = await connected(t);
  const counted = (n) => until(() => tv.stats().errors.message === n);
  const told = () => tv.of("onError").map((error) => [error.kind, error.count]);
  for (let n = 0; n < 5; n++) peer.socket.send("rubbish");
  await counted(5);
  tv.subscribe("not a list");
  assert.deepEqual(told(), [["message", 1], ["topics", 1]]);
  t.mock.timers.tick(1000);
  peer.socket.send("rubbish");
  await counted(6);
  assert.deepEqual(told(), [["message", 1], ["topics", 1], ["message", 6]]);
  t.mock.timers.setTime(0); // the TV's clock was set back: it is not silent until that time comes again
  peer.socket.send("rubbish");
  await counted(7);
  assert.deepEqual(told()[3], ["message", 7]);
});

test("a callback that throws does not stop the device", async (t) => {
  const fail = () => { throw new Error("app"); };
  let shown = 0;
  const { tv, peer } = await connected(t, {
    onState: fail,
    onActivate: () => { shown++; fail(); },
    onLog: fail
  });
  peer.send(inline());
  peer.send(activate());
  await until(() => peer.reports("active").length);
  assert.equal(shown, 1);
  const [first] = tv.of("onError");
  assert.deepEqual([first.kind, first.detail], ["callback", "app"]);
  assert.ok(tv.stats().errors.callback > 3, "states, log entries and the activation");
});

test("a callback's promise that is rejected is an error of the app's, too", async (t) => {
  const { tv, peer } = await connected(t, { onPrefetched: () => Promise.reject(new Error("later")) });
  peer.send(inline());
  const { kind, detail } = await tv.heard("onError");
  assert.deepEqual([kind, detail], ["callback", "later"]);
});

test("an onError that throws is swallowed", async (t) => {
  const { tv, peer } = await connected(t, { onError: () => { throw new Error("again"); } });
  peer.socket.send("not json");
  peer.send(inline());
  await tv.heard("onPrefetched");
  assert.deepEqual(tv.stats().errors, { message: 1, callback: 1 });
});

test("a callback may close the device", async (t) => {
  const { tv, peer } = await connected(t, { onPrefetched: () => tv.close() });
  peer.send(inline());
  await until(() => tv.state() === "ended");
  await until(() => peer.code === 1000);
  assert.deepEqual(tv.of("onError"), []);
});

test("a cache of the app that fails does not stop the device", async (t) => {
  const fail = () => { throw new Error("disk"); };
  const { tv, peer } = await connected(t, { cache: { digests: fail, get: fail, put: fail, drop: fail } });
  peer.send(inline());
  peer.send(activate());
  const event = await tv.heard("onActivate");
  assert.equal(event.content, null);
  assert.ok(tv.of("onError").every((error) => error.kind === "storage"));
});

test("wrong bytes from the app's cache are not shown", async (t) => {
  const cache = { digests: () => [DIGEST], get: () => "forged", put: () => [], drop() {} };
  const { tv, peer } = await connected(t, { cache });
  assert.equal(peer.query.get("have"), DIGEST);
  peer.send(activate());
  assert.equal((await tv.heard("onActivate")).content, null);
});

test("the token is in no log entry, state or error", async (t) => {
  const { tv, peer } = await connected(t);
  peer.send(inline());
  peer.send(activate());
  await tv.heard("onActivate");
  peer.socket.close(4001);
  await tv.heard("onState", 5);
  const said = JSON.stringify(tv.told);
  assert.ok(said.includes('"event":"open"') && said.includes('"event":"sent"'));
  assert.ok(!said.includes(token().split(".")[1]));
});

// --- Topics

test("topics: what is not wanted is unsubscribed after every welcome", async (t) => {
  const getToken = () => token({ topics: ["a", "b", "c"] });
  const { there, tv, peer } = await connected(t, { getToken, topics: ["a", "b"] });
  assert.deepEqual(await until(() => peer.heard[0]), { t: "unsubscribe", topics: ["c"] });
  tv.unsubscribe(["b"]);
  await until(() => peer.heard[1]);
  tv.subscribe("a");
  assert.match((await tv.heard("onError")).detail, /topics is "a"/);
  peer.socket.close(1012);
  const next = await there.peer(2);
  assert.deepEqual(await until(() => next.heard[0]), { t: "unsubscribe", topics: ["b", "c"] });
  tv.subscribe(["b"]);
  assert.deepEqual(await until(() => next.heard[1]), { t: "subscribe", topics: ["b"] });
});

// --- A codec

test("with a codec, messages are what it makes of bytes", async (t) => {
  const { encode, decode } = await import("@msgpack/msgpack");
  const codec = { subprotocol: "fanout.v1.msgpack", encode, decode };
  const { tv, peer } = await connected(t, { codec }, {
    decode: (data, binary) => binary && decode(data),
    meet: (peer) => {
      peer.send = (message) => peer.socket.send(encode(message));
      peer.welcome();
    }
  });
  assert.equal(peer.protocols[0], "fanout.v1.msgpack");
  peer.send(inline());
  await tv.heard("onPrefetched");
  assert.equal((await until(() => peer.reports("ready")[0])).rev, 10);
  peer.socket.send("text");
  peer.socket.send(Buffer.alloc(3 * 1024 * 1024));
  await until(() => tv.stats().errors.message === 2);
  assert.ok(tv.of("onError").every((error) => error.kind === "message"));
});
