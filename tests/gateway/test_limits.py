"""What bounds a worker when many or few ask too much of it: allowances, log storms, sockets, the listener."""

from __future__ import annotations

import asyncio
from typing import Any, cast

import pytest
import structlog
from echoing import Echo, Line, device_frame, upgraded
from hypothesis import given
from hypothesis import strategies as st
from support.stack import KEY
from support.waiting import until
from websockets.frames import Opcode

from fanout.bus.reader import Reader
from fanout.storms import KINDS_MAX, Storms
from gateway import listener
from gateway.allowance import Allowance
from gateway.config import GatewayConfig
from gateway.connection import Connection
from gateway.listener import Listener
from gateway.process import bind
from gateway.server import Server
from gateway.tokens import secret_verifier

# --- What one device may say.

talk = st.lists(st.tuples(st.sampled_from("abc"), st.integers(0, 12), st.integers(0, 3)), max_size=60)


@given(talk, st.integers(1, 20), st.integers(1, 5))
def test_an_allowance_is_a_token_bucket_for_each_and_forgets_who_is_silent(
    said: list[tuple[str, int, int]], burst: int, per_s: int
) -> None:
    allowance: Allowance[str] = Allowance(burst, per_s)
    buckets = dict.fromkeys("abc", burst)
    for who, words, seconds in said:
        for _ in range(words):
            assert allowance.spend(who) == (buckets[who] > 0)
            buckets[who] = max(0, buckets[who] - 1)
        allowance.refill(seconds)
        buckets = {each: min(burst, left + seconds * per_s) for each, left in buckets.items()}
        assert len(allowance) == sum(left < burst for left in buckets.values())
    for who in "abc":
        allowance.forget(who)
    assert len(allowance) == 0


@pytest.mark.parametrize(
    "stream",
    [
        pytest.param(device_frame(Opcode.TEXT, b"x" * 190), id="a message in many pieces"),
        pytest.param(
            device_frame(Opcode.TEXT, b"x", fin=False) + device_frame(0, b"", fin=False) * 30, id="fragments"
        ),
        pytest.param(device_frame(Opcode.PING) * 30, id="pings"),
    ],
)
def test_whatever_a_device_sends_it_is_heard_for_each_piece_of_it(stream: bytes) -> None:
    owner = Echo()
    connection, _ = upgraded(owner)
    for number in range(len(stream)):
        connection.data_received(stream[number : number + 1])
    assert owner.heard >= 30


class Strict(Echo):
    """Closes whoever says more than ten words."""

    def alive(self, connection: Connection) -> None:
        super().alive(connection)
        if self.heard > 10:
            connection.close(1008, "you say too much")


def test_one_read_full_of_frames_is_parsed_no_further_than_a_piece_beyond_the_close() -> None:
    owner = Strict()
    connection, line = upgraded(owner)
    connection.data_received(device_frame(Opcode.PING) * 40_000)
    assert owner.closings == [1008]
    assert owner.heard == 11
    assert len(line.sent) < 4_096, "not even the pongs of the rest"


# --- What is logged.


@given(st.lists(st.tuples(st.sampled_from("abc"), st.integers(1, 30)), max_size=20), st.integers(1, 5))
def test_of_lines_that_are_alike_a_few_pass_and_the_rest_is_counted(
    lines: list[tuple[str, int]], lines_max: int
) -> None:
    storms = Storms(lines_max, 10.0)
    storms.over(0)
    passed: dict[str, int] = {}
    for kind, count in lines:
        passed[kind] = passed.get(kind, 0) + sum(storms.passes(kind) for _ in range(count))
    wanted = {kind: sum(n for k, n in lines if k == kind) for kind in passed}
    assert passed == {kind: min(count, lines_max) for kind, count in wanted.items()}
    assert storms.over(9.9) == {}
    left_out = storms.over(10)
    assert {kind: passed[kind] + left_out.get(kind, 0) for kind in passed} == wanted
    assert storms.over(20) == {}


def test_kinds_without_end_are_one_kind() -> None:
    storms = Storms(1, 10.0)
    assert sum(storms.passes(str(number)) for number in range(10_000)) <= KINDS_MAX + 1
    assert sum(storms.over(1).values()) >= 10_000 - KINDS_MAX - 1


def test_a_count_is_never_left_out_itself() -> None:
    storms = Storms(1, 10.0)
    assert storms(None, "info", {"event": "x"}) == {"event": "x"}
    with pytest.raises(structlog.DropEvent):
        storms(None, "info", {"event": "x"})
    for _ in range(9):
        assert storms(None, "info", {"event": "x", "left_out": 7})["left_out"] == 7


# --- Sockets.


def server(sockets_max: int, **settings: Any) -> Server:
    config = GatewayConfig(redis_url="unix:///nowhere", **settings)
    reader = Reader(lambda: cast(Any, None), "w", lambda publication: None)
    return Server(config, secret_verifier(KEY.encode(), "fanout", ()), reader, sockets_max, lambda do: do())


@given(st.integers(1, 20), st.integers(1, 60))
def test_sockets_that_have_yet_to_ask_never_take_more_than_the_process_has(sockets_max: int, came: int) -> None:
    s = server(sockets_max)
    lines = []
    for _ in range(came):
        connection = Connection(s)
        lines.append(Line(connection))
        connection.connection_made(lines[-1])
        if lines[-1].aborted:
            connection.connection_lost(None)
    held = [line for line in lines if not line.aborted]
    assert len(held) == min(came, sockets_max)
    assert held == lines[-len(held) :], "the oldest gives way: an honest one is quick"


# --- The listener.


async def test_a_listener_without_files_keeps_who_waits_until_there_are_some(monkeypatch: pytest.MonkeyPatch) -> None:
    sock = bind("127.0.0.1", 0)
    came: list[asyncio.BaseTransport] = []

    class Guest(asyncio.Protocol):
        def connection_made(self, transport: asyncio.BaseTransport) -> None:
            came.append(transport)
            cast(asyncio.Transport, transport).write(b"come in")

    left = True
    monkeypatch.setattr(listener, "files_left", lambda count: left)
    door = Listener(sock, Guest)
    await door.open()
    left = False
    await door._look()
    await door._look()
    reader, writer = await asyncio.open_connection(*sock.getsockname())
    await door._look()
    assert not came
    left = True
    await door._look()
    assert await reader.readexactly(7) == b"come in"
    assert len(came) == 1
    writer.close()
    await writer.wait_closed()
    door.close()
    with pytest.raises(ConnectionRefusedError):
        await asyncio.open_connection("127.0.0.1", writer.get_extra_info("peername")[1])
    await until(lambda: all(transport.is_closing() for transport in came))
