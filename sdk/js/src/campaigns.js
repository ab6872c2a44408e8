// The campaigns of one device: what each message, instant and bundle means for them. Pure.
//
// Brings the lanes (which messages count) and the shelf (which bundles are there) together. Speaks of the server's time
// alone, and reports whatever happens; whether anyone is there to be told, and whether what is armed may be trusted, is
// the business of machine.js. Every `nowMs` is the server's clock.

import { instantMs } from "./armed.js";
import { FAILED, Lanes, PENDING, READY } from "./lanes.js";
import { sha256 as digestOf } from "./sha256.js";
import { Shelf } from "./shelf.js";

// Closed campaigns remembered so that a stray old message does not bring one back.
var TOMBSTONES_MAX = 64;
// Converting instants between two clocks as doubles may lose a fraction of a millisecond.
var EARLY_MS = 0.5;

export function Campaigns(deviceId, held) {
  this._deviceId = deviceId;
  this._lanes = []; // by first appearance; a list, so that no name of a campaign is anything special
  this.shelf = new Shelf(held);
  this.actions = []; // what the driver is to do; the machine takes it out
}

// --- Instants

// Returns when something is to be done, Infinity for never: fetches, and flips if what is armed may be trusted.
Campaigns.prototype.nextMs = function (trusted) {
  var shelf = this.shelf;
  var planned = shelf.wants.filter(function (want) {
    return !want.flying;
  });
  this._lanes.forEach(function (lanes) {
    planned = planned.concat(
      lanes.followed().filter(function (a) {
        return trusted && (!a.waiting || shelf.has(a.message.bundle));
      })
    );
  });
  return planned.reduce(function (soonest, plan) {
    return Math.min(soonest, plan.dueMs);
  }, Infinity);
};

// Lets what is overdue act as latecomers do. Not `doubted` on a new connection without a silence before it: then only
// what had been given up gets another chance.
Campaigns.prototype.trust = function (nowMs, doubted) {
  var self = this;
  this._lanes.forEach(function (lanes) {
    lanes.armed.forEach(function (a) {
      var givenUp = a.waiting && !self.shelf.wanted(a.message.bundle);
      if (a.dueMs <= nowMs && (doubted || givenUp)) {
        a.place(self._deviceId, nowMs);
        if (givenUp) a.waiting = false;
      }
    });
    lanes.settle();
  });
};

// --- Messages

// Takes in a message; repeated or overtaken ones change nothing.
Campaigns.prototype.apply = function (message, nowMs) {
  var lanes = this.lanesOf(message.campaign);
  if (!lanes) this._lanes.push((lanes = new Lanes(message.campaign)));
  if (message.rev <= lanes.closedRev) return;
  if (message.t === "prefetch") {
    this._prefetch(lanes, message, nowMs);
  } else if (message.t === "close") {
    this._close(lanes, message.rev);
  } else {
    this._stage(lanes, message, nowMs);
  }
};

// Returns what is known of a campaign, undefined if nothing is.
Campaigns.prototype.lanesOf = function (campaign) {
  return this._lanes.filter(function (lanes) {
    return lanes.campaign === campaign;
  })[0];
};

Campaigns.prototype._stage = function (lanes, message, nowMs) {
  var shelf = this.shelf;
  var before = lanes.followed();
  if (!lanes.arm(message, this._deviceId, nowMs)) return;
  if (message.t === "cancel") {
    // Unless it took back something this device would have acted on, it changes nothing.
    var all = before.every(function (a) {
      return a.follows;
    });
    if (all) return;
    this.actions.push({ do: "cancelled", campaign: lanes.campaign, rev: message.rev });
  }
  // An activation that waits while nobody fetches for it may ask anew.
  lanes.armed.forEach(function (a) {
    if (!shelf.wanted(a.message.bundle)) a.waiting = false;
  });
  this._tidy();
};

