"""One process of a swarm: ``python -m loadtest.member``, started by `loadtest.crew`.

It gets its orders as the first line of its standard input (so no secret is on a command line), reports once its
devices are made, waits for the second line, connects them, and from then on reports as often as it was told to.
It stops on SIGTERM, and when its input ends: then whoever started it is gone. Reports are lines of its output.
"""

from __future__ import annotations

import asyncio
import gc
import os
import signal
import sys
import time
from base64 import b64decode
from pathlib import Path
from typing import Final

import msgspec
import uvloop
from msgspec import Struct

from loadtest.capacity import raise_files_max
from loadtest.swarm import Swarm, SwarmConfig
from loadtest.tally import Report

_PAGE_BYTES: Final = os.sysconf("SC_PAGESIZE")


class Orders(Struct, frozen=True):
    """What a process is told.

    Attributes:
        key: Secret to mint tokens with, base64.
        report_s: Seconds between reports.
    """

    config: SwarmConfig
    key: str
    report_s: float


def resident_bytes() -> int:
    """Return this process's resident memory, 0 where the system does not tell."""
    try:
        return int(Path("/proc/self/statm").read_text().split()[1]) * _PAGE_BYTES
    except OSError:
        return 0


class Member:
    """The swarm of this process, and its reports.

    Args:
        orders: What it is told.
    """

    def __init__(self, orders: Orders) -> None:
        self._orders = orders
        self._go = asyncio.Event()
        self._stop = asyncio.Event()
        self._base_bytes = resident_bytes()
        self._swarm = Swarm(orders.config, b64decode(orders.key))

    async def run(self) -> None:
        """Work until it is told to stop; raises what went wrong in the swarm."""
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._stop.set)
        os.set_blocking(sys.stdin.fileno(), False)
        loop.add_reader(sys.stdin.fileno(), self._told)
        self._report()
        stopped = asyncio.create_task(self._stop.wait())
        gone = asyncio.create_task(self._go.wait())
        await asyncio.wait([stopped, gone], return_when=asyncio.FIRST_COMPLETED)
        running = asyncio.create_task(self._swarm.run())
        while not running.done() and not self._stop.is_set():
            await asyncio.wait([running, stopped], timeout=self._orders.report_s, return_when=asyncio.FIRST_COMPLETED)
            self._report()
        gone.cancel()
        stopped.cancel()
        if not running.done():
            running.cancel()
        await asyncio.gather(running, return_exceptions=True)
        self._report(final=running.cancelled())
        if not running.cancelled():
            running.result()

    def _told(self) -> None:
        """Take the word to begin; at the end of the input there is nobody left to work for."""
        try:
            data = os.read(sys.stdin.fileno(), 4_096)
        except BlockingIOError:
            return
        if data:
            self._go.set()
        else:
            asyncio.get_running_loop().remove_reader(sys.stdin.fileno())
            self._stop.set()

    def _report(self, *, final: bool = False) -> None:
        swarm = self._swarm
        report = Report(
            swarm.tally,
            swarm.timings.take(),
            rss_bytes=resident_bytes(),
            base_bytes=self._base_bytes,
            cpu_s=time.process_time(),
            final=final,
        )
        try:
            sys.stdout.buffer.write(msgspec.json.encode(report) + b"\n")
            sys.stdout.buffer.flush()
        except BrokenPipeError:
            self._stop.set()
        swarm.tally.flips.clear()


async def _run(orders: Orders) -> None:
    await Member(orders).run()


def main() -> None:
    """Entry point of the process."""
    raise_files_max()
    # Unbuffered: what comes after the first line is for the event loop.
    line = b""
    while not line.endswith(b"\n"):
        byte = os.read(sys.stdin.fileno(), 1)
        if not byte:
            return
        line += byte
    orders = msgspec.json.decode(line, type=Orders)
    # Whatever a device drops is freed by counting references: after 8,000 of them had gone through both phases, a
    # collection found nothing of theirs, and for the 90 ms it took none could have flipped.
    gc.disable()
    uvloop.run(_run(orders))


if __name__ == "__main__":
    main()
