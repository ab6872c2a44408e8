// The server's clock, estimated on a device that trusts only its own monotonic timer. Pure.
//
// A server says "it is `now`" and the device hears it some unknown delay later, so `now - monotonic` is the true offset
// minus that delay. A delay is never negative: the largest sample is the best. Samples age (the two timers drift
// apart), so only the last one to two spans of SPAN samples count, kept as two maxima.
//
// A server clock that steps forward gives a larger sample, believed at once. One that steps back looks like a sudden,
// lasting delay: after STEP_SAMPLES samples in a row more than STEP_MS below the estimate it is believed, too.

// With a beacon every 10 s a span is 80 s: at 100 ppm of drift the estimate is off by at most 16 ms.
var SPAN = 8;
// Larger than the queueing of a bad mobile network, smaller than any step worth making.
var STEP_MS = 1000;
var STEP_SAMPLES = 3;

export function ServerClock() {
  // Server's Unix ms minus monotonic ms; nothing is known of it before the first sample.
  this.offsetMs = -Infinity;
  this._begin(-Infinity);
  this._count = 0; // samples in the current span
}

// Begins a span of one sample, and forgets what was before.
ServerClock.prototype._begin = function (offset) {
  this._best = offset; // largest sample of the current span
  this._previous = -Infinity; // largest sample of the span before
  this._count = 1;
  this._low = []; // the samples in a row that look like a step back
};

// Learns from a message that said `now` and arrived at `monoMs`.
ServerClock.prototype.sample = function (now, monoMs) {
  var offset = now - monoMs;
  if (offset < this.offsetMs - STEP_MS) {
    if (this._low.push(offset) >= STEP_SAMPLES) this._begin(Math.max.apply(null, this._low));
  } else {
    this._low = [];
    if (this._count++ >= SPAN) {
      this._previous = this._best;
      this._best = -Infinity;
      this._count = 1;
    }
    this._best = Math.max(this._best, offset);
  }
  this.offsetMs = Math.max(this._best, this._previous);
};
