// SHA-256 (FIPS 180-4), for pages without crypto.subtle: a TV's app comes from a file or over plain HTTP. It blocks
// while it runs, 16 KiB in well under a frame; knows nothing of bundles.

import { utf8 } from "./utf8.js";

var START = [];
var ROUND = [];
// The standard's constants are 32 bits of the roots of the first primes; a double has 20 more than that, and
// working them out is shorter than writing them down.
for (var n = 2; ROUND.length < 64; n++) {
  for (var d = 2; d * d <= n && n % d; d++) {}
  if (d * d > n) {
    if (START.length < 8) START.push(fraction(Math.sqrt(n)));
    ROUND.push(fraction(Math.pow(n, 1 / 3)));
  }
}

function fraction(root) {
  return ((root % 1) * 0x100000000) | 0;
}

function rotr(word, by) {
  return (word >>> by) | (word << (32 - by));
}

// Returns 64 lower-case hex digits of a text's UTF-8, or of the bytes given.
export function sha256(data) {
  var bytes = typeof data === "string" ? utf8(data) : data;
  var blocks = (bytes.length + 72) >> 6;
  var padded = new Uint8Array(blocks * 64);
  padded.set(bytes);
  padded[bytes.length] = 0x80;
  var view = new DataView(padded.buffer);
  // The length in bits has a second word; no bundle is so large that it would not be 0.
  view.setUint32(padded.length - 4, bytes.length << 3);
  var hash = START;
  var words = new Int32Array(64);
  for (var at = 0; at < padded.length; at += 64) {
    hash = block(hash, words, view, at);
  }
  return hash
    .map(function (word) {
      return ("0000000" + (word >>> 0).toString(16)).slice(-8);
    })
    .join("");
}

function block(hash, w, view, at) {
  var s = hash.slice();
  for (var i = 0; i < 64; i++) {
    if (i < 16) {
      w[i] = view.getInt32(at + i * 4);
    } else {
      var x = w[i - 15];
      var y = w[i - 2];
      w[i] =
        w[i - 16] + (rotr(x, 7) ^ rotr(x, 18) ^ (x >>> 3)) + w[i - 7] + (rotr(y, 17) ^ rotr(y, 19) ^ (y >>> 10));
    }
    // The standard's a to h are s[0] to s[7] before the first round. Instead of moving all of them up by one, each
    // round looks one further down.
    var a = s[-i & 7];
    var e = s[(4 - i) & 7];
    var t1 =
      s[(7 - i) & 7] +
      (rotr(e, 6) ^ rotr(e, 11) ^ rotr(e, 25)) +
      ((e & s[(5 - i) & 7]) ^ (~e & s[(6 - i) & 7])) +
      ROUND[i] +
      w[i];
    var b = s[(1 - i) & 7];
    var c = s[(2 - i) & 7];
    s[(3 - i) & 7] = (s[(3 - i) & 7] + t1) | 0;
    s[(7 - i) & 7] = (t1 + (rotr(a, 2) ^ rotr(a, 13) ^ rotr(a, 22)) + ((a & b) ^ (a & c) ^ (b & c))) | 0;
  }
  return hash.map(function (word, j) {
    return (word + s[j]) | 0;
  });
}
