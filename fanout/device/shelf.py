"""The bundles of one device: which it holds, which it is to fetch and when. Pure.

Fetches are kept by digest: however many campaigns want a bundle, it is fetched once. Knows nothing of what
wants a bundle; that is `fanout.device.lanes`.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable
from sys import intern
from typing import Final

from fanout import wire

# Tries before a device reports `failed`. It tries again when it reconnects or hears of the bundle anew.
TRIES_MAX: Final = 5
# First span of the backoff between tries; it doubles. A window that has more time left is used instead.
RETRY_BASE_MS: Final = 1_000


class Want:
    """One bundle to be fetched."""

    __slots__ = ("bundle", "campaign", "due_ms", "flying", "rev", "tries", "until_ms")

    def __init__(self, campaign: str, rev: int, bundle: wire.Bundle, due_ms: int, until_ms: int) -> None:
        self.campaign = campaign
        self.rev = rev
        self.bundle = bundle
        self.due_ms = due_ms  # when to fetch, Unix ms by the server's clock
        self.until_ms = until_ms  # end of the window
        self.flying = False  # the driver is fetching it now
        self.tries = 0  # fetches that failed

    def retry(self, now_ms: float, retry_after_ms: int, rng: random.Random) -> bool:
        """Plan the next try, with full jitter; False when there is none.

        A quarter of what is left of the window is enough to spread a fleet whose origin has just failed, and
        leaves room for the tries to come. Near or past its end the span grows as a backoff does.
        """
        self.flying = False
        self.tries += 1
        if self.tries >= TRIES_MAX:
            return False
        span = max((self.until_ms - now_ms) / 4, RETRY_BASE_MS * 2**self.tries)
        self.due_ms = int(now_ms) + retry_after_ms + int(rng.random() * span)
        return True


class Shelf:
    """What is held, and what is wanted."""

    __slots__ = ("_wants", "held")

    def __init__(self, held: Iterable[str]) -> None:
        self.held = tuple(held)  # digests in the driver's cache, newest last
        self._wants: dict[str, Want] | None = None  # by digest

    def hold(self, sha256: str) -> Want | None:
        """Note that the driver's cache has it; return what had been planned to fetch it."""
        if sha256 not in self.held:
            self.held = (*self.held, intern(sha256))
        return self._wants.pop(sha256, None) if self._wants else None

    def lose(self, digests: Iterable[str]) -> None:
        """Note that the driver's cache no longer has these."""
        gone = set(digests)
        self.held = tuple(sha256 for sha256 in self.held if sha256 not in gone)

    def wanted(self, sha256: str) -> Want | None:
        """Return the plan to fetch this bundle."""
        return self._wants.get(sha256) if self._wants else None

    def wants(self) -> list[Want]:
        """Return every plan."""
        return list(self._wants.values()) if self._wants else []

    def want(self, campaign: str, rev: int, bundle: wire.Bundle, due_ms: int, until_ms: int, *, sooner: bool) -> None:
        """Plan a fetch, or change the plan.

        Args:
            campaign: For whom, with ``rev``.
            bundle: What.
            due_ms: When, Unix ms by the server's clock.
            until_ms: End of the window for retries.
            sooner: Keep the plan that exists, if it comes earlier.
        """
        want = self.wanted(bundle.sha256)
        if want is None:
            self._wants = self._wants or {}
            self._wants[intern(bundle.sha256)] = Want(campaign, rev, bundle, due_ms, until_ms)
        elif not want.flying:
            want.campaign, want.rev, want.bundle, want.until_ms = campaign, rev, bundle, until_ms
            want.due_ms = min(due_ms, want.due_ms) if sooner else due_ms

    def drop(self, want: Want) -> None:
        """Give a plan up."""
        assert self._wants is not None
        del self._wants[want.bundle.sha256]

    def tidy(self, wanted: Callable[[str], bool]) -> None:
        """Give up what nobody wants any more and is not on its way."""
        for want in self.wants():
            if not want.flying and not wanted(want.bundle.sha256):
                self.drop(want)
