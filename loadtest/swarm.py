"""A swarm: tens of thousands of real devices in one process, each a `DeviceMachine` on a real socket.

Devices share an agenda of what each has to do next, the messages they get (decoded once), the frames they send
(encoded once), and the tallies the swarm is there for. What a single device does is `loadtest.devices`.
"""

from __future__ import annotations

import asyncio
import random
import socket
import time
from collections import deque
from typing import Final

from msgspec import Struct

from fanout import wire
from fanout.device.actions import Fetch, Flip, Prefetched
from fanout.device.machine import DeviceMachine
from loadtest.agenda import NEVER, Agenda, mono_ms
from loadtest.churn import Churn
from loadtest.devices import GONE, MET, NONE, OPENING, SLOW, STOPPED, Opening, SwarmDevice
from loadtest.fetching import Fetcher
from loadtest.lean import BINARY, TEXT, client_frame
from loadtest.minting import Minter
from loadtest.route import Route
from loadtest.sockets import Sockets
from loadtest.tally import Publication, Tally, Timings, units

__all__ = ["PLATFORMS", "REGIONS", "Swarm", "SwarmConfig", "SwarmDevice"]

PLATFORMS: Final = ("tv", "phone", "web")
REGIONS: Final = ("jp", "eu", "us", "br")

# Handshakes under way in a process. More would only overflow the gateways' queues of new connections.
_OPENINGS_AT_ONCE: Final = 128
# A gateway gives up on a handshake sooner.
_OPENING_TIMEOUT_MS: Final = 15_000
# Messages and frames kept because others are about to get or send the same.
_SHARED_MAX: Final = 1_024

# What is on the agenda.
_TURN, _CONNECT, _READ, _THINK = range(4)


class SwarmConfig(Struct, frozen=True, kw_only=True):
    """What a swarm, or one process of it, is made of.

    Attributes:
        urls: The gateways', e.g. ``ws://127.0.0.1:8081/v1/connect``, taken in turn.
        origin: Where relative bundle URLs lead.
        devices: How many.
        first: Number of the first; device ids are ``<prefix>-<number>``.
        topics: What they listen to.
        connects_per_s: Pace of the first connects; 0: as fast as it goes.
        connects_after_s: When the first of them begins, seconds after the start.
        sources: Addresses to connect from, in turn; empty leaves it to the system.
        json_share: Share of devices that speak JSON; the others msgpack.
        slow_share: Share of devices that stop reading after their first welcome.
        act_after_s: How long a device may leave an activation lying whose instant is further away than twice that.
        slow_s: Until they read again, seconds; 0: until `Swarm.read_again`.
        churn_per_min: Share of devices that drop their socket within a minute, and come back by their backoff.
        audience: Of their tokens, with ``token_ttl_s``.
    """

    urls: tuple[str, ...]
    origin: str = ""
    devices: int
    first: int = 0
    topics: tuple[str, ...]
    connects_per_s: float = 0.0
    connects_after_s: float = 0.0
    sources: tuple[str, ...] = ()
    json_share: float = 0.1
    act_after_s: float = 0.0
    slow_share: float = 0.0
    slow_s: float = 10.0
    churn_per_min: float = 0.0
    prefix: str = "device"
    seed: int = 0
    audience: str = "fanout"
    token_ttl_s: float = 24 * 3600.0


class Heard:
    """A message that devices get: decoded once, and what it is for the tally."""

    __slots__ = ("message", "prefetch", "publication", "rev")

    def __init__(self, message: wire.ToDevice | None, publication: Publication | None) -> None:
        self.message = message
        self.publication = publication  # None unless its delivery counts
        self.prefetch = isinstance(message, wire.Prefetch)
        self.rev: int = getattr(message, "rev", 0)


