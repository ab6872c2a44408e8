"""The device of examples/node-device, written from docs/protocol.md alone: its own tests, and it on a real stack."""

from __future__ import annotations

import asyncio
import hashlib
import json
import shutil
import signal
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from support.relay import relay
from support.stack import CONTENT, activated, bundle, prefetched, stack, token
from support.waiting import PATIENCE_S, until

from fanout.bus.publication import Closed, Variant

from .node import MODULES, ROOT, SDK, needs_modules, run

pytestmark = needs_modules


@pytest.fixture
def device(tmp_path: Path) -> Path:
    """Return a copy of the example with the SDK's packages beside it: two of them are all it needs."""
    copy = tmp_path / "examples/node-device"
    shutil.copytree(ROOT / "examples/node-device", copy, ignore=shutil.ignore_patterns("node_modules"))
    (copy / "node_modules").symlink_to(MODULES, target_is_directory=True)
    (tmp_path / "tests").symlink_to(ROOT / "tests", target_is_directory=True)
    return copy


def test_it_keeps_every_vector_of_the_protocol(device: Path) -> None:
    said = run("node", "--test", "test/", cwd=device)
    for vectors in ("slots and shares", "retry after", "wire", "arming", "clock", "device: flip at the slot"):
        assert f"- {vectors}" in said


def test_it_asks_for_the_very_packages_the_sdk_is_tested_with() -> None:
    def wanted(folder: Path, kind: str) -> dict[str, str]:
        return dict(json.loads((folder / "package.json").read_text())[kind])

    for name, version in wanted(ROOT / "examples/node-device", "dependencies").items():
        assert wanted(SDK, "devDependencies")[name] == version


async def test_it_is_a_whole_device_on_a_real_stack(device: Path) -> None:
    digest = hashlib.sha256(CONTENT.encode()).hexdigest()
    asked: list[str] = []
    async with (
        stack() as made,
        relay(made.url) as network,
        origin(CONTENT.encode(), asked) as url,
        running(device, network.url, token("tv-1"), "--origin", url) as seen,
    ):

        def told(*expected: int) -> Callable[[], Awaitable[bool]]:
            async def check() -> bool:
                return await made.counts() == expected

            return check

        await until(lambda: seen("connected"), "the first welcome")
        fetched = (Variant({}, bundle(CONTENT, inline=False)),)
        await made.publisher.publish(prefetched(variants=fetched))
        await until(lambda: seen("prefetched"), "the content")
        assert asked == [f"/v1/bundles/{digest}"]
        await made.publisher.publish(activated(window_ms=100))
        flip = (await until(lambda: seen("flip"), "the flip"))[0]
        assert (flip["stage"], flip["bundle"], flip["content"]) == ("live", digest, CONTENT)
        await until(told(1, 1, 1), "its reports")

        await network.cut()
        await until(told(0, 0, 0), "the gateway's noticing")
        await network.restore()
        await until(told(1, 1, 1), "what it has and what it shows, told anew")
        assert (len(seen("flip")), len(asked)) == (1, 1)

        await made.publisher.publish(Closed(topic="t", key="over", campaign="c"))
        await until(lambda: seen("closed"), "the end of the campaign")


@asynccontextmanager
async def origin(content: bytes, asked: list[str]) -> AsyncIterator[str]:
    """Serve these bytes whatever is asked for; yields the origin's URL."""

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await reader.readuntil(b"\r\n\r\n")
        asked.append(head.split()[1].decode())
        writer.write(
            b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: %d\r\n\r\n%b" % (len(content), content)
        )
        await writer.drain()
        writer.close()

    server = await asyncio.start_server(answer, "127.0.0.1", 0)
    async with server:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"


@asynccontextmanager
async def running(device: Path, *arguments: str) -> AsyncIterator[Callable[[str], list[dict[str, Any]]]]:
    """Run the device; yields a function from the name of an event to those it has printed. Leaves in good order."""
    process = await asyncio.create_subprocess_exec(
        "node", str(device / "device.mjs"), *arguments, stdout=asyncio.subprocess.PIPE
    )
    assert process.stdout is not None
    printed: list[dict[str, Any]] = []

    async def read(lines: asyncio.StreamReader) -> None:
        async for line in lines:
            printed.append(json.loads(line))

    reading = asyncio.create_task(read(process.stdout))
    try:
        yield lambda name: [event for event in printed if event["event"] == name]
        process.send_signal(signal.SIGTERM)
        async with asyncio.timeout(PATIENCE_S):
            assert await process.wait() == 0
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
        await reading