Campaigns.prototype._close = function (lanes, rev) {
  var shelf = this.shelf;
  var over = lanes.close(rev);
  this._tidy();
  var used = [];
  var gone = [];
  lanes.digests.forEach(function (sha256) {
    if (this._any("uses", sha256)) used.push(sha256);
    else if (shelf.has(sha256)) gone.push(sha256);
  }, this);
  lanes.digests = used;
  gone.forEach(shelf.lose, shelf);
  if (gone.length) this.actions.push({ do: "drop", campaign: lanes.campaign, digests: gone });
  if (over) this.actions.push({ do: "closed", campaign: lanes.campaign, rev: rev });
  var tombstones = this._lanes.filter(function (other) {
    return other.empty();
  });
  if (tombstones.length > TOMBSTONES_MAX) {
    var oldest = tombstones.reduce(function (one, other) {
      return other.closedRev < one.closedRev ? other : one;
    });
    this._lanes.splice(this._lanes.indexOf(oldest), 1);
  }
};

// --- Content

// Takes in that the driver's cache now holds this bundle.
Campaigns.prototype.stored = function (sha256, via, took_ms) {
  var want = this.shelf.hold(sha256);
  if (this._any("uses", sha256)) {
    this._ready(sha256, via, took_ms);
  } else {
    // Closed or superseded while it was on its way.
    this.shelf.lose(sha256);
    this.actions.push({ do: "drop", campaign: want ? want.campaign : "", digests: [sha256] });
  }
};

// Takes in that a fetch failed: plans another, or gives up and says so.
Campaigns.prototype.fetchFailed = function (sha256, nowMs, retry_after_ms, random) {
  var want = this.shelf.wanted(sha256);
  if (!want || (this._any("wants", sha256) && want.retry(nowMs, retry_after_ms, random))) return;
  this.shelf.drop(want);
  this._lanes.forEach(function (lanes) {
    if (lanes.bundle.sha256 === sha256) this._contentFailed(lanes);
    lanes.followed().forEach(function (a) {
      if (a.waiting && a.message.bundle === sha256) this._report(lanes, a.message.rev, "failed");
    }, this);
  }, this);
};

// Starts the fetches that are due; a bundle that is held already is ready at that instant.
Campaigns.prototype.fetch = function (nowMs) {
  this.shelf.wants.forEach(function (want) {
    if (want.flying || want.dueMs > nowMs + EARLY_MS) return;
    if (this.shelf.has(want.bundle.sha256)) {
      this.shelf.drop(want);
      this._ready(want.bundle.sha256, "cache", 0);
    } else {
      want.flying = true;
      this.actions.push({ do: "fetch", campaign: want.campaign, rev: want.rev, bundle: want.bundle });
    }
  }, this);
};

// Tells whether any campaign `uses`, `wants` or `awaits` this bundle.
Campaigns.prototype._any = function (what, sha256) {
  return this._lanes.some(function (lanes) {
    return lanes[what](sha256);
  });
};

// Gives up fetching what nobody wants any more and is not on its way.
Campaigns.prototype._tidy = function () {
  this.shelf.wants = this.shelf.wants.filter(function (want) {
    return want.flying || this._any("wants", want.bundle.sha256);
  }, this);
};

Campaigns.prototype._prefetch = function (lanes, message, nowMs) {
  var shelf = this.shelf;
  var bundle = message.bundle;
  var sha256 = bundle.sha256;
  if (message.rev < lanes.contentRev) return;
  if (message.rev > lanes.contentRev) {
    lanes.adopt(message);
    this._tidy();
  } else if (shelf.has(sha256) || shelf.wanted(sha256)) {
    return; // said again, and it is held or on its way
  } else if (lanes.content === READY) {
    lanes.content = PENDING; // said again, because the cache has lost it
  }
  if ("inline" in bundle && !shelf.has(sha256)) {
    if (digestOf(bundle.inline) === sha256) {
      shelf.hold(sha256);
      this.actions.push({ do: "store", sha256: sha256, content: bundle.inline });
      this._ready(sha256, "inline", 0);
      return;
    }
    this._contentFailed(lanes);
    if (!("url" in bundle)) return;
  }
  var dueMs = instantMs(this._deviceId, message.rev, message.from, message.window_ms, nowMs);
  // An activation may be waiting for this very bundle, with its own plan to get it.
  var awaited = this._any("awaits", sha256);
  shelf.want(lanes.campaign, message.rev, lanes.bundle, dueMs, message.from + message.window_ms, awaited);
};

