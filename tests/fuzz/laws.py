"""What holds for any bytes that a peer may send. Each law takes bytes and fails if it is broken.

Two drive them: hypothesis, in every run of the tests, and a fuzzer that is led by what the code does with the
bytes (`tests.fuzz.target`). Knows neither.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Final

from fanout import wire
from fanout.wire import Encoding, WireError
from tests.gateway.echoing import MESSAGE_BYTES_MAX, REQUEST, Echo, close_in, device_frame, opened
from tests.gateway.judging import by_the_library, by_us, cut

Law = Callable[[bytes], None]

_INTERNAL_ERROR: Final = wire.CloseCode.INTERNAL_ERROR.to_bytes(2, "big")
_VECTORS: Final = Path(__file__).parents[1] / "vectors" / "wire.json"


def connection(data: bytes) -> None:
    """A stream of frames means what it means to the library, however it is cut.

    The first byte says how many follow that say where to cut; the rest is the stream.
    """
    places, stream = _cuts(data)
    told = by_the_library(stream)
    assert not (told.goodbye or b"").startswith(_INTERNAL_ERROR), "the parser itself failed"
    assert by_us(cut(stream, places)) == told
    assert by_us(_bytewise(stream)) == told


def handshake(data: bytes) -> None:
    """A request gets one answer or none, however it is cut; what follows it is taken as frames.

    The bytes are as those of `connection`.
    """
    places, stream = _cuts(data)
    told = _asked([stream])
    assert _asked(cut(stream, places)) == told
    assert _asked(_bytewise(stream)) == told


def message(data: bytes) -> None:
    """Bytes are a message, of an unknown type, or a `WireError`; what was read is written as it is read again."""
    for encoding in Encoding:
        down = _read(wire.decode_to_device, data, encoding)
        if down is not None:
            # As bytes, for a gateway that a device trusts could send what is not equal to itself (NaN).
            written = wire.encode(down, encoding)
            again = wire.decode_to_device(written, encoding)
            assert again is not None
            assert wire.encode(again, encoding) == written
        up = _read(wire.decode_from_device, data, encoding)
        if up is not None:
            # Nobody trusts a device: what passed its limits fits either encoding.
            assert all(wire.decode_from_device(wire.encode(up, other), other) == up for other in Encoding)


LAWS: Final[Mapping[str, Law]] = {law.__name__: law for law in (connection, handshake, message)}


def seeds(law: Law) -> list[bytes]:
    """Return bytes that reach far into what the law is about, to be changed bit by bit."""
    if law is message:
        vectors = json.loads(_VECTORS.read_text("utf-8"))
        cases = [case for kind in ("messages", "ignored", "refused") for case in vectors[kind]]
        packed = [bytes.fromhex(case["msgpack"]) for case in cases if "msgpack" in case]
        return packed + [case["json"].encode() for case in cases if "json" in case]
    frames = [
        device_frame(1, "試合".encode()),
        device_frame(1, b"a", fin=False) + device_frame(9, b"!") + device_frame(0, b"b"),
        device_frame(2, b"x" * 130),
        device_frame(2, b"x" * (MESSAGE_BYTES_MAX + 1)),
        device_frame(8, b"\x03\xe8bye"),
        device_frame(10),
        device_frame(3, b"?", rsv=4, masked=False),
    ]
    # Cut twice: within a header, and within what follows.
    streams = [b"\x02\x03\x08" + stream for stream in [*frames, b"".join(frames[:3] + frames[4:5])]]
    if law is connection:
        return streams
    return [b"\x02\x10\xa0" + REQUEST + b"".join(frames[:2]), b"\x01\x04" + REQUEST.replace(b"GET", b"POST")]


def _cuts(data: bytes) -> tuple[list[int], bytes]:
    count = data[0] % 8 if data else 0
    return list(data[1 : 1 + count]), data[1 + count :]


def _bytewise(stream: bytes) -> list[bytes]:
    return [stream[i : i + 1] for i in range(len(stream))]


def _asked(chunks: list[bytes]) -> tuple[Any, ...]:
    """Return what a connection says to a request in these pieces, and what its owner sees."""
    owner = Echo()
    connection, line = opened(owner)
    for chunk in chunks:
        connection.data_received(chunk)
    head, _, rest = bytes(line.sent).partition(b"\r\n\r\n")
    status = head.partition(b"\r\n")[0]
    if not status.startswith(b"HTTP/1.1 101 "):
        assert not owner.messages
        return status, line.eof, line.aborted
    # What follows an upgrade is the other law's: how many pongs still leave before a goodbye depends on the cut.
    return status, line.eof, line.aborted, owner.messages, close_in(rest)


def _read(decode: Callable[[bytes, Encoding], Any], data: bytes, encoding: Encoding) -> Any:
    try:
        return decode(data, encoding)
    except WireError:
        return None
