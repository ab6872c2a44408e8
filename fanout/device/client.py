"""`Device`, what an app uses: its callbacks, events and state.

Sockets, fetches and time are the business of `fanout.device.driver`.
"""

from __future__ import annotations

import asyncio
import inspect
import random
from collections.abc import Awaitable, Callable, Iterable
from copy import copy
from functools import partial
from types import TracebackType
from typing import Any, TypeVar
from urllib.parse import urlsplit
from weakref import WeakSet

import httpx

from fanout import limits, wire
from fanout.device.actions import Cancelled, Closed, Prefetched
from fanout.device.cache import Cache, MemoryCache
from fanout.device.driver import Driver
from fanout.device.events import (
    Activated,
    Connected,
    Connecting,
    Disconnected,
    Error,
    Event,
    Events,
    Rehearsed,
    State,
    Stats,
)
from fanout.device.keeping import Keeping
from fanout.device.link import OPEN_TIMEOUT_S, subject
from fanout.device.liveness import DEFAULT_RECONNECT
from fanout.device.machine import DeviceMachine
from fanout.device.origin import Origin, default_origin
from fanout.device.timing import Clock, SystemClock
from fanout.device.tokens import TokenKeeper
from fanout.device.troubles import Troubles
from fanout.errors import FanoutError, InvalidInput
from fanout.slots import backoff_ms

E = TypeVar("E")
Callback = Callable[[E], Awaitable[None] | None]


class Ended(FanoutError):
    """The device has stopped for good: it was closed, or a gateway forbade it to come back.

    Attributes:
        code: The WebSocket close code that forbade it, from 4500 on; None if the app closed the device.
    """

    def __init__(self, detail: str, code: int | None = None) -> None:
        super().__init__(detail)
        self.code = code


def _names(topics: Iterable[str]) -> list[str]:
    names, most, chars = list(topics), limits.TOPICS_PER_DEVICE_MAX, limits.NAME_CHARS_MAX
    if not 1 <= len(names) <= most or not all(isinstance(name, str) and 1 <= len(name) <= chars for name in names):
        raise InvalidInput(f"topics are {str(names)[:200]}; send 1 to {most} names of 1 to {chars} characters")
    return names


