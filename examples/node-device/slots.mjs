// Slots and shares (section 5): where in a window this device acts, and in which canaries it takes part.
const rotl = (x, n) => (x << n) | (x >>> (32 - n));
const mix = (k) => Math.imul(rotl(Math.imul(k, 0xcc9e2d51), 15), 0x1b873593);

/** Return MurmurHash3 x86_32 of `bytes`, unsigned; `seed` is any integer below 2^53. */
export function murmur3(bytes, seed) {
  const blocks = bytes.length >> 2;
  let h = (seed % 2 ** 32) | 0;
  for (let i = 0; i < blocks; i++) {
    const k = bytes[4 * i] | (bytes[4 * i + 1] << 8) | (bytes[4 * i + 2] << 16) | (bytes[4 * i + 3] << 24);
    h = (Math.imul(rotl(h ^ mix(k), 13), 5) + 0xe6546b64) | 0;
  }
  const rest = bytes.subarray(4 * blocks);
  if (rest.length) h ^= mix(rest.reduce((k, byte, i) => k | (byte << (8 * i)), 0));
  h ^= bytes.length;
  h = Math.imul(h ^ (h >>> 16), 0x85ebca6b);
  h = Math.imul(h ^ (h >>> 13), 0xc2b2ae35);
  return (h ^ (h >>> 16)) >>> 0;
}

const utf8 = (text) => new TextEncoder().encode(text);
// Divided first: exact in doubles, so every device gets the same millisecond.
const point = (text, seed) => murmur3(utf8(text), seed) / 2 ** 32;

export const slot = (id, rev, windowMs) => Math.floor(point(id, rev) * windowMs);
export const sharePoint = (id, campaign) => point(id, murmur3(utf8(campaign), 0));
