"""One device's socket: the handshake, then hibernation.

An idle connection is a transport and this slotted object; the WebSocket parser (about 4 KB) exists only
while a frame or a fragmented message is incomplete. There is no task, queue or timer per connection: what
takes time is done by the worker's tick over all of them.

Knows nothing of campaigns: what a message means is the owner's business.
"""

from __future__ import annotations

import asyncio
import logging
import re
from collections.abc import Callable, Sequence
from types import GeneratorType
from typing import TYPE_CHECKING, Any, Final, NamedTuple, cast
from typing import Protocol as Interface

from websockets.frames import Close, Frame, Opcode
from websockets.http11 import Request
from websockets.protocol import SEND_EOF, Protocol, Side, State
from websockets.server import ServerProtocol
from websockets.streams import StreamReader
from websockets.typing import Origin, Subprotocol

from fanout.wire import CloseCode

if TYPE_CHECKING:
    from gateway.cohorts import Cohort

# RFC 6455 section 5.5: a control frame carries 125 bytes, two of which are the close code.
_REASON_BYTES_MAX: Final = 123
_HEAD_END: Final = b"\r\n\r\n"
# What is parsed at a time: a read may bring 256 KB, which can be 43,000 frames. Measured, they would take the loop
# for 300 ms before the first of them is counted; so much of them, for 5 ms.
_PIECE_BYTES: Final = 4_096
# A connection's life: its request is awaited, it is upgraded, it is over.
_ASKING, _OPEN, _ENDED = range(3)

# The library tells of each connection's life at INFO, which nobody wants a hundred thousand times.
_quiet: Final = logging.getLogger("gateway.websockets")
_quiet.setLevel(logging.ERROR)


class Frames(Protocol):
    """The parser of an open connection, alive from a frame's first byte to its last."""

    def __init__(self, message_bytes_max: int) -> None:
        super().__init__(Side.SERVER, state=State.OPEN, max_size=message_bytes_max, logger=_quiet)
        self.parts: list[Frame] = []  # of a fragmented message


class Handshake(ServerProtocol):
    """Reads and judges requests of a kind not seen before. It never sees a frame."""

    def __init__(
        self,
        origins: Sequence[Origin | re.Pattern[str] | None] | None,
        select: Callable[[Sequence[Subprotocol]], Subprotocol],
        message_bytes_max: int,
    ) -> None:
        super().__init__(origins=origins, max_size=message_bytes_max, logger=_quiet)
        self._select = select
        self.received = 0  # bytes, so that a client cannot send headers for ever
        self._tail = b""  # the last bytes received, for the headers may end across two reads

    def select_subprotocol(self, subprotocols: Sequence[Subprotocol]) -> Subprotocol:
        # Given to the constructor, it would be bound to this object, and keep it until the next collection.
        return self._select(subprotocols)

    def receive_head(self, data: bytes) -> bytes:
        """Take what belongs to the request's headers; return the rest.

        A client that does not wait for our answer may send frames at once. Before the 101 the library would
        answer them in the wrong state: a pong would leave before the response.
        """
        joined = self._tail + data
        end = joined.find(_HEAD_END)
        cut = len(data) if end < 0 else end + len(_HEAD_END) - len(self._tail)
        self._tail = joined[-(len(_HEAD_END) - 1) :]
        self.received += cut
        self.receive_data(data[:cut])
        return data[cut:]


Parser = Frames | Handshake


class Answer(NamedTuple):
    """What is written to a device that asked; without ``upgraded`` it is the last thing."""

    data: bytes
    upgraded: bool


def at_frame_boundary(parser: Frames) -> bool:
    """Tell whether the parser waits for the first byte of a new message, so that nothing is lost without it.

    An empty buffer alone proves nothing: a frame's header may be consumed already. The parser is a chain of
    generators, and only between two frames is the innermost one ``StreamReader.at_eof``. That is an internal
    of the library; tests/gateway/test_connection.py cuts frames at every byte to hold it.
    """
    if parser.state is not State.OPEN or parser.current_size is not None:
        return False
    inner: Any = parser.parser
    while isinstance(inner.gi_yieldfrom, GeneratorType):
        inner = inner.gi_yieldfrom
    return inner.gi_code is StreamReader.at_eof.__code__


