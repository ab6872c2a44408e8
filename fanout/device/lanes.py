"""What a device knows of one campaign: its two lanes, and what it shows. Pure.

Messages may be repeated and may overtake each other, so each lane is a function of the *set* of messages
received, never of their order:

- The content lane is the prefetch with the newest revision.
- The stage lane is what `fanout.arming.standing` leaves of all activations and cancels. Two more rules are
  the device's own: what is at or below ``floor_rev`` has been acted on (or closed) and never acts again; and
  of several activations that came too late for their window, only the newest is followed, because a viewer
  should not see the evening replayed.

Knows nothing of clocks' estimation, connections, fetching or reports: that is `fanout.device.machine`.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Final

from fanout import wire
from fanout.arming import standing
from fanout.slots import in_share, slot_ms

# Activations and cancels remembered beyond the last one acted on; an event rarely moves even five times.
STAGE_LANE_MAX: Final = 32
# Bundles a campaign brought to this device and a close takes away again.
DIGESTS_MAX: Final = 8

# How far the newest prefetch has come. FAILED was reported once; it may still become READY.
PENDING: Final = 0
READY: Final = 1
FAILED: Final = 2


# One for all devices of a process that prefetch the same.
_without_content: Final = lru_cache(maxsize=64)(wire.Bundle)


def instant_ms(device_id: str, rev: int, start_ms: int, window_ms: int, now_ms: float) -> tuple[int, bool]:
    """Return when this device acts, and whether it came too late for the window.

    Args:
        device_id: The token's subject.
        rev: Revision that seeds the slot.
        start_ms: Start of the window, Unix ms.
        window_ms: Its width.
        now_ms: The server's clock, when the device learned of it.
    Returns:
        The instant, Unix ms: its slot, even if that has just passed (then it acts at once); or, once the
        window is over, a slot in a short window that starts now, so that latecomers do not act together.
    """
    if now_ms < start_ms + window_ms:
        return start_ms + slot_ms(device_id, rev, window_ms), False
    return int(now_ms) + slot_ms(device_id, rev, min(wire.CATCH_UP_MS, window_ms)), True


class Armed:
    """One activation on this device."""

    __slots__ = ("due_ms", "follows", "late", "message", "mine", "waiting")

    def __init__(self, message: wire.Activate, device_id: str, now_ms: float) -> None:
        self.message = message
        # The device belongs to the share. Others count too: they decide what stands.
        self.mine = in_share(device_id, message.campaign, message.share)
        self.due_ms = 0
        self.late = False  # learned (or trusted again) after its window
        self.follows = False  # stands, and is for this device to act on
        self.waiting = False  # its instant came without the bundle
        self.place(device_id, now_ms)

    def place(self, device_id: str, now_ms: float) -> None:
        """Compute the instant as of now."""
        m = self.message
        self.due_ms, self.late = instant_ms(device_id, m.rev, m.at, m.window_ms, now_ms)


class Lanes:
    """One campaign on one device."""

    __slots__ = (
        "active_rev",
        "armed",
        "bundle",
        "campaign",
        "cancels",
        "closed_rev",
        "content",
        "content_rev",
        "digests",
        "floor_rev",
        "rehearsed",
        "rehearsed_rev",
        "shown",
        "shown_rev",
    )

    def __init__(self, campaign: str) -> None:
        self.campaign = campaign
        self.content_rev = 0  # newest prefetch
        self.bundle: wire.Bundle | None = None  # its bundle, without inline content
        self.content = PENDING  # how far it has come
        self.armed: tuple[Armed, ...] = ()  # activations above the floor, by revision
        self.cancels: tuple[int, ...] = ()  # cancels above the floor
        self.floor_rev = 0  # at or below: acted on, never again
        self.closed_rev = 0  # at or below: closed
        self.active_rev = 0  # newest revision reported active
        self.shown: tuple[str, str | None] | None = None  # stage and bundle on the screen
        self.shown_rev = 0  # the activation that put it there
        self.rehearsed: tuple[str, str | None] | None = None  # the same, in shadow
        self.rehearsed_rev = 0
        self.digests: tuple[str, ...] = ()  # bundles named by this campaign's messages

    @property
    def empty(self) -> bool:
        """Nothing is known but, perhaps, that the campaign was closed."""
        return not (self.bundle or self.armed or self.cancels or self.active_rev or self.floor_rev > self.closed_rev)

    def adopt(self, message: wire.Prefetch) -> None:
        """Make this prefetch the content lane's; the caller has checked that it is newer."""
        bundle = message.bundle
        if bundle.inline is not None:
            # The content lives in the cache; holding it here too would cost 16 KiB a device.
            bundle = _without_content(bundle.sha256, bundle.bytes, bundle.url)
        self.content_rev, self.bundle, self.content = message.rev, bundle, PENDING
        self._name(bundle.sha256)

    def arm(self, message: wire.Activate, device_id: str, now_ms: float) -> bool:
        """Add an activation; False if it is known or of no consequence any more."""
        if message.rev <= self.floor_rev or any(a.message.rev == message.rev for a in self.armed):
            return False
        armed = Armed(message, device_id, now_ms)
        self._name(message.bundle)
        if not self.armed and not self.cancels:
            self.armed, armed.follows = (armed,), armed.mine  # what `settle` would decide, for nearly every device
            return True
        self.armed = tuple(sorted((*self.armed, armed), key=_rev))
        self.settle()
        return True

    def cancel(self, rev: int) -> bool:
        """Add a cancel; True if it took back something this device would have acted on."""
        if rev <= self.floor_rev or rev in self.cancels:
            return False
        self.cancels = (*self.cancels, rev)
        before = [a for a in self.armed if a.follows]
        self.settle()
        return any(not a.follows for a in before)

    def close(self, rev: int) -> bool:
        """Drop everything up to ``rev``; True if that was on the screen, or all there was."""
        if rev <= self.closed_rev:
            return False
        had, off = not self.empty, self.shown is not None and self.shown_rev <= rev
        self.closed_rev = rev
        self.raise_floor(rev)
        if self.content_rev <= rev:
            self.content_rev, self.bundle, self.content = 0, None, PENDING
        if off:
            self.shown, self.shown_rev = None, 0
        if self.rehearsed_rev <= rev:
            self.rehearsed, self.rehearsed_rev = None, 0
        if self.active_rev <= rev:
            self.active_rev = 0
        return off or (had and self.empty)

    def raise_floor(self, rev: int) -> None:
        """Forget activations and cancels at or below ``rev``: neither can change what newer ones do."""
        if rev <= self.floor_rev:
            return
        self.floor_rev = rev
        self.armed = tuple(a for a in self.armed if a.message.rev > rev)
        self.cancels = tuple(c for c in self.cancels if c > rev)

    def settle(self) -> None:
        """Decide again which activations this device follows."""
        excess = len(self.armed) + len(self.cancels) - STAGE_LANE_MAX
        if excess > 0:
            revs = sorted([a.message.rev for a in self.armed] + list(self.cancels))
            self.raise_floor(revs[excess - 1])
        stand = {m.rev for m in standing((a.message for a in self.armed), self.cancels)}
        newest_late = max((a.message.rev for a in self.armed if a.late and a.mine and _rev(a) in stand), default=0)
        for a in self.armed:
            a.follows = a.mine and _rev(a) in stand and (not a.late or _rev(a) == newest_late)

    def act(self, message: wire.Activate, bundle: str | None) -> bool:
        """Record that this activation acts now; True if what is shown changes by it."""
        self.raise_floor(message.rev)
        self.active_rev = message.rev
        look = (message.stage, bundle)
        if message.shadow:
            changed, self.rehearsed, self.rehearsed_rev = self.rehearsed != look, look, message.rev
        else:
            changed, self.shown, self.shown_rev = self.shown != look, look, message.rev
        return changed

    def uses(self, sha256: str) -> bool:
        """Tell whether anything that still counts names this bundle."""
        return (
            (self.bundle is not None and self.bundle.sha256 == sha256)
            or (self.shown is not None and self.shown[1] == sha256)
            or any(a.message.bundle == sha256 for a in self.armed)
        )

    def wants(self, sha256: str) -> bool:
        """Tell whether this campaign is still to get the bundle, or has an activation waiting for it."""
        if self.bundle is not None and self.bundle.sha256 == sha256 and self.content != READY:
            return True
        return self.awaits(sha256)

    def awaits(self, sha256: str) -> bool:
        """Tell whether an activation's instant came without this bundle."""
        return any(a.waiting and a.follows and a.message.bundle == sha256 for a in self.armed)

    def _name(self, sha256: str) -> None:
        if sha256 not in self.digests:
            self.digests = (*self.digests, sha256)[-DIGESTS_MAX:]


def _rev(armed: Armed) -> int:
    return armed.message.rev
