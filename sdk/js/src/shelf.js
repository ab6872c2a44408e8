// The bundles of one device: which it holds, which it is to fetch and when. Pure.
//
// However many campaigns want a bundle, it is fetched once. Knows nothing of what wants a bundle; that is lanes.js.

import { Want } from "./want.js";

export function Shelf(held) {
  this.held = held.slice(); // digests in the driver's cache, newest last
  this.wants = []; // plans to fetch, one a digest
}

Shelf.prototype.has = function (sha256) {
  return this.held.indexOf(sha256) >= 0;
};

// Notes that the driver's cache has it; returns what had been planned to fetch it.
Shelf.prototype.hold = function (sha256) {
  if (!this.has(sha256)) this.held.push(sha256);
  var want = this.wanted(sha256);
  this.drop(want);
  return want;
};

// Notes that the driver's cache no longer has it.
Shelf.prototype.lose = function (sha256) {
  this.held = this.held.filter(function (other) {
    return other !== sha256;
  });
};

// Returns the plan to fetch this bundle, undefined if there is none.
Shelf.prototype.wanted = function (sha256) {
  return this.wants.filter(function (want) {
    return want.bundle.sha256 === sha256;
  })[0];
};

// Plans a fetch, or changes the plan, unless it is being carried out. `dueMs` and `untilMs` (the end of the window for
// retries) are by the server's clock; `early` keeps the plan that exists if it comes sooner.
Shelf.prototype.want = function (campaign, rev, bundle, dueMs, untilMs, early) {
  var want = this.wanted(bundle.sha256);
  if (!want) this.wants.push((want = new Want(bundle)));
  if (want.flying) return;
  want.campaign = campaign;
  want.rev = rev;
  want.bundle = bundle;
  want.untilMs = untilMs;
  want.dueMs = early ? Math.min(dueMs, want.dueMs) : dueMs;
};

// Gives a plan up.
Shelf.prototype.drop = function (gone) {
  this.wants = this.wants.filter(function (want) {
    return want !== gone;
  });
};
