"""Gateways, a network and devices in simulated time, around the real parts that decide.

Real are the bus `Reader` and `Publisher`, the gateway's `Cohorts` and `Snapshots`, the wire's encoding and the
devices' `DeviceMachine`. Simulated are the store, sockets, timers and the origin. Time is the store's clock.
"""

from __future__ import annotations

import random
from collections import deque
from collections.abc import Callable
from typing import Any, Final

from redis.exceptions import ConnectionError

from fanout import wire
from fanout.bus.presence import WorkerRecord
from fanout.bus.publication import Closed, Prefetched, Publication, message_for
from fanout.bus.reader import Reader
from fanout.device import Action, DeviceMachine, Fetch, Flip, Reopen, Send
from fanout.errors import StoreUnavailable
from gateway.cohorts import Cohorts
from gateway.state import Snapshots

from .simulated_store import Client, SimulatedStore, at_once

EPOCH_MS: Final = 1_760_000_000_000
BEACON_MS: Final = 10_000
POLICY: Final = wire.ReconnectPolicy(base_ms=500, cap_ms=20_000)
TOPIC: Final = "t"
JSON: Final = wire.Encoding.JSON


class Link:
    """One socket between a device and a gateway; both ends see messages in the order they were sent.

    Attributes:
        queue: Under way to the device.
        hole: True: what either side says vanishes, and neither has noticed.
        welcomed: The device has its welcome.
    """

    def __init__(self, device: Screen, gateway: SimulatedGateway, have: tuple[str, ...]) -> None:
        self.device = device
        self.gateway = gateway
        self.have = have
        self.queue: deque[bytes] = deque()
        self.hole = False
        self.welcomed = False
        self.opened_ms = device.now_ms
        self.index = 0  # for `Cohorts`
        self.cohort: Any = None  # likewise

    def write(self, message: wire.ToDevice) -> None:
        if not self.hole:
            self.queue.append(wire.encode(message, JSON))


class _Reader(Reader):
    """The real one, on the simulated clock."""

    store_ms: Callable[[], int]

    def now_ms(self) -> int:
        return self.store_ms()


