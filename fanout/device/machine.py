"""One device as a pure state machine: what it knows, what is due when, what to do about each event.

It does no I/O, starts no timer and reads no clock. Whoever drives it (`fanout.device.client.Device` with a
real socket, a load generator with thousands of them, a test) hands in events with the monotonic time, carries
out the actions it gets back, in order, and asks `next_due_ms` when to call `due`:

    actions = machine.received(message, mono_ms)
    ...
    if (at := machine.next_due_ms()) is not None and at <= mono_ms:
        actions = machine.due(mono_ms)

Flips, fetches and `Reopen` come from `due` alone; so after every call, ask `next_due_ms` again. All instants
are kept by the server's clock, so a better estimate of it moves them all. Memory is what shapes the rest:
no timers, no closures, containers only once something is in them.

The theory is in its parts: `lanes` (which messages count), `campaigns` (what they mean), `shelf` (bundles),
`liveness` (silence, doubt, backoff) and `clock`.
"""

from __future__ import annotations

import random
from collections.abc import Iterable
from typing import Final, NamedTuple

from fanout import limits, wire
from fanout.device.actions import Action, Reopen, Send
from fanout.device.campaigns import Campaigns
from fanout.device.clock import ServerClock
from fanout.device.liveness import DEFAULT_RECONNECT, Liveness

_shared_rng: Final = random.Random()


class Resume(NamedTuple):
    """What a device tells about itself in the connect query."""

    have: list[str]
    since: int

    def query(self) -> dict[str, str]:
        """Return the query's parameters, without those that say nothing."""
        query = {}
        if self.have:
            query["have"] = ",".join(self.have)
        if self.since:
            query["since"] = str(self.since)
        return query


