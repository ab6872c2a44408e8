"""Hibernation changes nothing that a peer can see: the library's own parser, never put to sleep, is the judge."""

from __future__ import annotations

import gc
import weakref
from itertools import combinations, pairwise

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

from tests.gateway.judging import NOT_UTF8, by_the_library, by_us, cut

CONT, TEXT, BINARY, CLOSE, PING, PONG = 0, 1, 2, 8, 9, 10

# --- What devices may send, and what they must not.

payloads = st.binary(max_size=12) | st.integers(100, 140).map(lambda n: b"x" * n)
texts = st.text(max_size=6).map(str.encode)
pings = st.builds(device_frame, st.sampled_from([PING, PONG]), st.binary(max_size=8))
whole = st.builds(device_frame, st.just(BINARY), payloads) | st.builds(device_frame, st.just(TEXT), texts)


@st.composite
def fragmented(draw: st.DrawFn) -> bytes:
    """Return a message in fragments, some empty, with pings between them; a character may be cut in two."""
    opcode = draw(st.sampled_from([TEXT, BINARY]))
    message = draw(texts if opcode == TEXT else payloads)
    places = sorted(draw(st.lists(st.integers(0, len(message)), min_size=1, max_size=4)))
    found = b""
    for number, (start, end) in enumerate(pairwise([0, *places, len(message)])):
        last = number == len(places)
        found += device_frame(CONT if number else opcode, message[start:end], fin=last)
        if not last:
            found += b"".join(draw(st.lists(pings, max_size=2)))
    return found


def long_headed(payload: bytes, width: int) -> bytes:
    """Return a frame with a short payload whose length takes 2 or 8 bytes. The library lets it pass."""
    frame = device_frame(BINARY, payload)
    return frame[:1] + (b"\xfe" if width == 2 else b"\xff") + len(payload).to_bytes(width, "big") + frame[2:]


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
        device_frame(TEXT, b"\xff"),
        device_frame(TEXT, "é".encode()[:1], fin=False) + device_frame(PING, b"!") + device_frame(CONT),
        device_frame(BINARY, b"x" * (MESSAGE_BYTES_MAX + 1)),
        device_frame(TEXT, b"x" * MESSAGE_BYTES_MAX, fin=False) + device_frame(CONT, b"y"),
        device_frame(TEXT, b"", fin=False) + b"\x80\xff" + b"\xff" * 8,
    ]
)
good = whole | fragmented() | pings | st.builds(long_headed, st.binary(max_size=9), st.sampled_from([2, 8]))
streams = st.lists(good | goodbyes | broken | st.binary(max_size=6), max_size=8).map(b"".join)


@given(streams, st.lists(st.integers(1, 600), max_size=12))
def test_any_stream_cut_anywhere_means_what_it_means_to_the_library(stream: bytes, places: list[int]) -> None:
    assert by_us(cut(stream, places)) == by_the_library(stream)


@given(streams)
def test_any_stream_cut_at_every_byte_means_what_it_means_to_the_library(stream: bytes) -> None:
    assert by_us([stream[i : i + 1] for i in range(len(stream))]) == by_the_library(stream)


@pytest.mark.parametrize(
    "stream",
    [
        pytest.param(device_frame(TEXT, "試合".encode()), id="text"),
        pytest.param(device_frame(BINARY), id="empty"),
        pytest.param(long_headed(b"ab", 2), id="two bytes of length"),
        pytest.param(long_headed(b"ab", 8), id="eight bytes of length"),
        pytest.param(device_frame(PING, b"ab") + device_frame(PONG), id="pings"),
        pytest.param(device_frame(TEXT, b"a", fin=False) + device_frame(PING) + device_frame(CONT), id="fragments"),
        pytest.param(device_frame(CLOSE, b"\x03\xe8bye") + device_frame(BINARY, b"late"), id="goodbye"),
        pytest.param(device_frame(TEXT, b"\xc3") + device_frame(BINARY, b"late"), id="not UTF-8"),
        pytest.param(device_frame(BINARY, b"a", masked=False), id="not masked"),
    ],
)
def test_every_form_of_a_frame_may_be_cut_at_any_two_bytes(stream: bytes) -> None:
    told = by_the_library(stream)
    for first, second in combinations(range(1, len(stream)), 2):
        assert by_us(cut(stream, [first, second])) == told


@given(st.lists(good, max_size=3), st.sampled_from([b"\xff", b"\xc3", b"\xed\xa0\x80", b"ok\xf4\x90\x80\x80"]), good)
def test_a_text_that_is_not_utf8_is_the_last_word(before: list[bytes], text: bytes, after: bytes) -> None:
    told = by_us([b"".join(before) + device_frame(TEXT, text) + after])
    assert told.goodbye == NOT_UTF8
    assert told.messages == by_us(before).messages
    # In fragments, which may cut a good character, too.
    assert by_us([device_frame(TEXT, text[:1], fin=False), device_frame(CONT, text[1:])]).goodbye == NOT_UTF8
    assert by_us([device_frame(BINARY, text)]).messages == [(False, text)]


def test_a_ping_amid_fragments_is_answered_before_their_message() -> None:
    connection, line = upgraded(Echo())
    connection.data_received(
        device_frame(TEXT, b"a", fin=False)
        + device_frame(PING, b"!")
        + device_frame(CONT, b"b")
        + device_frame(CLOSE)
    )
    assert [frame.opcode for frame in frames_in(bytes(line.sent))] == [Opcode.PONG, Opcode.TEXT, Opcode.CLOSE]


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
