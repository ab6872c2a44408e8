"""What a device tells its app. `Prefetched`, `Cancelled` and `Closed` come from the state machine as they are.

Times are in milliseconds; `rev` is the revision of the message that caused the event.
"""

from __future__ import annotations

import asyncio
from collections import deque
from typing import Final, Literal

from msgspec import Struct

from fanout.device.actions import Cancelled, Closed, Prefetched

# An app that does not read its events loses the oldest; the callbacks lose nothing.
BACKLOG_MAX: Final = 1_000

# connecting: a first socket is being opened. connected: a gateway has welcomed the device. waiting: until the next
# try. ended: for good.
State = Literal["connecting", "connected", "waiting", "ended"]
# message: what a gateway sent could not be read. token: the app's get_token failed. fetch: a bundle could not be had.
# storage: the cache failed. callback: the app's code raised. The JavaScript SDK uses the same words.
ErrorKind = Literal["message", "token", "fetch", "storage", "callback"]


class Connecting(Struct, frozen=True):
    """There is no connection, and one is being opened.

    Attributes:
        attempt: Counts from 1 since the last connection.
    """

    attempt: int


class Connected(Struct, frozen=True):
    """A gateway has welcomed this device; it comes again when the device has moved to another.

    Attributes:
        session: Names the connection in the gateway's logs; show it in diagnostics.
    """

    session: str


class Disconnected(Struct, frozen=True):
    """There is no connection.

    Attributes:
        reason: In words, for a log.
        code: WebSocket close code, None if the connection was never opened.
        status: HTTP status that refused the handshake.
        retry_in_ms: When the device tries again; None: it never will (the gateway forbids it, see `Device.ended`).
    """

    reason: str
    code: int | None
    status: int | None
    retry_in_ms: float | None


class Error(Struct, frozen=True):
    """Something went wrong, and the device goes on. At most one a second of each kind; the count misses none.

    Attributes:
        kind: ``message``, ``token``, ``fetch``, ``storage`` or ``callback``.
        detail: In words, for a log; cut to 300 printable characters.
        count: Errors of this kind since the device was made, this one included.
    """

    kind: ErrorKind
    detail: str
    count: int


class Activated(Struct, frozen=True):
    """Show this stage now.

    Attributes:
        stage: Which stage of the bundle.
        bundle: Digest of the content, None if there is none to be had.
        content: The bundle, JSON text of all stages; None asks for the app's generic presentation.
        late_ms: How late this is against the device's own slot.
    """

    campaign: str
    rev: int
    stage: str
    bundle: str | None
    content: str | None
    late_ms: float


class Rehearsed(Struct, frozen=True):
    """What `Activated` would have been, in a rehearsal: show nothing."""

    campaign: str
    rev: int
    stage: str
    bundle: str | None
    late_ms: float


Event = Connecting | Connected | Disconnected | Error | Prefetched | Activated | Rehearsed | Cancelled | Closed


class Stats(Struct):
    """What a device has done since it was made.

    Attributes:
        messages: Read, of types this version knows.
        malformed: That could not be read, and were passed over.
        flips: Told to the app to show; rehearsals are not counted.
        fetches: Requests for bundles.
        fetches_failed: Of those, the ones that brought nothing or something wrong.
        reconnects: Welcomes after the first, moves to another gateway included.
        jumps: Times the device noticed that it had slept, or its event loop was held up.
    """

    messages: int = 0
    malformed: int = 0
    flips: int = 0
    fetches: int = 0
    fetches_failed: int = 0
    reconnects: int = 0
    jumps: int = 0


class Events:
    """An async iterator over a device's events from the moment it was made until the device is closed."""

    def __init__(self) -> None:
        self._backlog: deque[Event] = deque(maxlen=BACKLOG_MAX)
        self._news = asyncio.Event()
        self._over = False

    def put(self, event: Event) -> None:
        """Add an event."""
        self._backlog.append(event)
        self._news.set()

    def end(self) -> None:
        """Let the iterator stop after what it still holds."""
        self._over = True
        self._news.set()

    def __aiter__(self) -> Events:
        return self

    async def __anext__(self) -> Event:
        while not self._backlog:
            if self._over:
                raise StopAsyncIteration
            self._news.clear()
            await self._news.wait()
        return self._backlog.popleft()
