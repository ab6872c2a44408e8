"""What a stream of frames means, told twice: by a hibernating connection, and by the library's own parser, which
is never put to sleep and gets everything in one piece. The property tests and the fuzzer compare the two."""

from __future__ import annotations

from itertools import pairwise
from typing import NamedTuple

from websockets.frames import Frame, Opcode
from websockets.protocol import Protocol, Side, State

from tests.gateway.echoing import MESSAGE_BYTES_MAX, Echo, frames_in, upgraded

# How a text that is not UTF-8 is answered: it is the one thing that the library's parser leaves to others.
NOT_UTF8 = (1007).to_bytes(2, "big") + b"a text message must be UTF-8"

_DATA = (Opcode.TEXT, Opcode.BINARY, Opcode.CONT)


class Seen(NamedTuple):
    """What a peer and an owner see of a stream."""

    messages: list[tuple[bool, bytes]]
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
        if frame.opcode in _DATA:
            parts.append(frame)
            if frame.fin:
                text, data = parts[0].opcode is Opcode.TEXT, b"".join(part.data for part in parts)
                if text and not is_utf8(data):
                    return Seen(messages, [], NOT_UTF8, True)
                messages.append((text, data))
                parts = []
    writes = protocol.data_to_send()
    return _seen(messages, frames_in(b"".join(writes)), ended=b"" in writes)


def by_us(chunks: list[bytes]) -> Seen:
    """Return what a hibernating connection makes of the stream, in these pieces; every message has its echo."""
    owner = Echo()
    connection, line = upgraded(owner)
    for chunk in chunks:
        connection.data_received(chunk)
    answers = frames_in(bytes(line.sent))
    echoes = [(frame.opcode is Opcode.TEXT, bytes(frame.data)) for frame in answers if frame.opcode in _DATA]
    assert echoes == owner.messages
    assert len(owner.closings) == line.eof, "it is closed once"
    seen = _seen(owner.messages, answers, ended=line.eof)
    # Which pongs were still written before it depends on the cut.
    return seen._replace(pongs=[]) if seen.goodbye == NOT_UTF8 else seen


def _seen(messages: list[tuple[bool, bytes]], answers: list[Frame], *, ended: bool) -> Seen:
    return Seen(
        messages,
        [bytes(frame.data) for frame in answers if frame.opcode is Opcode.PONG],
        next((bytes(frame.data) for frame in answers if frame.opcode is Opcode.CLOSE), None),
        ended,
    )


def is_utf8(data: bytes) -> bool:
    try:
        data.decode()
    except UnicodeDecodeError:
        return False
    return True


def cut(stream: bytes, places: list[int]) -> list[bytes]:
    """Return the stream in pieces, cut at those of the places that lie within it."""
    edges = sorted({0, len(stream), *(place for place in places if place < len(stream))})
    return [stream[a:b] for a, b in pairwise(edges)]
