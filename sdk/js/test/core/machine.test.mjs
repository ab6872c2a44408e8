// Laws of the machine over histories nobody planned: repeats, reorders, silences, hostile names and numbers.

import assert from "node:assert/strict";
import { test } from "node:test";

import { Campaigns } from "../../src/campaigns.js";
import { DeviceMachine } from "../../src/machine.js";
import { sha256 } from "../../src/sha256.js";
import { check } from "../../src/wire.js";
import { seeded } from "./seeded.mjs";

const EPOCH = 1_760_000_000_000;
const CONTENTS = ["one", "two", "three", "drei"];
const DIGESTS = CONTENTS.map((content) => sha256(content));
const HOSTILE = ["__proto__", "constructor", "toString", "hasOwnProperty", "0", "length"];

const welcome = (now, more) =>
  check({ t: "welcome", session: "s", now, beacon_s: 10, reconnect: { base_ms: 500, cap_ms: 20_000 }, state: [], ...more });

// Messages of one campaign whose revisions are all different, as the store gives them.
function history({ below, pick, random }, campaign, count, now) {
  const messages = [];
  for (let rev = now - 5_000; messages.length < count; rev += 1 + below(2_000)) {
    const t = pick(["activate", "activate", "activate", "cancel", "prefetch", "prefetch", "close"]);
    const message = { t, campaign, rev };
    if (t === "prefetch") {
      const n = below(DIGESTS.length);
      message.bundle = { sha256: DIGESTS[n], bytes: CONTENTS[n].length };
      if (random() < 0.4) message.bundle.inline = pick([CONTENTS[n], "wrong"]);
      if (random() < 0.4) message.bundle.url = "/there";
      Object.assign(message, { from: rev + below(4_000), window_ms: below(4_000) });
    } else if (t === "activate") {
      Object.assign(message, {
        stage: pick(["upcoming", "live", "ended"]),
        bundle: pick(DIGESTS),
        at: rev + below(10_000) - 1_000,
        window_ms: pick([0, below(5_000)]),
        share: pick([1, 1, 1, random()]),
        miss: pick(["fetch", "generic", "silent"]),
        shadow: random() < 0.2,
      });
    }
    messages.push(check(message));
  }
  return messages;
}

function lanesAfter(messages, nowMs) {
  const campaigns = new Campaigns("tv-1", []);
  for (const message of messages) campaigns.apply(message, nowMs);
  const { armed, floorRev, closedRev, contentRev, bundle } = campaigns.lanesOf("cup");
  return {
    armed: armed.map(({ message, follows, dueMs }) => [message.t, message.rev, follows, dueMs]),
    floorRev, closedRev, contentRev, bundle,
  };
}

test("the lanes are a function of the set of messages, whatever their order and number", () => {
  const some = seeded(5);
  let standing = 0;
  for (let i = 0; i < 400; i++) {
    const messages = history(some, "cup", 1 + some.below(12), EPOCH);
    const expected = lanesAfter(messages, EPOCH);
    standing += expected.armed.length;
    for (let n = 0; n < 5; n++) {
      const repeated = [...messages, ...messages.filter(() => some.random() < 0.5)];
      assert.deepEqual(lanesAfter(some.shuffled(repeated), EPOCH), expected, `history ${i}`);
    }
  }
  assert.ok(standing > 300, "the histories are not all closed");
});

// Drives one machine through events at random; returns what came of it.
function life(seed) {
  const some = seeded(seed);
  const { random, below, pick } = some;
  const names = ["cup", "final", pick(HOSTILE)];
  const messages = names.flatMap((name) => history(some, name, 8, EPOCH));
  const machine = new DeviceMachine("tv-1", { random, held: random() < 0.5 ? [DIGESTS[0]] : [] });
  const done = [];
  let mono = 0;
  const carryOut = (actions) => {
    for (const action of actions) {
      done.push(action);
      if (action.do === "fetch") {
        assert.ok(DIGESTS.includes(action.bundle.sha256));
        carryOut(
          random() < 0.6
            ? machine.stored(action.bundle.sha256, mono, "fetch", below(50))
            : machine.fetchFailed(action.bundle.sha256, mono, pick([0, 1000])),
        );
      } else if (action.do === "drop") {
        for (const digest of action.digests) assert.ok(!machine.held().includes(digest), "dropped and still held");
      }
    }
  };
  for (let step = 0; step < 120; step++) {
    mono += pick([0, 1, below(400), below(3_000), step % 40 ? 0 : 40_000]);
    const event = below(20);
    if (step === 0 || event === 0) carryOut(machine.received(welcome(EPOCH + mono, { state: [pick(messages)] }), mono));
    else if (event === 1) assert.ok(machine.disconnected(mono, { code: pick([1006, 1008, 4001]) }) >= mono);
    else if (event === 2) carryOut(machine.distrusted(mono));
    else if (event === 3) machine.evicted(pick(DIGESTS));
    else if (event === 4) carryOut(machine.received(check({ t: "reconnect", within_ms: below(5_000) }), mono));
    else if (event < 7) carryOut(machine.received(check({ t: "beacon", now: EPOCH + mono - below(100), rev: EPOCH - 5_000 }), mono));
    else carryOut(machine.received(pick(messages), mono));
    // What is due is done, and then it is due no more: a driver that obeys never spins.
    let turns = 0;
    for (let at = machine.nextDueMs(); at !== null && at <= mono; at = machine.nextDueMs()) {
      carryOut(machine.due(mono));
      assert.ok(++turns < 20, `still due at ${at}, it is ${mono}`);
    }
  }
  return { done, machine };
}

