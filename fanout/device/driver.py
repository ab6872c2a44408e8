"""Drives one device's state machine on a real network: its sockets, its fetches, its one timer.

Decides nothing about campaigns, that is `fanout.device.machine`; and knows nothing of the app, which is
behind ``emit``, the cache and the token.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Coroutine
from contextlib import aclosing
from typing import Final, Protocol

from fanout import wire
from fanout.device.actions import Action, Drop, Fetch, Flip, Reopen, Send, Store
from fanout.device.events import Activated, Connected, Connecting, Disconnected, Event, Rehearsed, Stats
from fanout.device.keeping import Keeping
from fanout.device.link import OPEN_TIMEOUT_S, Link, NotOpened, open_link
from fanout.device.machine import DeviceMachine
from fanout.device.origin import FetchFailed, Origin
from fanout.device.timing import JUMP_MS, Clock, Jumps
from fanout.device.troubles import Troubles

HTTP_UNAUTHORIZED: Final = 401
# A device that wakes from sleep notices within this time, also when nothing is due and nothing comes.
LOOK_MS: Final = 10_000.0


class Tokens(Protocol):
    """Where the device's token comes from."""

    def get(self) -> Awaitable[str]:
        """Return the token; whatever this raises counts as a connection that failed."""
        ...

    def refused(self) -> None:
        """Forget it: a gateway did not want it any more."""
        ...