class SimulatedGateway:
    """One worker: the real reader and state, and what `gateway.server` and `gateway.broadcaster` do with them.

    Attributes:
        inbox: What the subscription brought, not read yet; None without a subscription.
        paced: Prefetches whose turn has not come, and for whom they are.
        heard: Keys of the publications it was told in this life.
    """

    def __init__(self, world: Network, name: str) -> None:
        self._world = world
        self.name = name
        self.client = Client(world.store)
        self.reader = _Reader(lambda: self.client, name, self._publication)
        self.reader.store_ms = world.store_ms
        self.synced = False
        self.inbox: deque[bytes] | None = None
        self.links: list[Link] = []
        self.paced: deque[tuple[Prefetched, list[Link]]] = deque()
        self.heard: set[str] = set()
        self._cohorts = Cohorts(8)
        self._snapshots = Snapshots(self.reader.retained, BEACON_MS / 1000, POLICY)

    # --- The bus.

    def subscribe(self) -> None:
        """Open a subscription; its acknowledgement means: read the log."""
        self.client.patience = None
        self.inbox = deque([b"ack"])

    def cut(self) -> None:
        """Lose the subscription, and what it had brought."""
        self.inbox = None

    def probe(self) -> None:
        if self.inbox is not None:
            self.inbox.append(b"1 %d" % self._world.store.data.head)

    def hear(self, count: int) -> None:
        """Read what the subscription brought; a connection that breaks meanwhile ends it."""
        for _ in range(count):
            if not self.inbox:
                return
            data = self.inbox.popleft()
            try:
                if data == b"ack":
                    at_once(self.reader._catch_up(self.client))
                    self.synced = True
                elif data.count(b" ") == 1:
                    at_once(self.reader._probed(data, self.client))
                else:
                    at_once(self.reader._rung(data, self.client))
            except (ConnectionError, StoreUnavailable):
                self.cut()

    def record(self) -> WorkerRecord:
        return WorkerRecord(
            worker=self.name,
            started_ms=0,
            now_ms=0,
            health="ok",
            bus_rev=self.reader.position,
            connections=len(self.links),
        )

    # --- Devices.

    def _publication(self, publication: Publication) -> None:
        self._world.told(publication)
        self.heard.add(publication.key)
        self._snapshots.changed()
        if isinstance(publication, Prefetched):
            self.paced.append((publication, list(self.links)))
        else:
            self._write(publication, self.links)

    def _write(self, publication: Publication, links: list[Link]) -> None:
        message = message_for(publication, 0)
        assert message is not None
        for link in links:
            if link.cohort is not None:
                link.write(message)
        for cohort in self._cohorts:
            if cohort.members:
                cohort.rev = max(cohort.rev, publication.rev)

    def pace(self) -> None:
        """Let the next prefetch out, as late as this; one that no longer stands goes to nobody."""
        if self.paced:
            prefetch, links = self.paced.popleft()
            kept = self.reader.retained.get(prefetch.campaign, [])
            over = any(p.rev > prefetch.rev and isinstance(p, Prefetched | Closed) for p in kept)
            self._write(prefetch, [] if over else links)

    def welcome(self, link: Link, since: int) -> None:
        topics = frozenset({TOPIC})
        cohort = self._cohorts.find(JSON, topics, topics, (), self._snapshots.newest(topics))
        self._cohorts.join(link, cohort)  # type: ignore[arg-type]
        self.links.append(link)
        state = [wire.decode_to_device(data, JSON) for data in self._state(link, since)]
        link.write(wire.Welcome("s", self.reader.now_ms(), BEACON_MS / 1000, POLICY, state))  # type: ignore[arg-type]

    def _state(self, link: Link, since: int) -> list[bytes]:
        return self._snapshots.state(link.cohort, link.cohort.topics, since, link.have)

    def take(self, link: Link, message: wire.FromDevice) -> None:
        if isinstance(message, wire.Sync) and not link.hole:
            link.queue.extend(self._state(link, message.since))
            self.beacon(link)

    def beacon(self, link: Link) -> None:
        link.write(wire.Beacon(self.reader.now_ms(), link.cohort.rev))

    def leave(self, link: Link) -> None:
        if link.cohort is not None:
            self._cohorts.leave(link)  # type: ignore[arg-type]
            self.links.remove(link)


