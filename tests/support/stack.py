"""A whole stack on one machine: a real Valkey, a real gateway on it, a publisher, tokens and plain clients.

`stack()` runs one gateway worker in the test's own loop, which starts at once; `stack(workers=2)` runs the
supervisor and its worker processes, with the admin port, as production does.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import jwt
import msgpack
import msgspec
import websockets
from redis.asyncio import Redis

from fanout import processes, wire
from fanout.bus import presence
from fanout.bus.publication import Activated, Prefetched, Variant
from fanout.bus.publisher import Publisher
from fanout.connect import connect as connect_store
from fanout.embedded import EmbeddedValkey
from gateway.config import GatewayConfig
from gateway.process import Health, bind
from gateway.worker import Worker
from support.waiting import PATIENCE_S, until

ROOT = Path(__file__).parents[2]
KEY = "a device key that only these tests use"
# Everything that production does at leisure, at a pace a test can wait for.
FAST: dict[str, Any] = {
    "port": 0,
    "drain_s": 0.2,
    "drain_close_s": 0.2,
    "probe_interval_s": 0.1,
    "probe_timeout_s": 1.0,
    "presence_interval_s": 0.1,
    # Everything shares few cores, and often one loop: a gateway that is late here turns no device away for it.
    "loop_lag_max_ms": 10_000.0,
}


# --- What devices carry.


def token(device: str = "tv-1", *, key: str | bytes = KEY, algorithm: str = "HS256", **claims: Any) -> str:
    """Return a device's token for topic ``t``; ``claims`` replace the usual ones, and None leaves one out."""
    usual = {
        "sub": device,
        "exp": int(time.time()) + 3600,
        "aud": "fanout",
        "topics": ["t"],
        "attrs": {"platform": "tv"},
    }
    wanted = {name: value for name, value in {**usual, **claims}.items() if value is not None}
    return jwt.encode(wanted, key, algorithm)


def connecting(url: str, bearer: str | None = None, encoding: str = "json", **options: Any) -> websockets.connect:
    """Return a plain third-party client, to be awaited or entered; it knows nothing of this project."""
    bearer = token() if bearer is None else bearer
    return websockets.connect(
        url,
        **{
            "subprotocols": [f"fanout.v1.{encoding}"],
            "additional_headers": {"Authorization": f"Bearer {bearer}"},
            "compression": None,
            "proxy": None,
            "max_size": None,
            **options,
        },
    )


async def receive(socket: websockets.ClientConnection) -> dict[str, Any]:
    """Return the next message, read by other libraries than ours, within a bound."""
    async with asyncio.timeout(PATIENCE_S):
        data = await socket.recv()
    found = json.loads(data) if isinstance(data, str) else msgpack.unpackb(data)
    assert isinstance(found, dict)
    return found


async def closed(socket: websockets.ClientConnection) -> int | None:
    """Return the close code, once the socket has closed, within a bound; None without a close frame."""
    async with asyncio.timeout(PATIENCE_S):
        try:
            while True:
                await socket.recv()
        except websockets.ConnectionClosed as exc:
            return exc.rcvd.code if exc.rcvd is not None else None


# --- What is published.


def bundle(content: str, *, inline: bool = True) -> wire.Bundle:
    data = content.encode()
    return wire.Bundle(hashlib.sha256(data).hexdigest(), len(data), inline=content if inline else None)


CONTENT = '{"stages":{"live":{"title":"LIVE 試合"},"upcoming":{"title":"Heute"}}}'


def prefetched(campaign: str = "c", *, content: str = CONTENT, **fields: Any) -> Prefetched:
    """Return a prefetch for everyone on topic ``t``, now, with no window; its key is new each time."""
    usual: dict[str, Any] = {
        "topic": "t",
        "key": os.urandom(8).hex(),
        "variants": (Variant({}, bundle(content)),),
        "from_ms": 0,
        "window_ms": 0,
    }
    return Prefetched(campaign=campaign, **{**usual, **fields})


def activated(campaign: str = "c", *, content: str = CONTENT, **fields: Any) -> Activated:
    """Return an activation of stage ``live`` for everyone on topic ``t``; its key is new each time."""
    usual: dict[str, Any] = {
        "topic": "t",
        "key": os.urandom(8).hex(),
        "variants": (Variant({}, bundle(content, inline=False)),),
        "stage": "live",
        "at": int(time.time() * 1000),
        "window_ms": 0,
    }
    return Activated(campaign=campaign, **{**usual, **fields})


# --- What runs.


