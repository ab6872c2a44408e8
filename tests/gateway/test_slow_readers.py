"""Devices that stop reading, before a real gateway process: what they cost is bounded, and only they pay."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from urllib.parse import urlsplit

import websockets
from support.stack import Stack, closed, connecting, prefetched, receive, stack, token
from support.waiting import until

from fanout import limits

# One bundle that travels inline.
CONTENT = '"' + "x" * (limits.INLINE_BYTES_MAX - 2) + '"'
# Of the devices, as small as the kernel takes it for one, so that it hardly adds to what a gateway holds.
RECEIVE_BYTES = 4_096
# The smallest that a gateway takes, so that few publications fill it.
WRITE_BUFFER_BYTES = limits.INLINE_BYTES_PER_PUBLICATION_MAX + 1
SEND_BUFFER_BYTES = 16_384
# The kernel doubles what it is given, and lets one segment stand over.
KERNEL_BYTES = 2 * SEND_BUFFER_BYTES + 65_536


@asynccontextmanager
async def gateway() -> AsyncIterator[Stack]:
    """Run one as production does, on uvloop in a process of its own."""
    settings = {
        "write_buffer_bytes_max": WRITE_BUFFER_BYTES,
        "tcp_send_buffer_bytes": SEND_BUFFER_BYTES,
        # None while a test lasts, however slow the machine: what comes next is what was published.
        "beacon_s": 100.0,
        # Nor is anybody cut off before it has read on: until then most of what it is to find waits in the gateway.
        "close_timeout_s": 100.0,
    }
    async with stack(workers=1, **settings) as s:
        yield s


@asynccontextmanager
async def stopped(url: str) -> AsyncIterator[websockets.ClientConnection]:
    """Connect a device that has its welcome and reads no further, until `read_on`."""
    parts = urlsplit(url)
    with socket.socket() as raw:
        raw.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, RECEIVE_BYTES)
        raw.setblocking(False)
        await asyncio.get_running_loop().sock_connect(raw, (parts.hostname, parts.port))
        async with connecting(url, token("tv-slow"), sock=raw, ping_interval=None) as device:
            assert (await receive(device))["t"] == "welcome"
            device.transport.pause_reading()
            try:
                yield device
            finally:
                read_on(device)  # or each of them would wait for the end of its close in vain


def read_on(device: websockets.ClientConnection) -> None:
    with contextlib.suppress(RuntimeError):  # the library has hung up meanwhile
        device.transport.resume_reading()


async def publish(s: Stack, count: int, readers: list[websockets.ClientConnection]) -> list[int]:
    """Publish so many bundles, each when every reader has had the last one; return their revisions."""
    revs = []
    for _ in range(count):
        rev = (await s.publisher.publish(prefetched(content=CONTENT))).rev
        assert [(await receive(reader))["rev"] for reader in readers] == [rev] * len(readers)
        revs.append(rev)
    return revs


async def counted(s: Stack, count: int) -> None:
    """Wait until the gateway's record says so many devices."""

    async def so() -> bool:
        return sum(record.connections for record in await s.records()) == count

    await until(so, f"{count} devices in the gateway's record")


async def test_who_stops_reading_is_closed_after_bounded_bytes_and_may_come_back() -> None:
    async with gateway() as s, connecting(s.url) as reader, connecting(s.url, encoding="msgpack") as other:
        readers = [reader, other]
        for each in readers:
            await receive(each)
        async with stopped(s.url) as slow:
            await counted(s, 3)
            # Twice the receive buffer, for the same reason. Without a bound of ours the kernel alone takes 2.6 MB.
            enough = WRITE_BUFFER_BYTES + KERNEL_BYTES + 2 * RECEIVE_BYTES
            revs = await publish(s, enough // len(CONTENT) + 1, readers)
            await counted(s, 2)
            # Should it ever read on, it finds whole messages, in order, and then the reason.
            read_on(slow)
            had = []
            with contextlib.suppress(websockets.ConnectionClosed):
                while True:
                    had.append((await receive(slow))["rev"])
            assert slow.close_code == 4000
            assert 0 < len(had) < len(revs)
            assert had == revs[: len(had)]
        async with connecting(f"{s.url}?since={had[-1]}", token("tv-slow")) as again:
            assert [message["rev"] for message in (await receive(again))["state"]] == revs[-1:]
            (rev,) = await publish(s, 1, [*readers, again])
            assert rev > revs[-1]


async def test_who_stops_for_a_while_misses_nothing() -> None:
    async with gateway() as s, connecting(s.url) as reader:
        await receive(reader)
        async with stopped(s.url) as slow:
            revs = await publish(s, WRITE_BUFFER_BYTES // len(CONTENT) // 2, [reader])
            read_on(slow)
            assert [(await receive(slow))["rev"] for _ in revs] == revs
            await publish(s, 1, [reader, slow])


async def test_a_crowd_that_stops_reading_is_closed_and_the_others_miss_nothing() -> None:
    crowd = 30
    async with gateway() as s, contextlib.AsyncExitStack() as ends:
        reader = await ends.enter_async_context(connecting(s.url))
        await receive(reader)
        slow = [await ends.enter_async_context(stopped(s.url)) for _ in range(crowd)]
        await counted(s, crowd + 1)
        enough = WRITE_BUFFER_BYTES + KERNEL_BYTES + 2 * RECEIVE_BYTES
        await publish(s, enough // len(CONTENT) + 1, [reader])
        await counted(s, 1)
        for device in slow:
            read_on(device)
        assert await asyncio.gather(*(closed(device) for device in slow)) == [4000] * crowd
        await publish(s, 1, [reader])
