"""A device's socket, made small: the handshake by hand, then nothing but the frame being read.

An ordinary WebSocket client costs tens of kilobytes; a load generator holds tens of thousands of them. This
reads what a server of ours sends (unmasked, whole frames) and treats anything else as an error to report. The
functions are what `loadtest.devices` builds on; `LeanSocket` is a whole socket for whoever only counts.
"""

from __future__ import annotations

import asyncio
import base64
import hashlib
import os
from typing import Final, NamedTuple, cast
from urllib.parse import urlencode, urlsplit

from fanout.device.origin import retry_after_ms
from fanout.wire import Encoding

_GUID: Final = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"  # RFC 6455 section 1.3
# One key for the whole process: it proves that the other side speaks WebSocket, it is no secret.
_KEY: Final = base64.b64encode(os.urandom(16))
_ACCEPT: Final = base64.b64encode(hashlib.sha1(_KEY + _GUID).digest())

TEXT, BINARY, CLOSE, PING, PONG = 0x1, 0x2, 0x8, 0x9, 0xA


class Handler:
    """What happens on a socket; the driver's side of `LeanSocket`."""

    def opened(self, socket: LeanSocket) -> None:
        """The server has accepted; messages follow."""

    def message(self, socket: LeanSocket, data: bytes) -> None:
        """A whole message came."""

    def closed(self, socket: LeanSocket, code: int | None, status: int | None, retry_after_ms: int | None) -> None:
        """The socket is gone: by a close code, an HTTP refusal, or without a word."""


def opening(url: str, *fields: str, query: dict[str, str] | None = None) -> bytes:
    """Return the bytes of an opening handshake.

    Args:
        url: ``ws://host:port/path``.
        fields: Further header lines, ``Name: value``.
        query: Parameters of the path.
    """
    parts = urlsplit(url)
    path = (parts.path or "/") + ("?" + urlencode(query, safe=",") if query else "")
    lines = (
        f"GET {path} HTTP/1.1",
        f"Host: {parts.netloc}",
        "Upgrade: websocket",
        "Connection: Upgrade",
        f"Sec-WebSocket-Key: {_KEY.decode()}",
        "Sec-WebSocket-Version: 13",
        *fields,
    )
    return ("\r\n".join(lines) + "\r\n\r\n").encode()


def device_opening(url: str, encoding: Encoding, token: str, query: dict[str, str] | None = None) -> bytes:
    """Return a device's opening handshake: its subprotocol, its token, what it resumes from."""
    fields = f"Sec-WebSocket-Protocol: {encoding.subprotocol}", f"Authorization: Bearer {token}"
    return opening(url, *fields, query=query)


