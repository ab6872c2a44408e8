// The one place that knows clocks and timers, so that tests may bring their own.

// A longer wait than this many milliseconds overflows to "at once" in every browser. Longer ones are cut; whoever set
// one finds nothing due when it fires, and sets the next.
var TIMER_MS_MAX = 0x7fffffff;

// Wall clock and timer apart by more than this since the last look: the TV slept, or its clock was set. Either way a
// cancel may have been missed; a false alarm costs one sync.
var JUMP_MS = 2000;
// A timer this late stood still. A hidden tab's comes up to 1 s late, and after five minutes up to 60 s: then the
// device asks before it acts, and nobody is looking.
var LATE_MS = 5000;
// The page's own clocks. `monoMs` never runs backwards; `wallMs` may be wrong by years and only tells that time jumped.
export var systemClock = {
  wallMs: Date.now,
  monoMs: function () {
    return performance.now();
  }
};

// Wrapped, because browsers refuse to have setTimeout called as a method of something else.
export var systemTimers = {
  set: function (work, ms) {
    return setTimeout(work, ms);
  },
  clear: function (id) {
    clearTimeout(id);
  }
};

// One timer that is set again and again.
export function Timer(timers, work) {
  var id = null;

  // In so many ms; infinitely many mean never.
  this.set = function (ms) {
    this.clear();
    // Rounded up: a timer that fires early would find nothing due and be set again for a fraction of a millisecond.
    if (ms < Infinity) id = timers.set(work, Math.min(Math.max(0, Math.ceil(ms)), TIMER_MS_MAX));
  };

  this.clear = this.close = function () {
    if (id !== null) timers.clear(id);
    id = null;
  };
}

// Tells whether time has jumped since the last look.
export function Watch(clock) {
  var drift;

  this.begin = function () {
    drift = null; // wall clock minus timer, at the last look
    this.dueMs = Infinity; // what a timer is set to, monotonic ms
  };

  this.jumped = function () {
    var now = clock.monoMs();
    var apart = clock.wallMs() - now;
    var jumped =
      now - this.dueMs > LATE_MS || (drift !== null && Math.abs(apart - drift) > JUMP_MS);
    drift = apart;
    if (jumped) this.dueMs = Infinity;
    return jumped;
  };
}
