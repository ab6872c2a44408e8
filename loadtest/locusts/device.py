"""One honest device on gevent: its `DeviceMachine`, one socket (two while it moves), and what the ledger is told.

A device is one greenlet that reads; its turns (flips, fetches, moves) come from `loadtest.locusts.turns`, which
every device of the process shares. Knows nothing of locust but what `Shared.told` passes on.
"""

from __future__ import annotations

import hashlib
import random
import time
from collections.abc import Callable
from typing import Final
from urllib.parse import urljoin

import gevent
import urllib3
from msgspec import Struct

from fanout import wire
from fanout.device.actions import Action, Closed, Fetch, Flip, Prefetched, Reopen, Send
from fanout.device.machine import DeviceMachine
from loadtest.locusts.ledger import Ledger
from loadtest.locusts.link import Gateway, Link, LinkLost
from loadtest.locusts.turns import NEVER, Turns, mono_ms
from loadtest.minting import Minter

# A gateway gives up on a handshake sooner.
_OPENING_TIMEOUT_S: Final = 15.0
# One that is told never to come back waits for the end of the test; it looks up this often, s.
_FOREVER_S: Final = 3600.0
_FETCH_TIMEOUT_S: Final = 10.0


class Shared(Struct, kw_only=True):
    """What the devices of a process share.

    Attributes:
        gateways: Taken in turn at first.
        origin: Where relative bundle URLs lead.
        told: Told of everything that is timed: name, ms, and what went wrong, if it did.
    """

    gateways: tuple[Gateway, ...]
    origin: str
    minter: Minter
    ledger: Ledger
    turns: Turns
    http: urllib3.PoolManager
    rng: random.Random
    told: Callable[[str, float, Exception | None], None]


