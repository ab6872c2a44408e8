"""Hibernation changes nothing that a peer can see: the library's own parser, never put to sleep, is the judge."""

from __future__ import annotations

import gc
import weakref
from itertools import pairwise
from typing import NamedTuple

import pytest
from echoing import (
    MESSAGE_BYTES_MAX,
    REQUEST,
    Echo,
    close_in,
    device_frame,
    frames_in,
    opened,
    upgraded,
)
from hypothesis import given
from hypothesis import strategies as st
from websockets.datastructures import Headers
from websockets.frames import Frame, Opcode
from websockets.http11 import Response
from websockets.protocol import Protocol, Side, State

CONT, TEXT, BINARY, CLOSE, PING, PONG = 0, 1, 2, 8, 9, 10

# --- What devices may send, and what they must not.

payloads = st.binary(max_size=12) | st.integers(100, 140).map(lambda n: b"x" * n)
pings = st.builds(device_frame, st.sampled_from([PING, PONG]), st.binary(max_size=8))
whole = st.builds(device_frame, st.sampled_from([TEXT, BINARY]), payloads)


@st.composite
def fragmented(draw: st.DrawFn) -> bytes:
    """Return a message in fragments, some empty, with pings between them."""
    pieces = draw(st.lists(st.binary(max_size=9), min_size=2, max_size=5))
    found = b""
    for number, piece in enumerate(pieces):
        opcode = draw(st.sampled_from([TEXT, BINARY])) if number == 0 else CONT
        found += device_frame(opcode, piece, fin=number == len(pieces) - 1)
        if number < len(pieces) - 1:
            found += b"".join(draw(st.lists(pings, max_size=2)))
    return found


goodbyes = st.sampled_from(
    [b"", (1000).to_bytes(2, "big"), (1001).to_bytes(2, "big") + b"bye", (4321).to_bytes(2, "big") + "ü".encode()]
).map(lambda payload: device_frame(CLOSE, payload))
broken = st.sampled_from(
    [
        device_frame(TEXT, b"bare", masked=False),
        device_frame(3, b"reserved"),
        device_frame(11, b"reserved"),
        device_frame(TEXT, b"rsv", rsv=4),
        device_frame(PING, b"x" * 126),
        device_frame(PING, b"", fin=False),
        device_frame(CONT, b"of nothing"),
        device_frame(TEXT, b"half", fin=False) + device_frame(TEXT, b"another"),
        device_frame(TEXT, b"half", fin=False) + device_frame(CLOSE),
        device_frame(CLOSE, b"\x03"),
        device_frame(CLOSE, (1005).to_bytes(2, "big")),
        device_frame(CLOSE, (1000).to_bytes(2, "big") + b"\xff"),
        device_frame(BINARY, b"x" * (MESSAGE_BYTES_MAX + 1)),
        device_frame(TEXT, b"x" * MESSAGE_BYTES_MAX, fin=False) + device_frame(CONT, b"y"),
        device_frame(TEXT, b"", fin=False) + b"\x80\xff" + b"\xff" * 8,
    ]
)
good = whole | fragmented() | pings
streams = st.lists(good | goodbyes | broken | st.binary(max_size=6), max_size=8).map(b"".join)


class Seen(NamedTuple):
    """What a peer and an owner see of a stream."""

    messages: list[tuple[bool, bytes]]
    echoes: list[bytes]
    pongs: list[bytes]
    goodbye: bytes | None
    ended: bool


def by_the_library(stream: bytes) -> Seen:
    """Return what the library makes of the stream, in one piece and with one parser for all of it."""
    protocol = Protocol(Side.SERVER, state=State.OPEN, max_size=MESSAGE_BYTES_MAX)
    protocol.receive_data(stream)
    messages: list[tuple[bool, bytes]] = []
    parts: list[Frame] = []
    for frame in protocol.events_received():
        assert isinstance(frame, Frame)
        if frame.opcode in (Opcode.TEXT, Opcode.BINARY, Opcode.CONT):
            parts.append(frame)
            if frame.fin:
                messages.append((parts[0].opcode is Opcode.TEXT, b"".join(part.data for part in parts)))
                parts = []
    writes = protocol.data_to_send()
    answers = frames_in(b"".join(writes))
    return Seen(
        messages,
        [data for _, data in messages],
        [bytes(frame.data) for frame in answers if frame.opcode is Opcode.PONG],
        next((bytes(frame.data) for frame in answers if frame.opcode is Opcode.CLOSE), None),
        b"" in writes,
    )


