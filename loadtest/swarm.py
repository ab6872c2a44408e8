"""A swarm: thousands of real devices in one process, each a `DeviceMachine` on a real socket.

One heap holds what every device has to do next; one task works it off. Devices that can be reached share
nothing but that, a cache of bundle contents, and the tallies the swarm is there for.
"""

from __future__ import annotations

import asyncio
import hashlib
import heapq
import random
import time
from collections import Counter
from collections.abc import Callable, Coroutine
from typing import Final

import httpx
from msgspec import Struct, field

from fanout import wire
from fanout.device.actions import Action, Drop, Fetch, Flip, Prefetched, Reopen, Send
from fanout.device.machine import DeviceMachine
from fanout.tokens import mint
from loadtest.lean import Handler, LeanSocket, device_opening, open_socket

_FETCHES_AT_ONCE: Final = 64
PLATFORMS: Final = ("tv", "phone", "web")
REGIONS: Final = ("jp", "eu", "us", "br")


class SwarmConfig(Struct, frozen=True, kw_only=True):
    """What a swarm is made of.

    Attributes:
        url: The gateway's, e.g. ``ws://127.0.0.1:8081/v1/connect``.
        origin: Where relative bundle URLs lead.
        devices: How many.
        topics: What they listen to.
        ramp_s: Seconds over which they connect.
        json_share: Share of devices that speak JSON; the others msgpack.
        prefix: Of device ids: ``<prefix>-<number>``.
    """

    url: str
    origin: str = ""
    devices: int
    topics: tuple[str, ...]
    ramp_s: float = 0.0
    json_share: float = 0.1
    prefix: str = "device"
    seed: int = 0


class Tally(Struct):
    """What the swarm has seen.

    Attributes:
        flips: Unix ms → devices that flipped then.
        errors_ms: distance of the actual flip from the device's own slot, ms → devices.
        refused: HTTP status of refused handshakes → how often.
        closes: Close code → how often (0: without one).
        origin_requests: Bundle fetches sent.
    """

    devices: int = 0
    connected: int = 0
    ready: int = 0
    activated: int = 0
    flipped_twice: int = 0
    flips: Counter[int] = field(default_factory=Counter)
    errors_ms: Counter[int] = field(default_factory=Counter)
    refused: Counter[int] = field(default_factory=Counter)
    closes: Counter[int] = field(default_factory=Counter)
    origin_requests: int = 0


class SwarmDevice(Handler):
    """One device: its machine, its socket, and what it has flipped to."""

    __slots__ = ("due_ms", "encoding", "flipped", "machine", "number", "opening", "ready_rev", "socket", "swarm")

    def __init__(self, swarm: Swarm, number: int, machine: DeviceMachine, encoding: wire.Encoding) -> None:
        self.swarm = swarm
        self.number = number
        self.machine = machine
        self.encoding = encoding
        self.socket: LeanSocket | None = None  # the one that was welcomed last
        self.opening = False
        self.due_ms = float("inf")  # when the heap will look at this device
        self.ready_rev = 0
        self.flipped: int = 0  # revision of the last flip

    # --- From the socket.

    def message(self, socket: LeanSocket, data: bytes) -> None:
        message = self.swarm.decode(data, self.encoding)
        if isinstance(message, wire.Welcome):
            self._welcomed(socket)
        if message is not None:
            self.act(self.machine.received(message, _mono_ms()))

    def _welcomed(self, socket: LeanSocket) -> None:
        self.opening = False
        before, self.socket = self.socket, socket
        if before is None:
            self.swarm.tally.connected += 1
        else:
            before.end()  # make before break: the new socket has its welcome

    def closed(self, socket: LeanSocket, code: int | None, status: int | None, retry_after_ms: int | None) -> None:
        swarm, now = self.swarm, _mono_ms()
        if status is not None:
            swarm.tally.refused[status] += 1
        elif socket is self.socket or self.opening:
            swarm.tally.closes[code or 0] += 1
        if socket is self.socket:
            self.socket = None
            swarm.tally.connected -= 1
            self._return(self.machine.disconnected(now, code=code))
        elif self.opening:
            self.opening = False
            self.unreached(code, status, retry_after_ms)

    def unreached(
        self, code: int | None = None, status: int | None = None, retry_after_ms: int | None = None
    ) -> None:
        """A socket could not be opened."""
        now = _mono_ms()
        if self.socket is None:
            self._return(self.machine.disconnected(now, code=code, status=status, retry_after_ms=retry_after_ms))
        else:
            self.machine.reopen_failed(now, code=code, status=status, retry_after_ms=retry_after_ms)
            self.swarm.plan(self)

    def _return(self, at_ms: float | None) -> None:
        if at_ms is not None and not self.swarm.stopping:
            self.swarm.connect_at(self, at_ms)

    # --- What the machine asks.

    def act(self, actions: list[Action]) -> None:
        """Carry out what the machine asks, then plan its next turn."""
        for action in actions:
            match action:
                case Send():
                    if self.socket is not None:
                        self.socket.send(wire.encode(action.message, self.encoding), self.encoding)
                case Flip():
                    self.swarm.flipped(self, action)
                case Prefetched():
                    self.swarm.prefetched(self, action)
                case Fetch():
                    self.swarm.fetch(self, action)
                case Reopen():
                    self.swarm.connect(self)
                case Drop():
                    pass  # contents are shared by the whole swarm
        self.swarm.plan(self)


