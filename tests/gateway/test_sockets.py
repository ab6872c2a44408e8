"""Connections on real sockets: an ordinary client, a rude one, and one that does not read."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
import websockets
from echoing import REQUEST, Echo, close_in, device_frame
from support.waiting import PATIENCE_S, until
from websockets.frames import Frame, Opcode

from gateway.connection import Connection


@asynccontextmanager
async def serving(owner: Echo) -> AsyncIterator[int]:
    """Serve this owner's connections; yields the port."""
    server = await asyncio.get_running_loop().create_server(lambda: Connection(owner), "127.0.0.1", 0)
    try:
        yield server.sockets[0].getsockname()[1]
    finally:
        server.close()
        await until(lambda: owner.losses == len(owner.connections), "everyone to have left")


def client(port: int) -> websockets.connect:
    return websockets.connect(f"ws://127.0.0.1:{port}/", subprotocols=["echo"], proxy=None, max_size=None)


async def test_an_ordinary_client_is_served() -> None:
    owner = Echo()
    async with serving(owner) as port, client(port) as device:
        for message in ("text", b"binary", "", "試合"):
            await device.send(message)
            assert await device.recv() == message
        await device.send(["in ", "three ", "parts"])
        assert await device.recv() == "in three parts"
        async with asyncio.timeout(PATIENCE_S):
            await (await device.ping())
        assert all(connection._parser is None for connection in owner.connections)
    assert owner.closings == [0]


async def test_a_connection_closed_by_us_ends_with_our_code() -> None:
    owner = Echo()
    async with serving(owner) as port, client(port) as device:
        await until(lambda: owner.connections)
        owner.connections[0].close(4001, "your token has expired")
        with pytest.raises(websockets.ConnectionClosedError) as caught:
            await device.recv()
        assert caught.value.rcvd is not None
        assert (caught.value.rcvd.code, caught.value.rcvd.reason) == (4001, "your token has expired")
    assert owner.closings == [4001]


async def test_a_message_that_is_too_big_is_refused() -> None:
    async with serving(Echo()) as port, client(port) as device:
        await device.send("x" * 201)
        with pytest.raises(websockets.ConnectionClosedError) as caught:
            await device.recv()
        assert caught.value.rcvd is not None
        assert caught.value.rcvd.code == 1009


async def connected(port: int) -> socket.socket:
    """Return a raw socket after its handshake, whose receive buffer is as small as the kernel allows."""
    loop = asyncio.get_running_loop()
    raw = socket.socket()
    raw.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4_096)
    raw.setblocking(False)
    await loop.sock_connect(raw, ("127.0.0.1", port))
    await loop.sock_sendall(raw, REQUEST)
    head = b""
    async with asyncio.timeout(PATIENCE_S):
        while b"\r\n\r\n" not in head:
            head += await loop.sock_recv(raw, 4_096)
    assert head.startswith(b"HTTP/1.1 101 ")
    return raw


async def rest_of(raw: socket.socket) -> bytes:
    """Return everything up to the end of the stream."""
    loop, found = asyncio.get_running_loop(), b""
    async with asyncio.timeout(PATIENCE_S):
        while data := await loop.sock_recv(raw, 65_536):
            found += data
    return found


async def test_a_client_that_does_not_read_is_closed_and_the_others_never_notice() -> None:
    owner = Echo(write_buffer_bytes_max=100_000)
    frame = Frame(Opcode.BINARY, b"x" * 10_000).serialize(mask=False)
    async with serving(owner) as port:
        with await connected(port) as slow:
            async with client(port) as reader:
                await reader.send("I am here")
                assert await reader.recv() == "I am here"
                rounds = 0
                while not owner.closings:
                    for connection in owner.connections:
                        connection.write(frame)
                    assert await reader.recv() == b"x" * 10_000
                    rounds += 1
                    assert rounds < 10_000
                assert owner.closings == [4000]
                # Should it ever read on, it finds whole messages, and then the reason.
                goodbye = close_in(await rest_of(slow))
                assert goodbye is not None
                assert goodbye.code == 4000
                await reader.send("I am still here")
                assert await reader.recv() == "I am still here"


async def test_a_client_that_half_closes_or_resets_is_let_go() -> None:
    owner = Echo()
    async with serving(owner) as port:
        with await connected(port) as raw:
            raw.shutdown(socket.SHUT_WR)
            assert await rest_of(raw) == b""
        await until(lambda: owner.losses == 1)
        assert owner.closings == [0]
        with await connected(port) as raw:
            raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
            await asyncio.get_running_loop().sock_sendall(raw, device_frame(1, b"half a frame")[:5])
        await until(lambda: owner.losses == 2)
        assert all(connection.transport is None and connection.cohort is None for connection in owner.connections)
