"""The load generator: one crowd of subscribers for whichever server, and what it takes to reach them all.

One visit starts a server, joins everyone, publishes a few messages one after the other, and ends the server.
"""

from __future__ import annotations

import asyncio
import gc
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Final

from msgspec import Struct

from loadtest.lean import BINARY, Handler, LeanSocket, client_frame, open_socket
from loadtest.peers.peer import MARK, Peer

_CONNECTS_AT_ONCE: Final = 200
_PATIENCE_S: Final = 120.0
# Past the first few, a server's pools have filled, and what it grows by is what a subscriber costs.
_WARM_MAX: Final = 500


class Lost(Exception):
    """Subscribers were refused or cut, or a message did not reach them all."""


class Visit(Struct, frozen=True):
    """What one visit to one server measured.

    Attributes:
        receivers: Who got each message.
        bytes_per_connection: Growth of the resident memory of all its processes ÷ those who joined meanwhile.
        joins_per_cpu_s: Handshakes, as its adapter's ``joining`` says, in a second of its processor time; None if
            they took less than can be told.
        deliver_ms: From each call to publish to its last receipt.
        sends_per_cpu_s: Messages sent in a second of the server's processor time.
        load_busy: Share of a core the load generator used meanwhile; near 1, it is what is measured.
    """

    receivers: int
    bytes_per_connection: float
    joins_per_cpu_s: float | None
    deliver_ms: list[float]
    sends_per_cpu_s: float | None
    load_busy: float


class Crowd(Handler):
    """All subscribers of one server."""

    def __init__(self, peer: Peer) -> None:
        self._peer = peer
        self._numbers: dict[LeanSocket, int] = {}
        self._leaving = False
        self.ready = 0
        self.messages = 0
        self.last_s = 0.0
        self.lost = ""

    def opened(self, socket: LeanSocket) -> None:
        number = len(self._numbers)
        self._numbers[socket] = number
        if greeting := self._peer.greeting(number):
            socket.write(client_frame(BINARY, greeting))
        self.ready += self._peer.ready_mark is None

    def message(self, socket: LeanSocket, data: bytes) -> None:
        # A welcome's state may hold an activation as well; messages are counted from when all are ready.
        if MARK in data:
            self.messages += 1
            self.last_s = time.perf_counter()
        if self._peer.ready_mark is not None and self._peer.ready_mark in data:
            self.ready += 1
        elif reply := self._peer.answer(data):
            socket.write(client_frame(BINARY, reply))

    def closed(self, socket: LeanSocket, code: int | None, status: int | None, retry_after_ms: int | None) -> None:
        if not self._leaving:
            self.lost = f"a subscriber was cut: close code {code}, HTTP status {status}"

    async def join(self, first: int, count: int) -> None:
        """Let so many more subscribe; return when all are.

        Raises:
            Lost: Not all could, or they could not in time.
        """
        # Prepared, so that signing tokens is not timed with the server.
        openings = [self._peer.opening(number) for number in range(first, first + count)]
        gate = asyncio.Semaphore(_CONNECTS_AT_ONCE)

        async def one(opening: bytes) -> None:
            async with gate:
                await open_socket(self._peer.url, self, opening)

        wanted = self.ready + count
        try:
            await asyncio.gather(*(one(opening) for opening in openings))
        except OSError as exc:
            raise Lost(f"a subscriber could not connect: {exc}") from exc
        await self._until(lambda: self.ready >= wanted, lambda: f"{self.ready} of {wanted} are subscribed")

    async def deliver(self) -> float:
        """Publish one message; return the seconds until everyone has it. Raises Lost."""
        self.messages = 0
        wanted = len(self._numbers)
        began = time.perf_counter()
        publishing = asyncio.ensure_future(self._peer.publish())
        try:
            await self._until(
                lambda: self.messages >= wanted, lambda: f"{self.messages} of {wanted} have the message"
            )
            await publishing
        finally:
            publishing.cancel()
        return self.last_s - began

    async def _until(self, done: Callable[[], bool], so_far: Callable[[], str]) -> None:
        """Wait for what callbacks count; polled, as an event a message would be measured with it."""
        deadline = time.monotonic() + _PATIENCE_S
        while not done():
            if self.lost or time.monotonic() > deadline:
                raise Lost(f"{self.lost or f'{_PATIENCE_S:g} s have passed'}; {so_far()}")
            await asyncio.sleep(0.002)

    def leave(self) -> None:
        """Cut every socket."""
        self._leaving = True
        for socket in self._numbers:
            socket.abort()
        self._numbers.clear()


async def visit(kind: type[Peer], server_core: int, devices: int, messages: int) -> tuple[Visit, str]:
    """Measure one server once.

    Args:
        kind: Its adapter.
        server_core: Where it is kept; the caller keeps itself elsewhere.
        devices: Subscribers that are counted; a few more come first.
        messages: Published one after the other.
    Returns:
        What was measured, and the server's version.
    Raises:
        NotStarted, Lost, httpx.HTTPError, OSError: It did not work; nothing of it is left running.
    """
    warm = min(_WARM_MAX, max(1, devices // 10))
    with tempfile.TemporaryDirectory(prefix="fanout-peers-", ignore_cleanup_errors=True) as scratch:
        peer = kind(server_core, Path(scratch), warm + devices + 1)
        crowd = None
        try:
            await peer.start()
            crowd = Crowd(peer)
            await crowd.join(0, warm)
            await peer.prepare()
            await crowd.deliver()
            gc.collect()  # ours is the load generator; it does not collect while it measures
            resident, cpu = peer.processes.resident_bytes(), peer.processes.cpu_seconds()
            await crowd.join(warm, devices)
            joining = peer.processes.cpu_seconds() - cpu
            grown = peer.processes.resident_bytes() - resident
            cpu, own_cpu = peer.processes.cpu_seconds(), time.process_time()
            deliver_ms = [await crowd.deliver() * 1000 for _ in range(messages)]
            sending, own = peer.processes.cpu_seconds() - cpu, time.process_time() - own_cpu
            # Some give memory back after the rush: the smaller of the two, in favour of each.
            grown = min(grown, peer.processes.resident_bytes() - resident)
        finally:
            if crowd is not None:
                crowd.leave()
            await peer.close()
    everyone = warm + devices
    measured = Visit(
        receivers=everyone,
        bytes_per_connection=grown / devices,
        joins_per_cpu_s=_rate(devices, joining),
        deliver_ms=deliver_ms,
        sends_per_cpu_s=_rate(messages * everyone, sending),
        load_busy=own / sum(deliver_ms) * 1000,
    )
    return measured, peer.version


def _rate(count: int, seconds: float) -> float | None:
    return count / seconds if seconds > 0 else None
