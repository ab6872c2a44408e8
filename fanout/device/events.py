"""What a device tells its app. `Prefetched`, `Cancelled` and `Closed` come from the state machine as they are."""

from __future__ import annotations

import asyncio
from collections import deque
from typing import Final

from msgspec import Struct

from fanout.device.actions import Cancelled, Closed, Prefetched

# An app that does not read its events loses the oldest; the callbacks lose nothing.
BACKLOG_MAX: Final = 1_000


class Connected(Struct, frozen=True):
    """A gateway has welcomed this device."""

    session: str


class Disconnected(Struct, frozen=True):
    """There is no connection.

    Attributes:
        reason: In words, for a log.
        code: WebSocket close code, None if the connection was never opened.
        status: HTTP status that refused the handshake.
        retry_in_ms: When the device tries again; None: it never will.
    """

    reason: str
    code: int | None
    status: int | None
    retry_in_ms: float | None


class Activated(Struct, frozen=True):
    """Show this stage now.

    Attributes:
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


Event = Connected | Disconnected | Prefetched | Activated | Rehearsed | Cancelled | Closed


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
