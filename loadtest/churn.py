"""Devices that leave and come back, at a pace: so many a minute, drawn at random, each gone without a word."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Sequence
from typing import Final

from loadtest.devices import SwarmDevice

# Often enough that a fleet leaves one by one, and seldom enough to cost nothing.
_TICK_S: Final = 0.1


class Churn:
    """The leaving of one process's devices, once `start` is called. When they return is their own backoff's.

    Args:
        devices: To draw from; one that is away when it is drawn does not count.
        share_per_min: How many leave within a minute, as a share of all.
        rng: Draws them.
        failed: Called with what goes wrong; nobody leaves any more then.
    """

    def __init__(
        self,
        devices: Sequence[SwarmDevice],
        share_per_min: float,
        rng: random.Random,
        failed: Callable[[Exception], None],
    ) -> None:
        self._devices = devices
        self._per_tick = len(devices) * share_per_min / 60 * _TICK_S
        self._rng = rng
        self._failed = failed
        self._owed = 0.0  # devices that should have left by now and have not
        self._timer: asyncio.TimerHandle | None = None

    def start(self) -> None:
        """Begin."""
        if self._per_tick:
            self._timer = asyncio.get_running_loop().call_later(_TICK_S, self._tick)

    def stop(self) -> None:
        """Let everyone stay."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _tick(self) -> None:
        self._owed += self._per_tick
        try:
            while self._owed >= 1:
                self._owed -= 1
                self._rng.choice(self._devices).leave()
        except Exception as exc:  # noqa: BLE001 - a bug must end the run, not one callback of the loop
            self._failed(exc)
            return
        self.start()