def by_us(chunks: list[bytes]) -> Seen:
    """Return what a hibernating connection makes of the stream, in these pieces."""
    owner = Echo()
    connection, line = upgraded(owner)
    for chunk in chunks:
        connection.data_received(chunk)
    answers = frames_in(bytes(line.sent))
    assert owner.closings == ([] if not line.eof else owner.closings[:1]), "it is closed once"
    return Seen(
        owner.messages,
        [bytes(frame.data) for frame in answers if frame.opcode in (Opcode.TEXT, Opcode.BINARY)],
        [bytes(frame.data) for frame in answers if frame.opcode is Opcode.PONG],
        next((bytes(frame.data) for frame in answers if frame.opcode is Opcode.CLOSE), None),
        line.eof,
    )


def cut(stream: bytes, places: list[int]) -> list[bytes]:
    edges = sorted({0, len(stream), *(place for place in places if place < len(stream))})
    return [stream[a:b] for a, b in pairwise(edges)]


@given(streams, st.lists(st.integers(1, 600), max_size=12))
def test_any_stream_cut_anywhere_means_what_it_means_to_the_library(stream: bytes, places: list[int]) -> None:
    assert by_us(cut(stream, places)) == by_the_library(stream)


@given(streams)
def test_any_stream_cut_at_every_byte_means_what_it_means_to_the_library(stream: bytes) -> None:
    assert by_us([stream[i : i + 1] for i in range(len(stream))]) == by_the_library(stream)


@given(st.lists(good, max_size=6))
def test_the_parser_is_gone_exactly_between_messages(items: list[bytes]) -> None:
    connection, _ = upgraded(Echo())
    assert connection._parser is None, "after the handshake there is nothing left to parse"
    for item in items:
        for number in range(len(item)):
            connection.data_received(item[number : number + 1])
            assert (connection._parser is None) == (number == len(item) - 1)


@given(st.binary(max_size=20), st.integers(1, len(REQUEST) + 20))
def test_a_frame_sent_along_with_the_handshake_is_not_lost(payload: bytes, place: int) -> None:
    owner = Echo(welcome=b"welcome")
    connection, line = opened(owner)
    early = device_frame(PING, b"!") + device_frame(BINARY, payload) + device_frame(CLOSE)
    for chunk in cut(REQUEST + early, [place]):
        connection.data_received(chunk)
    head, _, rest = bytes(line.sent).partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 101 ")
    assert rest.startswith(b"welcome"), "nothing is answered before the welcome"
    answers = frames_in(rest.removeprefix(b"welcome"))
    assert {frame.opcode for frame in answers} == {Opcode.PONG, Opcode.BINARY, Opcode.CLOSE}
    assert owner.messages == [(False, payload)]


def test_a_request_may_come_byte_by_byte() -> None:
    connection, line = opened(Echo())
    for number in range(len(REQUEST)):
        assert not line.sent
        connection.data_received(REQUEST[number : number + 1])
    assert line.sent.startswith(b"HTTP/1.1 101 ")


# --- Memory.


@pytest.mark.parametrize(
    ("first", "rest"),
    [
        pytest.param(device_frame(TEXT, b"hello")[:3], device_frame(TEXT, b"hello")[3:], id="frame"),
        pytest.param(device_frame(TEXT, b"a", fin=False), device_frame(CONT, b"b"), id="fragments"),
        pytest.param(device_frame(CLOSE)[:2], device_frame(CLOSE)[2:], id="goodbye"),
        pytest.param(b"\x8f", b"\x80", id="broken frame"),
        pytest.param(REQUEST[:50], REQUEST[50:], id="handshake"),
        pytest.param(b"nonsense", b"\r\n\r\n", id="broken handshake"),
    ],
)
def test_a_parser_is_freed_at_once_without_the_cyclic_collector(first: bytes, rest: bytes) -> None:
    handshake = first[:1] in b"Gn"
    connection, _ = opened(Echo()) if handshake else upgraded(Echo())
    gc.collect()
    gc.disable()
    try:
        connection.data_received(first)
        parser = weakref.ref(connection._parser)
        assert parser() is not None
        connection.data_received(rest)
        assert connection._parser is None
        assert parser() is None
    finally:
        gc.enable()


def test_a_flood_of_empty_fragments_is_not_stored() -> None:
    owner = Echo()
    connection, _ = upgraded(owner)
    connection.data_received(device_frame(TEXT, b"a", fin=False) + device_frame(CONT, b"", fin=False) * 1_000)
    assert connection._parser is not None
    assert len(connection._parser.parts) == 1
    connection.data_received(device_frame(CONT, b"b"))
    assert owner.messages == [(True, b"ab")]


