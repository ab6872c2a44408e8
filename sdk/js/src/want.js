// One bundle to be fetched: when, for whom, and how often it failed. Pure.

// Tries before a device reports `failed`. It tries again when it reconnects or hears of the bundle anew.
var TRIES_MAX = 5;
// First span of the backoff between tries; it doubles. A window that has more time left is used instead.
var RETRY_BASE_MS = 1000;

// For whom it is (`campaign`, `rev`) and the end of the window (`untilMs`) come with the plan.
export function Want(bundle) {
  this.bundle = bundle;
  this.dueMs = Infinity; // when to fetch, by the server's clock
  this.flying = false; // the driver is fetching it now
  this.tries = 0; // fetches that failed
}

// Plans the next try, with full jitter; false when there is none. A quarter of what is left of the window is enough to
// spread a fleet whose origin has just failed, and leaves room for the tries to come. Near or past its end the span
// grows as a backoff does.
Want.prototype.retry = function (nowMs, retry_after_ms, random) {
  this.flying = false;
  if (++this.tries >= TRIES_MAX) return false;
  var span = Math.max((this.untilMs - nowMs) / 4, RETRY_BASE_MS * Math.pow(2, this.tries));
  this.dueMs = Math.floor(nowMs) + retry_after_ms + Math.floor(random() * span);
  return true;
};
