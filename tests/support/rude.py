"""Clients that keep no rules: raw bytes to a gateway, before and after the handshake."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import NamedTuple, cast
from urllib.parse import urlsplit

from websockets.frames import Close, Frame, Opcode
from websockets.protocol import Protocol, Side, State

from fanout import wire
from support.stack import token
from support.waiting import PATIENCE_S

_HEAD_END = b"\r\n\r\n"


def upgrade_request(bearer: str | None = None, encoding: str = "json") -> bytes:
    """Return a good handshake."""
    bearer = token() if bearer is None else bearer
    return (
        f"GET {wire.PATH} HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        "Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"
        f"Sec-WebSocket-Protocol: fanout.v1.{encoding}\r\nAuthorization: Bearer {bearer}\r\n\r\n"
    ).encode()


class Rude(NamedTuple):
    """A client's bare socket."""

    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter

    async def ended(self) -> int | None:
        """Return the close code, once the gateway has hung up; None without a close frame."""
        frames = Protocol(Side.CLIENT, state=State.OPEN, max_size=None)
        async with asyncio.timeout(PATIENCE_S):
            try:
                while data := await self.reader.read(65_536):
                    frames.receive_data(data)
            except ConnectionResetError:
                pass  # what it has sent and nobody read; the goodbye came before that
        codes = [
            Close.parse(bytes(frame.data)).code
            for frame in cast("list[Frame]", frames.events_received())
            if frame.opcode is Opcode.CLOSE
        ]
        return codes[-1] if codes else None

    async def head(self) -> bytes:
        """Return the head of the answer to a request, b"" if the gateway has hung up instead."""
        async with asyncio.timeout(PATIENCE_S):
            try:
                return await self.reader.readuntil(_HEAD_END)
            except (asyncio.IncompleteReadError, ConnectionError):
                return b""


@asynccontextmanager
async def dialled(url: str) -> AsyncIterator[Rude]:
    """Connect a socket that says nothing by itself."""
    parts = urlsplit(url)
    client = Rude(*await asyncio.open_connection(parts.hostname, parts.port))
    try:
        yield client
    finally:
        client.writer.close()
        with contextlib.suppress(ConnectionError):
            await client.writer.wait_closed()


async def answer_to(url: str, request: bytes) -> bytes:
    """Return the head of the answer to one request, b"" if there is none, and hang up."""
    async with dialled(url) as client:
        client.writer.write(request)
        return await client.head()


@asynccontextmanager
async def rude(url: str, bearer: str | None = None, encoding: str = "json") -> AsyncIterator[Rude]:
    """Connect a device that has its 101, and may have its welcome."""
    async with dialled(url) as client:
        client.writer.write(upgrade_request(bearer, encoding))
        head = await client.head()
        assert head.startswith(b"HTTP/1.1 101 "), head
        yield client
