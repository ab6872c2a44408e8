// What a device knows of one campaign: its two lanes, and what it shows. Pure.
//
// Messages may be repeated and may overtake each other, so each lane is a function of the *set* of messages received,
// never of their order:
//
// - The content lane is the prefetch with the newest revision.
// - The stage lane is what `standing` leaves of all activations and cancels. Two more rules are the device's own: what
//   is at or below `floorRev` has been acted on (or closed) and never acts again; and of several activations that came
//   too late for their window, only the newest is followed, because a viewer should not see the evening replayed.
//
// Knows nothing of clocks' estimation, connections, fetching or reports.

import { Armed } from "./armed.js";
import { standing } from "./arming.js";

// Activations and cancels remembered beyond the last one acted on; an event rarely moves even five times.
var STAGE_LANE_MAX = 32;
// Bundles a campaign brought to this device and a close takes away again.
var DIGESTS_MAX = 8;

// How far the newest prefetch has come. FAILED was reported once; it may still become READY.
export var PENDING = 0;
export var READY = 1;
export var FAILED = 2;

export function Lanes(campaign) {
  this.campaign = campaign;
  this.contentRev = 0; // newest prefetch
  this.bundle = {}; // its bundle, without inline content
  this.content = PENDING; // how far it has come
  this.armed = []; // activations and cancels above the floor, by revision
  this.floorRev = 0; // at or below: acted on, never again
  this.closedRev = 0; // at or below: closed
  this.activeRev = 0; // newest revision reported active
  this.shown = []; // [stage, bundle, rev] on the screen, empty for none
  this.rehearsed = []; // the same, in shadow
  this.digests = []; // bundles named by this campaign's messages
}

function revOf(armed) {
  return armed.message.rev;
}

// Nothing is known but, perhaps, that the campaign was closed.
Lanes.prototype.empty = function () {
  return !this.contentRev && !this.armed.length && !this.activeRev && this.floorRev <= this.closedRev;
};

// Makes this prefetch the content lane's; the caller has checked that it is newer.
Lanes.prototype.adopt = function (message) {
  var bundle = message.bundle;
  this.contentRev = message.rev;
  this.bundle = { sha256: bundle.sha256, bytes: bundle.bytes };
  if ("url" in bundle) this.bundle.url = bundle.url;
  this.content = PENDING;
  this._name(bundle.sha256);
};

// Adds an activation or a cancel; false if it is known or of no consequence any more.
Lanes.prototype.arm = function (message, deviceId, nowMs) {
  if (message.rev <= this.floorRev || this.armed.map(revOf).indexOf(message.rev) >= 0) return false;
  if (message.bundle) this._name(message.bundle);
  this.armed.push(new Armed(message, deviceId, nowMs));
  this.armed.sort(function (one, other) {
    return revOf(one) - revOf(other);
  });
  this.settle();
  return true;
};

// Returns the activations this device follows, by revision.
Lanes.prototype.followed = function () {
  return this.armed.filter(function (a) {
    return a.follows;
  });
};

// Drops everything up to `rev`; true if that was on the screen, or all there was.
Lanes.prototype.close = function (rev) {
  if (rev <= this.closedRev) return false;
  var had = !this.empty();
  this.closedRev = rev;
  this.raiseFloor(rev);
  if (this.contentRev <= rev) {
    this.contentRev = 0;
    this.bundle = {};
    this.content = PENDING;
  }
  var off = this.shown[2] <= rev;
  if (off) this.shown = [];
  if (this.rehearsed[2] <= rev) this.rehearsed = [];
  if (this.activeRev <= rev) this.activeRev = 0;
  return off || (had && this.empty());
};

// Forgets activations and cancels at or below `rev`: neither can change what newer ones do.
Lanes.prototype.raiseFloor = function (rev) {
  if (rev <= this.floorRev) return;
  this.floorRev = rev;
  this.armed = this.armed.filter(function (a) {
    return revOf(a) > rev;
  });
};

// Decides again which activations this device follows.
Lanes.prototype.settle = function () {
  var excess = this.armed.length - STAGE_LANE_MAX;
  if (excess > 0) this.raiseFloor(revOf(this.armed[excess - 1]));
  var stand = standing(
    this.armed.map(function (a) {
      return a.message;
    })
  );
  var newestLate = null;
  this.armed.forEach(function (a) {
    a.follows = a.mine && stand.indexOf(a.message) >= 0;
    if (a.follows && a.late) {
      if (newestLate) newestLate.follows = false;
      newestLate = a;
    }
  });
};

// Records that this activation acts now; true if what is shown changes by it.
Lanes.prototype.act = function (message, bundle) {
  this.raiseFloor(message.rev);
  this.activeRev = message.rev;
  var where = message.shadow ? "rehearsed" : "shown";
  var before = this[where];
  this[where] = [message.stage, bundle, message.rev];
  return before[0] !== message.stage || before[1] !== bundle;
};

// Tells whether anything that still counts names this bundle.
Lanes.prototype.uses = function (sha256) {
  return (
    this.bundle.sha256 === sha256 ||
    this.shown[1] === sha256 ||
    this.armed.some(function (a) {
      return a.message.bundle === sha256;
    })
  );
};

// Tells whether this campaign is still to get the bundle, or has an activation waiting for it.
Lanes.prototype.wants = function (sha256) {
  return (this.bundle.sha256 === sha256 && this.content !== READY) || this.awaits(sha256);
};

// Tells whether an activation's instant came without this bundle.
Lanes.prototype.awaits = function (sha256) {
  return this.followed().some(function (a) {
    return a.waiting && a.message.bundle === sha256;
  });
};

Lanes.prototype._name = function (sha256) {
  if (this.digests.indexOf(sha256) < 0) this.digests = this.digests.concat(sha256).slice(-DIGESTS_MAX);
};