class DeviceMachine:
    """One device.

    Args:
        device_id: The token's subject; it decides the slots.
        held: Digests of the bundles the driver's cache holds already.
        rng: Source of jitter; share one among many machines (each takes 2.5 KB).
        reconnect: How to back off until the first welcome says it.
    """

    __slots__ = ("_campaigns", "_clock", "_device_id", "_have", "_live", "_rng", "_since")

    def __init__(
        self,
        device_id: str,
        *,
        held: Iterable[str] = (),
        rng: random.Random = _shared_rng,
        reconnect: wire.ReconnectPolicy = DEFAULT_RECONNECT,
    ) -> None:
        self._device_id = device_id
        self._rng = rng
        self._clock = ServerClock()
        self._live = Liveness(reconnect)
        self._campaigns = Campaigns(device_id, held)
        self._since = 0  # newest revision received
        self._have = self.held  # the bundles that the newest connection's query names

    # --- What a driver may ask

    @property
    def device_id(self) -> str:
        """The token's subject."""
        return self._device_id

    @property
    def connected(self) -> bool:
        """A socket was welcomed and has not been lost."""
        return self._live.connected

    @property
    def held(self) -> tuple[str, ...]:
        """Digests of the bundles this device counts on."""
        return self._campaigns.shelf.held

    def shown(self, campaign: str) -> tuple[str, str | None] | None:
        """Return the stage and bundle on the screen for this campaign, None if nothing is."""
        lanes = self._campaigns.find(campaign)
        return lanes.shown if lanes else None

    def server_ms(self, mono_ms: float) -> float | None:
        """Return the server's time, Unix ms, as this device estimates it; None before the first welcome."""
        return self._clock.server_ms(mono_ms) if self._clock.known else None

    def resume(self) -> Resume:
        """Return what to put into the query of the connection that is opened now.

        What is stored between this and its welcome, the gateway has not been told: it is reported then.
        """
        self._have = self.held[-limits.HAVE_MAX :]
        return Resume(list(self._have), self._since)

    def next_due_ms(self) -> float | None:
        """Return when to call `due` next, monotonic ms (it may be past); None if nothing is planned."""
        soonest = min(self._campaigns.instants(armed=not self._live.doubt), default=None)
        timer = self._live.next_ms()
        if soonest is None:
            return timer
        due = self._clock.mono_ms(soonest)
        return due if timer is None or due < timer else timer

    # --- Events

    def received(self, message: wire.ToDevice, mono_ms: float) -> list[Action]:
        """Take in a message from any of the device's sockets.

        Args:
            message: As decoded; machines may share it.
            mono_ms: When it arrived.
        """
        actions: list[Action] = []
        doubt_began = self._live.hear(mono_ms)
        if isinstance(message, wire.Welcome):
            self._welcomed(message, mono_ms, actions)
        elif isinstance(message, wire.Beacon):
            self._beacon(message, mono_ms, actions)
        else:
            if doubt_began:
                self._sync(actions)
            if isinstance(message, wire.Reconnect):
                self._live.move(message.within_ms, mono_ms, self._rng)
            elif self._clock.known:
                self._apply(message, self._clock.server_ms(mono_ms), actions)
        return self._tell(actions)

    def due(self, mono_ms: float) -> list[Action]:
        """Do what has become due."""
        actions: list[Action] = []
        ask, reopen = self._live.tick(mono_ms, self._rng)
        if ask:
            self._sync(actions)
        if self._clock.known:
            now_ms = self._clock.server_ms(mono_ms)
            if not self._live.doubt:
                self._campaigns.flip(now_ms, actions)
            self._campaigns.fetch(now_ms, actions)
        if reopen:
            actions.append(Reopen())
        return self._tell(actions)

    def stored(self, sha256: str, mono_ms: float, *, via: wire.Via = "fetch", took_ms: float = 0) -> list[Action]:
        """Take in that the driver's cache now holds this bundle, its digest checked.

        Args:
            sha256: The bundle.
            mono_ms: Now.
            via: How it came.
            took_ms: How long the fetch took, for the report.
        """
        actions: list[Action] = []
        self._campaigns.stored(sha256, via, took_ms, actions)
        return self._tell(actions)

    def fetch_failed(self, sha256: str, mono_ms: float, *, retry_after_ms: int = 0) -> list[Action]:
        """Take in that a fetch failed or brought the wrong bytes; it is tried again a few times.

        Args:
            sha256: The bundle.
            mono_ms: Now.
            retry_after_ms: What the origin asked for, if it did.
        """
        actions: list[Action] = []
        now_ms = self._clock.server_ms(mono_ms)
        self._campaigns.fetch_failed(sha256, now_ms, retry_after_ms, self._rng, actions)
        return self._tell(actions)

    def distrusted(self, mono_ms: float) -> list[Action]:
        """Take in that time jumped: the device slept, or its timers stood still for some other reason.

        A cancel may have passed it by, so nothing that is armed acts until a beacon or a welcome was heard; what
        became due meanwhile acts as latecomers do. Call it before `due`, and before `received` for what came after.

        Args:
            mono_ms: Now.
        """
        actions: list[Action] = []
        if self._live.distrust(mono_ms):
            self._sync(actions)
        return actions

    def evicted(self, sha256: str) -> None:
        """Take in that the driver's cache no longer holds this bundle."""
        self._campaigns.shelf.lose([sha256])

    def disconnected(
        self,
        mono_ms: float,
        *,
        code: int | None = None,
        status: int | None = None,
        retry_after_ms: int | None = None,
    ) -> float | None:
        """Take in that there is no socket: the last one was lost, or a new one could not be opened.

        Args:
            mono_ms: Now.
            code: WebSocket close code, if one came.
            status: HTTP status, if the handshake was refused.
            retry_after_ms: The refusal's Retry-After.
        Returns:
            When to open the next one, monotonic ms; None: never.
        """
        self._live.lose(mono_ms)
        return self._live.retry_ms(mono_ms, self._rng, code, status, retry_after_ms)

    def reopen_failed(
        self,
        mono_ms: float,
        *,
        code: int | None = None,
        status: int | None = None,
        retry_after_ms: int | None = None,
    ) -> None:
        """Take in that `Reopen` failed while the old socket still lives; another comes when it is time."""
        self._live.reopen_ms = self._live.retry_ms(mono_ms, self._rng, code, status, retry_after_ms)

    # --- The connection

    def _welcomed(self, message: wire.Welcome, mono_ms: float, actions: list[Action]) -> None:
        self._clock.sample(message.now, mono_ms)
        self._live.welcome(message, mono_ms)
        self._campaigns.resume(self._have, actions)
        now_ms = self._clock.server_ms(mono_ms)
        for told in message.state:
            self._apply(told, now_ms, actions)
        self._trust(now_ms, fresh=True)

    def _beacon(self, message: wire.Beacon, mono_ms: float, actions: list[Action]) -> None:
        self._clock.sample(message.now, mono_ms)
        if message.rev > self._since and not self._live.syncing:
            self._sync(actions)
            return
        # Either nothing is missing, or this is the beacon that ends a sync's answer: then whatever there was
        # up to its revision has been said, even if that was nothing for this device.
        self._since = max(self._since, message.rev)
        self._live.syncing = False
        self._trust(self._clock.server_ms(mono_ms), fresh=False)

    def _sync(self, actions: list[Action]) -> None:
        if self._live.connected:
            self._live.syncing = True
            actions.append(Send(wire.Sync(self._since)))

    def _trust(self, now_ms: float, *, fresh: bool) -> None:
        """End the doubt: what became due meanwhile is late, and acts as latecomers do.

        Args:
            now_ms: The server's clock.
            fresh: A new connection, so what had been given up gets another chance, too.
        """
        doubted, self._live.doubt = self._live.doubt, False
        if doubted or fresh:
            self._campaigns.trust(now_ms, doubted=doubted)

    def _apply(self, message: wire.StateMessage, now_ms: float, actions: list[Action]) -> None:
        self._since = max(self._since, message.rev)
        self._campaigns.apply(message, now_ms, actions)

    def _tell(self, actions: list[Action]) -> list[Action]:
        # Without a socket there is nobody to tell; the next welcome's query and resume reports say it all.
        if self._live.connected:
            return actions
        return [action for action in actions if not isinstance(action, Send)]
