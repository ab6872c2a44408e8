"""The network, and what goes wrong with it: a proxy between a client and its server, over TCP or a unix socket.

Knows nothing of what is said. Each direction has faults of its own, which may be set at any time; connections
can be ended with a word, without one, or refused.
"""

from __future__ import annotations

import asyncio
import socket
import struct
import tempfile
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import ExitStack, asynccontextmanager
from functools import partial
from pathlib import Path
from urllib.parse import urlsplit

from loadtest.ports import reserved_ports


class Link:
    """One connection through a relay.

    Attributes:
        client: What writes to the client.
        server: What writes to the server.
    """

    def __init__(self, client: asyncio.StreamWriter, server: asyncio.StreamWriter) -> None:
        self.client = client
        self.server = server


class Way:
    """One direction of every connection of a relay.

    Attributes:
        delay_s: Every piece is passed on this much later, seconds.
        slice_bytes: No piece is larger; 0 is none. With a delay the receiver reads each by itself.
        bytes_per_s: Throttle; 0 is none.
        drops: True throws away what is said, which the sender believes to have said, as on a half-open connection.
        dropped: How many bytes were thrown away.
        passed: How many bytes were passed on.
    """

    def __init__(self) -> None:
        self.delay_s = 0.0
        self.slice_bytes = 0
        self.bytes_per_s = 0.0
        self.drops = False
        self.dropped = 0
        self.passed = 0
        self._flows = asyncio.Event()
        self._flows.set()

    def hold(self) -> None:
        """Let nothing arrive, not even the end of a connection, until `release`."""
        self._flows.clear()

    def release(self) -> None:
        """Let arrive what was held, as TCP sends again what was lost."""
        self._flows.set()

    async def carry(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, arrives: Callable[[bytes], bool]
    ) -> None:
        """Pass on what is said, if it arrives, until it ends. Raises OSError if nobody listens any more."""
        while True:
            data = await reader.read(65_536)
            await self._flows.wait()
            if not data:
                return
            for piece in self._pieces(data):
                await asyncio.sleep(self.delay_s + (len(piece) / self.bytes_per_s if self.bytes_per_s else 0))
                await self._flows.wait()
                if self.drops or not arrives(piece):
                    self.dropped += len(piece)
                    continue
                self.passed += len(piece)
                writer.write(piece)
                await writer.drain()

    def _pieces(self, data: bytes) -> Iterator[bytes]:
        width = self.slice_bytes or len(data)
        return (data[start : start + width] for start in range(0, len(data), width))


class Relay:
    """Passes bytes on to one server.

    Args:
        url: The server's, with a host and port, or ``unix://`` and a path.

    Attributes:
        there: The way from clients to the server.
        back: The way from the server to clients.
        links: The connections there are now.
        accepted: How many there have ever been.
    """

    def __init__(self, url: str) -> None:
        self._target = urlsplit(url)
        self._port = 0
        self._held = ExitStack()  # the port is nobody else's while nothing listens there
        self._scratch: tempfile.TemporaryDirectory[str] | None = None
        self._server: asyncio.Server | None = None
        self._cuts = 0
        self._carrying: set[asyncio.Task[None]] = set()
        self._serving: set[asyncio.Task[None]] = set()
        self.there = Way()
        self.back = Way()
        self.links: set[Link] = set()
        self.accepted = 0

    @property
    def url(self) -> str:
        """The server's URL by way of this relay."""
        if self._scratch is not None:
            return self._target._replace(path=self._path).geturl()
        return self._target._replace(netloc=f"127.0.0.1:{self._port}").geturl()

    @property
    def port(self) -> int:
        return self._port

    @property
    def _path(self) -> str:
        assert self._scratch is not None
        return str(Path(self._scratch.name) / "s")

    # --- What can go wrong.

    def blackhole(self) -> None:
        """Let nothing arrive either way, on connections that are there and on new ones, until `heal`."""
        self.there.hold()
        self.back.hold()

    def heal(self) -> None:
        """End a black hole."""
        self.there.release()
        self.back.release()

    def drop(self) -> None:
        """End every connection in good order."""
        for link in list(self.links):
            link.client.close()
            link.server.close()

    def reset(self) -> None:
        """End every connection with RST."""
        for link in list(self.links):
            for writer in (link.client, link.server):
                if self._scratch is None:
                    found = writer.get_extra_info("socket")
                    found.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                writer.transport.abort()

    async def cut(self) -> None:
        """Break every connection without a word and refuse new ones."""
        if self._server is None:
            return
        self._cuts += 1
        self._server.close()
        for task in self._carrying:
            task.cancel()
        for link in list(self.links):
            link.client.transport.abort()
            link.server.transport.abort()
        await self._server.wait_closed()
        await asyncio.gather(*self._serving)
        self._server = None

    async def restore(self) -> None:
        """Listen, on the same address as before."""
        if self._target.scheme == "unix":
            self._scratch = self._scratch or tempfile.TemporaryDirectory(prefix="fanout-relay-")
            self._server = await asyncio.start_unix_server(self._connected, path=self._path)
        else:
            if not self._port:
                [self._port] = self._held.enter_context(reserved_ports(1))
            self._server = await asyncio.start_server(self._connected, "127.0.0.1", self._port)

    async def end(self) -> None:
        """Stop for good."""
        await self.cut()
        self._held.close()
        if self._scratch is not None:
            self._scratch.cleanup()

    # --- Passing on.

    def arrives_there(self, link: Link, said: bytes) -> bool:
        """Tell whether the server gets this; for relays that understand what is said."""
        return True

    def arrives_back(self, link: Link, said: bytes) -> bool:
        """Tell whether the client gets this."""
        return True

    def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        serving = asyncio.create_task(self._serve(reader, writer))
        self._serving.add(serving)
        serving.add_done_callback(self._serving.discard)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        cuts = self._cuts
        try:
            from_server, to_server = await self._reach()
        except OSError:
            writer.transport.abort()
            return
        if self._cuts > cuts:
            # It was on its way to the server, and no link yet, when everything was cut.
            writer.transport.abort()
            to_server.transport.abort()
            return
        link = Link(writer, to_server)
        self.links.add(link)
        self.accepted += 1
        ways = {
            asyncio.create_task(self.there.carry(reader, to_server, partial(self.arrives_there, link))),
            asyncio.create_task(self.back.carry(from_server, writer, partial(self.arrives_back, link))),
        }
        self._carrying |= ways
        try:
            # When one direction ends, for whatever reason, so does the other.
            await asyncio.wait(ways, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in ways:
                task.cancel()
            await asyncio.gather(*ways, return_exceptions=True)
            self._carrying -= ways
            self.links.discard(link)
            writer.close()
            to_server.close()

    async def _reach(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        if self._target.scheme == "unix":
            return await asyncio.open_unix_connection(self._target.path)
        return await asyncio.open_connection(self._target.hostname, self._target.port)


@asynccontextmanager
async def relay(url: str) -> AsyncIterator[Relay]:
    """Run a relay to this server while the context lasts."""
    made = Relay(url)
    await made.restore()
    try:
        yield made
    finally:
        await made.end()
