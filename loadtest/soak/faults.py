"""What is broken, as a table, and the one who breaks it. Every fault ends by itself, within seconds.

Drawn like cards: each of the table once, in random order, then all of them again, so that a soak of some length has
met every one, and a seed names the whole order.
"""

from __future__ import annotations

import asyncio
import random
import signal
from collections import Counter
from collections.abc import Awaitable, Callable
from typing import Final

from msgspec import Struct

from loadtest.soak.processes import send
from loadtest.soak.system import System

# Longest a fault keeps the store away, seconds; the law for what was taken back counts on it (`loadtest.soak.law`).
STORE_AWAY_S_MAX: Final = 4.0
# Between the end of a fault and the next, seconds.
_PAUSE_S: Final = (1.0, 5.0)


async def _store_stops(system: System, rng: random.Random) -> None:
    assert system.store is not None
    send(system.store.pid, signal.SIGSTOP)
    try:
        await asyncio.sleep(rng.uniform(1, STORE_AWAY_S_MAX))
    finally:
        send(system.store.pid, signal.SIGCONT)


async def _store_dies(system: System, rng: random.Random) -> None:
    assert system.store is not None
    await system.store.kill()
    await asyncio.sleep(rng.uniform(0, STORE_AWAY_S_MAX / 2))
    await system.store.start()


async def _worker_dies(system: System, rng: random.Random) -> None:
    if (worker := await _worker(system, rng)) is not None:
        send(worker, signal.SIGKILL)


async def _worker_stops(system: System, rng: random.Random) -> None:
    if (worker := await _worker(system, rng)) is not None:
        send(worker, signal.SIGSTOP)
        try:
            await asyncio.sleep(1)
        finally:
            send(worker, signal.SIGCONT)


async def _worker(system: System, rng: random.Random) -> int | None:
    """Draw a worker of any gateway, but never the elder; None if none answers."""
    workers = await rng.choice(system.gateways).workers()
    others = [pid for pid in workers if pid != system.elder]
    return rng.choice(others) if others else None


async def _gateway_goes(system: System, rng: random.Random) -> None:
    gateway = system.gateways[1]
    await asyncio.to_thread(gateway.process.end)
    await asyncio.sleep(rng.uniform(0, 2))
    await gateway.start()


async def _control_dies(system: System, rng: random.Random) -> None:
    control = system.controls[1]
    await asyncio.to_thread(control.process.kill)
    await asyncio.sleep(rng.uniform(0, 2))
    await control.start()


class Fault(Struct, frozen=True):
    """One row: its name in reports, and what it does."""

    name: str
    cause: Callable[[System, random.Random], Awaitable[None]]


FAULTS: Final = (
    Fault("store stopped (SIGSTOP)", _store_stops),
    Fault("store killed, started again", _store_dies),
    Fault("gateway worker killed", _worker_dies),
    Fault("gateway worker stopped for 1 s", _worker_stops),
    Fault("gateway drained (SIGTERM), started again", _gateway_goes),
    Fault("control plane killed, started again", _control_dies),
)


class Faults:
    """Draws faults and causes them.

    Attributes:
        caused: By name.
    """

    def __init__(self, system: System, seed: int) -> None:
        self._system = system
        self._rng = random.Random(f"faults {seed}")
        self._drawn: list[Fault] = []
        self.caused: Counter[str] = Counter()

    async def cause(self, stop: asyncio.Event) -> None:
        """Cause one after the other until told to stop; the last one is brought to its end."""
        while not await paused(stop, self._rng.uniform(*_PAUSE_S)):
            if not self._drawn:
                self._drawn = self._rng.sample(FAULTS, len(FAULTS))
            fault = self._drawn.pop()
            await fault.cause(self._system, self._rng)
            self.caused[fault.name] += 1
            self._system.look()


async def paused(stop: asyncio.Event, seconds: float) -> bool:
    """Wait so long, or until told to stop; tell which."""
    try:
        await asyncio.wait_for(stop.wait(), seconds)
    except TimeoutError:
        return False
    return True
