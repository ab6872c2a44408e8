// Bundles in memory and in a storage that others write to, that is full, or that is forbidden.

import assert from "node:assert/strict";
import { test } from "node:test";

import { Cache, device, gateway, sha, Storage, until } from "./gateway.mjs";

const DAY_MS = 24 * 3600 * 1000;
const text = (n, length = 10) => String(n).padEnd(length, ".");
const put = (cache, ...contents) => contents.flatMap((content) => cache.put(sha(content), content));
const has = (cache, content) => cache.get(sha(content)) === content;

test("bundles outlive the page", () => {
  const storage = new Storage();
  put(new Cache({ storage }), "one\ntwo", "");
  const next = new Cache({ storage });
  assert.ok(has(next, "one\ntwo") && has(next, ""));
});

test("a device that starts again has what it had", async (t) => {
  const there = await gateway(t);
  const storage = new Storage();
  put(new Cache({ storage }), "one");
  storage.setItem("somebody else's", "x");
  device(t, { url: there.url, storage }).start();
  assert.equal((await there.peer()).query.get("have"), sha("one"));
  assert.equal(storage.getItem("somebody else's"), "x");
});

test("a bundle in storage whose bytes were changed is not shown", () => {
  const storage = new Storage();
  put(new Cache({ storage }), "one", "two");
  const key = `fanout:${sha("one")}`;
  storage.setItem(key, storage.getItem(key).replace("one", "eno"));
  storage.setItem("fanout:nonsense", "nonsense");
  const next = new Cache({ storage });
  assert.deepEqual(next.digests(), [sha("two")]);
  assert.equal(storage.length, 1);
});

test("count and bytes are bounded, and the least recently used goes first, from the storage too", () => {
  const storage = new Storage();
  const cache = new Cache({ storage, bundlesMax: 3, bytesMax: 100 });
  put(cache, "1", "2", "3");
  has(cache, "1");
  assert.deepEqual(put(cache, "4"), [sha("2")]);
  assert.deepEqual(put(cache, text("wide", 49)), [sha("3"), sha("1")]);
  assert.equal(storage.length, 2);
  put(cache, text("wider than all", 500));
  assert.deepEqual(cache.digests(), [sha(text("wider than all", 500))]);
});

test("a full storage: the oldest of ours goes and it is tried again, and nothing is lost to this page", () => {
  const storage = new Storage(2 * (71 + 14 + 10));
  const cache = new Cache({ storage });
  put(cache, text(1), text(2), text(3));
  assert.equal(storage.getItem(`fanout:${sha(text(1))}`), null);
  assert.ok([1, 2, 3].every((n) => has(cache, text(n))));
  assert.deepEqual(new Cache({ storage }).digests(), [sha(text(2)), sha(text(3))]);
});

for (const [what, storage] of [
  ["full of the app's own", new Storage(20)],
  ["forbidden", new Proxy({}, { get() { throw new Error("SecurityError"); } })]
]) {
  test(`storage ${what}: bundles are kept in memory, and somebody is told`, () => {
    const errors = [];
    const cache = new Cache({ storage, onError: (error) => errors.push(error.message) });
    put(cache, "one");
    assert.ok(has(cache, "one"));
    assert.ok(errors.length);
    cache.drop([sha("one")]);
    assert.equal(cache.get(sha("one")), null);
  });
}

test("a page that may not even name localStorage works from memory", async (t) => {
  globalThis.window = { addEventListener() {}, removeEventListener() {}, get localStorage() { throw new Error("no"); } };
  t.after(() => delete globalThis.window);
  const there = await gateway(t);
  const tv = device(t, { url: there.url });
  tv.start();
  await until(() => tv.state() === "connected");
});

test("two tabs share a storage without harm", () => {
  const storage = new Storage();
  const one = new Cache({ storage, bundlesMax: 2 });
  const two = new Cache({ storage, bundlesMax: 2 });
  put(one, "a", "b");
  put(two, "a", "c", "d"); // evicts a, there and in the storage
  assert.ok(has(one, "a") && has(one, "b") && has(two, "c") && has(two, "d"));
  one.drop([sha("b")]);
  assert.ok(has(two, "c"));
  assert.deepEqual(new Set(new Cache({ storage }).digests()), new Set([sha("c"), sha("d")]));
});

test("unused for a month a bundle goes, not all in one day; used, it stays", () => {
  const gone = [];
  for (let jitter = 0; jitter < 1000; jitter += 111) {
    const storage = new Storage();
    let now = Date.UTC(2026, 5, 1) + jitter;
    put(new Cache({ storage, wallMs: () => now }), "one");
    const began = now;
    while (new Cache({ storage, wallMs: () => now }).digests().length) now += DAY_MS;
    gone.push((now - began) / DAY_MS);
  }
  assert.ok(Math.min(...gone) >= 24 && Math.max(...gone) <= 37, gone.join());
  assert.ok(new Set(gone).size > 5, gone.join());

  const storage = new Storage();
  let now = Date.UTC(2026, 5, 1);
  put(new Cache({ storage, wallMs: () => now }), "one");
  for (let day = 0; day < 100; day += 10, now += 10 * DAY_MS) {
    assert.ok(has(new Cache({ storage, wallMs: () => now }), "one"));
  }
});

test("a clock that was not set, or is set back, makes nothing old", () => {
  const storage = new Storage();
  put(new Cache({ storage, wallMs: () => 5000 }), "one");
  assert.ok(has(new Cache({ storage, wallMs: () => Date.UTC(2026, 5, 1) }), "one"));
  put(new Cache({ storage, wallMs: () => Date.UTC(2090, 1, 1) }), "two");
  assert.ok(has(new Cache({ storage, wallMs: () => Date.UTC(2026, 5, 1) }), "two"));
});
