// Deterministic jitter: when, within a window, one device acts. Pure.
//
// The slot depends on nothing but the device's id and the publication's revision, so every SDK and every replay agree
// on it to the millisecond, and no coordination is needed to spread a fleet evenly.

import { utf8 } from "./utf8.js";

var RANGE = 0x100000000; // of a hash

function mixed(k) {
  k = Math.imul(k, 0xcc9e2d51);
  return Math.imul((k << 15) | (k >>> 17), 0x1b873593);
}

// MurmurHash3, x86_32, of bytes or of a text's UTF-8, as an unsigned number. Of the seed only the low 32 bits count:
// ToInt32 takes them modulo 2^32, exactly, for every whole number a double holds.
export function murmur3(data, seed) {
  var bytes = typeof data === "string" ? utf8(data) : data;
  var whole = bytes.length & ~3;
  var h = seed | 0;
  var i = 0;
  for (; i < whole; i += 4) {
    h ^= mixed(bytes[i] | (bytes[i + 1] << 8) | (bytes[i + 2] << 16) | (bytes[i + 3] << 24));
    h = (Math.imul((h << 13) | (h >>> 19), 5) + 0xe6546b64) | 0;
  }
  var k = 0;
  for (i = bytes.length; i-- > whole; ) k = (k << 8) | bytes[i];
  h ^= mixed(k) ^ bytes.length; // nothing left mixes to 0, which changes nothing
  h = Math.imul(h ^ (h >>> 16), 0x85ebca6b);
  h = Math.imul(h ^ (h >>> 13), 0xc2b2ae35);
  return (h ^ (h >>> 16)) >>> 0;
}

// Where in the window this device acts: 0 <= slot < window_ms, 0 for an empty window.
export function slotMs(deviceId, rev, window_ms) {
  // Dividing first is exact, so that every language gets the same millisecond.
  return Math.floor((murmur3(deviceId, rev) / RANGE) * window_ms);
}

// The share from which on this device belongs to a canary: 0 <= point < 1. Seeded by the campaign and not by the
// revision: widening a share only ever adds devices.
export function sharePoint(deviceId, campaign) {
  return murmur3(deviceId, murmur3(campaign, 0)) / RANGE;
}
