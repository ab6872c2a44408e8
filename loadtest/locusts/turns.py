"""Whose turn is when, for all devices of a process: one heap and one greenlet, where a timer each would cost more.

Knows nothing of what a device does with its turn.
"""

from __future__ import annotations

import heapq
import time
from collections.abc import Callable
from typing import Final, Protocol

import gevent
from gevent.event import Event

# Longest work before sockets get their turn: a herd of devices that are due at once is no reason not to read.
_TURN_MS: Final = 20.0


def mono_ms() -> float:
    """Return the timer that devices read."""
    return time.monotonic() * 1000


class Taker(Protocol):
    """Who takes turns."""

    planned_ms: float

    def turn(self, now_ms: float) -> None:
        """Do what is due."""


NEVER: Final = float("inf")


class Turns:
    """The turns of a process.

    Args:
        late: Called with how late a wake-up was, ms.
        failed: Called with what a taker raises; the others go on.
    """

    def __init__(self, late: Callable[[float], None], failed: Callable[[Exception], None]) -> None:
        self._late = late
        self._failed = failed
        self._heap: list[tuple[float, int, Taker]] = []
        self._count = 0  # settles ties, so that takers are never compared
        self._sooner = Event()
        self._greenlet: gevent.Greenlet | None = None

    def plan(self, taker: Taker, at_ms: float | None) -> None:
        """Give a turn at this instant (monotonic ms), unless one comes sooner; None: no turn is wanted."""
        if at_ms is None or at_ms >= taker.planned_ms:
            return
        taker.planned_ms = at_ms
        self._count += 1
        heapq.heappush(self._heap, (at_ms, self._count, taker))
        if self._heap[0][2] is taker:
            self._sooner.set()
        if self._greenlet is None:
            self._greenlet = gevent.spawn(self._run)

    def forget(self, taker: Taker) -> None:
        """Give no more turns to this one, until it plans one."""
        taker.planned_ms = NEVER

    def _run(self) -> None:
        while True:
            if not self._heap:
                self._sooner.wait()
                self._sooner.clear()
                continue
            due_ms = self._heap[0][0]
            wait_ms = due_ms - mono_ms()
            if wait_ms > 0:
                self._sooner.clear()
                if self._sooner.wait(wait_ms / 1000):
                    continue
            self._late(mono_ms() - due_ms)
            self._work()
            gevent.sleep(0)

    def _work(self) -> None:
        heap, now_ms = self._heap, mono_ms()
        until_ms = now_ms + _TURN_MS
        while heap and heap[0][0] <= now_ms < until_ms:
            at_ms, _, taker = heapq.heappop(heap)
            if at_ms == taker.planned_ms:  # not one that has been planned anew since
                taker.planned_ms = NEVER
                try:
                    taker.turn(now_ms)
                except Exception as exc:  # noqa: BLE001 - one device's bug is counted, and ends no other's night
                    self._failed(exc)
            now_ms = mono_ms()