class Device:
    """A device that stays connected, keeps what it is sent, and flips at its own slot.

    Use it as an async context manager. Callbacks may be plain functions or coroutines; one that raises is
    an `Error` and changes nothing else. All events can be read with ``async for event in device``, too, which ends
    when the device does: `ended` then says why.

    Args:
        url: The gateway, ``ws://host:port`` or ``wss://…``; the protocol's path is added if there is none.
        get_token: Returns a token; called first, and again whenever a gateway has refused or expired the last.
        origin_url: Where bundles without a URL of their own are; the gateway's host if None.
        device_id: The token's subject, for tokens that cannot be read here.
        encoding: Of the messages; msgpack is smaller.
        cache: Where bundles are kept; in memory if None. `FileCache` outlives the process.
        on_prefetched: A bundle is there.
        on_activate: Show a stage. Not called in a rehearsal.
        on_cancel: What was armed is not coming.
        on_close: The campaign is over; stop showing it.
        on_rehearse: What would have been shown, in a rehearsal.
        on_state: Connecting, connected, or not: see `Connecting`, `Connected`, `Disconnected`.
        on_error: Something went wrong, and the device goes on.
        reconnect: How to back off until a gateway says it.
        rng: Source of jitter.
        http: For fetching bundles; the device makes and closes its own, without proxies, if None.
        clock: The timers it lives by; the machine's own if None.
    Raises:
        InvalidInput: A URL is not one of a gateway, or of an origin.
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
        on_rehearse: Callback[Rehearsed] | None = None,
        on_state: Callback[Connecting | Connected | Disconnected] | None = None,
        on_error: Callback[Error] | None = None,
        reconnect: wire.ReconnectPolicy = DEFAULT_RECONNECT,
        rng: random.Random | None = None,
        http: httpx.AsyncClient | None = None,
        clock: Clock | None = None,
    ) -> None:
        parts = urlsplit(url)
        if parts.scheme not in ("ws", "wss") or not parts.hostname or parts.query:
            raise InvalidInput(f"url is {url!r}; send ws://host:port or wss://host:port, without a query")
        self._url = url if parts.path not in ("", "/") else f"{parts.scheme}://{parts.netloc}{wire.PATH}"
        if origin_url is not None and urlsplit(origin_url).scheme not in ("http", "https"):
            raise InvalidInput(f"origin_url is {origin_url!r}; send http://host:port or https://host:port")
        self._origin_url = origin_url or default_origin(url)
        self._tokens = TokenKeeper(get_token)
        self._device_id = device_id
        self._encoding = encoding
        self._cache: Cache = cache if cache is not None else MemoryCache()
        self._listeners: dict[type[Event], Callable[[Any], Any] | None] = {
            Prefetched: on_prefetched,
            Activated: on_activate,
            Rehearsed: on_rehearse,
            Cancelled: on_cancel,
            Closed: on_close,
            Connecting: on_state,
            Connected: on_state,
            Disconnected: on_state,
            Error: on_error,
        }
        self._reconnect = reconnect
        self._rng = rng or random.Random()
        self._http = http
        self._clock: Clock = clock or SystemClock()
        self._troubles = Troubles(self._emit, self._clock.mono_ms)
        self._stats = Stats()
        self._driver: Driver | None = None  # once the device id is known
        self._machine: DeviceMachine | None = None  # likewise
        self._iterators: WeakSet[Events] = WeakSet()  # as long as somebody reads them
        self._callbacks: set[asyncio.Future[None]] = set()  # callbacks that are coroutines, running
        self._connected = asyncio.Event()
        self._state: State = "connecting"
        self._ended: Ended | None = None
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
        if caller := asyncio.current_task():
            self._callbacks.discard(caller)  # a callback that closes the device goes on to its own end
        self._running.cancel()
        await asyncio.wait([self._running])
        if not self._running.cancelled() and (failure := self._running.exception()):
            raise failure

    @property
    def machine(self) -> DeviceMachine | None:
        """The state behind it, to look at; None until the first token has come."""
        return self._machine

    @property
    def state(self) -> State:
        """``connecting``, ``connected``, ``waiting`` (until the next try) or ``ended``."""
        return self._state

    @property
    def ended(self) -> Ended | None:
        """Why the device has stopped for good; None while it has not."""
        return self._ended

    def stats(self) -> Stats:
        """Return what the device has done so far."""
        return copy(self._stats)

    def shown(self, campaign: str) -> tuple[str, str | None] | None:
        """Return the stage shown and its bundle's digest (None: the generic one), or None if nothing is."""
        return self._machine.shown(campaign) if self._machine else None

    async def wait_connected(self) -> None:
        """Wait until a gateway has welcomed the device; returns at once while it is connected.

        Raises:
            Ended: The device has stopped for good, or does so while one waits.
        """
        await self._connected.wait()
        if self._ended:
            raise self._ended

    async def wait_ended(self) -> Ended:
        """Wait until the device has stopped for good, and return why: for an app that uses callbacks alone."""
        assert self._running is not None, "a device is started by `async with`"
        await asyncio.wait([self._running])
        assert self._ended is not None
        return self._ended

    def events(self) -> Events:
        """Return an iterator over the events from now on; it ends when the device does."""
        events = Events()
        if self._ended:
            events.end()
        self._iterators.add(events)
        return events

    def __aiter__(self) -> Events:
        return self.events()

    def subscribe(self, topics: Iterable[str]) -> None:
        """Receive these topics, too, on this connection; the next one starts with the token's again.

        Without a connection nothing happens.

        Raises:
            InvalidInput: Not 1 to 16 names.
        """
        self._post(wire.Subscribe(_names(topics)))

    def unsubscribe(self, topics: Iterable[str]) -> None:
        """Receive these topics no longer, on this connection; as `subscribe`."""
        self._post(wire.Unsubscribe(_names(topics)))

    def _post(self, message: wire.FromDevice) -> None:
        if self._driver is not None:
            self._driver.post(message)

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
                keeping=Keeping(self._cache, machine.evicted, self._troubles),
                origin=Origin(http, self._origin_url),
                emit=self._emit,
                troubles=self._troubles,
                stats=self._stats,
                clock=self._clock,
            )
            await self._driver.run()
        finally:
            self._state = "ended"
            self._ended = self._ended or Ended("the device was closed, or failed; `close` raises the failure")
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
            except Exception as exc:  # noqa: BLE001 - the app's own; it is noted with its traceback
                self._troubles.note("token", repr(exc), cause=exc)
                self._tokens.refused()
                wait_ms = backoff_ms(failures, self._reconnect.base_ms, self._reconnect.cap_ms, self._rng)
                self._emit(Disconnected(f"no token: {exc!r}", None, None, wait_ms))
                failures += 1
                await asyncio.sleep(wait_ms / 1000)
        try:
            held = list(self._cache.digests())
        except Exception as exc:  # noqa: BLE001 - as above
            self._troubles.note("storage", f"could not say what is kept: {exc!r}", place="digests", cause=exc)
            held = []
        return DeviceMachine(self._device_id, held=held, rng=self._rng, reconnect=self._reconnect)

    def _emit(self, event: Event) -> None:
        if isinstance(event, Connecting):
            self._state = "connecting"
        elif isinstance(event, Connected):
            self._state = "connected"
            self._connected.set()
        elif isinstance(event, Disconnected):
            self._connected.clear()
            self._state = "waiting"
            if event.retry_in_ms is None:
                self._state = "ended"
                self._ended = Ended(f"a gateway forbids this device to come back: {event.reason}", event.code)
        for events in self._iterators:
            events.put(event)
        if callback := self._listeners.get(type(event)):
            self._call(callback, event)

    def _call(self, callback: Callback[E], event: E) -> None:
        try:
            result = callback(event)
            if inspect.isawaitable(result):
                future = asyncio.ensure_future(result)
                self._callbacks.add(future)
                future.add_done_callback(partial(self._called, event))
        except Exception as exc:  # noqa: BLE001 - as above
            self._raised(event, exc)

    def _called(self, event: object, future: asyncio.Future[None]) -> None:
        self._callbacks.discard(future)
        if not future.cancelled() and (failure := future.exception()):
            self._raised(event, failure)

    def _raised(self, event: object, failure: BaseException) -> None:
        name = type(event).__name__
        self._troubles.note("callback", f"the app failed on {name}: {failure!r}", place=name, cause=failure)
