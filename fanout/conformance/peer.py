"""One connection of the device, seen from the server: its handshake, what it said, how it left.

Judges nothing but the form of what comes in; when something should have come is the scenarios' business.
"""

from __future__ import annotations

import asyncio
import re
import time
from typing import Any, Final
from urllib.parse import parse_qs, urlsplit

from msgspec import Struct
from websockets.asyncio.server import ServerConnection
from websockets.exceptions import ConnectionClosed
from websockets.http11 import Request

from fanout import limits, wire
from fanout.conformance.messages import Message, encoded
from fanout.device.link import subject
from fanout.errors import InvalidInput

# Docs, section 9: what a gateway takes before it closes with 1008.
FRAMES_BURST: Final = 200
FRAMES_PER_S: Final = 10.0

_DIGESTS: Final = re.compile(r"[0-9a-f]{64}(,[0-9a-f]{64}){0,31}")


def mono_ms() -> float:
    """Return the monotonic timer, ms: the only clock the kit measures with."""
    return time.monotonic() * 1000


class Handshake:
    """A request to connect.

    Args:
        request: As it came.
    """

    def __init__(self, request: Request) -> None:
        self.at_ms = mono_ms()
        self.status = 101  # what it was answered with
        self.peer: Peer | None = None  # the connection it became
        url = urlsplit(request.path)
        query = {name: values[0] for name, values in parse_qs(url.query, keep_blank_values=True).items()}
        offers = [w.strip() for v in request.headers.get_all("Sec-WebSocket-Protocol") for w in v.split(",")]
        self.offers = [offer for offer in offers if not offer.startswith(wire.BEARER_SUBPROTOCOL)]
        bearer = [offer.removeprefix(wire.BEARER_SUBPROTOCOL) for offer in offers if offer not in self.offers]
        header = request.headers.get("Authorization", "")
        self.token = header.removeprefix("Bearer ") if header.startswith("Bearer ") else "".join(bearer[:1])
        self.have = [digest for digest in query.get("have", "").split(",") if digest]
        self.since = int(query["since"]) if re.fullmatch(r"\d{1,16}", query.get("since", "")) else 0
        self.faults = list(self._faults(request, query))

    @property
    def device_id(self) -> str:
        """The subject of its token. Raises InvalidInput if there is none."""
        return subject(self.token)

    def _faults(self, request: Request, query: dict[str, str]) -> list[str]:
        faults = []
        if not self.token:
            faults.append("no token, neither as Authorization: Bearer nor as a subprotocol bearer.<token>")
        elif self.token in request.path:
            faults.append("the token is in the URL")
        if self.token:
            try:
                _ = self.device_id
            except InvalidInput as exc:
                faults.append(str(exc))
        if not any(offer in wire.BY_SUBPROTOCOL for offer in self.offers):
            faults.append(f"no known subprotocol offered, only {', '.join(self.offers) or 'none'}")
        if "have" in query and not _DIGESTS.fullmatch(query["have"]):
            faults.append(f"have is {query['have'][:80]!r}, not 1 to 32 digests of 64 hex digits, comma-separated")
        if "since" in query and not (query["since"].isascii() and query["since"].isdigit()):
            faults.append(f"since is {query['since'][:40]!r}, not a revision")
        return faults


class Heard(Struct, frozen=True):
    """A message from the device, and when it arrived, monotonic ms."""

    at_ms: float
    message: wire.FromDevice


class Peer:
    """An open connection.

    Args:
        socket: Its WebSocket.
        handshake: How it came.
    """

    def __init__(self, socket: ServerConnection, handshake: Handshake) -> None:
        assert socket.subprotocol is not None
        self._socket = socket
        self.handshake = handshake
        self.encoding = wire.BY_SUBPROTOCOL[socket.subprotocol]
        self.welcomed_ms: float | None = None
        self.closed_ms: float | None = None
        self.dropped_ms: float | None = None  # the kit has closed it
        self.faults: list[str] = []  # frames that are no messages, or too many
        self._allowance = float(FRAMES_BURST)
        self._counted_ms = mono_ms()

    @property
    def open(self) -> bool:
        return self.closed_ms is None and self.dropped_ms is None

    @property
    def code(self) -> int:
        """The close code the device sent, 1006 without one."""
        received = self._socket.protocol.close_rcvd
        return received.code if received is not None else 1006

    async def say(self, message: Message, pieces: int = 1) -> None:
        """Send a message, if the device is still there; in several fragments if asked to."""
        data: Any = encoded(message, self.encoding)
        if pieces > 1:
            size = len(data) // pieces + 1
            data = [data[i : i + size] for i in range(0, len(data), size)]
        await self.send(data)

    async def send(self, data: Any) -> None:
        """Send a frame as it is: text if it is text, binary if it is bytes, fragments if it is a list."""
        try:
            await self._socket.send(data)
        except ConnectionClosed:
            pass

    async def ping(self, within_s: float) -> bool:
        """Send a ping; tell whether its answer came."""
        try:
            async with asyncio.timeout(within_s):
                await (await self._socket.ping(b"check"))
        except (TimeoutError, ConnectionClosed):
            return False
        return True

    async def drop(self, code: int) -> None:
        """Close it with this code."""
        self.dropped_ms = mono_ms()
        await self._socket.close(code)

    def read(self, frame: str | bytes) -> Heard | None:
        """Take in a frame; None for what is no message, or of a type that is not for a gateway."""
        now = mono_ms()
        self._allowance = min(FRAMES_BURST, self._allowance + (now - self._counted_ms) * FRAMES_PER_S / 1000) - 1
        self._counted_ms = now
        if self._allowance < 0:
            self.faults.append(f"more than {FRAMES_BURST} frames at once and {FRAMES_PER_S:g} a second")
        if isinstance(frame, str) != (self.encoding is wire.Encoding.JSON):
            self.faults.append(f"a {'text' if isinstance(frame, str) else 'binary'} frame on {self.encoding}")
        data = frame.encode() if isinstance(frame, str) else frame
        if len(data) > limits.MESSAGE_BYTES_MAX:
            self.faults.append(f"a message of {len(data)} bytes, the limit is {limits.MESSAGE_BYTES_MAX}")
        try:
            message = wire.decode_from_device(data, self.encoding)
        except wire.WireError as exc:
            self.faults.append(f"{data[:80]!r}: {exc}")
            return None
        return Heard(now, message) if message is not None else None
