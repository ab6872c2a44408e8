"""`Device`, what an app uses: the app's callbacks, events and token.

Sockets, fetches and time are the business of `fanout.device.driver`.
"""

from __future__ import annotations

import asyncio
import inspect
import logging
import random
from collections.abc import Awaitable, Callable, Iterable
from types import TracebackType
from typing import Final, TypeVar
from urllib.parse import urlsplit

import httpx

from fanout import wire
from fanout.device.actions import Cancelled, Closed, Prefetched
from fanout.device.cache import Cache, MemoryCache
from fanout.device.driver import Driver
from fanout.device.events import Activated, Connected, Disconnected, Event, Events
from fanout.device.link import OPEN_TIMEOUT_S, subject
from fanout.device.liveness import DEFAULT_RECONNECT
from fanout.device.machine import DeviceMachine
from fanout.device.origin import Origin, default_origin
from fanout.errors import FanoutError, InvalidInput
from fanout.slots import backoff_ms

log: Final = logging.getLogger("fanout.device")

E = TypeVar("E")
Callback = Callable[[E], Awaitable[None] | None]


class Ended(FanoutError):
    """The device was closed, or a gateway forbade it to come back."""


class TokenKeeper:
    """The token, from the app's ``get_token``, kept until a gateway refuses it: fetching one more often than
    that would only make a herd elsewhere."""

    def __init__(self, get_token: Callable[[], Awaitable[str] | str]) -> None:
        self._get_token = get_token
        self._token: str | None = None

    async def get(self) -> str:
        """Return the token; raises whatever the app's callback raises."""
        if self._token is None:
            token = self._get_token()
            self._token = token if isinstance(token, str) else await token
        return self._token

    def refused(self) -> None:
        """Ask the app for another next time."""
        self._token = None