class Screen:
    """A device: the real machine on a timer of its own, which begins anywhere and drifts.

    Attributes:
        links: Its sockets, the newest last.
        flips: What it showed, and when by the true clock.
        stages: Revisions of the activations and cancels it has received, by campaign.
        memory: State messages it has received, to be replayed.
        retry_ms: When it means to connect; None while it has a socket.
    """

    def __init__(self, world: Network, number: int, ppm: int, offset_ms: int) -> None:
        self._world = world
        self.ppm = ppm
        self._offset_ms = offset_ms
        self.machine = DeviceMachine(f"tv-{number}", rng=random.Random(number))
        self.links: list[Link] = []
        self._welcomed: Link | None = None
        self.flips: list[tuple[float, Flip]] = []
        self.stages: dict[str, list[int]] = {}
        self.memory: list[wire.StateMessage] = []
        self.retry_ms: float | None = world.now_ms

    @property
    def mono_ms(self) -> float:
        return self._offset_ms + (self._world.now_ms - EPOCH_MS) * (1 + self.ppm / 1e6)

    @property
    def now_ms(self) -> float:
        return self._world.now_ms

    def due_ms(self) -> float | None:
        """Return when the machine wants to be called, on the true clock."""
        due = self.machine.next_due_ms()
        return None if due is None else EPOCH_MS + (due - self._offset_ms) / (1 + self.ppm / 1e6)

    # --- Sockets.

    def connect(self, gateway: SimulatedGateway) -> None:
        self.retry_ms = None
        if any(not link.welcomed for link in self.links):
            return  # one at a time
        if not gateway.synced:
            self._refused()
            return
        resume = self.machine.resume()
        link = Link(self, gateway, tuple(resume.have))
        self.links.append(link)
        gateway.welcome(link, resume.since)

    def _refused(self) -> None:
        if self.links:
            self.machine.reopen_failed(self.mono_ms, status=503)
        else:
            self._back_off(503)

    def _back_off(self, status: int | None = None) -> None:
        at = self.machine.disconnected(self.mono_ms, status=status)
        assert at is not None
        self.retry_ms = self._world.now_ms + at - self.mono_ms

    def lose(self, link: Link) -> None:
        """Lose a socket with everything under way on it."""
        link.gateway.leave(link)
        if link in self.links:
            self.links.remove(link)
            if link is self._welcomed:
                self._welcomed = None
                self._back_off()
                if self.links:
                    self.retry_ms = None  # another is being opened already
            elif not self.links:
                self._back_off()
            else:
                self.machine.reopen_failed(self.mono_ms)

    def receive(self, link: Link) -> None:
        """Take the next message of a socket in."""
        message = wire.decode_to_device(link.queue.popleft(), JSON)
        assert message is not None
        if isinstance(message, wire.Welcome):
            old, self._welcomed = self._welcomed, link
            link.welcomed = True
            if old is not None and old is not link:
                old.gateway.leave(old)
                self.links.remove(old)
            self._remember(message.state)
        elif isinstance(message, wire.Prefetch | wire.Activate | wire.Cancel | wire.Close):
            self._remember([message])
        self.do(self.machine.received(message, self.mono_ms))

    def replay(self, message: wire.StateMessage) -> None:
        """Hear something again, however old."""
        self.do(self.machine.received(message, self.mono_ms))

    def _remember(self, messages: list[wire.StateMessage]) -> None:
        self.memory += messages
        for message in messages:
            if isinstance(message, wire.Activate | wire.Cancel):
                self.stages.setdefault(message.campaign, []).append(message.rev)

    # --- What the machine asks for.

    def do(self, actions: list[Action]) -> None:
        """Carry actions out, then whatever is due by now, as a driver does."""
        self._carry_out(actions)
        for _ in range(200):
            due = self.machine.next_due_ms()
            if due is None or due > self.mono_ms:
                return
            self._carry_out(self.machine.due(self.mono_ms))
        raise AssertionError("the machine asks to be called again and again")

    def _carry_out(self, actions: list[Action]) -> None:
        for action in actions:
            if isinstance(action, Send) and self._welcomed is not None:
                self._welcomed.gateway.take(self._welcomed, action.message)
            elif isinstance(action, Flip):
                self.flips.append((self._world.now_ms, action))
                self._world.flipped(self, action)
            elif isinstance(action, Fetch):
                self._fetched(action)
            elif isinstance(action, Reopen):
                self.connect(self._world.nearest(self))

    def _fetched(self, fetch: Fetch) -> None:
        sha256, mono_ms = fetch.bundle.sha256, self.mono_ms
        if self._world.origin_works:
            self._carry_out(self.machine.stored(sha256, mono_ms))
        else:
            self._carry_out(self.machine.fetch_failed(sha256, mono_ms))


class Network:
    """What gateways and devices need of the world; the test's state machine is one."""

    store: SimulatedStore
    now_ms: float
    origin_works: bool

    def store_ms(self) -> int:
        """Return the store's clock."""
        return int(self.now_ms)

    def told(self, publication: Publication) -> None:
        """A gateway was told of this publication."""
        raise NotImplementedError

    def flipped(self, screen: Screen, flip: Flip) -> None:
        """A device flipped."""
        raise NotImplementedError

    def nearest(self, screen: Screen) -> SimulatedGateway:
        """Return the gateway this device's next connection goes to."""
        raise NotImplementedError
