"""Requests that came together are answered together, each as if it had come alone; and many come in a turn."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable
from typing import Any, cast

import pytest
from echoing import Line, device_frame, frames_in
from support.stack import KEY, token
from support.waiting import until

from fanout import wire
from fanout.bus.reader import Reader
from gateway import reception
from gateway.config import GatewayConfig
from gateway.connection import Connection
from gateway.listener import ACCEPTS_A_TURN, Listener
from gateway.process import bind
from gateway.server import Server
from gateway.tokens import secret_verifier
from loadtest.lean import device_opening

URL = f"ws://gateway.example{wire.PATH}"
EARLY_BYTES_MAX = 4_096


class Door:
    """A server whose turns are taken by hand."""

    def __init__(self, **settings: Any) -> None:
        self._soon: list[Callable[[], None]] = []
        config = GatewayConfig(redis_url="unix:///nowhere", handshake_bytes_max=EARLY_BYTES_MAX, **settings)
        reader = Reader(lambda: cast(Any, None), "w", lambda publication: None)
        verifier = secret_verifier(KEY.encode(), "fanout", ())
        self.server = Server(config, verifier, reader, 100_000, self._soon.append)
        # The first of its kind is read by the library, the next ones are recognised.
        self.come(asking("first"))
        self.turn()

    def come(self, *reads: bytes) -> tuple[Connection, Line]:
        connection = Connection(self.server)
        line = Line(connection)
        connection.connection_made(line)
        for data in reads:
            connection.data_received(data)
        return connection, line

    def turn(self) -> None:
        """Do what was to be done soon, and not what that puts off in turn."""
        due, self._soon[:] = [*self._soon], []
        for do in due:
            do()

    @property
    def idle(self) -> bool:
        return not self._soon


def asking(device: str, **query: str) -> bytes:
    return device_opening(URL, wire.Encoding.JSON, token(device), query)


def is_in(line: Line) -> bool:
    return line.sent.startswith(b"HTTP/1.1 101 ")


def test_who_came_together_is_answered_together_and_the_loop_has_its_turns() -> None:
    door = Door()
    lines = [door.come(asking(f"tv-{n}"))[1] for n in range(2 * reception.AT_ONCE + 1)]
    for answered in (0, reception.AT_ONCE, 2 * reception.AT_ONCE, len(lines)):
        assert [is_in(line) for line in lines] == [True] * answered + [False] * (len(lines) - answered)
        door.turn()
    assert door.idle
    assert door.server.cohorts.connections == len(lines) + 1
    sessions = {bytes(frames_in(line.sent.partition(b"\r\n\r\n")[2])[0].data) for line in lines}
    assert len(sessions) == len(lines), "each has a welcome of its own"


def test_a_request_in_two_pieces_is_one_however_it_is_cut_and_whenever_it_is_answered() -> None:
    sync = device_frame(0x1, wire.encode(wire.Sync(5), wire.Encoding.JSON))
    data = asking("tv") + sync
    for cut in range(1, len(data)):
        for turn_between in (False, True):
            door = Door()
            connection, line = door.come(data[:cut])
            if turn_between:
                door.turn()
            connection.data_received(data[cut:])
            door.turn()
            assert is_in(line), cut
            answers = frames_in(line.sent.partition(b"\r\n\r\n")[2])
            assert [wire.tag_of(wire.decode_to_device(bytes(f.data), wire.Encoding.JSON)) for f in answers] == [  # type: ignore[arg-type]
                "welcome",
                "beacon",
            ], cut


def test_who_says_too_much_before_it_is_answered_is_cut_off_and_nobody_else() -> None:
    door = Door()
    _, one = door.come(asking("one"))
    _, line = door.come(asking("talker"), b"\0" * EARLY_BYTES_MAX)
    _, other = door.come(asking("other"))
    assert line.aborted
    door.turn()
    assert (is_in(one), bytes(line.sent), is_in(other)) == (True, b"", True)


@pytest.mark.parametrize("data", [asking("tv"), b"GET / HTTP/1.0\r\n\r\n", b"POST / HTTP/1.1\r\n\r\n"])
def test_who_has_said_all_it_will_say_is_answered_at_once(data: bytes) -> None:
    door = Door()
    before = door.server.cohorts.connections
    connection, line = door.come(data)
    connection.eof_received()
    assert line.sent.startswith(b"HTTP/1.1 "), "an end is no reason to leave a question open"
    connection.connection_lost(None)
    assert door.server.cohorts.connections == before
    answer = bytes(line.sent)
    door.turn()
    assert line.sent == answer, "once"


def test_who_is_gone_is_not_counted_in() -> None:
    door = Door()
    before = door.server.cohorts.connections
    connection, line = door.come(asking("tv"))
    connection.connection_lost(None)
    door.turn()
    assert door.server.cohorts.connections == before
    assert not line.sent


@pytest.mark.parametrize("step", ["recognise", "judge", "answer"])
def test_what_one_request_breaks_hurts_no_other(step: str, monkeypatch: pytest.MonkeyPatch) -> None:
    door = Door()
    broken = {"count": 0}
    desk = door.server._reception
    works = getattr(desk, f"_{step}")

    def breaks(*asked: Any) -> Any:
        broken["count"] += 1
        if broken["count"] == 2:
            raise ZeroDivisionError
        return works(*asked)

    monkeypatch.setattr(desk, f"_{step}", breaks)
    lines = [door.come(asking(f"tv-{n}"))[1] for n in range(3)]
    door.turn()
    assert [is_in(line) for line in lines] == [True, False, True]
    assert [line.aborted for line in lines] == [False, True, False]


async def test_a_storm_comes_in_many_a_turn() -> None:
    sock = bind("127.0.0.1", 0)
    came: list[asyncio.BaseTransport] = []

    class Guest(asyncio.Protocol):
        def connection_made(self, transport: asyncio.BaseTransport) -> None:
            came.append(transport)

    listener = Listener(sock, Guest)
    await listener.open()
    crowd = [socket.create_connection(sock.getsockname()) for _ in range(10 * ACCEPTS_A_TURN)]
    turns = seen = 0

    def count() -> None:
        """Count a turn in which somebody came; others wait for the kernel, as many as it takes its time."""
        nonlocal turns, seen
        turns += len(came) > seen
        seen = len(came)
        if seen < len(crowd):
            asyncio.get_running_loop().call_soon(count)

    count()
    await until(lambda: len(came) == len(crowd), "everyone")
    listener.close()
    for one in [*came, *crowd]:
        one.close()
    # A few more than the ten that it takes, for some may not have been in the kernel's queue when a turn began.
    assert turns < len(crowd) / 2
