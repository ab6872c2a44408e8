// Randomness that repeats itself: a failing case is the same case tomorrow. (mulberry32)

export function seeded(seed) {
  const random = () => {
    seed = (seed + 0x6d2b79f5) | 0;
    let t = Math.imul(seed ^ (seed >>> 15), 1 | seed);
    t = (t + Math.imul(t ^ (t >>> 7), 61 | t)) ^ t;
    return ((t ^ (t >>> 14)) >>> 0) / 2 ** 32;
  };
  const below = (end) => Math.floor(random() * end);
  const pick = (list) => list[below(list.length)];
  const shuffled = (list) => {
    const result = [...list];
    for (let i = result.length; i > 1; ) {
      const j = below(i--);
      [result[i], result[j]] = [result[j], result[i]];
    }
    return result;
  };
  // Any UTF-16, halves of surrogate pairs too.
  const text = (length) => {
    const ranges = [[0x20, 0x7f], [0, 0x800], [0x3000, 0x100], [0xd7f0, 0x820], [0xfff0, 0x10]];
    const unit = () => {
      const [from, count] = pick(ranges);
      return from + below(count);
    };
    return String.fromCharCode(...Array.from({ length: below(length + 1) }, unit));
  };
  return { random, below, pick, shuffled, text };
}