class Swarm:
    """All devices of one process.

    Args:
        config: How many, and where they connect.
        key: Secret to mint their tokens with.
    """

    def __init__(self, config: SwarmConfig, key: bytes) -> None:
        self.config = config
        self._key = key
        self._rng = random.Random(config.seed)
        self._heap: list[tuple[float, int, bool]] = []  # when (monotonic ms), device, connect?
        self._wake = asyncio.Event()
        self._tasks: set[asyncio.Task[None]] = set()
        self._decoded: dict[bytes, wire.ToDevice | None] = {}
        self._http = httpx.AsyncClient(base_url=config.origin, timeout=10)
        self._fetching = asyncio.Semaphore(_FETCHES_AT_ONCE)
        self.stopping = False
        self.tally = Tally(devices=config.devices)
        self.devices = [self._device(number) for number in range(config.devices)]

    def _device(self, number: int) -> SwarmDevice:
        speaks_json = number < self.config.devices * self.config.json_share
        encoding = wire.Encoding.JSON if speaks_json else wire.Encoding.MSGPACK
        machine = DeviceMachine(f"{self.config.prefix}-{number}", rng=self._rng)
        return SwarmDevice(self, number, machine, encoding)

    async def run(self) -> None:
        """Connect everyone over the ramp and work until cancelled."""
        started = _mono_ms()
        for device in self.devices:
            self.connect_at(device, started + device.number * self.config.ramp_s * 1000 / self.config.devices)
        try:
            while True:
                await self._nap(self._work())
        finally:
            self.stopping = True
            for task in self._tasks:
                task.cancel()
            await self._http.aclose()
            for device in self.devices:
                if device.socket is not None:
                    device.socket.abort()

    async def _nap(self, rest_s: float | None) -> None:
        """Sleep until the heap's next entry, or until one that is due earlier is pushed."""
        try:
            async with asyncio.timeout(rest_s):
                await self._wake.wait()
        except TimeoutError:
            pass
        self._wake.clear()

    def _work(self) -> float | None:
        """Do what is due; return how long there is nothing to do, seconds, None if nothing is planned."""
        now = _mono_ms()
        while self._heap and self._heap[0][0] <= now:
            at, number, connect = heapq.heappop(self._heap)
            device = self.devices[number]
            if connect:
                if device.socket is None:  # not if a socket that was on its way has come first
                    self.connect(device)
            elif at >= device.due_ms:  # not an entry that has been planned anew since
                device.due_ms = float("inf")
                device.act(device.machine.due(now))
            now = _mono_ms()
        return (self._heap[0][0] - now) / 1000 if self._heap else None

    def _push(self, at_ms: float, device: SwarmDevice, *, connect: bool) -> None:
        if not self._heap or at_ms < self._heap[0][0]:
            self._wake.set()
        heapq.heappush(self._heap, (at_ms, device.number, connect))

    def plan(self, device: SwarmDevice) -> None:
        """See to it that the device's machine gets its turn when it asks for it."""
        due = device.machine.next_due_ms()
        if due is not None and due < device.due_ms:
            device.due_ms = due
            self._push(due, device, connect=False)

    def connect_at(self, device: SwarmDevice, at_ms: float) -> None:
        """Have the device open a socket then (monotonic ms), if it has none by then."""
        self._push(at_ms, device, connect=True)

    def connect(self, device: SwarmDevice) -> None:
        """Have the device open a socket now, beside the one it may have; one at a time."""
        if not device.opening:
            device.opening = True
            self._start(self._connect(device))

    def _start(self, work: Coroutine[object, object, None]) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _connect(self, device: SwarmDevice) -> None:
        number = device.number
        attrs = {
            "platform": PLATFORMS[number % len(PLATFORMS)],
            "region": REGIONS[number // len(PLATFORMS) % len(REGIONS)],
        }
        token = mint(self._key, device.machine.device_id, self.config.topics, attrs)
        query = device.machine.resume().query()
        opening = device_opening(self.config.url, device.encoding, token, query)
        try:
            await open_socket(self.config.url, device, opening)
        except OSError:
            device.opening = False
            self.tally.refused[0] += 1
            device.unreached()

    def decode(self, data: bytes, encoding: wire.Encoding) -> wire.ToDevice | None:
        """Decode a message once for all the devices that get the same bytes."""
        if data not in self._decoded:
            if len(self._decoded) > 256:
                self._decoded.clear()
            self._decoded[data] = wire.decode_to_device(data, encoding)
        return self._decoded[data]

    # --- What devices do, counted.

    def prefetched(self, device: SwarmDevice, action: Prefetched) -> None:
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
        device.flipped = action.rev
        self.tally.flips[int(now_ms)] += 1
        self.tally.errors_ms[round(abs(now_ms - action.due_ms))] += 1

    def fetch(self, device: SwarmDevice, action: Fetch) -> None:
        self._start(self._fetch(device, action))

    async def _fetch(self, device: SwarmDevice, action: Fetch) -> None:
        started = _mono_ms()
        digest = action.bundle.sha256
        try:
            async with self._fetching:
                self.tally.origin_requests += 1
                response = await self._http.get(action.bundle.url or f"{wire.BUNDLE_PATH}{digest}")
                good = response.status_code == 200 and hashlib.sha256(response.content).hexdigest() == digest
        except httpx.HTTPError:
            good = False
        now = _mono_ms()
        if good:
            device.act(device.machine.stored(digest, now, via="fetch", took_ms=now - started))
        else:
            device.act(device.machine.fetch_failed(digest, now))


def _mono_ms() -> float:
    return time.monotonic() * 1000


async def run_swarm(
    config: SwarmConfig, key: bytes, *, stop: asyncio.Event, tell: Callable[[Tally], None], tell_every_s: float = 0.25
) -> Tally:
    """Run a swarm until ``stop``; ``tell`` gets the tally every so often, and the last one is returned."""
    swarm = Swarm(config, key)
    running = asyncio.create_task(swarm.run())
    stopping = asyncio.create_task(stop.wait())
    try:
        while not stop.is_set() and not running.done():
            await asyncio.wait([running, stopping], timeout=tell_every_s, return_when=asyncio.FIRST_COMPLETED)
            tell(swarm.tally)
        if running.done():
            running.result()
    finally:
        stopping.cancel()
        running.cancel()
        await asyncio.gather(running, stopping, return_exceptions=True)
    return swarm.tally