def attributes(number: int) -> dict[str, str]:
    """Return what the token says about a device: every combination occurs equally often."""
    return {
        "platform": PLATFORMS[number % len(PLATFORMS)],
        "region": REGIONS[number // len(PLATFORMS) % len(REGIONS)],
    }


def picked(number: int, share: float) -> bool:
    """Tell whether this one belongs to a share: evenly spread over the numbers, the same in every run."""
    return int((number + 1) * share) > int(number * share)


class Swarm:
    """All devices of one process.

    Args:
        config: How many, and where they connect.
        key: Secret to mint their tokens with.
    """

    def __init__(self, config: SwarmConfig, key: bytes) -> None:
        self.config = config
        self._minter = Minter(key, config.topics, ttl_s=config.token_ttl_s, audience=config.audience)
        self._rng = random.Random(config.seed)
        self._agenda = Agenda(self._do, self._late, self._fail)
        self._failed: asyncio.Future[None] | None = None
        self.sockets = Sockets(self._fail)
        self._queue: deque[SwarmDevice] = deque()  # those that open a socket next
        self._openings: dict[Opening, None] = {}  # oldest first
        self._opens = False  # sockets are being opened now
        self._routes: dict[tuple[str, wire.Encoding], Route] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._fetcher = Fetcher(config.origin) if config.origin else None
        self._frames: dict[tuple[wire.FromDevice, wire.Encoding], bytes] = {}
        self.heard: dict[bytes, Heard] = {}  # by the frame's bytes
        self._lying: dict[int, tuple[wire.ToDevice, float]] = {}  # by device: an activation, and when it came
        self.tally = Tally(devices=config.devices)
        self.timings = Timings()
        self.devices = [self._device(number) for number in range(config.devices)]
        self._churn = Churn(self.devices, config.churn_per_min, self._rng, self._fail)

    def _device(self, number: int) -> SwarmDevice:
        config, overall = self.config, self.config.first + number
        encoding = wire.Encoding.JSON if picked(overall, config.json_share) else wire.Encoding.MSGPACK
        machine = DeviceMachine(f"{config.prefix}-{overall}", rng=self._rng)
        # Not the same ones that speak JSON.
        return SwarmDevice(self, number, machine, encoding, slow=picked(overall + 5, config.slow_share))

    async def run(self) -> None:
        """Connect everyone at the pace and work until cancelled."""
        self._failed = asyncio.get_running_loop().create_future()
        pace = self.config.connects_per_s
        begin_ms = mono_ms() + self.config.connects_after_s * 1000
        for device in self.devices:
            self.connect_at(device, begin_ms + (device.number * 1000 / pace if pace else 0))
        self.sockets.start()
        self._agenda.start()
        self._churn.start()
        try:
            await self._failed
        finally:
            await self._stop()

    async def _stop(self) -> None:
        self._agenda.stop()
        self._churn.stop()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        self.sockets.stop()
        if self._fetcher is not None:
            await self._fetcher.close()

    # --- What is due when.

    def _do(self, entry: int, number: int, what: int, now_ms: float) -> None:
        device = self.devices[number]
        if what == _CONNECT:
            if device.socket == NONE:  # not if a socket that was on its way has come first
                self.connect(device)
        elif what == _READ:
            device.read_again()
        elif what == _THINK:
            self.think(device)
        elif entry == device.planned:  # not an entry that has been planned anew since
            device.planned = NEVER
            self.think(device)
            device.act(device.machine.due(now_ms))

    def _late(self, late_ms: float) -> None:
        self.timings.lag[units(late_ms)] += 1
        before_ms = mono_ms() - _OPENING_TIMEOUT_MS
        while self._openings and (oldest := next(iter(self._openings))).began_ms < before_ms:
            oldest.fail()

    def _fail(self, exc: Exception) -> None:
        if self._failed is not None and not self._failed.done():
            self._failed.set_exception(exc)

    def plan(self, device: SwarmDevice) -> None:
        """See to it that the device's machine gets its turn when it asks for it."""
        due = device.machine.next_due_ms()
        if due is not None:
            entry = self._agenda.entry(due, device.number, _TURN)
            if entry < device.planned:
                device.planned = entry
                self._agenda.push(entry)

    def connect_at(self, device: SwarmDevice, at_ms: float) -> None:
        """Have the device open a socket then (monotonic ms), if it has none by then."""
        self._agenda.push(self._agenda.entry(at_ms, device.number, _CONNECT))

    def read_again(self) -> None:
        """Have every device that does not read begin again."""
        for device in self.devices:
            device.read_again()

    # --- Opening sockets.

    def connect(self, device: SwarmDevice) -> None:
        """Have the device open a socket now, beside the one it may have; one at a time."""
        if device.flags & OPENING:
            return
        device.flags |= OPENING
        self._queue.append(device)
        self._open_more()

    def _open_more(self) -> None:
        if self._opens:
            return  # one that failed at once; whoever opened it goes on
        self._opens = True
        while self._queue and len(self._openings) < _OPENINGS_AT_ONCE:
            self._open(self._queue.popleft())
        self._opens = False

    def _open(self, device: SwarmDevice) -> None:
        config, number = self.config, self.config.first + device.number
        # Who comes back asks any gateway, for its own may be gone.
        url = self._rng.choice(config.urls) if device.flags & MET else config.urls[number % len(config.urls)]
        device.flags |= MET
        opening = Opening(device, mono_ms())
        self._openings[opening] = None
        source = config.sources[number % len(config.sources)] if config.sources else None
        try:
            route = self._route(url, device.encoding)
            request = route.request(self._minter.mint(device.machine.device_id, attributes(number)), device.machine)
            opening.number = self.sockets.open(route.family, route.address, source, request, opening)
        except OSError:
            opening.fail()

    def _route(self, url: str, encoding: wire.Encoding) -> Route:
        route = self._routes.get((url, encoding))
        if route is None:
            family = socket.AF_INET if self.config.sources else socket.AF_UNSPEC
            route = self._routes[url, encoding] = Route(url, encoding, family)
        return route

    def _opened(self, opening: Opening) -> None:
        """Note that an opening is over, well or not."""
        self._openings.pop(opening, None)
        self._open_more()

    # --- What devices share.

    def hear(self, frame: bytes, payload: bytes, encoding: wire.Encoding) -> Heard:
        """Return a frame's message, decoded once for all the devices that get the same bytes."""
        heard = self.heard.get(frame)
        if heard is None:
            if len(self.heard) >= _SHARED_MAX:
                self.heard.clear()
            message = wire.decode_to_device(payload, encoding)
            publication = None
            if isinstance(message, wire.Activate | wire.Prefetch | wire.Cancel | wire.Close):
                publication = self.tally.publications.setdefault(message.rev, Publication(wire.tag_of(message)))
            heard = self.heard[frame] = Heard(message, publication)
        return heard

    def frame(self, message: wire.FromDevice, encoding: wire.Encoding) -> bytes:
        """Return a message as a masked frame: most devices say the same, and a mask is no secret here."""
        made = self._frames.get((message, encoding))
        if made is None:
            if len(self._frames) >= _SHARED_MAX:
                self._frames.clear()
            opcode = BINARY if encoding is wire.Encoding.MSGPACK else TEXT
            made = self._frames[message, encoding] = client_frame(opcode, wire.encode(message, encoding))
        return made

    def leave_lying(self, device: SwarmDevice, message: wire.ToDevice, now_ms: float) -> bool:
        """Tell whether the device may think about this message later; if so, it does."""
        after_ms = self.config.act_after_s * 1000
        if not after_ms or not isinstance(message, wire.Activate):
            return False
        if message.at - time.time() * 1000 < 2 * after_ms:
            return False
        self._lying[device.number] = message, now_ms
        at_ms = now_ms + after_ms * self._rng.uniform(0.8, 1)
        self._agenda.push(self._agenda.entry(at_ms, device.number, _THINK))
        return True

    def think(self, device: SwarmDevice) -> None:
        """Have the device think about what it has left lying, before anything else happens to it."""
        if self._lying and (left := self._lying.pop(device.number, None)) is not None:
            device.act(device.machine.received(*left))

    # --- What devices do, counted.

    def welcomed(self, device: SwarmDevice, opening: Opening, now_ms: float, *, moved: bool) -> None:
        """Count a welcome."""
        tally, flags = self.tally, device.flags
        self._opened(opening)
        self.timings.connect[units(now_ms - opening.began_ms)] += 1
        tally.welcomed += 1
        tally.connected += not moved
        if flags & STOPPED:
            tally.slow["moved"] += 1  # it heard nothing for so long that it took the socket for dead
        elif flags & GONE:
            tally.slow["back"] += 1
        device.flags &= ~(STOPPED | GONE)
        if flags & SLOW:
            tally.slow["stopped"] += 1
            device.stop_reading()
            if self.config.slow_s:
                self._agenda.push(self._agenda.entry(now_ms + self.config.slow_s * 1000, device.number, _READ))

    def unopened(self, opening: Opening, code: int | None, status: int | None) -> None:
        """Count a socket that had no welcome."""
        self._opened(opening)
        if code is not None:
            self.tally.closes[code] += 1
        else:
            self.tally.refused[status or 0] += 1

    def lost(self, device: SwarmDevice, code: int | None) -> None:
        """Count a connection that was lost."""
        self.tally.connected -= 1
        self.tally.closes[code or 0] += 1
        if device.flags & STOPPED:
            device.flags = device.flags & ~STOPPED | GONE
            self.tally.slow["closed" if code == wire.CloseCode.SLOW_CONSUMER else "cut"] += 1

    def delivered(self, device: SwarmDevice, heard: Heard) -> None:
        """Count a receipt, by the wall clock, which on one machine is the store's; repeats do not count."""
        now_ms, rev, publication = time.time() * 1000, heard.rev, heard.publication
        assert publication is not None
        if heard.prefetch:
            if rev <= device.ready_rev:
                return
            self.timings.prefetch_delivery[units(now_ms - rev)] += 1
        else:
            if rev <= device.newest:
                return
            device.newest = rev
            self.timings.delivery[units(now_ms - rev)] += 1
        publication.received += 1
        publication.first_ms = min(publication.first_ms, now_ms)
        publication.last_ms = max(publication.last_ms, now_ms)

    def prefetched(self, device: SwarmDevice, action: Prefetched) -> None:
        """Count who is ready."""
        if not device.ready_rev:
            self.tally.ready += 1
        device.ready_rev = action.rev

    def flipped(self, device: SwarmDevice, action: Flip) -> None:
        """Note a flip by the wall clock, which on one machine is the server's: nothing is estimated here."""
        now_ms = time.time() * 1000
        if not device.flipped:
            self.tally.activated += 1
        if action.rev <= device.flipped:
            self.tally.flipped_twice += 1
        self.tally.show(device.flipped, action.rev)
        device.flipped = action.rev
        self.tally.flips[int(now_ms)] += 1
        self.timings.flip_error[units(abs(now_ms - action.due_ms))] += 1

    def fetch(self, device: SwarmDevice, action: Fetch) -> None:
        """Have the device fetch a bundle."""
        task = asyncio.get_running_loop().create_task(self._fetch(device, action))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _fetch(self, device: SwarmDevice, action: Fetch) -> None:
        started, digest = mono_ms(), action.bundle.sha256
        url = action.bundle.url or f"{wire.BUNDLE_PATH}{digest}"
        if self._fetcher is None:
            self._fetcher = Fetcher("")
        self.tally.origin_requests += 1
        good = await self._fetcher.fetch(url, digest)
        now = mono_ms()
        if good:
            device.act(device.machine.stored(digest, now, via="fetch", took_ms=now - started))
        else:
            device.act(device.machine.fetch_failed(digest, now))