def test_headers_without_end_are_cut_off() -> None:
    owner = Echo()
    connection, line = opened(owner)
    connection.data_received(b"GET / HTTP/1.1\r\n")
    for number in range(100):
        connection.data_received(b"A%d: %s\r\n" % (number, b"x" * 50))
        if line.aborted:
            break
    assert line.aborted
    assert not line.sent


# --- Leaving.


def test_what_came_before_a_goodbye_or_a_mistake_in_the_same_read_counts() -> None:
    for last in (device_frame(CLOSE), device_frame(3)):
        owner = Echo()
        connection, _ = upgraded(owner)
        connection.data_received(device_frame(TEXT, b"last words") + last)
        assert owner.messages == [(True, b"last words")]


def test_who_closed_is_told_apart() -> None:
    too_big = b"\x82\xff" + b"\x7f" * 8
    for sent, told in ((device_frame(CLOSE, b"\x03\xe8"), 0), (device_frame(3), 1002), (too_big, 1009)):
        owner = Echo()
        connection, line = upgraded(owner)
        connection.data_received(sent)
        assert owner.closings == [told]
        assert line.eof
        connection.data_received(device_frame(TEXT, b"after"))
        connection.close(4000, "again")
        connection.write(b"after")
        connection.connection_lost(None)
        assert (owner.closings, owner.messages, owner.losses) == ([told], [], 1)


@pytest.mark.parametrize("reason", ["", "short", "x" * 500, "試合" * 100, "\ud800" * 200])
def test_any_reason_fits_a_close_frame(reason: str) -> None:
    connection, line = upgraded(Echo())
    connection.close(4500, reason)
    goodbye = close_in(bytes(line.sent))
    assert goodbye is not None
    assert goodbye.code == 4500
    assert goodbye.reason == reason[: len(goodbye.reason)].replace("\ud800", "?")
    assert len(goodbye.reason.encode()) >= min(len(reason), 120)


def test_a_refusal_ends_the_connection() -> None:
    owner = Echo()
    owner.refuses = Response(503, "Service Unavailable", Headers(), b"later")
    connection, line = opened(owner)
    connection.data_received(REQUEST + device_frame(TEXT, b"early"))
    assert line.sent.startswith(b"HTTP/1.1 503 ")
    assert line.eof
    assert (owner.closings, owner.messages) == ([0], [])


def test_a_peer_that_half_closes_counts_no_more_from_then_on() -> None:
    owner = Echo()
    connection, _ = upgraded(owner)
    assert not connection.eof_received(), "so the transport is closed"
    assert owner.closings == [0]
    assert connection.cohort is None
    connection.write(b"nothing")
    connection.connection_lost(None)
    assert owner.losses == 1


# --- Slow consumers, where the transport notices in the midst of a write.


def test_whichever_write_finds_the_peer_too_slow_it_is_closed_once() -> None:
    frame = Frame(Opcode.TEXT, b"x" * 100).serialize(mask=False)
    for limit in range(50, 1_200, 50):
        owner = Echo(write_buffer_bytes_max=limit)
        connection, line = opened(owner)
        connection.data_received(REQUEST)
        line.stuck = True
        for _ in range(20):
            connection.write(frame)
        assert owner.closings == [4000]
        assert line.eof


def test_a_peer_may_be_too_slow_for_its_own_welcome() -> None:
    owner = Echo(write_buffer_bytes_max=500, welcome=Frame(Opcode.TEXT, b"x" * 600).serialize(mask=False))
    connection, line = opened(owner, stuck=True)
    connection.data_received(REQUEST + device_frame(TEXT, b"early"))
    assert owner.closings == [4000]
    assert owner.messages == []
    goodbye = close_in(bytes(line.sent).partition(b"\r\n\r\n")[2])
    assert goodbye is not None
    assert goodbye.code == 4000


def test_the_goodbye_itself_may_be_one_write_too_many() -> None:
    owner = Echo(write_buffer_bytes_max=500)
    connection, line = upgraded(owner, stuck=True)
    connection.write(Frame(Opcode.TEXT, b"x" * 480).serialize(mask=False))
    connection.close(1012, "this is long enough to pass the limit")
    assert owner.closings == [1012]
    assert [frame.opcode for frame in frames_in(bytes(line.sent))] == [Opcode.TEXT, Opcode.CLOSE]


def test_pongs_for_a_peer_that_does_not_read_close_it_too() -> None:
    owner = Echo(write_buffer_bytes_max=500)
    connection, _ = upgraded(owner, stuck=True)
    for _ in range(50):
        connection.data_received(device_frame(PING, b"x" * 20) * 3)
    assert owner.closings == [4000]
