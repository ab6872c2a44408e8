"""One device of a swarm: its `DeviceMachine` on a socket.

What a handshake needs lives in `Opening`, and only until the welcome; then the device minds the socket itself, so
that an idle device is a machine, a number and one small object. A device that moves has an `Opening`
beside its socket (make before break). Knows nothing of when things are due, or what is counted how: that is
`loadtest.swarm`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, cast

from fanout import wire
from fanout.device.actions import Action, Fetch, Flip, Prefetched, Reopen, Send
from fanout.device.machine import DeviceMachine
from loadtest.agenda import NEVER, mono_ms
from loadtest.lean import BINARY, CLOSE, PING, PONG, TEXT, client_frame, read_response, server_frame

if TYPE_CHECKING:
    from loadtest.swarm import Heard, Swarm

# What a device is at the moment; bits, as ten thousand devices would otherwise keep as many words.
OPENING: Final = 1
SLOW: Final = 2  # stops reading after its first welcome
STOPPED: Final = 4  # does not read now
GONE: Final = 8  # lost the socket it did not read
MET: Final = 16  # has asked a gateway before

# No socket.
NONE: Final = -1


class Opening:
    """A socket on its way to the welcome.

    Attributes:
        began_ms: When it was opened, monotonic.
        number: Of the socket; NONE if it is gone.
        over: It has failed, and its device knows.
    """

    __slots__ = ("_device", "_pending", "began_ms", "number", "over")

    def __init__(self, device: SwarmDevice, began_ms: float) -> None:
        self._device = device
        self._pending = b""
        self.began_ms = began_ms
        self.number = NONE
        self.over = False

    def data_received(self, data: bytes) -> None:
        self._pending += data
        try:
            self._read(self._pending)
        except (ValueError, wire.WireError):
            self.fail(code=wire.CloseCode.PROTOCOL_ERROR)

    def _read(self, data: bytes) -> None:
        """Look for the answer and the first message; raises ValueError or WireError for anything else."""
        response = read_response(data)
        if response is None:
            return
        if not response.accepted:
            self.fail(status=response.status, retry_after_ms=response.retry_after_ms)
            return
        found = server_frame(data, response.end)
        if found is None:
            return
        opcode, begin, end = found
        if opcode == CLOSE:
            self.fail(code=_close_code(data[begin:end]))
            return
        message = wire.decode_to_device(data[begin:end], self._device.encoding)
        if not isinstance(message, wire.Welcome):
            raise wire.WireError("the first message is no welcome")
        self._device.welcomed(self, message, data[end:])

    def fail(self, *, code: int | None = None, status: int | None = None, retry_after_ms: int | None = None) -> None:
        """Give up, unless that has happened already."""
        if self.over:
            return
        self.over = True
        if self.number != NONE:
            self._device.swarm.sockets.close(self.number)
        self._device.unopened(self, code, status, retry_after_ms)

    def connection_lost(self) -> None:
        self.number = NONE
        self.fail()


class SwarmDevice:
    """One device.

    Attributes:
        number: Its place in its process.
        socket: Number of the socket that was welcomed last; NONE without.
        flags: OPENING, SLOW, STOPPED, GONE, MET.
        planned: Its entry on the agenda that counts, or NEVER.
        newest: Newest activation, cancel or close it has received.
        ready_rev: Newest prefetch it holds the bundle of.
        flipped: Revision of the last flip.
    """

    __slots__ = (
        "_pending",
        "encoding",
        "flags",
        "flipped",
        "machine",
        "newest",
        "number",
        "planned",
        "ready_rev",
        "socket",
        "swarm",
    )

    def __init__(
        self, swarm: Swarm, number: int, machine: DeviceMachine, encoding: wire.Encoding, *, slow: bool
    ) -> None:
        self.swarm = swarm
        self.number = number
        self.machine = machine
        self.encoding = encoding
        self.socket = NONE
        self.flags = SLOW if slow else 0
        self.planned = NEVER
        self.newest = 0
        self.ready_rev = 0
        self.flipped = 0
        self._pending = b""  # an incomplete frame

    # --- From an opening.

    def welcomed(self, opening: Opening, message: wire.Welcome, rest: bytes) -> None:
        """Take the socket over from the opening that found it."""
        self.swarm.think(self)
        self.flags &= ~OPENING
        sockets = self.swarm.sockets
        before, self.socket, self._pending = self.socket, opening.number, b""
        sockets.mind(self.socket, self)
        now = mono_ms()
        if before != NONE:
            sockets.close(before)  # make before break: the new socket has its welcome
        self.swarm.welcomed(self, opening, now, moved=before != NONE)
        for told in message.state:
            if not isinstance(told, wire.Prefetch):
                self.newest = max(self.newest, told.rev)
        self.act(self.machine.received(message, now))
        if rest:
            self.data_received(rest)

    def unopened(self, opening: Opening, code: int | None, status: int | None, retry_after_ms: int | None) -> None:
        """An opening failed: refused, closed before its welcome, or without a word."""
        self.swarm.think(self)
        self.flags &= ~OPENING
        self.swarm.unopened(opening, code, status)
        now = mono_ms()
        if self.socket == NONE:
            at_ms = self.machine.disconnected(now, code=code, status=status, retry_after_ms=retry_after_ms)
            self._return(at_ms)
        else:
            self.machine.reopen_failed(now, code=code, status=status, retry_after_ms=retry_after_ms)
            self.swarm.plan(self)

    # --- From the socket.

    def data_received(self, data: bytes) -> None:
        if not self._pending:
            # Nearly always a read is one whole frame that others get, too.
            heard = self.swarm.heard.get(data)
            if heard is not None:
                self._hear(heard)
                return
        data, self._pending = self._pending + data, b""
        try:
            self._frames(data)
        except (ValueError, wire.WireError):
            self._hang_up(wire.CloseCode.PROTOCOL_ERROR)

    def _frames(self, data: bytes) -> None:
        at = 0
        while (found := server_frame(data, at)) is not None:
            opcode, begin, end = found
            if opcode in (TEXT, BINARY):
                self._hear(self.swarm.hear(data[at:end], data[begin:end], self.encoding))
            elif opcode == PING:
                self._write(client_frame(PONG, data[begin:end]))
            elif opcode == CLOSE:
                self._write(client_frame(CLOSE, data[begin : begin + 2]))
                self._hang_up(_close_code(data[begin:end]))
                return
            at = end
        self._pending = data[at:]

    def _hear(self, heard: Heard) -> None:
        if heard.publication is not None:
            self.swarm.delivered(self, heard)
        if heard.message is not None:
            self.swarm.think(self)
            now = mono_ms()
            if not self.swarm.leave_lying(self, heard.message, now):
                self.act(self.machine.received(heard.message, now))

    def _hang_up(self, code: int | None) -> None:
        if self.socket != NONE:
            self.swarm.sockets.close(self.socket)
            self._lost(code)

    def leave(self) -> None:
        """Drop the socket without a word, if there is one, as a device whose network is gone."""
        if self.socket != NONE:
            self.swarm.tally.left += 1
            self._hang_up(None)

    def connection_lost(self) -> None:
        self._lost(None)

    def _lost(self, code: int | None) -> None:
        self.swarm.think(self)
        self.socket, self._pending = NONE, b""
        self.swarm.lost(self, code)
        self._return(self.machine.disconnected(mono_ms(), code=code))

    def _return(self, at_ms: float | None) -> None:
        if at_ms is not None:
            self.swarm.connect_at(self, at_ms)

    def _write(self, data: bytes) -> None:
        if self.socket != NONE:
            self.swarm.sockets.write(self.socket, data)

    # --- A device that does not read.

    def stop_reading(self) -> None:
        """Leave what comes in the kernel's buffers, and then at the gateway."""
        self.flags = self.flags & ~SLOW | STOPPED
        self.swarm.sockets.pause(self.socket)

    def read_again(self) -> None:
        """Read what has come meanwhile: perhaps that the gateway has closed the socket long ago."""
        if self.flags & STOPPED and self.socket != NONE:
            self.swarm.sockets.resume(self.socket)

    # --- What the machine asks.

    def act(self, actions: list[Action]) -> None:
        """Carry out what the machine asks, then plan its next turn."""
        for action in actions:
            kind = type(action)
            if kind is Send:
                self._write(self.swarm.frame(cast(Send, action).message, self.encoding))
            elif kind is Flip:
                self.swarm.flipped(self, cast(Flip, action))
            elif kind is Prefetched:
                self.swarm.prefetched(self, cast(Prefetched, action))
            elif kind is Fetch:
                self.swarm.fetch(self, cast(Fetch, action))
            elif kind is Reopen:
                self.swarm.connect(self)
            # Contents are shared by the whole swarm: there is nothing to store or to drop.
        self.swarm.plan(self)


def _close_code(payload: bytes) -> int:
    return int.from_bytes(payload[:2], "big") if len(payload) >= 2 else 1005
