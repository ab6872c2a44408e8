"""What a server must be able to do to be measured: one adapter a server. Knows nothing of how it is measured."""

from __future__ import annotations

import asyncio
from abc import ABC, abstractmethod
from collections.abc import Callable
from pathlib import Path
from typing import ClassVar, Final

from fanout.wire import Activate, Encoding, encode
from loadtest.lean import BINARY, Handler, LeanSocket, client_frame, open_socket, opening
from loadtest.peers.processes import Processes

# Every server carries the bytes of one real activation, and no device mistakes anything else for it.
MARK: Final = b"activate"
PAYLOAD: Final = encode(
    Activate("peers", 1_700_000_000_000, "off", "0" * 64, at=1_700_000_000_000, window_ms=0), Encoding.MSGPACK
)
_PATIENCE_S: Final = 30.0


class Peer(ABC):
    """One server: how it is started, joined and spoken to.

    Attributes:
        name: What it is called on the command line.
        install: How to get it where it is missing.
        settings: How it is set up, in words a reader can check.
        joining: What one handshake includes.
        ready_mark: What the frame holds after which a subscriber is subscribed; None: the upgrade is enough.
    """

    name: ClassVar[str]
    install: ClassVar[str]
    settings: ClassVar[str]
    joining: ClassVar[str] = "upgrade only"
    ready_mark: ClassVar[bytes | None] = None

    def __init__(self, server_core: int, scratch: Path, connections: int) -> None:
        """Args:
        server_core: Where it runs.
        scratch: An empty directory of its own.
        connections: What it will have to hold, the publisher's included.
        """
        self.processes = Processes(server_core, scratch)
        self.scratch = scratch
        self.connections = connections
        self.url = ""
        self.version = ""

    @classmethod
    @abstractmethod
    def installed(cls) -> bool:
        """Tell whether this machine has it."""

    @abstractmethod
    async def start(self) -> None:
        """Start it; ``url`` and ``version`` are known then. Raises NotStarted."""

    async def prepare(self) -> None:  # noqa: B027 - most need nothing
        """Do what must be done once there are subscribers and before the first message."""

    @abstractmethod
    async def publish(self) -> None:
        """Publish one message to all subscribers, as its users would."""

    def opening(self, number: int) -> bytes:
        """Return the opening handshake of a subscriber."""
        return opening(self.url)

    def greeting(self, number: int) -> bytes:
        """Return the payload a subscriber sends after the upgrade, if any."""
        return b""

    def answer(self, data: bytes) -> bytes:
        """Return the payload with which a subscriber answers what is no message, if it does."""
        return b""

    async def close(self) -> None:
        """End it. Also after a start that failed."""
        await asyncio.to_thread(self.processes.stop)


class Speaker(Handler):
    """A client that publishes over a socket of its own."""

    def __init__(self, greeting: bytes = b"", ready_mark: bytes | None = None) -> None:
        self._greeting = greeting
        self._ready_mark = ready_mark
        self._ready = asyncio.get_running_loop().create_future()
        self._socket: LeanSocket | None = None

    async def connect(self, url: str, opening_bytes: bytes) -> None:
        """Connect and greet; return once it may publish. Raises OSError or TimeoutError."""
        self._socket = await open_socket(url, self, opening_bytes)
        async with asyncio.timeout(_PATIENCE_S):
            await self._ready

    def opened(self, socket: LeanSocket) -> None:
        if self._greeting:
            socket.write(client_frame(BINARY, self._greeting))
        if self._ready_mark is None:
            self._done(lambda: self._ready.set_result(None))

    def message(self, socket: LeanSocket, data: bytes) -> None:
        if self._ready_mark is not None and self._ready_mark in data:
            self._done(lambda: self._ready.set_result(None))

    def closed(self, socket: LeanSocket, code: int | None, status: int | None, retry_after_ms: int | None) -> None:
        gone = ConnectionError(f"the publisher's socket is gone: code {code}, status {status}")
        self._done(lambda: self._ready.set_exception(gone))

    def _done(self, tell: Callable[[], None]) -> None:
        if not self._ready.done():
            tell()

    def send(self, payload: bytes) -> None:
        """Publish."""
        assert self._socket is not None, "connect first"
        self._socket.write(client_frame(BINARY, payload))

    def end(self) -> None:
        """Leave."""
        if self._socket is not None:
            self._socket.abort()
