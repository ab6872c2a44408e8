// One device as a pure state machine: what it knows, what is due when, what to do about each event.
//
// It does no I/O, starts no timer and reads no clock. Whoever drives it hands in events with the monotonic time, carries
// out the actions it gets back, in order, and asks `nextDueMs` when to call `due`. Flips, fetches and `reopen` come from
// `due` alone; so after every call, ask `nextDueMs` again. All instants are kept by the server's clock, so a better
// estimate of it moves them all. tests/vectors/device.json says, event by event, what comes back.
//
// The theory is in its parts: lanes.js (which messages count), campaigns.js (what they mean), shelf.js (bundles),
// liveness.js (silence, doubt, backoff) and clock.js.

import { Campaigns } from "./campaigns.js";
import { ServerClock } from "./clock.js";
import { DEFAULT_RECONNECT, Liveness } from "./liveness.js";
import { HAVE_MAX } from "./wire.js";

// Options: `held`, digests of the bundles the driver's cache holds already; `random`, the source of jitter (0 <= x < 1);
// `reconnect`, how to back off until the first welcome says it.
export function DeviceMachine(deviceId, options) {
  options = options || {};
  this._random = options.random || Math.random;
  this._clock = new ServerClock();
  this._live = new Liveness(options.reconnect || DEFAULT_RECONNECT);
  this._campaigns = new Campaigns(deviceId, options.held || []);
  this._since = 0; // newest revision received
  this._have = this.held(); // the bundles that the newest connection's query names
}

// --- What a driver may ask

// A socket was welcomed and has not been lost.
DeviceMachine.prototype.connected = function () {
  return this._live.connected;
};

// Digests of the bundles this device counts on.
DeviceMachine.prototype.held = function () {
  return this._campaigns.shelf.held.slice();
};

// Returns [stage, bundle] on the screen for this campaign, null if nothing is.
DeviceMachine.prototype.shown = function (campaign) {
  var lanes = this._campaigns.lanesOf(campaign);
  return lanes && lanes.shown[0] ? lanes.shown.slice(0, 2) : null;
};

// Returns the server's time, Unix ms, as this device estimates it; null before the first welcome.
DeviceMachine.prototype.serverMs = function (monoMs) {
  var nowMs = this._nowMs(monoMs);
  return nowMs > -Infinity ? nowMs : null;
};

// Returns what to put into the query of the connection that is opened now. What is stored between this and its welcome,
// the gateway has not been told: it is reported then.
DeviceMachine.prototype.resume = function () {
  this._have = this.held().slice(-HAVE_MAX);
  return { have: this._have, since: this._since };
};

// Returns when to call `due` next, monotonic ms (it may be past); null if nothing is planned.
DeviceMachine.prototype.nextDueMs = function () {
  var at = this.nextMs();
  return at < Infinity ? at : null;
};

// The same, Infinity for never.
DeviceMachine.prototype.nextMs = function () {
  return Math.min(this._campaigns.nextMs(!this._live.doubt) - this._clock.offsetMs, this._live.nextMs());
};

// --- Events

// Takes in a message, as `check` gave it, from any of the device's sockets.
DeviceMachine.prototype.received = function (message, monoMs) {
  var doubtBegan = this._live.hear(monoMs);
  if (message.t === "welcome") {
    this._welcomed(message, monoMs);
  } else if (message.t === "beacon") {
    this._beacon(message, monoMs);
  } else {
    if (doubtBegan) this._sync();
    if (message.t === "reconnect") this._live.move(message.within_ms, monoMs, this._random);
    else if (this.serverMs(monoMs) !== null) this._apply(message, this._nowMs(monoMs));
  }
  return this._told();
};

// Does what has become due.
DeviceMachine.prototype.due = function (monoMs) {
  var live = this._live.tick(monoMs, this._random);
  if (live.ask) this._sync();
  if (!this._live.doubt) this._campaigns.flip(this._nowMs(monoMs));
  this._campaigns.fetch(this._nowMs(monoMs));
  if (live.reopen) this._campaigns.actions.push({ do: "reopen" });
  return this._told();
};

