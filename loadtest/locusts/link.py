"""One WebSocket of one device for gevent: `websockets`' own protocol core on a socket that yields, not blocks.

The core is the library's, so what a gateway gets is what a third-party client sends. Knows no device and no message.
"""

from __future__ import annotations

import socket
import ssl
from typing import Final
from urllib.parse import urlencode, urlsplit

from websockets.client import ClientProtocol
from websockets.exceptions import InvalidHandshake, InvalidStatus
from websockets.frames import Frame, Opcode
from websockets.http11 import Response
from websockets.protocol import State
from websockets.typing import Subprotocol
from websockets.uri import parse_uri

from fanout import wire
from fanout.device.origin import retry_after_ms
from fanout.errors import InvalidInput

# More stays in the kernel; nearly every message is shorter.
_READ_BYTES: Final = 16_384
# A bundle inline is 16 KiB at most, and a welcome holds a few of them.
_MESSAGE_BYTES_MAX: Final = 1024 * 1024


class Gateway:
    """Where a gateway is, looked up once: gevent asks threads for addresses, and they stop the loop for milliseconds.

    Args:
        url: Its.
    Raises:
        InvalidInput: Its host has no address.
    """

    __slots__ = ("address", "family", "host", "tls", "url")

    def __init__(self, url: str) -> None:
        parts = urlsplit(url)
        secure = parts.scheme == "wss"
        self.url = url
        self.host = parts.hostname or ""
        try:
            found = socket.getaddrinfo(self.host, parts.port or (443 if secure else 80), type=socket.SOCK_STREAM)
        except OSError as exc:
            raise InvalidInput(f"--gateway-url is {url!r}, but {self.host} has no address: {exc.strerror}") from exc
        self.family, self.address = found[0][0], found[0][4]
        self.tls = ssl.create_default_context() if secure else None


class LinkLost(Exception):
    """There is no such connection, or no longer.

    Attributes:
        code: Close code, if one came.
        status: HTTP status, if the handshake was refused.
        retry_after_ms: The refusal's Retry-After.
    """

    def __init__(
        self, words: str, *, code: int | None = None, status: int | None = None, retry_after_ms: int | None = None
    ) -> None:
        super().__init__(words)
        self.code = code
        self.status = status
        self.retry_after_ms = retry_after_ms


class Link:
    """A connection, opened by its making.

    Args:
        gateway: Where to.
        encoding: Of the messages.
        token: The device's.
        query: What it resumes from.
    Raises:
        LinkLost: It is refused, or nobody answers.
    """

    __slots__ = ("_parts", "_protocol", "_socket")

    def __init__(self, gateway: Gateway, encoding: wire.Encoding, token: str, query: dict[str, str]) -> None:
        uri = parse_uri(f"{gateway.url}?{urlencode(query, safe=',')}" if query else gateway.url)
        self._protocol = ClientProtocol(
            uri, subprotocols=[Subprotocol(encoding.subprotocol)], max_size=_MESSAGE_BYTES_MAX
        )
        self._parts = b""  # of a message in several frames
        try:
            self._socket = _connected(gateway)
        except OSError as exc:
            raise LinkLost(f"no connection: {exc.strerror or exc}") from exc
        try:
            request = self._protocol.connect()
            request.headers["Authorization"] = f"Bearer {token}"
            self._protocol.send_request(request)
            self._flush()
            while self._protocol.state is State.CONNECTING and self._protocol.handshake_exc is None:
                self._receive()
            self._check()
        except BaseException:
            self._socket.close()
            raise

    def _check(self) -> None:
        failed = self._protocol.handshake_exc
        if isinstance(failed, InvalidStatus):
            response = failed.response
            after = response.headers.get("Retry-After")
            raise LinkLost(
                f"refused: {response.status_code}",
                status=response.status_code,
                retry_after_ms=None if after is None else retry_after_ms(after),
            )
        if isinstance(failed, InvalidHandshake):
            raise LinkLost(f"no WebSocket: {failed}", status=0)
        if failed is not None:
            raise LinkLost(f"lost in the handshake: {type(failed).__name__}")

    def read(self) -> list[bytes]:
        """Return the messages that have come, waiting for the first.

        Raises:
            LinkLost: No more will come.
        """
        while True:
            messages = self._messages()
            if messages:
                return messages
            if self._protocol.state is not State.OPEN:
                received = self._protocol.close_rcvd
                self._socket.close()
                raise LinkLost("closed", code=received.code if received else None)
            self._receive()

    def write(self, payload: bytes, encoding: wire.Encoding) -> None:
        """Send one message; on a link that is lost nothing happens, for its reader notices."""
        if self._protocol.state is not State.OPEN:
            return
        if encoding is wire.Encoding.MSGPACK:
            self._protocol.send_binary(payload)
        else:
            self._protocol.send_text(payload)
        self._flush()

    def leave(self) -> None:
        """Say goodbye, and close."""
        if self._protocol.state is State.OPEN:
            self._protocol.send_close(1000)
            self._flush()
        self.drop()

    def drop(self) -> None:
        """Be gone without a word, as a device whose network is gone; whoever reads learns of it."""
        try:
            self._socket.shutdown(socket.SHUT_RDWR)
        except OSError:
            pass  # it is gone already
        self._socket.close()

    def _receive(self) -> None:
        try:
            data = self._socket.recv(_READ_BYTES)
        except OSError:
            data = b""
        if data:
            self._protocol.receive_data(data)
        else:
            self._protocol.receive_eof()
        self._flush()

    def _flush(self) -> None:
        """Write what the protocol has to say; a broken socket is noticed by whoever reads."""
        data = b"".join(self._protocol.data_to_send())
        if data:
            try:
                self._socket.sendall(data)
            except OSError:
                pass

    def _messages(self) -> list[bytes]:
        found: list[bytes] = []
        for event in self._protocol.events_received():
            if isinstance(event, Response):
                continue
            if isinstance(event, Frame) and event.opcode in (Opcode.TEXT, Opcode.BINARY, Opcode.CONT):
                self._parts += bytes(event.data)
                if event.fin:
                    found.append(self._parts)
                    self._parts = b""
        return found


def _connected(gateway: Gateway) -> socket.socket:
    made = socket.socket(gateway.family, socket.SOCK_STREAM)
    try:
        made.connect(gateway.address)
        made.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return made if gateway.tls is None else gateway.tls.wrap_socket(made, server_hostname=gateway.host)
    except BaseException:
        made.close()
        raise
