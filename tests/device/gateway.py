"""A small WebSocket server that a test scripts, message by message; and an HTTP origin likewise."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from urllib.parse import parse_qs, urlsplit

import jwt
from support.waiting import PATIENCE_S
from websockets.asyncio.server import Server, ServerConnection, serve
from websockets.exceptions import ConnectionClosed
from websockets.http11 import Request, Response
from websockets.typing import Subprotocol

from fanout import wire

SECRET = "a secret of the tests, at least 32 bytes"
FAST = wire.ReconnectPolicy(base_ms=1, cap_ms=5)


def token(device: str = "tv-1", serial: int = 0) -> str:
    return jwt.encode({"sub": device, "n": serial}, SECRET)


def now_ms() -> int:
    return int(time.time() * 1000)


class Peer:
    """One device's connection, seen from the server."""

    def __init__(self, socket: ServerConnection) -> None:
        self.socket = socket
        assert socket.request is not None
        self.path = urlsplit(socket.request.path).path
        self.query = {name: values[0] for name, values in parse_qs(urlsplit(socket.request.path).query).items()}
        self.headers = socket.request.headers
        assert socket.subprotocol is not None
        self.encoding = wire.BY_SUBPROTOCOL[socket.subprotocol]

    async def say(self, *messages: wire.ToDevice) -> None:
        for message in messages:
            data = wire.encode(message, self.encoding)
            await self.socket.send(data.decode() if self.encoding is wire.Encoding.JSON else data)

    async def welcome(self, *state: wire.StateMessage, policy: wire.ReconnectPolicy = FAST) -> None:
        await self.say(wire.Welcome("s", now_ms(), 30.0, policy, list(state)))

    async def hear(self) -> wire.FromDevice:
        message = wire.decode_from_device(await self.socket.recv(decode=False), self.encoding)
        assert message is not None
        return message

    async def gone(self) -> int:
        """Wait until the device has left; return its close code."""
        try:
            while True:
                await self.socket.recv()
        except ConnectionClosed:
            assert self.socket.close_code is not None
            return self.socket.close_code


@dataclass
class Gateway:
    """Connections as they come; the test plays the server's part."""

    url: str = ""
    peers: asyncio.Queue[Peer] = field(default_factory=asyncio.Queue)
    refuse: list[tuple[int, dict[str, str]]] = field(default_factory=list)  # answers to the next handshakes
    requests: list[Request] = field(default_factory=list)

    async def peer(self) -> Peer:
        """Wait for the next device to connect."""
        async with asyncio.timeout(PATIENCE_S):
            return await self.peers.get()

    def answer(self, socket: ServerConnection, request: Request) -> Response | None:
        self.requests.append(request)
        if not self.refuse:
            return None
        status, headers = self.refuse.pop(0)
        response = socket.respond(status, "")
        response.headers.update(headers)
        return response

    async def handle(self, socket: ServerConnection) -> None:
        self.peers.put_nowait(Peer(socket))
        await socket.wait_closed()


@asynccontextmanager
async def gateway() -> AsyncIterator[Gateway]:
    """Serve on a free port of this machine until the test is over."""
    scripted = Gateway()
    server: Server
    async with serve(
        scripted.handle,
        "127.0.0.1",
        0,
        process_request=scripted.answer,
        subprotocols=[Subprotocol(name) for name in wire.BY_SUBPROTOCOL],
        compression=None,
        close_timeout=1,
    ) as server:
        port = next(iter(server.sockets)).getsockname()[1]
        scripted.url = f"ws://127.0.0.1:{port}"
        yield scripted


@dataclass
class WebOrigin:
    """An HTTP server that gives its answers in turn, the last one again and again."""

    url: str = ""
    answers: list[tuple[int, str, bytes]] = field(default_factory=list)  # status, extra header lines, body
    paths: list[str] = field(default_factory=list)  # asked for
    headers: list[str] = field(default_factory=list)  # all request headers, as text

    async def handle(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = (await reader.readuntil(b"\r\n\r\n")).decode()
        self.paths.append(head.split(" ")[1])
        self.headers.append(head.lower())
        status, extra, body = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        writer.write(
            f"HTTP/1.1 {status} x\r\nContent-Length: {len(body)}\r\nConnection: close\r\n{extra}\r\n".encode() + body
        )
        await writer.drain()
        writer.close()
        await writer.wait_closed()


@asynccontextmanager
async def web_origin(*answers: tuple[int, str, bytes]) -> AsyncIterator[WebOrigin]:
    """Serve these answers on a free port of this machine until the test is over."""
    scripted = WebOrigin(answers=list(answers))
    server = await asyncio.start_server(scripted.handle, "127.0.0.1", 0)
    async with server:
        scripted.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
        yield scripted
