"""One WebSocket of a device: opening it, reading and writing messages. Knows nothing of when or why."""

from __future__ import annotations

import asyncio
import base64
import binascii
from collections.abc import AsyncGenerator, Callable
from typing import Final
from urllib.parse import urlencode

import msgspec
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, InvalidStatus, WebSocketException
from websockets.typing import Subprotocol

from fanout import limits, wire
from fanout.device.machine import Resume
from fanout.device.origin import retry_after_ms
from fanout.errors import FanoutError, InvalidInput

OPEN_TIMEOUT_S: Final = 15.0
# The peer may be gone; nobody waits long for its goodbye.
CLOSE_TIMEOUT_S: Final = 2.0


class NotOpened(FanoutError):
    """A connection could not be opened.

    Attributes:
        status: HTTP status of the refusal, None if there was no answer.
        retry_after_ms: The refusal's Retry-After, None without one.
    """

    def __init__(self, detail: str, status: int | None = None, retry_after_ms: int | None = None) -> None:
        super().__init__(detail)
        self.status = status
        self.retry_after_ms = retry_after_ms


class _Claims(msgspec.Struct):
    sub: str


def subject(token: str) -> str:
    """Return the device id inside a token. Its signature is the gateway's business.

    Raises:
        InvalidInput: Not a JWT with a subject.
    """
    try:
        payload = token.split(".")[1]
        claims = base64.urlsafe_b64decode(payload + "=" * (-len(payload) % 4))
        return msgspec.json.decode(claims, type=_Claims).sub
    except (IndexError, binascii.Error, msgspec.DecodeError, ValueError) as exc:
        raise InvalidInput(f"the token is no JWT with a subject ({exc}); give device_id if yours is opaque") from exc


class Link:
    """An open WebSocket that speaks this protocol."""

    def __init__(self, socket: ClientConnection, encoding: wire.Encoding) -> None:
        self._socket = socket
        self._encoding = encoding
        self.welcomed = False  # its welcome has come

    @property
    def code(self) -> int:
        """The close code, 1006 if the connection was lost without one."""
        return self._socket.close_code or 1006

    @property
    def reason(self) -> str:
        """The close code and the peer's words."""
        return f"{self.code} {self._socket.close_reason or ''}".strip()

    async def messages(
        self, welcome_timeout_s: float, malformed: Callable[[str], None]
    ) -> AsyncGenerator[wire.ToDevice, None]:
        """Yield messages until the connection is lost.

        What cannot be read is as if it had not come. A welcome that does not come ends the connection with 1008.

        Args:
            welcome_timeout_s: For all that comes until whoever reads has set `welcomed`.
            malformed: Told in words what could not be read.
        """
        deadline = asyncio.get_running_loop().time() + welcome_timeout_s
        try:
            while True:
                async with asyncio.timeout_at(None if self.welcomed else deadline):
                    frame = await self._socket.recv()
                try:
                    message = self._read(frame)
                except wire.WireError as exc:
                    malformed(str(exc))
                    continue
                if message is not None:
                    yield message
        except TimeoutError:
            await self.close(wire.CloseCode.POLICY, "no welcome")
        except ConnectionClosed:
            return

    def _read(self, frame: str | bytes) -> wire.ToDevice | None:
        is_text = isinstance(frame, str)
        if is_text != (self._encoding is wire.Encoding.JSON):
            kind = "text" if is_text else "binary"
            raise wire.WireError(f"a {kind} frame of {len(frame)} on {self._encoding.subprotocol}")
        return wire.decode_to_device(frame.encode() if isinstance(frame, str) else frame, self._encoding)

    async def write(self, message: wire.FromDevice) -> None:
        """Send a message; into a lost connection it is lost, which the reader notices."""
        data = wire.encode(message, self._encoding)
        try:
            await self._socket.send(data.decode() if self._encoding is wire.Encoding.JSON else data)
        except ConnectionClosed:
            pass

    async def close(self, code: int = 1000, reason: str = "") -> None:
        """Say goodbye, and wait a moment for the answer."""
        await self._socket.close(code, reason)


class _Connect(connect):
    """Follows no redirect: no browser's WebSocket does, and a captive portal is no gateway."""

    def process_redirect(self, exc: Exception) -> Exception:
        return exc


async def open_link(url: str, token: str, encoding: wire.Encoding, resume: Resume) -> Link:
    """Open a connection.

    Args:
        url: ``ws://host`` or ``wss://host``; with a path if it is not the usual one.
        token: Sent as a bearer token.
        encoding: Asked for as subprotocol.
        resume: Goes into the query.
    Raises:
        NotOpened: Refused, unreachable, or not a server of this protocol.
    """
    # Commas between digests are plain in a query; escaping them would make the longest one a third longer.
    query = urlencode(resume.query(), safe=",")
    try:
        socket = await _Connect(
            f"{url}?{query}" if query else url,
            subprotocols=[Subprotocol(encoding.subprotocol)],
            additional_headers={"Authorization": f"Bearer {token}"},
            compression=None,
            proxy=None,
            # Beacons tell the device that the server lives; the server pings.
            ping_interval=None,
            open_timeout=OPEN_TIMEOUT_S,
            close_timeout=CLOSE_TIMEOUT_S,
            max_size=limits.TO_DEVICE_BYTES_MAX,
        )
    except InvalidStatus as exc:
        response = exc.response
        after = response.headers.get("Retry-After")
        after_ms = None if after is None else retry_after_ms(after)
        raise NotOpened(f"refused with HTTP {response.status_code}", response.status_code, after_ms) from exc
    except (OSError, TimeoutError, WebSocketException) as exc:
        raise NotOpened(str(exc) or type(exc).__name__) from exc
    if socket.subprotocol != encoding.subprotocol:
        await socket.close(wire.CloseCode.PROTOCOL_ERROR, "no subprotocol")
        raise NotOpened(f"the server chose subprotocol {socket.subprotocol!r}", status=400)
    return Link(socket, encoding)
