"""What every benchmark stands on: the product's own processes, the yardsticks', and sockets to both.

The product is started by its command line, as an operator would; this knows no module of it.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import secrets
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import httpx

from fanout.tokens import mint
from fanout.wire import Encoding, StateMessage, Welcome, decode_to_device
from loadtest.lean import Handler, LeanSocket, device_opening, open_socket

TOPIC: Final = "bench"
# No beacon falls into a measurement, and no handshake is refused: these are measured by other means.
STILL: Final = ("--beacon-s", "1000", "--ping-s", "3000", "--lifetime-s", "9000", "--admit-per-s", "100000")
_CONNECTS_AT_ONCE: Final = 200
_PATIENCE_S: Final = 60.0


@contextmanager
def child(words: Sequence[str], **environment: str) -> Iterator[subprocess.Popen[str]]:
    """Run a Python module as a process with pipes; end it afterwards."""
    process = subprocess.Popen(
        [sys.executable, "-m", *words],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        env={**os.environ, **environment},
    )
    try:
        yield process
    finally:
        process.terminate()
        try:
            process.wait(30)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def said(process: subprocess.Popen[str]) -> str:
    """Return the next line of a child."""
    assert process.stdout is not None
    line = process.stdout.readline()
    assert line, f"{process.args!r} ended"
    return line.strip()


def ask(process: subprocess.Popen[str], line: str) -> str:
    """Send a line to a yardstick; return its answer."""
    assert process.stdin is not None
    process.stdin.write(line + "\n")
    process.stdin.flush()
    return said(process)


@dataclass
class Product:
    """A running product.

    Attributes:
        key: Secret of the device tokens.
        workers: Process ids of the gateway's workers.
    """

    url: str
    admin_url: str
    control_url: str
    key: bytes
    api: httpx.Client
    workers: tuple[int, ...]

    @property
    def worker(self) -> int:
        """The only worker."""
        (worker,) = self.workers
        return worker

    def get(self, path: str) -> dict[str, Any]:
        response = self.api.get(path)
        response.raise_for_status()
        return dict(response.json())

    def post(self, path: str, body: dict[str, Any]) -> dict[str, Any]:
        response = self.api.post(path, json=body)
        response.raise_for_status()
        return dict(response.json())

    def metric(self, sample: str) -> float:
        """Return the sum of the gateway's samples that begin so."""
        lines = httpx.get(f"{self.admin_url}/metrics", trust_env=False).text.splitlines()
        return sum(float(line.rsplit(" ", 1)[1]) for line in lines if line.startswith(sample))

    def broadcast_seconds(self) -> float:
        """Return the gateway's own sum of broadcast times."""
        return self.metric("fanout_gateway_broadcast_seconds_sum")


@contextmanager
def product(*gateway_flags: str) -> Iterator[Product]:
    """Run the control plane with an embedded store and a gateway, of one worker by default, by their commands."""
    admin_key, device_key = secrets.token_urlsafe(32), secrets.token_hex(32)
    with contextlib.ExitStack() as exits:
        scratch = exits.enter_context(tempfile.TemporaryDirectory(prefix="fanout-bench-"))
        control = exits.enter_context(
            child(
                ["fanout.cli", "control", "--port", "0", "--json", "--data-dir", scratch], FANOUT_ADMIN_KEY=admin_key
            )
        )
        told = json.loads(said(control))
        words = ["fanout.cli", "gateway", "--port", "0", "--admin-port", "0", "--json", "--drain-s", "0"]
        gateway = exits.enter_context(
            child([*words, *gateway_flags], FANOUT_REDIS_URL=told["redis_url"], FANOUT_DEVICE_KEY=device_key)
        )
        urls = json.loads(said(gateway))
        headers = {"Authorization": f"Bearer {admin_key}"}
        api = exits.enter_context(httpx.Client(base_url=told["url"], headers=headers, trust_env=False, timeout=30))
        pids = httpx.get(f"{urls['admin_url']}/readyz", trust_env=False).json()["workers"]
        workers = tuple(int(pid) for pid in pids)
        yield Product(urls["url"], urls["admin_url"], told["url"], device_key.encode(), api, workers)


def prepare(running: Product, window_s: float = 0, title: str = "on") -> None:
    """Create a campaign with two stages and have it prefetched within so many seconds."""
    content = {"stages": {"on": {"title": title}, "off": {"title": "off"}}}
    variants = [{"match": {}, "bundle": content}]
    body = {"id": "bench", "title": "bench", "topic": TOPIC, "stages": ["on", "off"], "variants": variants}
    running.post("/v1/campaigns", body)
    running.post("/v1/campaigns/bench/prefetch", {"window_s": window_s})


