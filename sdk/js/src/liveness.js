// Is this device connected, may it trust what it has armed, and when does it open its next socket? Pure.
//
// Silence has two stages. After one grace (GRACE_BEACONS beacon periods without any message) the device is in *doubt*:
// a cancel may have passed it by, so nothing armed fires, and it asks with a `sync`. After two, it takes the socket for
// dead and opens another, after a backoff: those who heard the same broadcast last, on a host that died right after it,
// must not come to its neighbours in the same millisecond. The doubt ends with a beacon or a welcome. All instants are monotonic ms.

import { FINAL_CODE_MIN } from "./wire.js";

// Until a welcome says otherwise. What users of such clients are used to: half a second to twenty.
export var DEFAULT_RECONNECT = { base_ms: 500, cap_ms: 20000 };
// The server says that the device itself is broken: it waits as long as it may.
var BROKEN_CODES = [1002, 1003, 1007, 1008, 1009];
var BROKEN_STATUSES = [400, 403, 404, 405, 426];
// Without a message for this many beacon periods a device stops trusting what it has armed.
var GRACE_BEACONS = 3;
// Time for a sync's answer on a bad network, after which a socket that may have died in a sleep is replaced.
var ANSWER_MS = 5000;
// Failures in a row after which the span is the longest under any policy.
var LONGEST = 32;

export function Liveness(policy) {
  this.policy = policy;
  this.connected = false; // a socket was welcomed and not lost since: at `welcomedMs`; last heard of at `heardMs`
  this.graceMs = 0; // silence that is still no reason for doubt; 0 before the first welcome
  this.doubt = false; // the silence was too long: resync before anything fires
  this.syncing = false; // a sync was sent, its beacon is still to come
  this.reopenMs = Infinity; // when to open the next socket beside this one
  this.attempt = 0; // connections in a row that failed or did not last
}

// Returns when `tick` has something to do, Infinity for never.
Liveness.prototype.nextMs = function () {
  return Math.min(this._quietMs(), this.reopenMs);
};

Liveness.prototype._quietMs = function () {
  if (!this.connected || !this.graceMs || (this.doubt && this.reopenMs < Infinity)) return Infinity;
  return this.heardMs + this.graceMs * (this.doubt ? 2 : 1);
};

// Notes that a message came; true if it ended a silence that was too long and not noticed yet.
Liveness.prototype.hear = function (monoMs) {
  var began = this._tooLong(monoMs);
  this.heardMs = monoMs;
  return began;
};

// Returns whether to ask with a sync now, and whether to open a new socket now.
Liveness.prototype.tick = function (monoMs, random) {
  var ask = this._tooLong(monoMs) && this.connected;
  if (this.doubt && this._quietMs() <= monoMs) {
    this.heardMs = monoMs; // in doubt this only times the next attempt
    this.reopenMs = this.retryMs(monoMs, random);
  }
  var reopen = this.reopenMs <= monoMs;
  if (reopen) this.reopenMs = Infinity;
  return { ask: ask && !reopen, reopen: reopen };
};

// Time has jumped: whatever was said meanwhile was missed. Returns whether to ask with a sync.
Liveness.prototype.distrust = function (monoMs) {
  if (!this.graceMs) return false;
  this.doubt = true;
  this.heardMs = monoMs - 2 * this.graceMs + ANSWER_MS;
  return this.connected;
};

Liveness.prototype._tooLong = function (monoMs) {
  if (this.doubt || !this.graceMs || monoMs < this.heardMs + this.graceMs) return false;
  return (this.doubt = true);
};

// Notes that a socket was welcomed.
Liveness.prototype.welcome = function (message, monoMs) {
  this.policy = message.reconnect;
  this.graceMs = GRACE_BEACONS * message.beacon_s * 1000;
  this.connected = true;
  this.welcomedMs = monoMs;
  this.syncing = false;
  this.reopenMs = Infinity;
};

// Plans to reconnect at a random instant within so many milliseconds.
Liveness.prototype.move = function (within_ms, monoMs, random) {
  this._forgive(monoMs);
  this.reopenMs = Math.min(monoMs + random() * within_ms, this.reopenMs);
};

// Notes that no socket is left.
Liveness.prototype.lose = function (monoMs) {
  this._forgive(monoMs);
  this.connected = this.syncing = false;
  this.reopenMs = Infinity;
};

// A connection that outlived the longest backoff was a good one; a server that welcomes and then closes at once must
// not be asked ever faster.
Liveness.prototype._forgive = function (monoMs) {
  if (this.connected && monoMs - this.welcomedMs >= this.policy.cap_ms) this.attempt = 0;
};

// Returns when to try again after a failure, null for never. `why` may hold a close `code`, an HTTP `status`, and
// `retry_after_ms`, on top of which the jitter comes.
Liveness.prototype.retryMs = function (monoMs, random, why) {
  why = why || {};
  if (why.code >= FINAL_CODE_MIN) return null;
  var broken = BROKEN_CODES.indexOf(why.code) >= 0 || BROKEN_STATUSES.indexOf(why.status) >= 0;
  var attempt = broken ? LONGEST : Math.min(this.attempt, LONGEST);
  this.attempt++;
  // Full jitter over a span that grows exponentially.
  var spanMs = Math.min(this.policy.cap_ms, this.policy.base_ms * Math.pow(2, attempt));
  return monoMs + (why.retry_after_ms || 0) + Math.floor(random() * spanMs);
};
