"""A flood of handshakes beside a benchmark's crowd: good tokens, as fast as one process opens them.

Run as ``python -m loadtest.bench.flooder URL`` with FANOUT_DEVICE_KEY set. A line ``flood`` on standard input begins,
``rest`` ends; each is answered with a line of JSON: how many have been answered since the last, by status, and in how
many seconds.
"""

from __future__ import annotations

import asyncio
import json
import os
import socket as system
import struct
import sys
import time
from collections import Counter
from collections.abc import Iterator
from itertools import cycle
from typing import Any, Final

import uvloop

from loadtest.bench.rig import openings
from loadtest.lean import Handler, LeanSocket, open_socket

# On their way in at the same time; and tokens, which are made beforehand and come again and again.
_AT_ONCE: Final = 200
_TOKENS: Final = 2_000
_PATIENCE_S: Final = 30.0
# A connection that is reset leaves no port behind in TIME_WAIT: a flood would soon have used them all.
_RESET: Final = struct.pack("ii", 1, 0)


class _Visitor(Handler):
    """Comes, hears whether it is let in, and is gone."""

    def __init__(self) -> None:
        self.status: asyncio.Future[int] = asyncio.get_running_loop().create_future()

    def opened(self, socket: LeanSocket) -> None:
        self._heard(101)

    def closed(self, socket: LeanSocket, code: int | None, status: int | None, retry_after_ms: int | None) -> None:
        self._heard(status or 0)

    def _heard(self, status: int) -> None:
        if not self.status.done():
            self.status.set_result(status)


class _Flood:
    """Answers, counted while it is on."""

    def __init__(self, url: str) -> None:
        self._url = url
        self._on = asyncio.Event()
        self._counts: Counter[int] = Counter()
        self._since_s = time.monotonic()

    def turn(self, *, on: bool) -> dict[str, Any]:
        """Begin, or end; return what there was until now."""
        told = {"seconds": time.monotonic() - self._since_s, "statuses": {str(k): n for k, n in self._counts.items()}}
        self._counts.clear()
        self._since_s = time.monotonic()
        if on:
            self._on.set()
        else:
            self._on.clear()
        return told

    async def run(self, words: Iterator[bytes]) -> None:
        """Open one connection after another while the flood is on, for ever."""
        while True:
            await self._on.wait()
            visitor = _Visitor()
            try:
                socket = await open_socket(self._url, visitor, next(words))
                async with asyncio.timeout(_PATIENCE_S):
                    status = await visitor.status
            except (OSError, TimeoutError):
                status = 0
            else:
                if socket.transport is not None:
                    own = socket.transport.get_extra_info("socket")
                    own.setsockopt(system.SOL_SOCKET, system.SO_LINGER, _RESET)
                    socket.abort()
            self._counts[status] += 1


async def main(url: str) -> None:
    """Flood as told, until standard input closes."""
    words = cycle(openings(url, _TOKENS, os.environ["FANOUT_DEVICE_KEY"].encode(), "flood"))
    flood = _Flood(url)
    tasks = [asyncio.create_task(flood.run(words)) for _ in range(_AT_ONCE)]
    print("ready", flush=True)
    while line := await asyncio.to_thread(sys.stdin.readline):
        print(json.dumps(flood.turn(on=line.strip() == "flood")), flush=True)
    for task in tasks:
        task.cancel()


if __name__ == "__main__":
    uvloop.run(main(sys.argv[1]))
