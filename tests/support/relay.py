"""A TCP relay that can be cut: the network between a device and its gateway."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from urllib.parse import urlsplit


class Relay:
    """Passes bytes on to one server, until it is cut.

    Args:
        url: The server's; `url` is the same one by way of this relay.
    """

    def __init__(self, url: str) -> None:
        self._target = urlsplit(url)
        self._port = 0
        self._server: asyncio.Server | None = None
        self._writers: set[asyncio.StreamWriter] = set()

    @property
    def url(self) -> str:
        return self._target._replace(netloc=f"127.0.0.1:{self._port}").geturl()

    async def restore(self) -> None:
        """Listen, on the same port as before."""
        self._server = await asyncio.start_server(self._connected, "127.0.0.1", self._port)
        self._port = self._server.sockets[0].getsockname()[1]

    async def cut(self) -> None:
        """Break every connection without a word and refuse new ones."""
        if self._server is None:
            return
        self._server.close()
        for writer in list(self._writers):
            writer.transport.abort()
        await self._server.wait_closed()
        self._server = None

    async def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._writers.add(writer)
        try:
            there = await asyncio.open_connection(self._target.hostname, self._target.port)
            self._writers.add(there[1])
            await asyncio.gather(self._pass_on(reader, there[1]), self._pass_on(there[0], writer))
            self._writers.discard(there[1])
        except OSError:
            writer.transport.abort()
        finally:
            self._writers.discard(writer)

    async def _pass_on(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Pass on one direction; when it ends, for whatever reason, so does the other."""
        try:
            while data := await reader.read(65_536):
                writer.write(data)
                await writer.drain()
        except OSError:
            pass
        writer.close()


@asynccontextmanager
async def relay(url: str) -> AsyncIterator[Relay]:
    """Run a relay to this server while the context lasts."""
    made = Relay(url)
    await made.restore()
    try:
        yield made
    finally:
        await made.cut()
