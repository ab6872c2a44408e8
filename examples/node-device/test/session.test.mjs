// The last sentence of the protocol's page: a session ends the same way whatever is repeated or reordered in it.
import assert from 'node:assert/strict';
import { createHash } from 'node:crypto';
import { test } from 'node:test';
import { initial, nextDue, resume, step } from '../machine.mjs';
import { check } from '../wire.mjs';

const T = 1795000000000;
const inline = '{"stages":{"live":{"title":"LIVE"}}}';
const bundle = createHash('sha256').update(inline).digest('hex');
const old = createHash('sha256').update('old').digest('hex');
const campaign = 'final-2026';
const stage = (rev, name, at) => ({ t: 'activate', campaign, rev, stage: name, bundle, at, window_ms: 1000, miss: 'generic' });
const MESSAGES = [
  { t: 'prefetch', campaign, rev: T + 1, bundle: { sha256: old, bytes: 3, inline: 'old' }, from: T, window_ms: 0 },
  { t: 'prefetch', campaign, rev: T + 2, bundle: { sha256: bundle, bytes: inline.length, inline }, from: T, window_ms: 0 },
  stage(T + 10, 'upcoming', T + 5000),
  stage(T + 20, 'live', T + 20000),
  stage(T + 30, 'upcoming', T + 6000),
  stage(T + 6500, 'live', T + 25000),
  { t: 'cancel', campaign, rev: T + 15 },
  { t: 'close', campaign: 'another', rev: T + 40 },
  { t: 'activate', campaign: 'another', rev: T + 35, stage: 'live', bundle: old, at: T + 7000, window_ms: 0 },
].map(check);

// A small generator of one's own: a failure can be run again.
const generator = (seed) => () => (seed = (seed * 48271) % 2147483647) / 2147483647;

function shuffled(random) {
  const all = [...MESSAGES, ...MESSAGES.filter(() => random() < 0.5)];
  return all.map((m) => [random(), m]).sort(([a], [b]) => a - b).map(([, m]) => m);
}

function flips(messages) {
  let state = initial('tv-00000001');
  const found = [];
  const feed = (event) => {
    const [after, effects] = step(state, { random: 0.5, ...event });
    state = after;
    found.push(...effects.filter((e) => e.do === 'flip').map((e) => [e.campaign, e.rev, e.stage, e.bundle, e.due_ms]));
  };
  const reconnect = { base_ms: 500, cap_ms: 20000 };
  feed({ type: 'received', at: 0, message: { t: 'welcome', session: 's', now: T, beacon_s: 60, reconnect, state: [] } });
  messages.forEach((message, i) => feed({ type: 'received', at: i, message }));
  for (let at = nextDue(state); at !== null && at < 60000; at = nextDue(state)) feed({ type: 'due', at });
  const { have, since } = resume(state);
  return { found, held: have.includes(bundle), since }; // an older prefetch is kept only if it came first
}

test('a session ends the same way whatever is repeated or reordered in it', () => {
  const expected = flips(MESSAGES);
  assert.deepEqual(expected.found.map(([, rev, name]) => [rev - T, name]), [[30, 'upcoming'], [6500, 'live']]);
  const random = generator(20261122);
  for (let round = 0; round < 300; round++) {
    const messages = shuffled(random);
    assert.deepEqual(flips(messages), expected, `round ${round}: ${messages.map((m) => `${m.t} ${m.rev - T}`)}`);
  }
});