test("no revision ever flips twice, and a campaign's flips only go forward", () => {
  let flips = 0;
  const seen = new Set();
  for (let seed = 0; seed < 200; seed++) {
    const newest = new Map();
    for (const action of life(seed).done) {
      seen.add(action.do);
      if (action.do !== "flip") continue;
      flips++;
      assert.ok(action.rev > (newest.get(action.campaign) ?? 0), `seed ${seed}: ${JSON.stringify(action)}`);
      assert.ok(action.late_ms >= 0);
      newest.set(action.campaign, action.rev);
    }
  }
  assert.ok(flips > 200, `${flips} flips`);
  const all = ["cancelled", "closed", "drop", "fetch", "flip", "prefetched", "reopen", "send", "store"];
  assert.deepEqual([...seen].sort(), all);
});

test("nothing is sent without a connection", () => {
  const machine = new DeviceMachine("tv-1", {});
  machine.received(welcome(EPOCH), 0);
  assert.equal(machine.connected(), true);
  const message = check({
    t: "activate", campaign: "cup", rev: EPOCH, stage: "live", bundle: DIGESTS[0], at: EPOCH, window_ms: 0, miss: "generic",
  });
  machine.disconnected(1, { code: 1006 });
  assert.equal(machine.connected(), false);
  machine.received(message, 2);
  assert.deepEqual(machine.due(2).map((action) => action.do), ["flip"]);
  assert.deepEqual(machine.distrusted(3), []);
});

test("a campaign may have any name, and is no other campaign", () => {
  for (const campaign of HOSTILE) {
    const machine = new DeviceMachine("tv-1", { held: [DIGESTS[0]] });
    machine.received(welcome(EPOCH), 0);
    assert.equal(machine.shown(campaign), null);
    const at = { campaign, at: EPOCH, window_ms: 0, stage: "live", bundle: DIGESTS[0] };
    machine.received(check({ t: "activate", rev: EPOCH, ...at }), 1);
    assert.equal(machine.due(1)[0].campaign, campaign);
    assert.deepEqual(machine.shown(campaign), ["live", DIGESTS[0]]);
    for (const other of HOSTILE) if (other !== campaign) assert.equal(machine.shown(other), null);
    const closed = machine.received(check({ t: "close", campaign, rev: EPOCH + 1 }), 2);
    assert.deepEqual(closed.map((action) => action.do), ["drop", "closed"]);
    assert.equal(machine.shown(campaign), null);
  }
  assert.equal({}.campaign, undefined);
});

test("what is remembered has an end, whatever is sent", () => {
  const campaigns = new Campaigns("tv-1", []);
  for (let n = 1; n <= 300; n++) {
    const at = EPOCH + 1e6 - n; // each falls to the next, none is for a bundle that came before
    const bundle = sha256(`bundle ${n}`);
    campaigns.apply(check({ t: "activate", campaign: "cup", rev: n, stage: "s", bundle, at, window_ms: 9 }), EPOCH);
    campaigns.apply(check({ t: "cancel", campaign: "cup", rev: 10_000 + n }), EPOCH);
    campaigns.apply(check({ t: "close", campaign: `over ${n}`, rev: n }), EPOCH);
  }
  const cup = campaigns.lanesOf("cup");
  assert.equal(cup.armed.length, 32);
  assert.equal(cup.digests.length, 8);
  const tombstones = Array.from({ length: 300 }, (_, n) => n + 1).filter((n) => campaigns.lanesOf(`over ${n}`));
  assert.deepEqual([tombstones.length, tombstones[0]], [64, 237], "the newest are kept");
  const held = Array.from({ length: 40 }, (_, n) => sha256(`held ${n}`));
  assert.deepEqual(new DeviceMachine("tv-1", { held }).resume().have, held.slice(-32));
});

test("the largest numbers there are make nothing throw", () => {
  const top = 2 ** 53 - 1;
  const machine = new DeviceMachine("tv-1", {});
  machine.received(welcome(top, { beacon_s: 1e9, reconnect: { base_ms: top, cap_ms: top } }), 0);
  const bundle = { sha256: DIGESTS[0], bytes: top };
  const all = [
    { t: "prefetch", campaign: "cup", rev: top, bundle, from: top, window_ms: top },
    { t: "activate", campaign: "cup", rev: top, stage: "s", bundle: DIGESTS[0], at: top, window_ms: top },
    { t: "reconnect", within_ms: top },
    { t: "beacon", now: 0, rev: top },
    { t: "cancel", campaign: "cup", rev: top - 1 },
  ];
  for (const message of all) machine.received(check(message), 5);
  assert.ok(Number.isFinite(machine.nextDueMs()));
  machine.due(1e15);
  for (let n = 0; n < 2000; n++) assert.ok(Number.isFinite(machine.disconnected(n, { code: 1006, retry_after_ms: top })));
  assert.equal(machine.disconnected(1, { code: 4500 }), null);
});

test("a backoff is anywhere in a span that doubles up to its cap", () => {
  const waits = (random) => {
    const machine = new DeviceMachine("tv-1", { random: () => random });
    return Array.from({ length: 33 }, () => machine.disconnected(0));
  };
  const most = waits(1 - 2 ** -32);
  assert.deepEqual([0, 1, 2, 5, 6, 32].map((attempt) => most[attempt]), [499, 999, 1999, 15999, 19999, 19999]);
  assert.deepEqual(new Set(waits(0)), new Set([0]));
});

test("a close code says by its range whether to come back", () => {
  const again = (code) => new DeviceMachine("tv-1", {}).disconnected(0, { code }) !== null;
  assert.deepEqual([1000, 1006, 4001, 4499, 4500, 4999].map(again), [true, true, true, true, false, false]);
});