class GatewayProcess:
    """A supervisor and its workers, as processes of their own.

    Attributes:
        url: Where devices connect.
        admin_url: Health and metrics.
    """

    def __init__(self, scratch: Path, config: GatewayConfig) -> None:
        self._stderr = scratch / "stderr"
        self._ports = scratch / "ports"
        with self._stderr.open("wb") as stderr:
            self.process: subprocess.Popen[bytes] = processes.start(
                [
                    sys.executable,
                    str(ROOT / "tests/support/gateway_process.py"),
                    msgspec.json.encode(config).decode(),
                    str(self._ports),
                ],
                env={**os.environ, "PYTHONPATH": str(ROOT)},
                stderr=stderr,
            )
        self.url = self.admin_url = ""

    async def started(self) -> None:
        await until(lambda: self._ports.exists() or self.process.poll() is not None, "the gateway's ports")
        assert self._ports.exists(), self.errors
        port, admin_port = json.loads(self._ports.read_text())
        self.url = f"ws://127.0.0.1:{port}{wire.PATH}"
        self.admin_url = f"http://127.0.0.1:{admin_port}"

    @property
    def errors(self) -> str:
        """Everything the supervisor and the workers have written to standard error."""
        return self._stderr.read_text()

    async def exited(self) -> int:
        """Return the exit code, once it has left."""
        await until(lambda: self.process.poll() is not None, "the gateway's exit")
        return self.process.wait()

    def stop(self) -> None:
        processes.stop(self.process, grace_s=PATIENCE_S)


@dataclass
class Stack:
    """What a test holds.

    Attributes:
        url: Where devices connect.
        valkey: The store; `kill` and `start` it at will.
        redis: A client of it.
        publisher: Puts publications into its log.
        worker: The worker in this process, if that is how the gateway runs.
        said: What that one has said of its health.
        gateway: Its processes, if that is how.
    """

    url: str
    valkey: EmbeddedValkey
    redis: Redis
    publisher: Publisher
    worker: Worker | None = None
    said: list[Health] = field(default_factory=list)
    gateway: GatewayProcess | None = None

    async def records(self) -> list[presence.WorkerRecord]:
        """Return the workers' presence records."""
        return await presence.read_all(self.redis)

    async def counts(self, campaign: str = "c") -> tuple[int, int, int]:
        """Return how many devices are connected, ready and active, by the workers' records."""
        groups = [
            group
            for record in await self.records()
            if campaign in record.campaigns
            for group in record.campaigns[campaign].groups
        ]
        return (
            sum(group.connected for group in groups),
            sum(group.ready for group in groups),
            sum(group.active for group in groups),
        )


@asynccontextmanager
async def stack(*, workers: int = 0, valkey: EmbeddedValkey | None = None, **settings: Any) -> AsyncIterator[Stack]:
    """Run a store and a gateway while the context lasts.

    Args:
        workers: Worker processes under a supervisor; 0 runs one worker in this loop.
        valkey: A store that runs already; None starts one.
        settings: Of `GatewayConfig`, over the fast ones here.
    """
    async with AsyncExitStack() as ends:
        store = valkey or ends.enter_context(_store())
        redis = connect_store(store.url)
        ends.push_async_callback(redis.aclose)
        ends.enter_context(_device_key())
        config = GatewayConfig(**{**FAST, "redis_url": store.url, "workers": max(1, workers), **settings})
        made = Stack("", store, redis, Publisher(redis))
        if workers:
            scratch = Path(ends.enter_context(tempfile.TemporaryDirectory(prefix="fanout-test-")))
            made.gateway = GatewayProcess(scratch, config)
            ends.callback(made.gateway.stop)
            await made.gateway.started()
            made.url = made.gateway.url
        else:
            await ends.enter_async_context(_in_process(made, config))
        yield made


@contextlib.contextmanager
def _store() -> Iterator[EmbeddedValkey]:
    with EmbeddedValkey() as store:
        yield store
        store.kill()  # nobody misses what it has; in good order it would take a tenth of a second


@contextlib.contextmanager
def _device_key() -> Iterator[None]:
    before = os.environ.get("FANOUT_DEVICE_KEY")
    os.environ["FANOUT_DEVICE_KEY"] = KEY
    try:
        yield
    finally:
        if before is None:
            del os.environ["FANOUT_DEVICE_KEY"]
        else:
            os.environ["FANOUT_DEVICE_KEY"] = before


@asynccontextmanager
async def _in_process(made: Stack, config: GatewayConfig) -> AsyncIterator[None]:
    server_socket = bind(config.host, config.port)
    made.url = f"ws://127.0.0.1:{server_socket.getsockname()[1]}{wire.PATH}"
    made.worker = Worker(config, server_socket, made.said.append)
    running = asyncio.create_task(made.worker.run())
    try:
        await until(lambda: Health.OK in made.said or running.done(), "the worker")
        yield
    finally:
        made.worker.stop()
        async with asyncio.timeout(PATIENCE_S):
            await running
        server_socket.close()
