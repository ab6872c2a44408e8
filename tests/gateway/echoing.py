"""An owner of connections that sends back what it gets, a transport as strict as uvloop's, and device frames."""

from __future__ import annotations

import asyncio
from typing import cast

from websockets.frames import Close, Frame, Opcode
from websockets.http11 import Request, Response
from websockets.protocol import Protocol, Side, State
from websockets.typing import Subprotocol

from gateway.cohorts import Cohort
from gateway.connection import Answer, Connection, Handshake

# Connections ask only whether they have a cohort; which one is their owner's business.
SOME_COHORT = cast(Cohort, object())
REQUEST = (
    b"GET / HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"
    b"Sec-WebSocket-Protocol: echo\r\n\r\n"
)
MESSAGE_BYTES_MAX = 200


class Echo:
    """Lets everyone in, sends back every message, and keeps a diary."""

    def __init__(self, *, write_buffer_bytes_max: int = 65_536, welcome: bytes = b"") -> None:
        self.message_bytes_max = MESSAGE_BYTES_MAX
        self.handshake_bytes_max = 4_096
        self.write_buffer_bytes_max = write_buffer_bytes_max
        self.welcome = welcome
        self.refuses: Response | None = None
        self.connections: list[Connection] = []
        self.messages: list[tuple[bool, bytes]] = []
        self.closings: list[int] = []
        self.losses = 0
        self.heard = 0

    def handshake(self) -> Handshake:
        return Handshake(None, lambda offered: Subprotocol("echo"), MESSAGE_BYTES_MAX)

    def opened(self, connection: Connection) -> None:
        self.connections.append(connection)

    def asked(self, connection: Connection, data: bytes) -> None:
        connection.read(data)

    def answer_now(self, connection: Connection) -> None:
        """Everyone is answered at once here."""

    def requested(self, connection: Connection, request: Request, head: bytes) -> Answer:
        response = self.handshake().accept(request)
        if self.refuses is not None or response.status_code != 101:
            return Answer((self.refuses or response).serialize(), upgraded=False)
        connection.cohort = SOME_COHORT
        return Answer(response.serialize() + self.welcome, upgraded=True)

    def malformed(self, data: bytes) -> bytes:
        return b"HTTP/1.1 400 Bad Request\r\n\r\n"

    def message(self, connection: Connection, data: bytes, *, text: bool) -> None:
        assert connection.cohort is not None
        self.messages.append((text, data))
        connection.write(Frame(Opcode.TEXT if text else Opcode.BINARY, data).serialize(mask=False))

    def alive(self, connection: Connection) -> None:
        assert connection.cohort is not None
        self.heard += 1

    def closing(self, connection: Connection, code: int) -> None:
        connection.cohort = None
        self.closings.append(code)

    def lost(self, connection: Connection) -> None:
        connection.cohort = None
        self.losses += 1


class Line(asyncio.Transport):
    """A transport in memory that forbids what uvloop forbids.

    Attributes:
        sent: What was written.
        pieces: The same, write by write: the very objects.
        stuck: True for a peer that reads nothing: what is written stays in the buffer.
    """

    def __init__(self, connection: Connection, *, stuck: bool = False) -> None:
        super().__init__()
        self._connection = connection
        self._high = 0
        self._paused = False
        self.sent = bytearray()
        self.pieces: list[bytes] = []
        self.stuck = stuck
        self.eof = False
        self.aborted = False

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        self._high = high or 0

    def write(self, data: bytes) -> None:  # type: ignore[override]
        if self.eof:
            raise RuntimeError("Cannot call write() after write_eof()")
        self.sent += data
        self.pieces.append(data)
        if self.stuck and len(self.sent) > self._high and not self._paused:
            self._paused = True
            self._connection.pause_writing()  # in the midst of the write, as uvloop does

    def write_eof(self) -> None:
        self.eof = True

    def is_closing(self) -> bool:
        return self.aborted

    def abort(self) -> None:
        self.aborted = True


def opened(owner: Echo, *, stuck: bool = False) -> tuple[Connection, Line]:
    """Return a connection on a line, before its handshake."""
    connection = Connection(owner)
    line = Line(connection, stuck=stuck)
    connection.connection_made(line)
    return connection, line


def upgraded(owner: Echo, *, stuck: bool = False) -> tuple[Connection, Line]:
    """Return a connection after its handshake; the line has forgotten the 101."""
    connection, line = opened(owner, stuck=stuck)
    connection.data_received(REQUEST)
    assert line.sent.startswith(b"HTTP/1.1 101 ")
    line.sent.clear()
    return connection, line


def device_frame(opcode: int, payload: bytes = b"", *, fin: bool = True, masked: bool = True, rsv: int = 0) -> bytes:
    """Return a frame as a device sends it, or as it must not. The mask is fixed, so that examples repeat."""
    first = bytes([fin << 7 | rsv << 4 | opcode])
    length = len(payload)
    flag = masked << 7
    if length < 126:
        header = first + bytes([flag | length])
    elif length < 65_536:
        header = first + bytes([flag | 126]) + length.to_bytes(2, "big")
    else:
        header = first + bytes([flag | 127]) + length.to_bytes(8, "big")
    if not masked:
        return header + payload
    mask = b"\x5a\x00\xff\x17"
    return header + mask + bytes(byte ^ mask[i % 4] for i, byte in enumerate(payload))


def frames_in(sent: bytes) -> list[Frame]:
    """Return the frames in what a server wrote, as the library's client reads them."""
    client = Protocol(Side.CLIENT, state=State.OPEN, max_size=None)
    client.receive_data(bytes(sent))
    return [cast(Frame, event) for event in client.events_received()]


def close_in(sent: bytes) -> Close | None:
    """Return the close frame in what a server wrote, None if there is none."""
    for frame in frames_in(sent):
        if frame.opcode is Opcode.CLOSE:
            return Close.parse(bytes(frame.data))
    return None
