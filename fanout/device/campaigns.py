"""The campaigns of one device: what each message, instant and bundle means for them. Pure.

Brings the lanes (which messages count) and the shelf (which bundles are there) together. Speaks of the
server's time alone, and reports whatever happens; whether anyone is there to be told, and whether what is
armed may be trusted, is the business of `fanout.device.machine`.
"""

from __future__ import annotations

import hashlib
import random
from collections.abc import Iterable, Iterator
from sys import intern
from typing import Final

from fanout import wire
from fanout.device import lanes as lane
from fanout.device.actions import Action, Cancelled, Closed, Drop, Fetch, Flip, Prefetched, Send, Store
from fanout.device.lanes import Armed, Lanes
from fanout.device.shelf import Shelf

# Closed campaigns remembered so that a stray old message does not bring one back.
TOMBSTONES_MAX: Final = 64
# Converting instants between two clocks as doubles may lose a fraction of a millisecond.
EARLY_MS: Final = 0.5


class Campaigns:
    """What one device knows, holds, awaits and shows. Every ``now_ms`` is the server's clock, Unix ms."""

    __slots__ = ("_device_id", "_lanes", "shelf")

    def __init__(self, device_id: str, held: Iterable[str]) -> None:
        self._device_id = device_id
        self._lanes: tuple[Lanes, ...] = ()  # by first appearance; a device knows one or two
        self.shelf = Shelf(held)

    # --- Instants

    def instants(self, *, armed: bool) -> Iterator[int]:
        """Yield when something is to be done: fetches, and flips if what is armed may be trusted."""
        for want in self.shelf.wants():
            if not want.flying:
                yield want.due_ms
        if not armed:
            return
        for lanes in self._lanes:
            for a in lanes.armed:
                if a.follows and (not a.waiting or a.message.bundle in self.shelf.held):
                    yield a.due_ms

    def trust(self, now_ms: float, *, doubted: bool) -> None:
        """Let what is overdue act as latecomers do.

        Args:
            now_ms: The server's clock.
            doubted: False on a new connection without a silence before it: then only what had been given up
                gets another chance.
        """
        for lanes in self._lanes:
            for armed in lanes.armed:
                given_up = armed.waiting and not self.shelf.wanted(armed.message.bundle)
                if armed.due_ms <= now_ms and (doubted or given_up):
                    armed.place(self._device_id, now_ms)
                    armed.waiting = armed.waiting and not given_up
            lanes.settle()

    # --- Messages

    def apply(self, message: wire.StateMessage, now_ms: float, actions: list[Action]) -> None:
        """Take in a message; repeated or overtaken ones change nothing."""
        lanes = self.find(message.campaign)
        if lanes is None:
            lanes = Lanes(intern(message.campaign))
            self._lanes = (*self._lanes, lanes)
        if message.rev <= lanes.closed_rev:
            return
        if isinstance(message, wire.Prefetch):
            self._prefetch(lanes, message, now_ms, actions)
        elif isinstance(message, wire.Close):
            self._close(lanes, message.rev, actions)
        elif isinstance(message, wire.Activate):
            if lanes.arm(message, self._device_id, now_ms):
                self._reconsider(lanes)
        elif lanes.cancel(message.rev):
            actions.append(Cancelled(lanes.campaign, message.rev))
            self._reconsider(lanes)

    def find(self, campaign: str) -> Lanes | None:
        """Return what is known of a campaign."""
        for lanes in self._lanes:
            if lanes.campaign == campaign:
                return lanes
        return None

    def _reconsider(self, lanes: Lanes) -> None:
        """The stage lane changed: an activation that waits while nobody fetches for it may ask anew."""
        for armed in lanes.armed:
            if armed.waiting and not self.shelf.wanted(armed.message.bundle):
                armed.waiting = False
        self.shelf.tidy(self._wanted)

    def _close(self, lanes: Lanes, rev: int, actions: list[Action]) -> None:
        over = lanes.close(rev)
        self.shelf.tidy(self._wanted)
        unused = [digest for digest in lanes.digests if not self._used(digest)]
        gone = tuple(digest for digest in unused if digest in self.shelf.held)
        lanes.digests = tuple(digest for digest in lanes.digests if digest not in unused)
        if gone:
            self.shelf.lose(gone)
            actions.append(Drop(lanes.campaign, gone))
        if over:
            actions.append(Closed(lanes.campaign, rev))
        tombstones = [other for other in self._lanes if other.empty]
        if len(tombstones) > TOMBSTONES_MAX:
            oldest = min(tombstones, key=lambda other: other.closed_rev)
            self._lanes = tuple(other for other in self._lanes if other is not oldest)

    # --- Content

    def stored(self, sha256: str, via: wire.Via, took_ms: float, actions: list[Action]) -> None:
        """Take in that the driver's cache now holds this bundle."""
        want = self.shelf.hold(sha256)
        if self._used(sha256):
            self._ready(sha256, via, took_ms, actions)
        else:
            # Closed or superseded while it was on its way.
            self.shelf.lose([sha256])
            actions.append(Drop(want.campaign if want else "", (sha256,)))

    def fetch_failed(
        self, sha256: str, now_ms: float, retry_after_ms: int, rng: random.Random, actions: list[Action]
    ) -> None:
        """Take in that a fetch failed: plan another, or give up and say so."""
        want = self.shelf.wanted(sha256)
        if want is None or (self._wanted(sha256) and want.retry(now_ms, retry_after_ms, rng)):
            return
        self.shelf.drop(want)
        for lanes in self._lanes:
            if lanes.bundle is not None and lanes.bundle.sha256 == sha256:
                self._content_failed(lanes, actions)
            for armed in lanes.armed:
                if armed.waiting and armed.follows and armed.message.bundle == sha256:
                    _report(lanes, armed.message.rev, "failed", actions)

    def fetch(self, now_ms: float, actions: list[Action]) -> None:
        """Start the fetches that are due; a bundle that is held already is ready at that instant."""
        for want in self.shelf.wants():
            if want.flying or want.due_ms > now_ms + EARLY_MS:
                continue
            if want.bundle.sha256 in self.shelf.held:
                self.shelf.drop(want)
                self._ready(want.bundle.sha256, "cache", 0, actions)
            else:
                want.flying = True
                actions.append(Fetch(want.campaign, want.rev, want.bundle))

    def _used(self, sha256: str) -> bool:
        return any(lanes.uses(sha256) for lanes in self._lanes)

    def _wanted(self, sha256: str) -> bool:
        return any(lanes.wants(sha256) for lanes in self._lanes)

    def _prefetch(self, lanes: Lanes, message: wire.Prefetch, now_ms: float, actions: list[Action]) -> None:
        sha256, inline = message.bundle.sha256, message.bundle.inline
        if message.rev < lanes.content_rev:
            return
        if message.rev > lanes.content_rev:
            lanes.adopt(message)
            self.shelf.tidy(self._wanted)
        elif sha256 in self.shelf.held or self.shelf.wanted(sha256):
            return  # said again, and it is held or on its way
        elif lanes.content == lane.READY:
            lanes.content = lane.PENDING  # said again, because the cache has lost it
        if inline is not None and sha256 not in self.shelf.held:
            if hashlib.sha256(inline.encode()).hexdigest() == sha256:
                self.shelf.hold(sha256)
                actions.append(Store(sha256, inline))
                self._ready(sha256, "inline", 0, actions)
                return
            self._content_failed(lanes, actions)
            if message.bundle.url is None:
                return
        assert lanes.bundle is not None, "the lane has adopted this message's bundle"
        due_ms, _ = lane.instant_ms(self._device_id, message.rev, message.from_ms, message.window_ms, now_ms)
        # An activation may be waiting for this very bundle, with its own plan to get it.
        awaited = any(other.awaits(sha256) for other in self._lanes)
        until_ms = message.from_ms + message.window_ms
        self.shelf.want(lanes.campaign, message.rev, lanes.bundle, due_ms, until_ms, sooner=awaited)

    def _ready(self, sha256: str, via: wire.Via, took_ms: float, actions: list[Action]) -> None:
        for lanes in self._lanes:
            if lanes.bundle is not None and lanes.bundle.sha256 == sha256 and lanes.content != lane.READY:
                lanes.content = lane.READY
                _report(lanes, lanes.content_rev, "ready", actions, took_ms, via)
                actions.append(Prefetched(lanes.campaign, lanes.content_rev, sha256, via))

    def _content_failed(self, lanes: Lanes, actions: list[Action]) -> None:
        if lanes.content == lane.PENDING:
            lanes.content = lane.FAILED
            _report(lanes, lanes.content_rev, "failed", actions)

    # --- Flips

    def resume(self, have: tuple[str, ...], actions: list[Action]) -> None:
        """Report what is shown, and what is held beyond ``have``: gateways count by connection, so each is told."""
        for lanes in self._lanes:
            if lanes.content == lane.READY and lanes.bundle is not None:
                sha256 = lanes.bundle.sha256
                if sha256 in self.shelf.held and sha256 not in have:
                    _report(lanes, lanes.content_rev, "ready", actions, via="resume")
            if lanes.active_rev:
                _report(lanes, lanes.active_rev, "active", actions, via="resume")

    def flip(self, now_ms: float, actions: list[Action]) -> None:
        """Act on the activations whose instant has come."""
        for lanes in self._lanes:
            self._flip(lanes, now_ms, actions)

    def _flip(self, lanes: Lanes, now_ms: float, actions: list[Action]) -> None:
        ripe = [a for a in reversed(lanes.armed) if a.follows and a.due_ms <= now_ms + EARLY_MS]
        for armed in ripe:
            # The newest decides; an older one is only shown while the newest waits for its bundle.
            if self._fire(lanes, armed, now_ms, actions, newest=armed is ripe[0]):
                break

    def _fire(self, lanes: Lanes, armed: Armed, now_ms: float, actions: list[Action], *, newest: bool) -> bool:
        """Act on an activation whose instant has come; False if it has to wait for its bundle."""
        message = armed.message
        bundle: str | None = message.bundle
        via: wire.Via = "fetch" if armed.waiting else "cache"
        if message.bundle not in self.shelf.held:
            if message.miss == "fetch" or not newest:
                self._miss(lanes, armed, now_ms, fetch=newest)
                return False
            if message.miss == "silent":
                lanes.raise_floor(message.rev)
                _report(lanes, message.rev, "failed", actions)
                return True
            bundle, via = None, "generic"
        rev, late_ms = message.rev, max(0.0, now_ms - armed.due_ms)
        if lanes.act(message, bundle):
            actions.append(Flip(lanes.campaign, rev, message.stage, bundle, message.shadow, armed.due_ms, late_ms))
        _report(lanes, rev, "active", actions, late_ms, via)
        self.shelf.tidy(self._wanted)
        return True

    def _miss(self, lanes: Lanes, armed: Armed, now_ms: float, *, fetch: bool) -> None:
        if armed.waiting:
            return
        armed.waiting = True
        if not fetch:
            return
        message, bundle = armed.message, lanes.bundle
        if bundle is None or bundle.sha256 != message.bundle:
            bundle = wire.Bundle(message.bundle, bytes=0)
        until_ms = message.at + message.window_ms
        self.shelf.want(lanes.campaign, message.rev, bundle, int(now_ms), until_ms, sooner=True)


def _report(
    lanes: Lanes,
    rev: int,
    kind: wire.ReportKind,
    actions: list[Action],
    ms: float = 0,
    via: wire.Via = "cache",
) -> None:
    actions.append(Send(wire.Report(lanes.campaign, rev, kind, int(ms), via)))
