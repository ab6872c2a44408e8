"""The processes of a swarm: started together, their reports added up, and ended together, whatever happens.

A run ends when it is told to, when its time is up, when its goal is reached, when a process of it ends by itself,
or when no gateway has answered for too long. Knows nothing of terminals and files.
"""

from __future__ import annotations

import asyncio
import os
import sys
import time
from base64 import b64encode
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any, Final, Literal

import msgspec
from msgspec import Struct

from fanout.errors import FanoutError
from loadtest.capacity import shares
from loadtest.member import Orders
from loadtest.swarm import SwarmConfig
from loadtest.tally import Merged, Report

Goal = Literal["connected", "ready", "activated"]

# Two figures a second and process keep a core busy with a hundredth of its time.
_REPORT_S: Final = 0.25
_REPORTS_PER_S_MAX: Final = 40
# A line holds the flips since the last one, up to one entry a millisecond, and a few histograms.
_LINE_BYTES_MAX: Final = 8 * 1024 * 1024
# Closing twenty thousand sockets takes a second or two; on a busy machine with many processes more.
_STOP_GRACE_S: Final = 20.0
# All of them import their libraries and make their devices on however few cores there are.
_START_GRACE_S: Final = 30.0
_START_GRACE_EACH_S: Final = 2.0

_REPORTS: Final = msgspec.json.Decoder(Report)


class RunConfig(Struct, frozen=True, kw_only=True):
    """How to run a swarm.

    Attributes:
        swarm: All of it, as if it were one process.
        processes: How many share it.
        seconds: End after so long; 0: only for another reason.
        until: End once every device is that far.
        timeout_s: With ``until``, fail after so long.
        give_up_s: Fail when no device has been connected for so long; 0: never.
    """

    swarm: SwarmConfig
    processes: int = 1
    seconds: float = 0.0
    until: Goal | None = None
    timeout_s: float = 600.0
    give_up_s: float = 10.0


class CrewFailed(FanoutError):
    """A process did not start."""


class Outcome(Struct, frozen=True):
    """How a run ended: in words, and whether that is what was wanted."""

    words: str
    good: bool


def orders_of(config: SwarmConfig, key: bytes, processes: int, lanes: int) -> list[Orders]:
    """Return what each process is told.

    Args:
        config: All of the swarm.
        key: Secret to mint tokens with.
        processes: How many share the devices.
        lanes: How many of them connect at a time, if there is a pace to keep: others wait for their turn. Processes
            that take turns on a core by the millisecond, for a socket each, need four times as long for them.
    """
    told: list[Orders] = []
    lanes = min(lanes, processes)
    first, ahead = config.first, [0] * lanes
    for number, share in enumerate(shares(config.devices, processes)):
        part = msgspec.structs.replace(
            config,
            devices=share,
            first=first,
            connects_per_s=config.connects_per_s / lanes,
            connects_after_s=ahead[number % lanes] * lanes / config.connects_per_s if config.connects_per_s else 0.0,
            seed=config.seed + first,
        )
        report_s = max(_REPORT_S, processes / _REPORTS_PER_S_MAX)
        told.append(Orders(part, b64encode(key).decode(), report_s))
        first += share
        ahead[number % lanes] += share
    return told


