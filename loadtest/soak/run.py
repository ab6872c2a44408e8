"""One soak: rounds of presses, faults and churn, each ended by a quiet moment at which the law is held."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import Any, Final

import msgspec
from msgspec import Struct

from loadtest.bench.figures import about
from loadtest.bench.rig import resident_bytes
from loadtest.soak import law
from loadtest.soak.faults import Faults, paused
from loadtest.soak.law import Checkpoint, Memory
from loadtest.soak.presses import Presses
from loadtest.soak.processes import SoakFailed
from loadtest.soak.system import Size, System, until

_ROUND_S: Final = 60.0
# Devices come back by their backoff, whose cap is far below.
_QUIET_S: Final = 60.0
_SAMPLE_S: Final = 1.0
# Of the samples, so many for one that the figures keep.
_CURVE_EVERY: Final = 10


class Plan(Struct, frozen=True):
    """What was asked for."""

    minutes: float
    size: Size
    seed: int


class Soak:
    """A running soak.

    Args:
        system: What it runs on.
        plan: How long.
        stop: Ends it early, with a last checkpoint.
        say: Told how far it is, in a line.
    """

    def __init__(self, system: System, plan: Plan, stop: asyncio.Event, say: Callable[[str], None]) -> None:
        self._system = system
        self._plan = plan
        self._stop = stop
        self._say = say
        self._presses = Presses(system, plan.seed)
        self._faults = Faults(system, plan.seed)
        self._began_s = time.monotonic()
        self._samples: list[Memory] = []
        self._checkpoints: list[Checkpoint] = []
        self._failed: list[str] = []
        self._tally: dict[str, Any] = {}

    async def run(self) -> None:
        """Run to the end, or until something is broken that nothing can go on from."""
        deadline_s = self._began_s + self._plan.minutes * 60
        sampling = asyncio.create_task(self._sample())
        try:
            await self._presses.prepare()
            self._say(f"{self._plan.size.devices:,} devices are connected; seed {self._plan.seed}")
            while (left_s := deadline_s - time.monotonic()) > 0 and not self._stop.is_set():
                await self._round(min(left_s, _ROUND_S))
                if self._checkpoints[-1].shown < self._plan.size.devices:
                    break
            if sampling.done():
                sampling.result()
        except SoakFailed as exc:
            self._failed.append(str(exc))
        finally:
            sampling.cancel()
            await asyncio.wait([sampling])
            await self._presses.close()
            self._tally = self._system.tally()

    async def _round(self, seconds: float) -> None:
        over = asyncio.Event()
        work = [asyncio.create_task(each(over)) for each in (self._presses.press, self._faults.cause)]
        ending = asyncio.create_task(paused(self._stop, seconds))
        try:
            await asyncio.wait([*work, ending], return_when=asyncio.FIRST_COMPLETED)
            over.set()
            await asyncio.gather(*work)
        finally:
            for task in (*work, ending):
                task.cancel()
            await asyncio.wait([*work, ending])
        await self._check()

    async def _check(self) -> None:
        """Activate once more, and wait until every device shows that."""
        rev = await self._presses.activate()
        if rev is None or rev != law.newest(self._presses.log):
            raise SoakFailed(f"the last activation was revision {rev}, and that is not the newest")
        began_s, devices = time.monotonic(), self._plan.size.devices

        def shown(tally: dict[str, Any]) -> int:
            return int(tally.get("shown", {}).get(str(rev), 0))

        try:
            await self._system.counted(lambda tally: shown(tally) >= devices, f"revision {rev}", _QUIET_S)
        finally:
            seconds = round(time.monotonic() - began_s, 2)
            found = Checkpoint(rev, devices, shown(self._system.tally()), seconds)
            self._checkpoints.append(found)
        presses, faults = sum(self._presses.accepted.values()), sum(self._faults.caused.values())
        self._say(
            f"{time.monotonic() - self._began_s:.0f} s, {presses} presses, {faults} faults: "
            f"{found.shown:,} of {devices:,} devices show the newest stage"
        )

    async def _sample(self) -> None:
        control = self._system.controls[0].process.pid
        while True:
            self._system.look()
            try:
                self._samples.append(Memory(resident_bytes(self._system.elder), resident_bytes(control)))
            except (OSError, AssertionError) as exc:
                raise SoakFailed("a process that nobody has ended is gone") from exc
            await asyncio.sleep(_SAMPLE_S)

    async def figures(self) -> dict[str, Any]:
        """Return what it has found, once the system has ended, JSON-ready; ``broken`` says how the law is."""
        left = await self._left()
        tally, log, devices = self._tally, self._presses.log, self._plan.size.devices
        flipped_for = {int(rev): count for rev, count in tally.get("flipped_for", {}).items()}
        broken = [
            *self._failed,
            *law.checkpoints_broken(self._checkpoints),
            *law.flips_broken(log, devices, flipped_for, tally.get("flipped_twice", 0)),
            *law.memory_broken(self._samples),
        ]
        if left:
            broken.append(f"processes were left: {left}")
        names = ("connected", "welcomed", "left", "flipped_twice", "origin_requests", "refused", "closes")
        sizes = {name: [getattr(each, name) for each in self._samples] for name in ("worker", "control")}
        return {
            **about(),
            **msgspec.to_builtins(self._plan),
            "seconds": round(time.monotonic() - self._began_s, 1),
            "stopped": self._stop.is_set(),
            "broken": broken,
            "lost": sum(each.devices - each.shown for each in self._checkpoints),
            "checkpoints": msgspec.to_builtins(self._checkpoints),
            "faults": dict(self._faults.caused),
            "presses": {
                "accepted": dict(self._presses.accepted),
                "refused": dict(self._presses.refused),
                "sent_again": self._presses.again,
                "slowest_s": round(self._presses.slowest_s, 2),
            },
            "activations": sum(each.kind != "cancel" for each in log),
            "taken_back": len(law.taken_back(log)),
            "flips": sum(flipped_for.values()),
            "devices_counted": {name: tally.get(name) for name in names},
            **{name: tally.get(name) for name in ("connect_ms", "delivery_ms", "flip_error_ms")},
            "memory": {
                name: {
                    "first": values[0],
                    "last": values[-1],
                    "growth": round(law.growth(values), 3),
                    "every_10_s": values[::_CURVE_EVERY],
                }
                for name, values in sizes.items()
                if values
            },
            "processes_left": left,
        }

    async def _left(self) -> list[int]:
        """Return which processes are left after they had a moment to go."""

        async def gone() -> bool:
            return not self._system.seen.left()

        try:
            await until(gone, "the end of all processes", 10)
        except SoakFailed:
            pass
        return self._system.seen.left()