class Device:
    """One device.

    Args:
        shared: What it shares.
        device_id: Its token's subject.
        number: Decides its first gateway and its encoding: one in ten speaks JSON.
        attrs: What its token says about it.
    """

    __slots__ = (
        "_attrs",
        "_encoding",
        "_flipped",
        "_gateway",
        "_link",
        "_lost_ms",
        "_machine",
        "_mover",
        "_newest",
        "_number",
        "_ready_rev",
        "_shared",
        "_welcomed_ms",
        "planned_ms",
    )

    def __init__(self, shared: Shared, device_id: str, number: int, attrs: dict[str, str]) -> None:
        self.planned_ms = NEVER
        self._shared = shared
        self._number = number
        self._attrs = attrs
        self._encoding = wire.Encoding.JSON if number % 10 == 9 else wire.Encoding.MSGPACK
        self._machine = DeviceMachine(device_id, rng=shared.rng)
        self._gateway: Gateway | None = None  # asked last
        self._link: Link | None = None
        self._mover: gevent.Greenlet | None = None  # opens the next socket beside this one
        self._welcomed_ms = 0.0  # Unix ms; 0: never
        self._lost_ms: float | None = None  # since when it is without a socket, monotonic
        self._newest = 0  # newest activation, cancel or close it has received
        self._ready_rev = 0  # newest prefetch it holds the bundle of
        self._flipped = 0  # revision of the last flip

    # --- Its life.

    def run(self) -> None:
        """Live until killed."""
        try:
            while True:
                self._connect()
                self._listen()
        finally:
            self._leave()

    def drop(self) -> None:
        """Lose the socket without a word, if there is one."""
        if self._link is not None:
            self._link.drop()

    def _leave(self) -> None:
        self._shared.turns.forget(self)
        if self._mover is not None:
            self._mover.kill(block=False)
        if self._link is not None:
            self._link.leave()
            self._link = None
            self._shared.ledger.counts["connected"] -= 1

    def _connect(self) -> None:
        """Open sockets until one is welcomed, as often and as late as the machine says."""
        while self._link is None:
            try:
                self._take(*self._open())
            except LinkLost as lost:
                self._wait(lost)

    def _listen(self) -> None:
        """Read until there is no socket any more."""
        while (link := self._link) is not None:
            try:
                for payload in link.read():
                    self._hear(payload)
            except LinkLost as lost:
                if link is self._link:  # not one that it has left for the next
                    self._lose(lost)

    def _lose(self, lost: LinkLost) -> None:
        self._link = None
        self._lost_ms = mono_ms()
        self._shared.ledger.counts["connected"] -= 1
        self._shared.ledger.counts["lost"] += 1
        self._shared.ledger.reasons[f"closed {lost.code or 'without a word'}"] += 1
        self._wait(lost)

    def _wait(self, lost: LinkLost) -> None:
        if self._mover is not None:
            self._mover.join()  # it is on its way already
            if self._link is not None:
                return
        now = mono_ms()
        at_ms = self._machine.disconnected(
            now, code=lost.code, status=lost.status, retry_after_ms=lost.retry_after_ms
        )
        self._plan()
        gevent.sleep(max(0.0, at_ms - now) / 1000 if at_ms is not None else _FOREVER_S)

    # --- Opening sockets.

    def _open(self) -> tuple[Link, list[bytes]]:
        """Open a socket; return it with what came first. Raises LinkLost."""
        shared, began_ms = self._shared, mono_ms()
        gateways, before = shared.gateways, self._gateway
        if before is None:
            self._gateway = gateways[self._number % len(gateways)]
        else:
            # Its own may be gone, and whatever stands before gateways in the field would send it to another.
            others = [gateway for gateway in gateways if gateway is not before] or gateways
            self._gateway = shared.rng.choice(others)
        token = shared.minter.mint(self._machine.device_id, self._attrs)
        link: Link | None = None
        try:
            with gevent.Timeout(_OPENING_TIMEOUT_S):
                link = Link(self._gateway, self._encoding, token, self._machine.resume().query())
                first = link.read()
        except (LinkLost, gevent.Timeout) as exc:
            if link is not None:
                link.drop()
            lost = exc if isinstance(exc, LinkLost) else LinkLost("no welcome in time")
            shared.ledger.counts["refused"] += 1
            shared.ledger.reasons[str(lost)] += 1
            shared.told("connect", mono_ms() - began_ms, lost)
            raise lost from exc
        took_ms = mono_ms() - began_ms
        shared.ledger.time("connect", took_ms)
        shared.told("connect", took_ms, None)
        return link, first

    def _take(self, link: Link, first: list[bytes]) -> None:
        """Go on with this socket, and leave the one before."""
        before, self._link = self._link, link
        counts = self._shared.ledger.counts
        if before is not None:
            before.leave()  # make before break
        else:
            counts["connected"] += 1
        counts["welcomed"] += 1
        self._welcomed_ms = time.time() * 1000
        if self._lost_ms is not None:
            away_ms, self._lost_ms = mono_ms() - self._lost_ms, None
            counts["returned"] += 1
            self._shared.ledger.time("catchup", away_ms)
            self._shared.told("catchup", away_ms, None)
        for payload in first:
            self._hear(payload)

    def _move(self) -> None:
        try:
            self._take(*self._open())
        except LinkLost as lost:
            if self._link is not None:
                self._machine.reopen_failed(
                    mono_ms(), code=lost.code, status=lost.status, retry_after_ms=lost.retry_after_ms
                )
                self._plan()
        finally:
            self._mover = None

    # --- Messages and turns.

    def _hear(self, payload: bytes) -> None:
        message = wire.decode_to_device(payload, self._encoding)
        if message is None:
            return  # of a later version of the protocol
        if isinstance(message, wire.Welcome):
            for told in message.state:
                if not isinstance(told, wire.Prefetch):
                    self._newest = max(self._newest, told.rev)
        elif isinstance(message, wire.Activate | wire.Prefetch | wire.Cancel | wire.Close):
            self._delivered(message)
        self._act(self._machine.received(message, mono_ms()))

    def _delivered(self, message: wire.StateMessage) -> None:
        """Count a receipt, by the wall clock: a revision is the instant of its publication. Repeats do not count."""
        prefetch = isinstance(message, wire.Prefetch)
        if message.rev <= (self._ready_rev if prefetch else self._newest):
            return
        if not prefetch:
            self._newest = message.rev
        name, ms = "prefetch_delivery" if prefetch else "delivery", time.time() * 1000 - message.rev
        self._shared.ledger.time(name, ms)
        self._shared.told(name, max(0.0, ms), None)
        rev = self._shared.ledger.rev(message.rev)
        rev.kind = wire.tag_of(message)
        rev.received += 1

    def turn(self, now_ms: float) -> None:
        """Do what is due."""
        self._act(self._machine.due(now_ms))

    def _plan(self) -> None:
        self._shared.turns.plan(self, self._machine.next_due_ms())

    def _act(self, actions: list[Action]) -> None:
        for action in actions:
            if isinstance(action, Send):
                if self._link is not None:
                    self._link.write(wire.encode(action.message, self._encoding), self._encoding)
            elif isinstance(action, Flip):
                self._flip(action)
            elif isinstance(action, Prefetched):
                self._prefetched(action)
            elif isinstance(action, Fetch):
                gevent.spawn(self._fetch, action)
            elif isinstance(action, Reopen):
                if self._mover is None and self._link is not None:
                    self._mover = gevent.spawn(self._move)
            elif isinstance(action, Closed):
                self._shared.ledger.counts["closed"] += 1
            # Contents are not kept: nothing shows them here, and the machine knows their digests.
        self._plan()

    def _flip(self, action: Flip) -> None:
        ledger = self._shared.ledger
        ms = abs(time.time() * 1000 - action.due_ms)
        ledger.counts["activated"] += not self._flipped
        ledger.counts["twice"] += action.rev <= self._flipped
        self._flipped = max(self._flipped, action.rev)
        ledger.rev(action.rev).flipped += 1
        ledger.time("flip_error", ms)
        self._shared.told("flip_error", ms, None)

    def _prefetched(self, action: Prefetched) -> None:
        if action.rev <= self._ready_rev:
            return
        self._shared.ledger.counts["ready"] += not self._ready_rev
        self._ready_rev = action.rev
        if self._welcomed_ms < action.rev:  # or it came later than the prefetch, and was told in its welcome
            ms = time.time() * 1000 - action.rev
            self._shared.ledger.time("ready", ms)
            self._shared.told("ready", max(0.0, ms), None)

    def _fetch(self, action: Fetch) -> None:
        shared, began_ms, digest = self._shared, mono_ms(), action.bundle.sha256
        url = urljoin(shared.origin, action.bundle.url or f"{wire.BUNDLE_PATH}{digest}")
        shared.ledger.counts["fetches"] += 1
        wrong: Exception | None = None
        try:
            response = shared.http.request("GET", url, timeout=_FETCH_TIMEOUT_S, retries=False)
            if response.status != 200 or hashlib.sha256(response.data).hexdigest() != digest:
                wrong = LinkLost(f"the origin answered {response.status}, and not with this bundle")
        except (urllib3.exceptions.HTTPError, OSError) as exc:
            wrong = exc
        took_ms = mono_ms() - began_ms
        shared.told("fetch", took_ms, wrong)
        if wrong is None:
            shared.ledger.time("fetch", took_ms)
            self._act(self._machine.stored(digest, mono_ms(), via="fetch", took_ms=took_ms))
        else:
            self._act(self._machine.fetch_failed(digest, mono_ms()))
