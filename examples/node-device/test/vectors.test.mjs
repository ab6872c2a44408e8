// The vectors of the protocol, run against this device.
import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { test } from 'node:test';
import { decode as unpack } from '@msgpack/msgpack';
import { initial, nextDue, offset, resume, retryAfter, sample, standing, step } from '../machine.mjs';
import { murmur3, sharePoint, slot } from '../slots.mjs';
import { check, decode, encode } from '../wire.mjs';

const load = (name) => JSON.parse(readFileSync(new URL(`../../../tests/vectors/${name}.json`, import.meta.url), 'utf8'));
const bytes = (hex) => new Uint8Array(Buffer.from(hex, 'hex'));

test('slots and shares', () => {
  const { murmur3: hashes, slots, share } = load('slots');
  for (const { utf8, seed, hash } of hashes) assert.equal(murmur3(bytes(utf8), seed), hash, `${utf8} ${seed}`);
  for (const v of slots) assert.equal(slot(v.device_id, v.rev, v.window_ms), v.slot_ms, JSON.stringify(v));
  for (const v of share) assert.equal(sharePoint(v.device_id, v.campaign), v.point, JSON.stringify(v));
});

test('retry after', () => {
  for (const { value, ms } of load('retry_after').retry_after) assert.equal(retryAfter(value), ms, String(value));
});

test('wire', () => {
  const { messages, ignored, refused } = load('wire');
  for (const v of messages) {
    assert.deepEqual(unpack(bytes(v.msgpack)), v.message, v.name);
    assert.deepEqual(JSON.parse(v.json), v.message, v.name);
    assert.deepEqual(unpack(encode(v.message)), v.message, v.name);
    if (v.direction !== 'to_device') continue;
    const { mood, ...known } = v.message;
    for (const [name, value] of Object.entries(known)) assert.deepEqual(check(v.message)[name], stated(v, name, value), v.name);
  }
  for (const v of [...ignored, ...refused].filter(({ direction }) => direction === 'to_device')) {
    if (v.msgpack) assert.equal(decode(bytes(v.msgpack)), null, v.name);
    if (v.json) assert.equal(check(JSON.parse(v.json)), null, v.name);
  }
});

// The state of a welcome comes with the defaults of its messages filled in.
const stated = (v, name, value) => (name === 'state' ? value.map((m) => check(m)) : value);

test('arming', () => {
  for (const { name, activations, cancel_revs, standing: expected } of load('arming').cases)
    for (const order of [(l) => l, (l) => l.toReversed(), (l) => [...l, ...l]]) {
      const revs = standing(order(activations), order(cancel_revs)).map((x) => x.rev);
      assert.deepEqual([...new Set(revs)], expected, name);
    }
});

test('clock', () => {
  // This device keeps single samples, which the page allows; the cases in `spans` are for those that do not.
  const { cases, spans } = load('clock');
  for (const { name, samples } of cases.filter((c) => !spans.includes(c.name))) {
    const state = initial('tv-1');
    for (const { now, mono, offset_ms } of samples) {
      sample(state, now, mono);
      same(offset(state), offset_ms, name);
    }
  }
});

// Numbers may differ by a hundredth: the vectors were rounded.
function same(found, expected, where) {
  if (typeof expected === 'number') assert.ok(Math.abs(found - expected) <= 0.01, `${where}: ${found} is not ${expected}`);
  else if (expected === null || typeof expected !== 'object') assert.equal(found, expected, where);
  else {
    assert.deepEqual(Object.keys(found ?? {}).sort(), Object.keys(expected).sort(), where);
    for (const key of Object.keys(expected)) same(found[key], expected[key], `${where}.${key}`);
  }
}

for (const { name, why, device_id, held, random, steps } of load('device').cases)
  test(`device: ${name} (${why})`, () => {
    let state = initial(device_id, held);
    let have = held; // of the newest connection
    for (const [i, { event: type, actions, next_due, again, message, ...rest }] of steps.entries()) {
      if (type === 'resume') {
        same(resume(state), { have: rest.have, since: rest.since }, `step ${i}`);
        have = rest.have;
        continue;
      }
      const before = structuredClone(state);
      const event = { ...rest, type, random, have, message: message && check(message) };
      const [after, effects] = step(state, event);
      assert.deepEqual(state, before, 'step changes nothing it is given');
      same(effects.filter((e) => e.do !== 'connect'), actions, `step ${i}, actions`);
      same(nextDue(after), next_due, `step ${i}, next due`);
      if (type === 'disconnected') same(effects.find((e) => e.do === 'connect').at, again, `step ${i}, again`);
      state = after;
    }
  });
