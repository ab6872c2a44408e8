"""Drives one device's state machine on a real network: its sockets, its fetches, its one timer.

Decides nothing about campaigns, that is `fanout.device.machine`; and knows nothing of the app, which is
behind ``emit``, the cache and the token.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections import deque
from collections.abc import Awaitable, Callable, Coroutine
from contextlib import aclosing
from typing import Final, Protocol

from fanout import wire
from fanout.device.actions import Action, Drop, Fetch, Flip, Reopen, Send, Store
from fanout.device.cache import Cache
from fanout.device.events import Activated, Connected, Disconnected, Event, Rehearsed
from fanout.device.link import OPEN_TIMEOUT_S, Link, NotOpened, open_link
from fanout.device.machine import DeviceMachine
from fanout.device.origin import FetchFailed, Origin

log: Final = logging.getLogger("fanout.device")

HTTP_UNAUTHORIZED: Final = 401


class Tokens(Protocol):
    """Where the device's token comes from."""

    def get(self) -> Awaitable[str]:
        """Return the token; whatever this raises counts as a connection that failed."""
        ...

    def refused(self) -> None:
        """Forget it: a gateway did not want it any more."""
        ...


def mono_ms() -> float:
    """Return the monotonic timer, ms: the only clock a device reads."""
    return time.monotonic() * 1000


class Driver:
    """Runs one machine.

    Args:
        machine: Of this device, fresh.
        url: The gateway, with path.
        encoding: Of the messages.
        tokens: For the handshakes.
        cache: Holds what the machine was told it holds.
        origin: For bundles that do not come inline.
        emit: Hands an event to the app; never raises.
    """

    def __init__(
        self,
        machine: DeviceMachine,
        *,
        url: str,
        encoding: wire.Encoding,
        tokens: Tokens,
        cache: Cache,
        origin: Origin,
        emit: Callable[[Event], None],
    ) -> None:
        self._machine = machine
        self._url = url
        self._encoding = encoding
        self._tokens = tokens
        self._cache = cache
        self._origin = origin
        self._emit = emit
        self._link: Link | None = None  # the newest that was welcomed
        self._opening = False  # another is on its way
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
        self._connect_at = mono_ms()
        while not self._over:
            now = mono_ms()
            if self._connect_at is not None and self._connect_at <= now:
                self._connect_at = None
                self._open()
            self._act(self._machine.due(now))
            self._wake.clear()
            instants = [at for at in (self._machine.next_due_ms(), self._connect_at) if at is not None]
            try:
                async with asyncio.timeout(max(0.0, min(instants) - mono_ms()) / 1000 if instants else None):
                    await self._wake.wait()
            except TimeoutError:
                pass

    # --- Links

    def _open(self) -> None:
        # One at a time: if it fails, what comes next is planned then.
        if not self._opening:
            self._opening = True
            self._start(self._live())

    async def _live(self) -> None:
        """Open a link and read it until it is lost."""
        try:
            async with asyncio.timeout(OPEN_TIMEOUT_S):
                token = await self._tokens.get()
            link = await open_link(self._url, token, self._encoding, self._machine.resume())
        except NotOpened as exc:
            self._failed(str(exc), status=exc.status, retry_after_ms=exc.retry_after_ms)
            return
        except Exception as exc:
            # The app's get_token, or the library below: either way there is no connection, and time heals both.
            log.exception("no connection")
            self._failed(f"{type(exc).__name__}: {exc}")
            return
        try:
            async with aclosing(link.messages(OPEN_TIMEOUT_S)) as messages:
                async for message in messages:
                    self._take(link, message)
        finally:
            await link.close()
        self._left(link)

    def _take(self, link: Link, message: wire.ToDevice) -> None:
        if isinstance(message, wire.Welcome):
            old, self._link = self._link, link
            link.welcomed, self._opening, self._connect_at = True, False, None
            self._act(self._machine.received(message, mono_ms()))
            self._emit(Connected(message.session))
            if old is not None and old is not link:
                # The new one holds; now the old one may break.
                self._start(old.close())
        else:
            self._act(self._machine.received(message, mono_ms()))

    def _left(self, link: Link) -> None:
        if link is self._link:
            self._link = None
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
        self._machine.reopen_failed(mono_ms(), code=code, status=status, retry_after_ms=retry_after_ms)
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
        now = mono_ms()
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
                self._keep(action.sha256, action.content)
            elif isinstance(action, Drop):
                self._drop(action)
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
        content = None if flip.bundle is None else self._content(flip.bundle)
        self._emit(Activated(flip.campaign, flip.rev, flip.stage, flip.bundle, content, late_ms))

    async def _fetch(self, fetch: Fetch) -> None:
        sha256, began = fetch.bundle.sha256, mono_ms()
        try:
            content = await self._origin.get(fetch.bundle)
        except FetchFailed as exc:
            log.warning("bundle of %s: %s", fetch.campaign, exc)
            self._act(self._machine.fetch_failed(sha256, mono_ms(), retry_after_ms=exc.retry_after_ms))
            return
        now = mono_ms()
        self._keep(sha256, content)
        self._act(self._machine.stored(sha256, now, took_ms=now - began))

    # The cache may be the app's own, on a disk that is full: it must not stop the device.

    def _keep(self, sha256: str, content: str) -> None:
        try:
            for evicted in self._cache.put(sha256, content):
                self._machine.evicted(evicted)
        except Exception:
            log.exception("the cache could not keep bundle %s", sha256)

    def _drop(self, drop: Drop) -> None:
        try:
            self._cache.drop(drop.digests)
        except Exception:
            log.exception("the cache could not drop the bundles of %s", drop.campaign)

    def _content(self, sha256: str) -> str | None:
        try:
            content = self._cache.get(sha256)
        except Exception:
            log.exception("the cache could not return bundle %s", sha256)
            content = None
        if content is None:
            # Better the app's generic presentation at the right moment than nothing.
            log.error("bundle %s is gone from the cache", sha256)
            self._machine.evicted(sha256)
        return content