class Crew:
    """A running swarm.

    Attributes:
        merged: What all processes have reported.
        pids: Of the processes.
    """

    def __init__(self, config: RunConfig, key: bytes) -> None:
        self.merged = Merged()
        self.pids: list[int] = []
        self._config = config
        self._orders = orders_of(config.swarm, key, config.processes, lanes=os.cpu_count() or 1)
        self._children: list[asyncio.subprocess.Process] = []
        self._readers: list[asyncio.Task[None]] = []
        self._ready = 0  # processes that have made their devices
        self._broken: str | None = None  # why the run cannot go on
        self._changed = asyncio.Event()  # a process became ready, or ended
        self._stopping = False

    async def run(self, stop: asyncio.Event, tell: Callable[[Merged], None]) -> Outcome:
        """Run the swarm until it is over.

        Args:
            stop: Ends it.
            tell: Called several times a second.
        Raises:
            CrewFailed: A process did not start.
        """
        stopped = asyncio.create_task(stop.wait())
        try:
            await self._start(stopped)
            return await self._watch(stopped, tell)
        finally:
            stopped.cancel()
            await self._end()

    # --- Starting and ending.

    async def _start(self, stopped: asyncio.Task[Any]) -> None:
        for number, orders in enumerate(self._orders):
            if not stopped.done():
                await self._start_one(number, orders)
        deadline = time.monotonic() + _START_GRACE_S + _START_GRACE_EACH_S * len(self._orders)
        while self._ready < len(self._orders) and not stopped.done():
            await self._pause(stopped, _REPORT_S)
            if self._broken or time.monotonic() > deadline:
                raise CrewFailed(f"the swarm did not start: {self._broken or 'its processes take too long'}")
        for child in self._children:
            _write(child, b"go\n")

    async def _start_one(self, number: int, orders: Orders) -> None:
        root = str(Path(__file__).parents[1])
        path = os.pathsep.join([root, *filter(None, [os.environ.get("PYTHONPATH")])])
        child = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "loadtest.member"),
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            limit=_LINE_BYTES_MAX,
            env={**os.environ, "PYTHONPATH": path},
            start_new_session=True,  # Ctrl-C reaches us alone, and we end them in order
        )
        self._children.append(child)
        self.pids.append(child.pid)
        _write(child, msgspec.json.encode(orders) + b"\n")
        self._readers.append(asyncio.create_task(self._read(number, child)))

    async def _read(self, number: int, child: asyncio.subprocess.Process) -> None:
        """Take a process's reports in until it ends."""
        assert child.stdout is not None
        reported = final = False
        try:
            while line := await child.stdout.readline():
                report = _REPORTS.decode(line)
                self.merged.add(number, report)
                final = final or report.final
                if not reported:
                    reported = True
                    self._ready += 1
                    self._changed.set()
        except (ValueError, msgspec.DecodeError) as exc:
            # Nothing more that it says can be trusted; normally it has died in the midst of a line.
            self._broken = f"process {number + 1} of the swarm said something unreadable: {exc}"
            _signal(child, kill=True)
        status = await child.wait()
        if not (self._stopping and final):
            self._broken = self._broken or f"process {number + 1} of the swarm ended with status {status}"
        self._changed.set()

    async def _end(self) -> None:
        """End every process; whoever does not go is killed."""
        self._stopping = True
        for child in self._children:
            _signal(child, kill=False)
        if self._readers:
            _, late = await asyncio.wait(self._readers, timeout=_STOP_GRACE_S)
            for child in self._children:
                if late:
                    _signal(child, kill=True)
            if late:
                await asyncio.wait(late, timeout=_STOP_GRACE_S)
        for child in self._children:
            if child.stdin is not None:
                child.stdin.close()

    # --- Watching.

    async def _pause(self, stopped: asyncio.Task[Any], seconds: float) -> None:
        self._changed.clear()
        changed = asyncio.create_task(self._changed.wait())
        await asyncio.wait([stopped, changed], timeout=seconds, return_when=asyncio.FIRST_COMPLETED)
        changed.cancel()

    async def _watch(self, stopped: asyncio.Task[Any], tell: Callable[[Merged], None]) -> Outcome:
        config, began_s = self._config, time.monotonic()
        alive_s = began_s
        while True:
            await self._pause(stopped, _REPORT_S)
            tell(self.merged)
            tally, now_s = self.merged.tally(), time.monotonic()
            if self._broken:
                return Outcome(self._broken, good=False)
            if config.until and getattr(tally, config.until) >= config.swarm.devices:
                return Outcome(f"every device is {config.until}", good=True)
            if stopped.done():
                return Outcome("stopped", good=config.until is None)
            if tally.connected:
                alive_s = now_s
            elif config.give_up_s and now_s - alive_s > config.give_up_s:
                urls = ", ".join(config.swarm.urls)
                return Outcome(f"no device has been connected for {config.give_up_s:g} s: {urls}", good=False)
            if config.until and now_s - began_s > config.timeout_s:
                done = getattr(tally, config.until)
                words = f"{done} of {config.swarm.devices} devices are {config.until} after {config.timeout_s:g} s"
                return Outcome(words, good=False)
            if config.seconds and now_s - began_s > config.seconds:
                return Outcome(f"{config.seconds:g} s are over", good=config.until is None)


def _write(child: asyncio.subprocess.Process, data: bytes) -> None:
    assert child.stdin is not None
    with suppress(BrokenPipeError, ConnectionResetError):  # its reader notices that it has ended
        child.stdin.write(data)


def _signal(child: asyncio.subprocess.Process, *, kill: bool) -> None:
    with suppress(ProcessLookupError):
        if kill:
            child.kill()
        else:
            child.terminate()
