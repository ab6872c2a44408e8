"""Row 18, the part that needs a socket: an origin that is slow. `tests/device` has the altered and the refused."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import httpx
import pytest
from device.driving import BUNDLE, CONTENT, FixedRandom
from device.gateway import FAST, gateway, now_ms, token
from support.waiting import PATIENCE_S
from support.web import web

from fanout import wire
from fanout.device import Device


@asynccontextmanager
async def dripping_origin() -> AsyncIterator[str]:
    """Serve a bundle one byte at a time, for ever; yield the URL."""
    over = asyncio.Event()
    serving: set[asyncio.Task[None]] = set()

    async def drip(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        serving.add(task)
        try:
            await reader.readuntil(b"\r\n\r\n")
            writer.write(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
            while not (over.is_set() or writer.is_closing()):
                writer.write(b"1\r\nx\r\n")
                await writer.drain()
                await asyncio.sleep(0.05)
        except (OSError, asyncio.IncompleteReadError):
            pass
        finally:
            writer.transport.abort()

    server = await asyncio.start_server(drip, "127.0.0.1", 0)
    async with server:
        try:
            yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
        finally:
            over.set()
            await asyncio.gather(*serving)


async def test_an_origin_that_drips_is_given_up_tried_again_and_reported(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("fanout.device.origin.FETCH_TIMEOUT_S", 0.3)
    asked: list[httpx.Request] = []

    async def note(request: httpx.Request) -> None:
        # As it is sent: on a busy machine the time may be over before the origin has read it.
        asked.append(request)

    hooks = {"request": [note]}
    async with gateway() as server, dripping_origin() as url, web(event_hooks=hooks) as http:
        device = Device(server.url, get_token=token, origin_url=url, http=http, reconnect=FAST, rng=FixedRandom(0.0))
        async with device, asyncio.timeout(PATIENCE_S):
            peer = await server.peer()
            # No byte more than announced comes within the time, so only the clock can end it.
            large = wire.Bundle(BUNDLE, 10_000 + len(CONTENT))
            await peer.welcome(wire.Prefetch("cup", 1, large, now_ms(), 0))
            assert await peer.hear() == wire.Report("cup", 1, "failed")
    assert len(asked) == 5