Campaigns.prototype._ready = function (sha256, via, took_ms) {
  this._lanes.forEach(function (lanes) {
    if (lanes.bundle.sha256 !== sha256 || lanes.content === READY) return;
    lanes.content = READY;
    this._report(lanes, lanes.contentRev, "ready", took_ms, via);
    this.actions.push({ do: "prefetched", campaign: lanes.campaign, rev: lanes.contentRev, sha256: sha256, via: via });
  }, this);
};

Campaigns.prototype._contentFailed = function (lanes) {
  if (lanes.content !== PENDING) return;
  lanes.content = FAILED;
  this._report(lanes, lanes.contentRev, "failed");
};

// --- Flips

// Reports what is shown: gateways count by connection, so each new one is told. And what is held, unless it was told.
Campaigns.prototype.resume = function (have) {
  this._lanes.forEach(function (lanes) {
    var sha256 = lanes.bundle.sha256;
    if (lanes.content === READY && this.shelf.has(sha256) && have.indexOf(sha256) < 0) {
      this._report(lanes, lanes.contentRev, "ready", 0, "resume");
    }
    if (lanes.activeRev) this._report(lanes, lanes.activeRev, "active", 0, "resume");
  }, this);
};

// Acts on the activations whose instant has come.
Campaigns.prototype.flip = function (nowMs) {
  this._lanes.forEach(function (lanes) {
    var ripe = lanes.followed().filter(function (a) {
      return a.dueMs <= nowMs + EARLY_MS;
    });
    // The newest decides; an older one is only shown while the newest waits for its bundle.
    for (var i = ripe.length; i--; ) {
      if (this._fire(lanes, ripe[i], nowMs, i === ripe.length - 1)) return;
    }
  }, this);
};

// Acts on an activation whose instant has come; false if it has to wait for its bundle.
Campaigns.prototype._fire = function (lanes, armed, nowMs, newest) {
  var m = armed.message;
  var bundle = m.bundle;
  var via = armed.waiting ? "fetch" : "cache";
  if (!this.shelf.has(bundle)) {
    if (m.miss === "fetch" || !newest) {
      this._miss(lanes, armed, nowMs, newest);
      return false;
    }
    if (m.miss === "silent") {
      lanes.raiseFloor(m.rev);
      this._report(lanes, m.rev, "failed");
      return true;
    }
    bundle = null;
    via = "generic";
  }
  var late_ms = Math.max(0, nowMs - armed.dueMs);
  if (lanes.act(m, bundle)) {
    this.actions.push({
      do: "flip",
      campaign: m.campaign,
      rev: m.rev,
      stage: m.stage,
      bundle: bundle,
      shadow: m.shadow,
      due_ms: armed.dueMs,
      late_ms: late_ms
    });
  }
  this._report(lanes, m.rev, "active", late_ms, via);
  this._tidy();
  return true;
};

Campaigns.prototype._miss = function (lanes, armed, nowMs, fetch) {
  if (armed.waiting) return;
  armed.waiting = true;
  if (!fetch) return;
  var m = armed.message;
  var bundle = lanes.bundle.sha256 === m.bundle ? lanes.bundle : { sha256: m.bundle, bytes: 0 };
  this.shelf.want(m.campaign, m.rev, bundle, Math.floor(nowMs), m.at + m.window_ms, true);
};

Campaigns.prototype._report = function (lanes, rev, kind, ms, via) {
  this.actions.push({
    do: "send",
    message: {
      t: "report",
      campaign: lanes.campaign,
      rev: rev,
      kind: kind,
      ms: Math.floor(ms || 0),
      via: via || "cache"
    }
  });
};
