// UTF-8, SHA-256 and slots against Node's own, over texts nobody would choose.

import assert from "node:assert/strict";
import { createHash } from "node:crypto";
import { test } from "node:test";

import { sha256 } from "../../src/sha256.js";
import { murmur3, slotMs } from "../../src/slots.js";
import { utf8 } from "../../src/utf8.js";
import { seeded } from "./seeded.mjs";

const HALVES = ["\ud83d", "\ude00", "\ude00\ud83d", "a\ud83d", "\ud83da", "\ud83d\ud83d\ude00", "\udfff", "\ud800"];
const WHOLE = ["", "\0", "\x7f\x80", "\u07ff\u0800", "\uffff", "😀", "\u{10000}\u{10ffff}", "e\u0301", "試合"];

test("utf8 is what TextEncoder gives, with halves of pairs too", () => {
  const { text } = seeded(1);
  const encoder = new TextEncoder();
  for (const some of [...HALVES, ...WHOLE, ...Array.from({ length: 2000 }, () => text(40))]) {
    assert.deepEqual(Buffer.from(utf8(some)), Buffer.from(encoder.encode(some)), JSON.stringify(some));
  }
});

test("sha256 is what OpenSSL gives, whatever the length", () => {
  const { text } = seeded(2);
  const openssl = (data) => createHash("sha256").update(data).digest("hex");
  // Every length around the ends of blocks, as text and as bytes.
  for (let length = 0; length <= 200; length++) {
    assert.equal(sha256("x".repeat(length)), openssl("x".repeat(length)), `${length} bytes`);
  }
  for (const some of [...HALVES, ...WHOLE, ...Array.from({ length: 300 }, () => text(400))]) {
    const bytes = new TextEncoder().encode(some);
    assert.equal(sha256(some), openssl(bytes), JSON.stringify(some));
    assert.equal(sha256(bytes), openssl(bytes));
  }
  const mebibyte = "ä".repeat(512 * 1024);
  assert.equal(sha256(mebibyte), openssl(mebibyte));
});

test("sha256's constants do not hang on the last bits of an old engine's roots", () => {
  // They are 32 bits of a fraction; the double's error is far below how near any of them is to the next number.
  const primes = [];
  for (let n = 2; primes.length < 64; n++) if (primes.every((p) => n % p)) primes.push(n);
  for (const root of [...primes.slice(0, 8).map(Math.sqrt), ...primes.map(Math.cbrt)]) {
    const rest = (root * 2 ** 32) % 1;
    assert.ok(Math.min(rest, 1 - rest) > 2 ** -12, `${root}`);
  }
});

test("only the low 32 bits of a seed count, however large the revision", () => {
  const { below, random } = seeded(3);
  for (let i = 0; i < 1000; i++) {
    const rev = Math.floor(random() * 2 ** 53);
    assert.equal(murmur3(`tv-${i}`, rev), murmur3(`tv-${i}`, rev % 2 ** 32));
    const window = below(600_000);
    const slot = slotMs(`tv-${i}`, rev, window);
    assert.ok(Number.isInteger(slot) && slot >= 0 && slot < Math.max(window, 1), `${slot} in ${window}`);
  }
});

test("slots fill their window evenly", () => {
  const buckets = new Array(10).fill(0);
  for (let i = 0; i < 10_000; i++) buckets[Math.floor(slotMs(`tv-${i}`, 1795000000123, 60_000) / 6_000)]++;
  for (const count of buckets) assert.ok(count > 850 && count < 1150, buckets.join(" "));
});
