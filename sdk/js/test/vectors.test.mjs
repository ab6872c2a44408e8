// The core does what tests/vectors/ says, as a device in any other language must.

import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { test } from "node:test";

import { decode as unpack, encode as pack } from "@msgpack/msgpack";

import { Armed } from "../src/armed.js";
import { standing } from "../src/arming.js";
import { ServerClock } from "../src/clock.js";
import { DeviceMachine } from "../src/machine.js";
import { retryAfterMs } from "../src/origin.js";
import { murmur3, sharePoint, slotMs } from "../src/slots.js";
import { utf8 } from "../src/utf8.js";
import { check, decode, WireError } from "../src/wire.js";

const vectors = (name) =>
  JSON.parse(readFileSync(new URL(`../../../tests/vectors/${name}.json`, import.meta.url), "utf8"));
const hex = (text) => new Uint8Array(Buffer.from(text, "hex"));

// Numbers may differ by this because of rounding.
const NEAR = 0.01;

function same(got, expected, where) {
  if (typeof expected === "number" && typeof got === "number") {
    assert.ok(Math.abs(got - expected) <= NEAR, `${where}: ${got} is not ${expected}`);
  } else if (expected && typeof expected === "object") {
    assert.equal(typeof got, "object", where);
    assert.equal(Array.isArray(got), Array.isArray(expected), where);
    assert.deepEqual(Object.keys(got).sort(), Object.keys(expected).sort(), where);
    for (const key of Object.keys(expected)) same(got[key], expected[key], `${where}.${key}`);
  } else {
    assert.equal(got, expected, where);
  }
}

// --- Slots

test("hashes, slots and shares are those of slots.json, exactly", () => {
  const { murmur3: hashes, slots, share } = vectors("slots");
  assert.ok(hashes.length && slots.length && share.length);
  for (const { text, utf8: bytes, seed, hash } of hashes) {
    assert.equal(murmur3(hex(bytes), seed), hash, `${bytes} with seed ${seed}`);
    if (text === null) continue;
    assert.equal(Buffer.from(utf8(text)).toString("hex"), bytes);
    assert.equal(murmur3(text, seed), hash);
  }
  for (const { device_id, rev, window_ms, slot_ms } of slots) {
    assert.equal(slotMs(device_id, rev, window_ms), slot_ms, `${device_id} at ${rev}`);
  }
  for (const { device_id, campaign, point } of share) {
    assert.equal(sharePoint(device_id, campaign), point);
    assert.equal(new Armed({ campaign, share: point }, device_id, 0).mine, false);
    assert.equal(new Armed({ campaign, share: point + 2 ** -32 }, device_id, 0).mine, true);
  }
});

// --- Messages

// The fields of docs/protocol.md, with what one is when it was left out.
const FIELDS = {
  welcome: { session: undefined, now: undefined, beacon_s: undefined, reconnect: undefined, state: [] },
  prefetch: {
    campaign: undefined, rev: undefined, bundle: undefined, from: undefined, window_ms: undefined, shadow: false,
  },
  activate: {
    campaign: undefined, rev: undefined, stage: undefined, bundle: undefined, at: undefined, window_ms: undefined,
    share: 1, miss: "fetch", shadow: false,
  },
  cancel: { campaign: undefined, rev: undefined },
  close: { campaign: undefined, rev: undefined },
  beacon: { now: undefined, rev: undefined },
  reconnect: { within_ms: undefined },
};

// What is to be understood of a message: unknown fields are gone, defaults filled in, null is the same as left out.
function understood(message) {
  const result = { t: message.t };
  for (const [field, fallback] of Object.entries(FIELDS[message.t])) result[field] = message[field] ?? fallback;
  if (result.state) result.state = result.state.map(understood);
  if (message.t === "prefetch") {
    const { sha256, bytes, url, inline } = message.bundle;
    result.bundle = { sha256, bytes, ...(url != null && { url }), ...(inline != null && { inline }) };
  }
  return result;
}