def client_frame(opcode: int, payload: bytes) -> bytes:
    """Return a whole masked frame (RFC 6455 section 5.2) of up to 65,535 bytes."""
    mask = os.urandom(4)
    size = len(payload)
    head = (
        bytes((0x80 | opcode, 0x80 | size)) if size < 126 else bytes((0x80 | opcode, 0xFE)) + size.to_bytes(2, "big")
    )
    key = (mask * (size // 4 + 1))[:size]
    masked = (int.from_bytes(payload, "big") ^ int.from_bytes(key, "big")).to_bytes(size, "big")
    return head + mask + masked


def server_frame(data: bytes, start: int) -> tuple[int, int, int] | None:
    """Find the frame that begins at ``start``.

    Returns:
        Opcode, and where its payload begins and ends; None if it is not complete yet.
    Raises:
        ValueError: Masked, fragmented or compressed: nothing a gateway sends.
    """
    if len(data) - start < 2:
        return None
    first, size = data[start], data[start + 1]
    if first & 0xF0 != 0x80 or size & 0x80:
        raise ValueError(f"frame header {data[start : start + 2].hex()} is not from a gateway")
    begin = start + 2
    if size >= 126:
        width = 2 if size == 126 else 8
        if len(data) - begin < width:
            return None
        size = int.from_bytes(data[begin : begin + width], "big")
        begin += width
    return (first & 0x0F, begin, begin + size) if len(data) >= begin + size else None


class Response(NamedTuple):
    """The server's answer to an opening handshake.

    Attributes:
        status: Of HTTP; 101 counts only if ``accepted``.
        end: Where the frames begin.
    """

    status: int
    accepted: bool
    retry_after_ms: int | None
    end: int


def read_response(data: bytes) -> Response | None:
    """Read the answer to the handshake; None if it is not complete yet. Raises ValueError: not HTTP."""
    end = data.find(b"\r\n\r\n")
    if end < 0:
        return None
    lines = data[:end].split(b"\r\n")
    fields = {name.strip().lower(): value.strip() for name, _, value in (line.partition(b":") for line in lines[1:])}
    _, status, _ = lines[0].split(b" ", 2)
    after = fields.get(b"retry-after")
    accepted = int(status) == 101 and fields.get(b"sec-websocket-accept") == _ACCEPT
    after_ms = None if after is None else retry_after_ms(after.decode("latin-1"))
    return Response(int(status), accepted, after_ms, end + 4)


class LeanSocket(asyncio.Protocol):
    """One socket of one device."""

    __slots__ = ("_code", "_handler", "_open", "_pending", "_request", "_retry_after_ms", "_status", "transport")

    def __init__(self, handler: Handler, opening_bytes: bytes) -> None:
        self._handler = handler
        self._request = opening_bytes
        self._pending = b""  # an incomplete response or frame
        self._open = False
        self._code: int | None = None
        self._status: int | None = None
        self._retry_after_ms: int | None = None
        self.transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)
        self.transport.write(self._request)
        self._request = b""

    def data_received(self, data: bytes) -> None:
        if self._pending:
            data, self._pending = self._pending + data, b""
        try:
            at = 0 if self._open else self._response(data)
            if at is not None:
                self._frames(data, at)
        except ValueError:
            self._code = 1002
            self.abort()

    def _response(self, data: bytes) -> int | None:
        """Read the answer to the handshake; return where the frames begin, None if it is not over."""
        response = read_response(data)
        if response is None:
            self._pending = data
            return None
        if not response.accepted:
            self._status, self._retry_after_ms = response.status, response.retry_after_ms
            self.abort()
            return None
        self._open = True
        self._handler.opened(self)
        return response.end

    def _frames(self, data: bytes, at: int) -> None:
        while (found := server_frame(data, at)) is not None:
            opcode, begin, at = found
            payload = data[begin:at]
            if opcode in (TEXT, BINARY):
                self._handler.message(self, payload)
            elif opcode == PING:
                self.write(client_frame(PONG, payload))
            elif opcode == CLOSE:
                self._code = int.from_bytes(payload[:2], "big") if len(payload) >= 2 else 1005
                self.write(client_frame(CLOSE, payload[:2]))
                self.end()
                return
        self._pending = data[at:]

    def write(self, data: bytes) -> None:
        """Send raw bytes; nothing happens on a socket that is closing."""
        if self.transport is not None and not self.transport.is_closing():
            self.transport.write(data)

    def send(self, payload: bytes, encoding: Encoding) -> None:
        """Send one message."""
        self.write(client_frame(BINARY if encoding is Encoding.MSGPACK else TEXT, payload))

    def end(self) -> None:
        """Close once everything is written."""
        if self.transport is not None:
            self.transport.close()

    def abort(self) -> None:
        """Close at once."""
        if self.transport is not None:
            self.transport.abort()

    def connection_lost(self, exc: Exception | None) -> None:
        self.transport = None
        self._handler.closed(self, self._code, self._status, self._retry_after_ms)


async def open_socket(url: str, handler: Handler, opening_bytes: bytes, source: str | None = None) -> LeanSocket:
    """Open a socket, from this address if one is given, and send the handshake.

    Raises:
        OSError: The server cannot be reached.
    """
    parts = urlsplit(url)
    _, protocol = await asyncio.get_running_loop().create_connection(
        lambda: LeanSocket(handler, opening_bytes),
        parts.hostname or "",
        parts.port or 80,
        local_addr=(source, 0) if source else None,
    )
    return protocol
