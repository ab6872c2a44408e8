"""The control plane on a real port, and callers that speak HTTP by hand: no client library tidies what they send."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import httpx
from redis.asyncio import Redis
from support.waiting import PATIENCE_S
from support.web import web

from fanout.control.config import ControlConfig
from fanout.control.server import serve
from fanout.embedded import EmbeddedValkey
from fanout.roles import Role
from fanout.store.keys import KeyStore


class Desk:
    """What a test holds.

    Attributes:
        port: Of the API.
        key: A publisher's.
        http: A client without a key of its own.
    """

    def __init__(self, port: int, key: str, http: httpx.AsyncClient) -> None:
        self.port = port
        self.key = key
        self.http = http

    async def get(self, path: str, key: str | None = None, **headers: str) -> httpx.Response:
        """Send a GET, with this key or the desk's own."""
        return await self.http.get(path, headers={"Authorization": f"Bearer {key or self.key}", **headers})

    async def post(self, path: str, body: Any) -> httpx.Response:
        """Send a POST with the desk's key."""
        return await self.http.post(path, json=body, headers={"Authorization": f"Bearer {self.key}"})

    async def raw(self, data: bytes) -> bytes:
        """Send these bytes on a connection of their own; return all that comes until it is closed or reset."""
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
        writer.write(data)
        said = b""
        try:
            async with asyncio.timeout(PATIENCE_S):
                while more := await reader.read(65_536):
                    said += more
        except ConnectionError:
            pass  # it did not read all we sent before it closed
        finally:
            writer.close()
        return said

    def head(self, method: str, path: str, *more: str) -> bytes:
        """Return a request's head with the desk's key; the path goes as it is."""
        usual = ("Host: x", "Content-Type: application/json", f"Authorization: Bearer {self.key}", *more)
        return "\r\n".join((f"{method} {path} HTTP/1.1", *usual, "", "")).encode()


@asynccontextmanager
async def desk(valkey: EmbeddedValkey, redis: Redis, **settings: Any) -> AsyncIterator[Desk]:
    """Serve the API while the context lasts; settings are those of `ControlConfig`."""
    key = await KeyStore(redis).create("desk", Role.PUBLISHER)
    port: asyncio.Future[int] = asyncio.get_running_loop().create_future()
    serving = asyncio.create_task(serve(ControlConfig(**settings), valkey.url, "127.0.0.1", 0, port.set_result))
    try:
        await asyncio.wait([serving, port], return_when=asyncio.FIRST_COMPLETED, timeout=PATIENCE_S)
        async with web(base_url=f"http://127.0.0.1:{port.result()}") as http:
            yield Desk(port.result(), key, http)
    finally:
        serving.cancel()
        await asyncio.wait([serving])