class Owner(Interface):
    """What a connection needs from the worker it belongs to."""

    message_bytes_max: int
    handshake_bytes_max: int
    write_buffer_bytes_max: int

    def handshake(self) -> Handshake:
        """Return the parser for a request."""

    def opened(self, connection: Connection) -> None:
        """A socket was accepted; the handshake has yet to come."""

    def asked(self, connection: Connection, data: bytes) -> None:
        """Something came that may be a request: answer it soon, or have the connection `read` it."""

    def answer_now(self, connection: Connection) -> None:
        """Nothing more will come: what is yet to be answered is answered at once."""

    def requested(self, connection: Connection, request: Request, head: bytes) -> Answer:
        """Return the answer to a request that was read.

        ``head`` is how it was sent, if it came in one piece.
        """

    def malformed(self, data: bytes) -> bytes:
        """Return the answer to what is no request for a WebSocket at all."""

    def message(self, connection: Connection, data: bytes, *, text: bool) -> None:
        """A whole message came."""

    def alive(self, connection: Connection) -> None:
        """The device was heard, but has said nothing yet. Like `message`, it may close the connection."""

    def closing(self, connection: Connection, code: int) -> None:
        """The connection counts no more; code 0 means that it was not us who closed an open one."""

    def lost(self, connection: Connection) -> None:
        """The socket is gone."""