// Takes in that the driver's cache now holds this bundle, its digest checked.
DeviceMachine.prototype.stored = function (sha256, monoMs, via, took_ms) {
  this._campaigns.stored(sha256, via || "fetch", took_ms);
  return this._told();
};

// Takes in that a fetch failed or brought the wrong bytes; it is tried again a few times.
DeviceMachine.prototype.fetchFailed = function (sha256, monoMs, retry_after_ms) {
  var nowMs = this._nowMs(monoMs);
  this._campaigns.fetchFailed(sha256, nowMs, retry_after_ms || 0, this._random);
  return this._told();
};

// Takes in that time has jumped (the device slept, a timer stood still): what is armed waits for a beacon or a welcome.
DeviceMachine.prototype.distrusted = function (monoMs) {
  if (this._live.distrust(monoMs)) this._sync();
  return this._told();
};

// Takes in that the driver's cache no longer holds this bundle.
DeviceMachine.prototype.evicted = function (sha256) {
  this._campaigns.shelf.lose(sha256);
};

// Takes in that there is no socket: the last one was lost, or a new one could not be opened. `why` may hold a close
// `code`, an HTTP `status` and `retry_after_ms`. Returns when to open the next one, monotonic ms; null: never.
DeviceMachine.prototype.disconnected = function (monoMs, why) {
  this._live.lose(monoMs);
  return this._live.retryMs(monoMs, this._random, why);
};

// Takes in that `reopen` failed while the old socket still lives; another comes when it is time.
DeviceMachine.prototype.reopenFailed = function (monoMs, why) {
  var at = this._live.retryMs(monoMs, this._random, why);
  this._live.reopenMs = at === null ? Infinity : at;
};

// --- The connection

// The server's clock; before the first welcome it is infinitely early, so nothing is due.
DeviceMachine.prototype._nowMs = function (monoMs) {
  return monoMs + this._clock.offsetMs;
};

DeviceMachine.prototype._welcomed = function (message, monoMs) {
  this._clock.sample(message.now, monoMs);
  this._live.welcome(message, monoMs);
  this._campaigns.resume(this._have);
  var nowMs = this._nowMs(monoMs);
  message.state.forEach(function (told) {
    this._apply(told, nowMs);
  }, this);
  this._trust(nowMs, true);
};

DeviceMachine.prototype._beacon = function (message, monoMs) {
  this._clock.sample(message.now, monoMs);
  if (message.rev > this._since && !this._live.syncing) {
    this._sync();
    return;
  }
  // Either nothing is missing, or this is the beacon that ends a sync's answer: then whatever there was up to its
  // revision has been said, even if that was nothing for this device.
  this._since = Math.max(this._since, message.rev);
  this._live.syncing = false;
  this._trust(this._nowMs(monoMs), false);
};

DeviceMachine.prototype._sync = function () {
  if (!this._live.connected) return;
  this._live.syncing = true;
  this._campaigns.actions.push({ do: "send", message: { t: "sync", since: this._since } });
};

// Ends the doubt: what became due meanwhile is late, and acts as latecomers do. On a `fresh` connection what had been
// given up gets another chance, too.
DeviceMachine.prototype._trust = function (nowMs, fresh) {
  var doubted = this._live.doubt;
  this._live.doubt = false;
  if (doubted || fresh) this._campaigns.trust(nowMs, doubted);
};

DeviceMachine.prototype._apply = function (message, nowMs) {
  this._since = Math.max(this._since, message.rev);
  this._campaigns.apply(message, nowMs);
};

// Without a socket there is nobody to tell; the next welcome's query and resume reports say it all.
DeviceMachine.prototype._told = function () {
  var live = this._live;
  var actions = this._campaigns.actions;
  this._campaigns.actions = [];
  return actions.filter(function (action) {
    return live.connected || action.do !== "send";
  });
};
