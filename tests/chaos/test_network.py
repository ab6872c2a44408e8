"""Laws of the tests' own network: each fault does what its name says, and a sound relay changes nothing."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
from support.relay import Relay, relay
from support.waiting import PATIENCE_S, until

SAID = bytes(range(256)) * 16


class Ends:
    """A client behind a relay, and all that its server has heard."""

    def __init__(self, network: Relay) -> None:
        self.network = network
        self.heard = bytearray()

    async def connect(self) -> None:
        port = self.network.port
        self.reader, self.writer = await asyncio.open_connection("127.0.0.1", port)

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Keep and echo what is said."""
        try:
            while data := await reader.read(1024):
                self.heard += data
                writer.write(data)
        except ConnectionResetError:
            pass
        writer.close()


@asynccontextmanager
async def ends() -> AsyncIterator[Ends]:
    made: Ends | None = None

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        assert made is not None
        await made.serve(reader, writer)

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    async with server, relay(f"tcp://127.0.0.1:{port}") as network:
        made = Ends(network)
        await made.connect()
        yield made
        made.writer.close()
        await network.cut()
        await until(lambda: not network.links, "the connections to end")


@pytest.mark.parametrize(
    ("delay_s", "slice_bytes", "bytes_per_s"),
    [(0, 0, 0), (0.01, 0, 0), (0, 1, 0), (0.001, 1000, 0), (0, 0, 1e6)],
    ids=["sound", "delay", "slices", "delayed slices", "throttle"],
)
async def test_everything_arrives_in_order_however_slowly(
    delay_s: float, slice_bytes: int, bytes_per_s: float
) -> None:
    async with ends() as made:
        for way in (made.network.there, made.network.back):
            way.delay_s, way.slice_bytes, way.bytes_per_s = delay_s, slice_bytes, bytes_per_s
        made.writer.write(SAID)
        async with asyncio.timeout(PATIENCE_S):
            assert await made.reader.readexactly(len(SAID)) == SAID
        assert made.heard == SAID
        assert made.network.there.passed == made.network.back.passed == len(SAID)


async def test_a_black_hole_keeps_everything_until_it_is_healed() -> None:
    async with ends() as made:
        made.network.blackhole()
        made.writer.write(SAID)
        other = Ends(made.network)
        await other.connect()
        await until(lambda: made.network.accepted == 2, "a connection into the black hole")
        assert not made.heard
        made.network.heal()
        async with asyncio.timeout(PATIENCE_S):
            assert await made.reader.readexactly(len(SAID)) == SAID
        other.writer.close()


async def test_what_is_dropped_is_counted_and_what_follows_arrives() -> None:
    async with ends() as made:
        made.network.there.drops = True
        made.writer.write(b"lost")
        await until(lambda: made.network.there.dropped == 4, "the loss")
        made.network.there.drops = False
        made.writer.write(b"said")
        async with asyncio.timeout(PATIENCE_S):
            assert await made.reader.readexactly(4) == b"said"
        assert made.heard == b"said"


async def test_a_connection_ends_in_good_order_or_with_a_reset_and_a_cut_network_refuses() -> None:
    async with ends() as made:
        await until(lambda: made.network.links, "the connection")
        made.network.drop()
        assert await made.reader.read() == b""
        made.writer.close()
        await made.connect()
        await until(lambda: made.network.accepted == 2 and made.network.links, "the next one")
        made.network.reset()
        with pytest.raises(ConnectionResetError):
            await made.reader.read()
        made.writer.close()
        port = made.network.port
        await made.network.cut()
        with pytest.raises(ConnectionRefusedError):
            await made.connect()
        await made.network.restore()
        assert made.network.port == port
        await made.connect()
