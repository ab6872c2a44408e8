"""Sockets without transports: everything arrives, in order, and only who should hear of it does."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import cast

import pytest
from support.waiting import until

from loadtest.sockets import Sockets


class Peer(asyncio.Protocol):
    """The other side of one socket."""

    def __init__(self) -> None:
        self.received = bytearray()
        self.error: Exception | None = None
        self.over = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)

    def data_received(self, data: bytes) -> None:
        self.received += data

    def connection_lost(self, exc: Exception | None) -> None:
        self.over, self.error = True, exc


class Ear:
    """Minds a socket."""

    def __init__(self) -> None:
        self.heard = bytearray()
        self.lost = 0

    def data_received(self, data: bytes) -> None:
        self.heard += data

    def connection_lost(self) -> None:
        self.lost += 1


class Rig:
    """Sockets, and a server they connect to."""

    def __init__(self, server: asyncio.Server, peers: list[Peer]) -> None:
        self.peers = peers
        self.errors: list[Exception] = []
        self.sockets = Sockets(self.errors.append)
        self.address: tuple[str, int] = server.sockets[0].getsockname()

    async def open(self, ear: Ear, first: bytes = b"hello", source: str | None = None) -> tuple[int, Peer]:
        count = len(self.peers)
        number = self.sockets.open(socket.AF_INET, self.address, source, first, ear)
        await until(lambda: len(self.peers) > count and bytes(self.peers[-1].received) == first)
        return number, self.peers[-1]


@asynccontextmanager
async def rig() -> AsyncIterator[Rig]:
    peers: list[Peer] = []

    def accept() -> Peer:
        peers.append(Peer())
        return peers[-1]

    server = await asyncio.get_running_loop().create_server(accept, "127.0.0.1", 0)
    made = Rig(server, peers)
    made.sockets.start()
    try:
        yield made
    finally:
        made.sockets.stop()
        server.close()
        await until(lambda: all(peer.over for peer in peers))


async def test_a_socket_says_its_first_bytes_and_hears_the_answer_and_the_end() -> None:
    async with rig() as made:
        ear = Ear()
        number, peer = await made.open(ear, source="127.0.0.9")
        assert made.sockets.local(number)[0] == "127.0.0.9" == peer.transport.get_extra_info("peername")[0]
        peer.transport.write(b"answer")
        await until(lambda: ear.heard == b"answer")
        made.sockets.write(number, b" again")
        await until(lambda: peer.received == b"hello again")
        peer.transport.close()
        await until(lambda: ear.lost == 1)


async def test_who_cannot_connect_hears_of_it_once() -> None:
    async with rig() as made:
        with socket.socket() as nobody:
            nobody.bind(("127.0.0.1", 0))  # and does not listen
            ear = Ear()
            try:
                made.sockets.open(socket.AF_INET, nobody.getsockname(), None, b"hello", ear)
            except ConnectionRefusedError:
                ear.lost += 1  # at once, as loopback may
            await until(lambda: ear.lost == 1)


async def test_what_the_kernel_does_not_take_at_once_arrives_whole_and_in_order() -> None:
    async with rig() as made:
        ear = Ear()
        number, peer = await made.open(ear)
        peer.transport.pause_reading()
        sent = b"".join(number.to_bytes(4, "big") for number in range(4_000_000))
        for at in range(0, len(sent), 1_000_000):
            made.sockets.write(number, sent[at : at + 1_000_000])
        peer.transport.resume_reading()
        await until(lambda: len(peer.received) == 5 + len(sent))
        assert peer.received[5:] == sent


async def test_a_paused_socket_hears_nothing_until_it_is_resumed_and_what_it_says_still_leaves() -> None:
    async with rig() as made:
        ear, other = Ear(), Ear()
        number, peer = await made.open(ear)
        _, witness = await made.open(other)
        made.sockets.pause(number)
        peer.transport.pause_reading()
        said = bytes(16_000_000)
        made.sockets.write(number, said)  # far more than the kernel takes
        peer.transport.write(b"unheard")
        peer.transport.resume_reading()
        witness.transport.write(b"meanwhile")
        await until(lambda: other.heard == b"meanwhile")
        assert ear.heard == b""
        made.sockets.resume(number)
        made.sockets.resume(number)  # twice is once
        await until(lambda: ear.heard == b"unheard" and len(peer.received) == 5 + len(said))


async def test_a_socket_closed_by_another_ones_minder_hears_no_more() -> None:
    class Closes(Ear):
        def data_received(self, data: bytes) -> None:
            made.sockets.close(others.pop())

    async with rig() as made:
        closes, ear = Closes(), Ear()
        number, peer = await made.open(ear)
        _, closer = await made.open(closes)
        others = [number]
        # Both are ready before either is read, whichever comes first.
        closer.transport.write(b"now")
        peer.transport.write(b"too late, or just in time")
        await until(lambda: not others and peer.over)
        assert ear.lost == 0
        # The number serves the next socket, which hears only what is meant for it.
        fresh = Ear()
        again, peer = await made.open(fresh)
        assert again == number
        peer.transport.write(b"fresh")
        await until(lambda: fresh.heard == b"fresh")


async def test_a_minders_bug_ends_the_run_instead_of_being_lost() -> None:
    class Broken(Ear):
        def data_received(self, data: bytes) -> None:
            raise RuntimeError("a bug")

    async with rig() as made:
        _, peer = await made.open(Broken())
        peer.transport.write(b"anything")
        await until(lambda: bool(made.errors))
        assert str(made.errors[0]) == "a bug"


async def test_stopping_resets_every_socket_so_that_no_port_waits() -> None:
    async with rig() as made:
        number, peer = await made.open(Ear())
        other, _ = await made.open(Ear())
        made.sockets.pause(other)
        made.sockets.stop()
        made.sockets = Sockets(made.errors.append)
        made.sockets.start()
        await until(lambda: all(each.over for each in made.peers))
        assert isinstance(peer.error, ConnectionResetError)
        assert number != other


@pytest.mark.parametrize("host", ["127.0.0.1", "::1"])
async def test_both_families_connect(host: str) -> None:
    if host == "::1" and not _has_ipv6():
        pytest.skip("this machine has no IPv6")
    peers: list[Peer] = []

    def accept() -> Peer:
        peers.append(Peer())
        return peers[-1]

    server = await asyncio.get_running_loop().create_server(accept, host, 0)
    made = Sockets(lambda exc: None)
    made.start()
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    made.open(family, server.sockets[0].getsockname()[:2], None, b"hello", Ear())
    await until(lambda: bool(peers) and peers[0].received == b"hello")
    made.stop()
    server.close()
    await until(lambda: peers[0].over)


def _has_ipv6() -> bool:
    with socket.socket(socket.AF_INET6) as probe:
        try:
            probe.bind(("::1", 0))
        except OSError:
            return False
    return True
