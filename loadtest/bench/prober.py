"""A few honest devices beside a benchmark's crowd: how long does a handshake take, how late is a beacon?

Run as ``python -m loadtest.bench.prober URL BEACON_S`` with FANOUT_DEVICE_KEY set; answers each line ``probe S``
on standard input with one line of JSON after S seconds.
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
import time

import uvloop

from fanout.tokens import mint
from fanout.wire import Beacon, Encoding, Welcome, decode_to_device
from loadtest.bench.rig import TOPIC
from loadtest.lean import Handler, LeanSocket, device_opening, open_socket

_KEPT = 20


class _Kept(Handler):
    """A device that stays, and notes when beacons come."""

    def __init__(self, beacon_ms: float) -> None:
        self._beacon_ms = beacon_ms
        self._last_ms = 0.0
        self.late_ms: list[float] = []
        self.welcomed = asyncio.Event()

    def message(self, socket: LeanSocket, data: bytes) -> None:
        message = decode_to_device(data, Encoding.MSGPACK)
        if isinstance(message, Welcome):
            self.welcomed.set()
        elif isinstance(message, Beacon):
            now_ms = time.monotonic() * 1000
            if self._last_ms:
                self.late_ms.append(max(0.0, now_ms - self._last_ms - self._beacon_ms))
            self._last_ms = now_ms


def _percentile(values: list[float], share: float) -> float:
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))] if ordered else 0.0


async def _handshake(url: str, key: bytes, number: int) -> float:
    """Open a connection, wait for its welcome, leave; return milliseconds."""
    bytes_to_send = device_opening(url, Encoding.MSGPACK, mint(key, f"probe-{number}", [TOPIC]))
    visitor = _Kept(0)
    started = time.monotonic()
    socket = await open_socket(url, visitor, bytes_to_send)
    async with asyncio.timeout(30):
        await visitor.welcomed.wait()
    took_ms = (time.monotonic() - started) * 1000
    socket.abort()
    return took_ms


async def run(url: str, beacon_s: float) -> None:
    """Keep a few devices connected and answer the lines on standard input."""
    key = os.environ["FANOUT_DEVICE_KEY"].encode()
    kept = [_Kept(beacon_s * 1000) for _ in range(_KEPT)]
    for number, device in enumerate(kept):
        await open_socket(url, device, device_opening(url, Encoding.MSGPACK, mint(key, f"kept-{number}", [TOPIC])))
    print("ready", flush=True)
    number = 0
    while line := await asyncio.to_thread(sys.stdin.readline):
        until = time.monotonic() + float(line.split()[1])
        for device in kept:
            device.late_ms.clear()
        took: list[float] = []
        while time.monotonic() < until:
            number += 1
            took.append(await _handshake(url, key, number))
        late = [each for device in kept for each in device.late_ms]
        answer = {
            "handshakes": len(took),
            "handshake_p99_ms": _percentile(took, 0.99),
            "handshake_max_ms": max(took),
            "beacon_p99_ms": _percentile(late, 0.99),
        }
        print(json.dumps(answer), flush=True)


if __name__ == "__main__":
    uvloop.run(run(sys.argv[1], float(sys.argv[2])))
