// Sleep, throttled timers, far instants, the network and the page coming and going. The clocks are the test's own.

import assert from "node:assert/strict";
import { test } from "node:test";

import { device, gateway, sha, slotMs, Time, token, until } from "./gateway.mjs";

const CONTENT = "{}";
const DIGEST = sha(CONTENT);
const SERVER_MS = 1.7e12; // another clock than the device's

// A device whose bundle is there, connected to a gateway that keeps `time`.
async function ready(t, options = {}, meet) {
  const time = new Time();
  const zero = time.mono;
  const now = () => Math.round(SERVER_MS + time.mono - zero);
  const there = await gateway(t, {
    meet: meet ?? ((peer) => peer.welcome({ now: now() }))
  });
  const cache = { digests: () => [DIGEST], get: () => CONTENT, put: () => [], drop() {} };
  const tv = device(t, { url: there.url, cache, random: () => 0, ...time.options, ...options });
  tv.start();
  const peer = await there.peer();
  const heard = (type) => tv.of("onLog").filter((entry) => entry.event === "received" && entry.t === type).length;
  const tell = async (message) => {
    const before = heard(message.t);
    peer.send(message);
    await until(() => heard(message.t) > before, `${message.t} arrived`);
  };
  const activate = (in_ms, fields = {}) => tell({
    t: "activate", campaign: "cup", rev: 20, stage: "live", bundle: DIGEST, at: now() + in_ms, window_ms: 1000, ...fields
  });
  const beacon = () => tell({ t: "beacon", now: now(), rev: 20 });
  if (!meet) await until(() => tv.state() === "connected");
  return { time, now, there, tv, peer, tell, activate, beacon };
}

for (const [what, monoStands] of [["goes on", false], ["stands still", true]]) {
  test(`sleeping through the instant: acts as a latecomer after it has heard a beacon (its timer ${what})`, async (t) => {
    const { time, now, tv, peer, activate, beacon } = await ready(t);
    const behind = monoStands ? 3_600_000 : 0; // the server's clock went on while the timer stood
    await activate(10_000);
    time.sleep(3_600_000, monoStands);
    tv.wake();
    assert.equal(tv.of("onActivate").length, 0);
    await until(() => peer.heard.some((message) => message.t === "sync"));
    time.run(1);
    assert.equal(tv.of("onActivate").length, 0);
    const woke = now() + behind;
    peer.send({ t: "beacon", now: woke, rev: 20 });
    await until(() => tv.of("onLog").some((entry) => entry.t === "beacon"));
    time.run(5000);
    const { due_ms } = tv.of("onActivate")[0];
    assert.equal(due_ms, woke + slotMs("tv-1", 20, 1000));
    if (!monoStands) await beacon();
    assert.equal(tv.of("onActivate").length, 1);
  });
}

test("a socket that died in its sleep is replaced five seconds after it woke", async (t) => {
  const { time, there, tv } = await ready(t);
  time.sleep(20_000, true);
  tv.wake();
  time.run(4999);
  assert.equal(there.tries.length, 1);
  time.run(1);
  await there.peer(2);
});

test("a wall clock that is set costs one sync and moves nothing", async (t) => {
  const { time, tv, peer, activate, beacon } = await ready(t);
  await activate(10_000);
  time.wall -= 5e11;
  time.run(3000);
  tv.wake();
  await until(() => peer.heard.filter((message) => message.t === "sync").length === 1);
  await beacon();
  time.run(10_000);
  assert.equal(tv.of("onActivate").length, 1);
  assert.equal(tv.of("onActivate")[0].late_ms < 1, true);
});

test("a timer a little late flips late and says so; one far too late asks first", async (t) => {
  const { time, tv, activate, beacon } = await ready(t);
  await activate(1000, { window_ms: 0 });
  time.sleep(2000);
  time.run(0);
  assert.equal(Math.round(tv.of("onActivate")[0].late_ms / 100), 10);
  await activate(1000, { rev: 21, stage: "ended", window_ms: 0 });
  time.sleep(60_000);
  time.run(0);
  assert.equal(tv.of("onActivate").length, 1);
  await beacon();
  time.run(1);
  assert.equal(tv.of("onActivate").length, 2);
});

test("an instant further ahead than a timer reaches is waited for in pieces", async (t) => {
  const { time, tv, activate, beacon } = await ready(t);
  const far = 60 * 24 * 3600 * 1000;
  await activate(far, { window_ms: 0 });
  const longest = () => Math.max(...time.timers.map((timer) => timer.at - time.mono));
  assert.ok(longest() <= 0x7fffffff);
  time.run(20_000);
  await beacon();
  assert.equal(tv.of("onActivate").length, 0);
  assert.ok(longest() <= 0x7fffffff && longest() > 0);
});

test("a silent line: nothing armed fires, it asks, then it opens another socket", async (t) => {
  const { time, there, tv, peer, activate } = await ready(t);
  await activate(40_000);
  time.run(31_000);
  await until(() => peer.heard.some((message) => message.t === "sync"));
  time.run(20_000);
  assert.equal(tv.of("onActivate").length, 0);
  time.run(10_000);
  await there.peer(2);
  await until(() => tv.stats().connections === 2);
  time.run(5000);
  assert.equal(tv.of("onActivate").length, 1);
});