class Connection(asyncio.Protocol):
    """One socket, from accept to close.

    Attributes:
        transport: None once the socket is gone.
        cohort: Where it is counted and broadcast to; None before the upgrade and once it is closing.
        index: Its place in the cohort's member list.
        ready: Bit per campaign (`gateway.reports`).
        active: Bit per campaign.
        failed: Bit per campaign.
        seen_s: When the device was last heard, on the worker's coarse clock.
        moves_s: When it will be told to reconnect elsewhere, on the same clock.
        expires_s: When its token ends, on the same clock.
    """

    __slots__ = (
        "_owner",
        "_parser",
        "_stage",
        "active",
        "cohort",
        "expires_s",
        "failed",
        "index",
        "moves_s",
        "ready",
        "seen_s",
        "transport",
    )

    def __init__(self, owner: Owner) -> None:
        self._owner = owner
        self._parser: Parser | None = None
        self._stage = _ASKING
        self.transport: asyncio.Transport | None = None
        self.cohort: Cohort | None = None
        self.index = 0
        self.ready = 0
        self.active = 0
        self.failed = 0
        self.seen_s = 0
        self.moves_s = 0
        self.expires_s = 0

    # --- What asyncio calls.

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)
        self.transport.set_write_buffer_limits(high=self._owner.write_buffer_bytes_max)
        self._owner.opened(self)

    def data_received(self, data: bytes) -> None:
        if self._stage == _ENDED:
            return
        if self._stage == _ASKING:
            if self._parser is None:
                self._owner.asked(self, data)
            else:
                self.read(data)
        elif len(data) <= _PIECE_BYTES:
            self._take_bytes(data)
        else:
            for start in range(0, len(data), _PIECE_BYTES):
                if self._stage != _ENDED:
                    self._take_bytes(data[start : start + _PIECE_BYTES])

    def eof_received(self) -> None:
        """The peer is done sending; so are we (returning None closes the transport).

        It counts no more from now on, even if it never reads what is still in its buffer.
        """
        if self._stage == _ASKING:
            self._owner.answer_now(self)
        if self._stage != _ENDED:
            self._stop_counting(0)

    def pause_writing(self) -> None:
        """The peer does not read: its buffer has passed the limit."""
        if self.cohort is not None:
            self.close(CloseCode.SLOW_CONSUMER, "you read too slowly")

    def resume_writing(self) -> None:
        """Nothing to resume: a slow consumer is closed."""

    def connection_lost(self, exc: Exception | None) -> None:
        self._owner.lost(self)
        self._sleep()
        self.transport = None

    # --- The handshake.

    def read(self, data: bytes) -> None:
        """Have the library read a request, or the next piece of one, and the owner answer it."""
        if self._parser is None:
            self._parser = self._owner.handshake()
        handshake = self._parser
        assert isinstance(handshake, Handshake)
        rest = handshake.receive_head(data)
        if handshake.received > self._owner.handshake_bytes_max:
            self.abort()
            return
        for event in handshake.events_received():
            head = data[: len(data) - len(rest)]
            whole = head if len(head) == handshake.received else b""
            self.answer(self._owner.requested(self, cast(Request, event), whole), rest)
            return
        if handshake.handshake_exc is not None:
            # The library answers some malformed requests by itself and hangs up on others in silence.
            self._write_and_end(b"".join(handshake.data_to_send()) or self._owner.malformed(data))

    def answer(self, answer: Answer, rest: bytes) -> None:
        """Send a refusal and hang up; or the 101 and the first frame, in one write, and let the handshake's state go.

        Args:
            rest: What the client has sent without waiting for that.
        """
        data, upgraded = answer
        if not upgraded:
            self._write_and_end(data)
            return
        self._sleep()
        self._stage = _OPEN
        self.write(data)
        if rest:
            self.data_received(rest)

    # --- Frames from the device.

    def _take_bytes(self, data: bytes) -> None:
        parser = self._parser
        if parser is None:
            parser = self._parser = Frames(self._owner.message_bytes_max)
        else:
            self._owner.alive(self)  # a message that comes in many small pieces is many things said
            if self._parser is not parser:
                return
        assert isinstance(parser, Frames)
        parser.receive_data(data)
        self._take_frames(parser)

    def _take_frames(self, parser: Frames) -> None:
        events, writes = parser.events_received(), parser.data_to_send()
        ending = bool(writes) and writes[-1] is SEND_EOF  # only ever after a close frame
        # Pongs before messages: a ping may come amid a message's fragments, and its answer before the message's.
        # The goodbye after them: what came in one read with the peer's own, or with its mistake, counts.
        if pongs := b"".join(writes[:-2] if ending else writes):
            self.write(pongs)
        for event in events:
            if self._parser is not parser:
                return  # closed on the way: what came after that does not count
            self._take_frame(parser, cast(Frame, event))
        if self._parser is not parser:
            return
        if ending:
            self._end(parser, writes[-2])
        elif at_frame_boundary(parser):
            self._sleep()

    def _take_frame(self, parser: Frames, frame: Frame) -> None:
        if frame.opcode is Opcode.PING or frame.opcode is Opcode.PONG:
            self._owner.alive(self)
            return
        if frame.opcode is Opcode.CLOSE:
            return  # the parser has answered it
        if frame.data or not parser.parts:  # the size limit does not stop a flood of empty fragments
            parser.parts.append(frame)
        if not frame.fin:
            self._owner.alive(self)
        else:
            parts, parser.parts = parser.parts, []
            data = bytes(parts[0].data) if len(parts) == 1 else b"".join(part.data for part in parts)
            self._take_message(data, text=parts[0].opcode is Opcode.TEXT)

    def _take_message(self, data: bytes, *, text: bool) -> None:
        """Hand a message on, unless it is a text that is not UTF-8 (RFC 6455 section 8.1).

        Neither the parser looks at that, nor the owner's JSON reader in fields it skips.
        """
        if text and not data.isascii():
            try:
                data.decode()
            except UnicodeDecodeError:
                self.close(CloseCode.INVALID_DATA, "a text message must be UTF-8")
                return
        self._owner.message(self, data, text=text)

    def _end(self, parser: Frames, goodbye: bytes) -> None:
        """Send the parser's close frame: its answer to the peer's, or to a mistake."""
        ours = parser.close_sent is not None and not parser.close_rcvd_then_sent
        self._write_and_end(goodbye, parser.close_sent.code if ours and parser.close_sent else 0)

    # --- Leaving.

    def write(self, data: bytes) -> None:
        """Write whole frames, unless the connection is ending.

        Any write may be the one that finds the peer too slow and closes, so whoever writes twice comes here.
        """
        if self.transport is not None and self._stage != _ENDED:
            self.transport.write(data)

    def close(self, code: int, reason: str) -> None:
        """Send a close frame; the socket ends when the peer answers, or when its time is up.

        Args:
            code: Of the close frame.
            reason: May hold what the peer sent; it is cut to what a close frame carries.
        """
        if self.transport is None or self.cohort is None:
            return
        short = reason.encode(errors="replace")[:_REASON_BYTES_MAX].decode(errors="ignore")
        frame = Frame(Opcode.CLOSE, Close(code, short).serialize())
        self._write_and_end(frame.serialize(mask=False), code)

    def abort(self) -> None:
        """End the socket without a word."""
        if self.transport is not None:
            self.transport.abort()

    def _write_and_end(self, data: bytes, code: int = 0) -> None:
        """Say the last thing and half-close; what the peer still sends is thrown away."""
        assert self.transport is not None
        self._stop_counting(code)
        self.transport.write(data)
        if not self.transport.is_closing():
            self.transport.write_eof()

    def _stop_counting(self, code: int) -> None:
        """Leave the owner's books, before the last write: that one may call `pause_writing` in turn."""
        self._stage = _ENDED
        self._sleep()
        self._owner.closing(self, code)

    def _sleep(self) -> None:
        """Let the parser go. Its generator refers back to it, so it would otherwise wait for the collector."""
        parser, self._parser = self._parser, None
        if parser is not None:
            parser.parser.close()
            # An error holds the frames it went through, and so the parser.
            parser.parser_exc = parser.handshake_exc = None