class Driver:
    """Runs one machine.

    Args:
        machine: Of this device, fresh.
        url: The gateway, with path.
        encoding: Of the messages.
        tokens: For the handshakes.
        keeping: Holds what the machine was told it holds.
        origin: For bundles that do not come inline.
        emit: Hands an event to the app; never raises.
        troubles: Told what went wrong.
        stats: Where to count.
        clock: The timers.
    """

    def __init__(
        self,
        machine: DeviceMachine,
        *,
        url: str,
        encoding: wire.Encoding,
        tokens: Tokens,
        keeping: Keeping,
        origin: Origin,
        emit: Callable[[Event], None],
        troubles: Troubles,
        stats: Stats,
        clock: Clock,
    ) -> None:
        self._machine = machine
        self._url = url
        self._encoding = encoding
        self._tokens = tokens
        self._keeping = keeping
        self._origin = origin
        self._emit = emit
        self._troubles = troubles
        self._stats = stats
        self._mono_ms = clock.mono_ms
        self._jumps = Jumps(clock)
        self._link: Link | None = None  # the newest that was welcomed
        self._opening = False  # another is on its way
        self._attempt = 0  # sockets opened since the last was lost
        self._heard_ms = float("-inf")  # when the last message came, monotonic
        self._connect_at: float | None = None  # when to open one, monotonic ms
        self._over = False  # a gateway said: never again
        self._outbox: deque[wire.FromDevice] = deque()  # what the writer has not sent yet
        self._wake = asyncio.Event()  # the instants may have changed
        self._mail = asyncio.Event()  # the outbox is not empty
        self._started: set[asyncio.Task[None]] = set()  # everything that runs beside `_drive`

    async def run(self) -> None:
        """Stay connected and act on time; returns only when a gateway forbids to come back."""
        async with asyncio.TaskGroup() as group:
            self._group = group
            self._start(self._write())
            await self._drive()
            for task in self._started:
                task.cancel()

    def post(self, message: wire.FromDevice) -> None:
        """Send a message on the newest link; without one it is lost."""
        if self._link is not None:
            self._outbox.append(message)
            self._mail.set()

    def _start(self, work: Coroutine[None, None, None]) -> None:
        task = self._group.create_task(work)
        self._started.add(task)
        task.add_done_callback(self._started.discard)

    # --- Time

    async def _drive(self) -> None:
        self._connect_at = asked_ms = self._mono_ms()
        while not self._over:
            now = self._mono_ms()
            if self._jumps.look() or self._held_up(asked_ms, now):
                self._distrust(now)
            if self._connect_at is not None and self._connect_at <= now:
                self._connect_at = None
                self._open()
            self._act(self._machine.due(now))
            self._wake.clear()
            planned = [at for at in (self._machine.next_due_ms(), self._connect_at) if at is not None]
            now = self._mono_ms()
            asked_ms = max(now, min([now + LOOK_MS, *planned]))
            try:
                async with asyncio.timeout((asked_ms - now) / 1000):
                    await self._wake.wait()
            except TimeoutError:
                pass

    def _held_up(self, asked_ms: float, now_ms: float) -> bool:
        """Tell whether the loop was late by so much that a cancel may lie unread in the socket's buffer.

        If something was read since, then the buffer was, too.
        """
        return self._link is not None and now_ms - asked_ms > JUMP_MS and self._heard_ms < asked_ms

    def _distrust(self, now_ms: float) -> None:
        self._stats.jumps += 1
        self._act(self._machine.distrusted(now_ms))

    # --- Links

    def _open(self) -> None:
        # One at a time: if it fails, what comes next is planned then.
        if not self._opening:
            self._opening = True
            if self._link is None:
                self._attempt += 1
                self._emit(Connecting(self._attempt))
            self._start(self._live())

    async def _live(self) -> None:
        """Open a link and read it until it is lost."""
        try:
            token = await self._token()
            link = await open_link(self._url, token, self._encoding, self._machine.resume())
        except NotOpened as exc:
            self._failed(str(exc), status=exc.status, retry_after_ms=exc.retry_after_ms)
            return
        except Exception as exc:  # noqa: BLE001 - a fault of the library below: time may heal it
            self._failed(repr(exc))
            return
        try:
            async with aclosing(link.messages(OPEN_TIMEOUT_S, self._malformed)) as messages:
                async for message in messages:
                    self._take(link, message)
        finally:
            await link.close()
        self._left(link)

    async def _token(self) -> str:
        try:
            async with asyncio.timeout(OPEN_TIMEOUT_S):
                return await self._tokens.get()
        except Exception as exc:
            self._troubles.note("token", repr(exc), cause=exc)
            raise NotOpened(f"no token: {exc!r}") from exc

    def _malformed(self, detail: str) -> None:
        self._stats.malformed += 1
        self._troubles.note("message", detail)

    def _take(self, link: Link, message: wire.ToDevice) -> None:
        now = self._heard_ms = self._mono_ms()
        self._stats.messages += 1
        if self._jumps.look():
            # First, or this message would seem to say that all is well.
            self._distrust(now)
        if link.welcomed:
            self._act(self._machine.received(message, now))
        elif isinstance(message, wire.Welcome):
            self._welcomed(link, message, now)
        # Anything else before a welcome counts for nothing.

    def _welcomed(self, link: Link, message: wire.Welcome, now: float) -> None:
        if self._machine.server_ms(now) is not None:
            self._stats.reconnects += 1  # the clock is known: there was a welcome before
        old, self._link = self._link, link
        link.welcomed, self._opening, self._connect_at = True, False, None
        self._act(self._machine.received(message, now))
        self._emit(Connected(message.session))
        if old is not None:
            # The new one holds; now the old one may break.
            self._start(old.close())

    def _left(self, link: Link) -> None:
        if link is self._link:
            self._link, self._attempt = None, 0
            self._outbox.clear()
            self._lost(link.reason, code=link.code)
        elif not link.welcomed:
            self._failed(link.reason, code=link.code)

    def _failed(
        self,
        reason: str,
        *,
        code: int | None = None,
        status: int | None = None,
        retry_after_ms: int | None = None,
    ) -> None:
        """A link was not to be had."""
        self._opening = False
        if self._link is None:
            self._lost(reason, code=code, status=status, retry_after_ms=retry_after_ms)
            return
        self._refused(code, status)
        self._machine.reopen_failed(self._mono_ms(), code=code, status=status, retry_after_ms=retry_after_ms)
        self._wake.set()

    def _lost(
        self,
        reason: str,
        *,
        code: int | None = None,
        status: int | None = None,
        retry_after_ms: int | None = None,
    ) -> None:
        """There is no link any more, or still none."""
        self._refused(code, status)
        now = self._mono_ms()
        at = self._machine.disconnected(now, code=code, status=status, retry_after_ms=retry_after_ms)
        self._connect_at = at
        self._over = at is None
        self._emit(Disconnected(reason, code, status, None if at is None else at - now))
        self._wake.set()

    def _refused(self, code: int | None, status: int | None) -> None:
        if status == HTTP_UNAUTHORIZED or code == wire.CloseCode.TOKEN_EXPIRED:
            self._tokens.refused()

    async def _write(self) -> None:
        while True:
            await self._mail.wait()
            while self._outbox and self._link is not None:
                await self._link.write(self._outbox.popleft())
            self._mail.clear()

    # --- Actions

    def _act(self, actions: list[Action]) -> None:
        for action in actions:
            if isinstance(action, Send):
                self.post(action.message)
            elif isinstance(action, Flip):
                self._flip(action)
            elif isinstance(action, Fetch):
                self._start(self._fetch(action))
            elif isinstance(action, Store):
                self._keeping.put(action.sha256, action.content)
            elif isinstance(action, Drop):
                self._keeping.drop(action.digests)
            elif isinstance(action, Reopen):
                self._open()
            else:
                self._emit(action)
        self._wake.set()

    def _flip(self, flip: Flip) -> None:
        late_ms = flip.late_ms
        if flip.shadow:
            self._emit(Rehearsed(flip.campaign, flip.rev, flip.stage, flip.bundle, late_ms))
            return
        self._stats.flips += 1
        content = None if flip.bundle is None else self._keeping.get(flip.bundle)
        self._emit(Activated(flip.campaign, flip.rev, flip.stage, flip.bundle, content, late_ms))

    async def _fetch(self, fetch: Fetch) -> None:
        sha256, began = fetch.bundle.sha256, self._mono_ms()
        self._stats.fetches += 1
        try:
            content = await self._origin.get(fetch.bundle)
        except Exception as exc:  # noqa: BLE001 - the HTTP client may be the app's own, and closed
            failed = exc if isinstance(exc, FetchFailed) else FetchFailed(repr(exc))
            self._stats.fetches_failed += 1
            cause = None if failed is exc else exc
            self._troubles.note("fetch", f"campaign {fetch.campaign}: {failed}", cause=cause)
            self._act(self._machine.fetch_failed(sha256, self._mono_ms(), retry_after_ms=failed.retry_after_ms))
            return
        now = self._mono_ms()
        self._keeping.put(sha256, content)
        self._act(self._machine.stored(sha256, now, took_ms=now - began))