test("a gateway that takes the socket and says nothing is given up, and the token is kept", async (t) => {
  let asked = 0;
  const { time, there, tv } = await ready(t, { getToken: () => token({ n: ++asked }) }, () => {});
  time.run(15_000);
  assert.equal(tv.of("onState")[1].reason, "no welcome in time");
  await there.peer(2);
  assert.equal(asked, 1);
});

test("a getToken that never answers is given up", async (t) => {
  const time = new Time();
  const tv = device(t, { url: "ws://127.0.0.1:1", getToken: (done) => void done, ...time.options });
  tv.start();
  time.run(15_000);
  assert.equal(tv.of("onError")[0].kind, "token");
  assert.equal(tv.state(), "waiting");
});

// --- The page

class Page extends EventTarget {
  static around(t) {
    const window = new Page();
    const document = Object.assign(new Page(), {
      hidden: false,
      // An event of the document passes the window first.
      dispatchEvent: (event) => window.dispatchEvent(event)
    });
    Object.assign(globalThis, { window, document });
    t.after(() => {
      delete globalThis.window;
      delete globalThis.document;
    });
    return { window, document, say: (target, name) => target.dispatchEvent(new Event(name)) };
  }
}

test("online: it tries at once, within a second's jitter; offline: it does not hammer", async (t) => {
  const { window, say } = Page.around(t);
  const random = () => 0.5;
  const { time, there, tv, peer } = await ready(t, { random });
  say(window, "offline");
  peer.socket.terminate();
  const { retry_in_ms } = await tv.heard("onState", 3);
  assert.ok(retry_in_ms >= 30_000);
  say(window, "online");
  time.run(499);
  assert.equal(there.tries.length, 1);
  time.run(1);
  await there.peer(2);
});

test("offline is forgotten when a gateway answers, and when nobody listened for the end of it", async (t) => {
  const { window, say } = Page.around(t);
  const meet = (peer, n) => (n === 3 ? peer.socket.terminate() : peer.welcome());
  const { time, there, tv, peer } = await ready(t, { random: () => 0.5 }, meet);
  const lost = (n) => until(() => tv.of("onState").filter(({ state }) => state === "waiting")[n - 1], `lost ${n}`);
  await until(() => tv.state() === "connected");
  say(window, "offline");
  peer.socket.terminate();
  time.run((await lost(1)).retry_in_ms); // its "online" never comes
  await until(() => tv.state() === "connected");
  (await there.peer(2)).socket.terminate();
  assert.ok((await lost(2)).retry_in_ms < 30_000);
  say(window, "offline");
  tv.close();
  tv.start();
  assert.ok((await lost(3)).retry_in_ms < 30_000);
});

test("online does not go against a gateway's Retry-After", async (t) => {
  const { window, say } = Page.around(t);
  const time = new Time();
  const there = await gateway(t, { refuse: () => ({ status: 503, headers: { "Retry-After": "60" } }) });
  const tv = device(t, { url: there.url, ...time.options });
  tv.start();
  await tv.heard("onState", 2);
  say(window, "online");
  time.run(59_000);
  assert.equal(there.tries.length, 1);
});

test("looked at again: what a throttled timer has kept back is done at once", async (t) => {
  const { document, say } = Page.around(t);
  const { time, tv, activate } = await ready(t);
  await activate(1000, { window_ms: 0 });
  time.sleep(1500);
  document.hidden = true;
  say(document, "visibilitychange");
  assert.equal(tv.of("onActivate").length, 0);
  document.hidden = false;
  say(document, "visibilitychange");
  assert.equal(tv.of("onActivate").length, 1);
});

for (const [target, name] of [["window", "pageshow"], ["document", "resume"]]) {
  test(`${name}: a page that was frozen asks before it does what is due`, async (t) => {
    const page = Page.around(t);
    const { time, tv, peer, activate, beacon } = await ready(t);
    await activate(1000, { window_ms: 0 });
    time.sleep(1500);
    page.say(page[target], name);
    time.run(1);
    assert.equal(tv.of("onActivate").length, 0);
    await until(() => peer.heard.some((message) => message.t === "sync"));
    await beacon();
    time.run(1);
    assert.equal(tv.of("onActivate").length, 1);
  });
}

test("a closed device listens to the page no more", async (t) => {
  const { window, say } = Page.around(t);
  const { tv } = await ready(t);
  tv.close();
  const before = tv.told.length;
  say(window, "online");
  assert.equal(tv.told.length, before);
});

test("close and start again: a fetch that was under way is done again", async (t) => {
  const asked = [];
  const fetch = (url, options) => {
    asked.push(options.signal);
    return new Promise(() => {});
  };
  const cache = { digests: () => [], get: () => null, put: () => [], drop() {} };
  const { time, now, there, tv, tell } = await ready(t, { fetch, cache });
  await tell({
    t: "prefetch", campaign: "cup", rev: 10, from: now(), window_ms: 0, bundle: { sha256: DIGEST, bytes: 2 }
  });
  time.run(1);
  assert.equal(asked.length, 1);
  tv.close();
  assert.equal(asked[0].aborted, true);
  tv.start();
  await there.peer(2);
  await until(() => tv.state() === "connected");
  time.run(1);
  assert.equal(asked.length, 2);
});