test("both encodings of wire.json read the same, and what is written is read back", () => {
  const down = vectors("wire").messages.filter(({ direction }) => direction === "to_device");
  assert.ok(down.length);
  for (const { name, message: told, json, msgpack } of down) {
    const message = understood(told);
    same(decode(json), message, name);
    same(check(unpack(hex(msgpack))), message, name);
    same(decode(JSON.stringify(told)), message, name);
    same(check(unpack(pack(told))), message, name);
  }
});

test("what wire.json calls ignored is ignored, what it calls refused is refused", () => {
  const { ignored, refused } = vectors("wire");
  const toDevice = ({ direction }) => direction === "to_device";
  assert.ok(ignored.some(toDevice) && refused.some(toDevice));
  for (const { name, json, msgpack } of ignored.filter(toDevice)) {
    if (json) assert.equal(decode(json), null, name);
    if (msgpack) assert.equal(check(unpack(hex(msgpack))), null, name);
  }
  for (const { name, json, msgpack } of refused.filter(toDevice)) {
    if (json) assert.throws(() => decode(json), WireError, name);
    if (msgpack) assert.throws(() => check(unpack(hex(msgpack))), undefined, name);
  }
});

// --- Arming

test("what stands is what arming.json says, in any order and however often it is told", () => {
  const { cases } = vectors("arming");
  assert.ok(cases.length);
  for (const { name, activations, cancel_revs, standing: expected } of cases) {
    const left = (some, cancels) => standing([...some, ...cancels.map((rev) => ({ rev }))]).map(({ rev }) => rev);
    assert.deepEqual(left(activations, cancel_revs), expected, name);
    assert.deepEqual(left([...activations].reverse(), [...cancel_revs].reverse()), expected, `${name}, backwards`);
    assert.deepEqual(left([...activations, ...activations], [...cancel_revs, ...cancel_revs]), expected, `${name}, twice`);
  }
});

// --- Retry-After

test("Retry-After means what retry_after.json says", () => {
  const cases = vectors("retry_after").retry_after;
  assert.ok(cases.length);
  for (const { value, ms } of cases) assert.equal(retryAfterMs(value), ms, String(value));
});

// --- The clock

for (const { name, samples } of vectors("clock").cases) {
  test(`clock: ${name}`, () => {
    const clock = new ServerClock();
    assert.equal(clock.offsetMs, -Infinity);
    for (const { now, mono, known, offset_ms } of samples) {
      clock.sample(now, mono);
      assert.equal(clock.offsetMs > -Infinity, known);
      same(clock.offsetMs, offset_ms, `${name} at ${mono}`);
    }
  });
}

// --- The machine

function answer(machine, step) {
  const { at, event } = step;
  let actions = [];
  const more = {};
  if (event === "received") {
    actions = machine.received(decode(JSON.stringify(step.message)), at);
  } else if (event === "due") {
    actions = machine.due(at);
  } else if (event === "stored") {
    actions = machine.stored(step.sha256, at, step.via, step.took_ms);
  } else if (event === "fetch_failed") {
    actions = machine.fetchFailed(step.sha256, at, step.retry_after_ms);
  } else if (event === "distrusted") {
    actions = machine.distrusted(at);
  } else if (event === "disconnected") {
    const { code, status, retry_after_ms } = step;
    more.again = machine.disconnected(at, { code, status, retry_after_ms });
  } else {
    assert.equal(event, "resume");
    return machine.resume();
  }
  return { ...more, actions, next_due: machine.nextDueMs() };
}

for (const { name, device_id, held, random, steps } of vectors("device").cases) {
  test(`machine: ${name}`, () => {
    const machine = new DeviceMachine(device_id, { held, random: () => random });
    steps.forEach((step, i) => {
      const got = answer(machine, step);
      for (const key of Object.keys(got)) same(got[key], step[key], `step ${i} (${step.event} at ${step.at}): ${key}`);
    });
  });
}