class Device:
    """A device that stays connected, keeps what it is sent, and flips at its own slot.

    Use it as an async context manager. Callbacks may be plain functions or coroutines; one that raises is
    logged and changes nothing else. The same events can be read with ``async for event in device``.

    Args:
        url: The gateway, ``ws://host:port`` or ``wss://…``; the protocol's path is added if there is none.
        get_token: Returns a token; called first, and again whenever a gateway has refused or expired the last.
        origin_url: Where bundles without a URL of their own are; the gateway's host if None.
        device_id: The token's subject, for tokens that cannot be read here.
        encoding: Of the messages; msgpack is smaller.
        cache: Where bundles are kept.
        on_prefetched: A bundle is there.
        on_activate: Show a stage. Not called in a rehearsal.
        on_cancel: What was armed is not coming.
        on_close: The campaign is over; stop showing it.
        reconnect: How to back off until a gateway says it.
        rng: Source of jitter.
        http: For fetching bundles; the device makes and closes its own, without proxies, if None.
    Raises:
        InvalidInput: The URL is not one of a gateway.
    """

    def __init__(
        self,
        url: str,
        *,
        get_token: Callable[[], Awaitable[str] | str],
        origin_url: str | None = None,
        device_id: str | None = None,
        encoding: wire.Encoding = wire.Encoding.MSGPACK,
        cache: Cache | None = None,
        on_prefetched: Callback[Prefetched] | None = None,
        on_activate: Callback[Activated] | None = None,
        on_cancel: Callback[Cancelled] | None = None,
        on_close: Callback[Closed] | None = None,
        reconnect: wire.ReconnectPolicy = DEFAULT_RECONNECT,
        rng: random.Random | None = None,
        http: httpx.AsyncClient | None = None,
    ) -> None:
        parts = urlsplit(url)
        if parts.scheme not in ("ws", "wss") or not parts.hostname or parts.query:
            raise InvalidInput(f"url is {url!r}; send ws://host:port or wss://host:port, without a query")
        self._url = url if parts.path not in ("", "/") else f"{parts.scheme}://{parts.netloc}{wire.PATH}"
        self._origin_url = origin_url or default_origin(url)
        self._tokens = TokenKeeper(get_token)
        self._device_id = device_id
        self._encoding = encoding
        self._cache: Cache = cache if cache is not None else MemoryCache()
        self._on_prefetched = on_prefetched
        self._on_activate = on_activate
        self._on_cancel = on_cancel
        self._on_close = on_close
        self._reconnect = reconnect
        self._rng = rng or random.Random()
        self._http = http
        self._driver: Driver | None = None  # once the device id is known
        self._machine: DeviceMachine | None = None  # likewise
        self._iterators: list[Events] = []  # whoever reads events
        self._callbacks: set[asyncio.Future[None]] = set()  # callbacks that are coroutines, running
        self._connected = asyncio.Event()
        self._ended = False
        self._running: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Device:
        assert self._running is None, "a device is started once"
        self._running = asyncio.create_task(self._run(), name="fanout-device")
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    async def close(self) -> None:
        """Leave the gateway and stop. Cancelling this leaves nothing running either."""
        if self._running is None:
            return
        self._running.cancel()
        await asyncio.wait([self._running])
        if not self._running.cancelled() and (failure := self._running.exception()):
            raise failure

    @property
    def machine(self) -> DeviceMachine | None:
        """The state behind it, to look at; None until the first token has come."""
        return self._machine

    async def wait_connected(self) -> None:
        """Wait until a gateway has welcomed the device; returns at once while it is connected.

        Raises:
            Ended: The device has stopped for good, or does so while one waits.
        """
        await self._connected.wait()
        if self._ended:
            raise Ended("the device has stopped")

    def events(self) -> Events:
        """Return an iterator over the events from now on; it ends when the device does."""
        events = Events()
        if self._ended:
            events.end()
        self._iterators.append(events)
        return events

    def __aiter__(self) -> Events:
        return self.events()

    def subscribe(self, topics: Iterable[str]) -> None:
        """Receive these topics, too, on this connection; the next one starts with the token's again."""
        if self._driver is not None:
            self._driver.post(wire.Subscribe(list(topics)))

    def unsubscribe(self, topics: Iterable[str]) -> None:
        """Receive these topics no longer, on this connection."""
        if self._driver is not None:
            self._driver.post(wire.Unsubscribe(list(topics)))

    async def _run(self) -> None:
        http = self._http or httpx.AsyncClient(trust_env=False)
        try:
            machine = await self._begin()
            self._machine = machine
            self._driver = Driver(
                machine,
                url=self._url,
                encoding=self._encoding,
                tokens=self._tokens,
                cache=self._cache,
                origin=Origin(http, self._origin_url),
                emit=self._emit,
            )
            await self._driver.run()
        finally:
            self._ended = True
            self._connected.set()  # nobody is to wait for ever
            for events in self._iterators:
                events.end()
            for callback in list(self._callbacks):
                callback.cancel()
            if self._http is None:
                await http.aclose()

    async def _begin(self) -> DeviceMachine:
        """Wait for the first token: the device's id is in it."""
        failures = 0
        while self._device_id is None:
            try:
                async with asyncio.timeout(OPEN_TIMEOUT_S):
                    self._device_id = subject(await self._tokens.get())
            except Exception as exc:
                log.exception("no usable token")
                self._tokens.refused()
                wait_ms = backoff_ms(failures, self._reconnect.base_ms, self._reconnect.cap_ms, self._rng)
                self._emit(Disconnected(f"no usable token: {exc}", None, None, wait_ms))
                failures += 1
                await asyncio.sleep(wait_ms / 1000)
        return DeviceMachine(self._device_id, held=self._cache.digests(), rng=self._rng, reconnect=self._reconnect)

    def _emit(self, event: Event) -> None:
        if isinstance(event, Connected):
            self._connected.set()
        elif isinstance(event, Disconnected):
            self._connected.clear()
        for events in self._iterators:
            events.put(event)
        if isinstance(event, Prefetched):
            self._call(self._on_prefetched, event)
        elif isinstance(event, Activated):
            self._call(self._on_activate, event)
        elif isinstance(event, Cancelled):
            self._call(self._on_cancel, event)
        elif isinstance(event, Closed):
            self._call(self._on_close, event)

    def _call(self, callback: Callback[E] | None, event: E) -> None:
        if callback is None:
            return
        try:
            result = callback(event)
            if inspect.isawaitable(result):
                future = asyncio.ensure_future(result)
                self._callbacks.add(future)
                future.add_done_callback(self._called)
        except Exception:
            log.exception("the app failed on %s", event)

    def _called(self, future: asyncio.Future[None]) -> None:
        self._callbacks.discard(future)
        if not future.cancelled() and (failure := future.exception()):
            log.error("the app failed", exc_info=failure)
