// One message of a stage lane on one device: whether it is for it, and when it acts. Pure.

import { sharePoint, slotMs } from "./slots.js";
import { CATCH_UP_MS } from "./wire.js";

// When this device acts on a window: its slot, even if that has just passed (then it acts at once); or, once the window
// is over, a slot in a short window that starts now, so that latecomers do not act together.
export function instantMs(deviceId, rev, startMs, window_ms, nowMs) {
  if (nowMs < startMs + window_ms) return startMs + slotMs(deviceId, rev, window_ms);
  return Math.floor(nowMs) + slotMs(deviceId, rev, Math.min(CATCH_UP_MS, window_ms));
}

// A cancel is never anybody's: it has no share.
export function Armed(message, deviceId, nowMs) {
  this.message = message;
  // The device belongs to the share. Others count too: they decide what stands.
  this.mine = sharePoint(deviceId, message.campaign) < message.share;
  this.follows = false; // stands, and is for this device to act on
  this.waiting = false; // its instant came without the bundle
  this.place(deviceId, nowMs);
}

// Computes the instant as of now.
Armed.prototype.place = function (deviceId, nowMs) {
  var m = this.message;
  this.late = nowMs >= m.at + m.window_ms; // learned (or trusted again) after its window
  this.dueMs = instantMs(deviceId, m.rev, m.at, m.window_ms, nowMs);
};
