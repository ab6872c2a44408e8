"""Driving a device's machine by hand: a server's clock, a monotonic timer, and messages to say.

Instants and revisions are given in ms from EPOCH, which is when the monotonic timer shows 0.
"""

from __future__ import annotations

import hashlib
import random
from collections.abc import Iterable

from fanout import wire
from fanout.device import Action, DeviceMachine, Fetch, Flip, Send, Store

# Server's Unix ms when the monotonic timer shows 0.
EPOCH = 1_760_000_000_000
POLICY = wire.ReconnectPolicy(base_ms=500, cap_ms=20_000)
BEACON_S = 10.0
GRACE_MS = 30_000
CONTENT = '{"live":{"title":"Kick-off"},"upcoming":{"title":"Soon"}}'
OTHER_CONTENT = '{"live":{"title":"Other"}}'


def sha(content: str) -> str:
    return hashlib.sha256(content.encode()).hexdigest()


BUNDLE = sha(CONTENT)
OTHER_BUNDLE = sha(OTHER_CONTENT)


def welcome(now: float = 0, state: Iterable[wire.StateMessage] = ()) -> wire.Welcome:
    return wire.Welcome("s1", EPOCH + int(now), BEACON_S, POLICY, list(state))


def beacon(now: float, rev: int = 0) -> wire.Beacon:
    return wire.Beacon(EPOCH + int(now), rev)


def cancel(rev: int) -> wire.Cancel:
    return wire.Cancel("cup", rev_at(rev))


def close(rev: int) -> wire.Close:
    return wire.Close("cup", rev_at(rev))


def rev_at(ms: int) -> int:
    """Return the revision of something published at this instant: revisions are the store's clock."""
    return EPOCH + ms


def prefetch(
    rev: int = -2_000, *, at: int = 0, window_ms: int = 1000, url: str | None = "/b", content: str = CONTENT
) -> wire.Prefetch:
    return wire.Prefetch("cup", rev_at(rev), wire.Bundle(sha(content), len(content), url), EPOCH + at, window_ms)


def inline(
    rev: int = -2_000, content: str = CONTENT, *, claimed: str | None = None, url: str | None = None
) -> wire.Prefetch:
    bundle = wire.Bundle(claimed or sha(content), len(content), url, content)
    return wire.Prefetch("cup", rev_at(rev), bundle, EPOCH, 1000)


def activate(
    rev: int = -1_000,
    *,
    at: int = 5_000,
    window_ms: int = 1000,
    stage: str = "live",
    bundle: str = BUNDLE,
    share: float = 1.0,
    miss: wire.Miss = "fetch",
    shadow: bool = False,
) -> wire.Activate:
    return wire.Activate("cup", rev_at(rev), stage, bundle, EPOCH + at, window_ms, share, miss, shadow)


class FixedRandom(random.Random):
    """Always the same number: makes jitter a value that a test can name."""

    def __init__(self, value: float = 0.5) -> None:
        super().__init__(0)
        self.value = value

    def random(self) -> float:
        return self.value


class Hand:
    """Drives one machine and writes down everything it asked for.

    Args:
        device_id: Decides the slots.
        held: Bundles in its cache.
        rng: Source of jitter; always 0.5 if None.
        serves: Fetches succeed at once; otherwise they are left to the test.
    """

    def __init__(
        self,
        device_id: str = "tv-1",
        *,
        held: Iterable[str] = (),
        rng: random.Random | None = None,
        serves: bool = False,
    ) -> None:
        self.serves = serves
        self.machine = DeviceMachine(device_id, held=held, rng=rng or FixedRandom())
        self.now = 0.0
        self.actions: list[Action] = []

    def say(self, message: wire.ToDevice, at: float | None = None) -> list[Action]:
        self.now = self.now if at is None else at
        return self.note(self.machine.received(message, self.now))

    def note(self, actions: list[Action]) -> list[Action]:
        self.actions += actions
        for action in actions if self.serves else ():
            if isinstance(action, Fetch):
                self.note(self.machine.stored(action.bundle.sha256, self.now))
        return actions

    def run(self, until: float, *, beacons: bool = True) -> list[Action]:
        """Let time pass, calling `due` exactly when asked to; with a beacon every period, if wanted."""
        begun = len(self.actions)
        next_beacon = self.now + BEACON_S * 1000 if beacons else float("inf")
        for _ in range(10_000):
            due = self.machine.next_due_ms()
            step = min(until, next_beacon, max(due, self.now) if due is not None else until)
            self.now = step
            if due is not None and due <= step:
                self.note(self.machine.due(step))
            elif step == next_beacon:
                self.say(beacon(step))
                next_beacon += BEACON_S * 1000
            else:
                return self.actions[begun:]
        raise AssertionError("the machine asks to be called again and again")

    @property
    def flips(self) -> list[Flip]:
        return [action for action in self.actions if isinstance(action, Flip)]

    @property
    def fetches(self) -> list[Fetch]:
        return [action for action in self.actions if isinstance(action, Fetch)]

    @property
    def stores(self) -> list[Store]:
        return [action for action in self.actions if isinstance(action, Store)]

    def reports(self, kind: str | None = None) -> list[wire.Report]:
        sent = [action.message for action in self.actions if isinstance(action, Send)]
        return [m for m in sent if isinstance(m, wire.Report) and kind in (None, m.kind)]

    @property
    def syncs(self) -> list[wire.Sync]:
        sent = [action.message for action in self.actions if isinstance(action, Send)]
        return [m for m in sent if isinstance(m, wire.Sync)]


def connected(
    device_id: str = "tv-1",
    *,
    held: Iterable[str] = (),
    rng: random.Random | None = None,
    serves: bool = False,
) -> Hand:
    """Return a device that has just been welcomed."""
    hand = Hand(device_id, held=held, rng=rng, serves=serves)
    hand.say(welcome())
    return hand