@contextmanager
def bare_server(devices: int) -> Iterator[subprocess.Popen[str]]:
    """Run the bare loop of ``send()`` with so many sockets, and a process that receives on them."""
    module = "loadtest.bench.yardsticks"
    with child([module, "bare"]) as bare:
        port = said(bare)
        with child([module, "drain", port, str(devices)]) as drain:
            assert said(drain) == "connected"
            while int(ask(bare, "count")) < devices:
                time.sleep(0.01)
            yield bare


@contextmanager
def prober(running: Product, beacon_s: float) -> Iterator[subprocess.Popen[str]]:
    """Run a prober (`loadtest.bench.prober`) against the product."""
    words = ["loadtest.bench.prober", running.url, str(beacon_s)]
    with child(words, FANOUT_DEVICE_KEY=running.key.decode()) as process:
        assert said(process) == "ready"
        yield process


@dataclass
class Sink(Handler):
    """Counts what many sockets receive, and when the first and the last of it came."""

    opened_count: int = 0
    messages: int = 0
    message_bytes: int = 0
    first_s: float = 0.0
    last_s: float = 0.0
    lost: int = 0
    sockets: list[LeanSocket] = field(default_factory=list)

    def opened(self, socket: LeanSocket) -> None:
        self.opened_count += 1

    def message(self, socket: LeanSocket, data: bytes) -> None:
        self.last_s = time.time()
        if not self.messages:
            self.first_s = self.last_s
        self.messages += 1
        self.message_bytes += len(data)

    def closed(self, socket: LeanSocket, code: int | None, status: int | None, retry_after_ms: int | None) -> None:
        self.lost += 1

    def reset(self) -> None:
        self.messages = self.message_bytes = 0

    async def expect(self, count: int) -> None:
        """Wait until so many messages have come."""
        await self._until(lambda: self.messages >= count)

    async def _until(self, done: Callable[[], bool]) -> None:
        """Wait for what the sockets' callbacks count; polled, for an event a message would be measured, too."""
        async with asyncio.timeout(_PATIENCE_S):
            while not done():  # noqa: ASYNC110
                await asyncio.sleep(0.002)

    async def connect(self, url: str, openings: Sequence[bytes]) -> None:
        """Open a socket for every prepared handshake, and wait for all the answers."""
        gate = asyncio.Semaphore(_CONNECTS_AT_ONCE)

        async def one(opening: bytes) -> None:
            async with gate:
                self.sockets.append(await open_socket(url, self, opening))

        before = self.opened_count
        await asyncio.gather(*(one(opening) for opening in openings))
        await self._until(lambda: self.opened_count + self.lost - before >= len(openings))
        assert not self.lost, f"{self.lost} handshakes failed"

    def close(self) -> None:
        for each in self.sockets:
            each.abort()
        self.sockets.clear()


class _Newcomer(Handler):
    """A device that connects for its welcome alone."""

    def __init__(self) -> None:
        self.welcome: asyncio.Future[Welcome] = asyncio.get_running_loop().create_future()

    def message(self, socket: LeanSocket, data: bytes) -> None:
        message = decode_to_device(data, Encoding.MSGPACK)
        if isinstance(message, Welcome) and not self.welcome.done():
            self.welcome.set_result(message)

    def closed(self, socket: LeanSocket, code: int | None, status: int | None, retry_after_ms: int | None) -> None:
        if not self.welcome.done():
            self.welcome.set_exception(ConnectionError(f"no welcome: code {code}, status {status}"))


async def until_welcomed_with(running: Product, *kinds: type[StateMessage]) -> None:
    """Wait until a newcomer's welcome holds one state message of each of these kinds, and nothing else."""
    async with asyncio.timeout(_PATIENCE_S):
        while True:
            newcomer = _Newcomer()
            (opening,) = openings(running.url, 1, running.key, "newcomer")
            socket = await open_socket(running.url, newcomer, opening)
            state = (await newcomer.welcome).state
            socket.abort()
            if sorted(type(each).__name__ for each in state) == sorted(kind.__name__ for kind in kinds):
                return
            await asyncio.sleep(0.05)


def openings(url: str, count: int, key: bytes, prefix: str = "bench") -> list[bytes]:
    """Return prepared handshakes with a token each, so that a clock that runs meanwhile times the server."""
    return [
        device_opening(url, Encoding.MSGPACK, mint(key, f"{prefix}-{n}", [TOPIC], {"platform": "tv"}))
        for n in range(count)
    ]


def resident_bytes(pid: int, *, most: bool = False) -> int:
    """Return a process's resident memory, or the most it ever was."""
    name = "VmHWM:" if most else "VmRSS:"
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith(name):
            return int(line.split()[1]) * 1024
    raise AssertionError(f"no {name}")
