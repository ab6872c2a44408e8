"""Everything a soak runs: a store that can be killed, two control planes, two gateways, and the devices.

All of it is the product by its command lines. The store is the one ``fanout control`` starts for itself; what it
takes to start it again is read from the running one.
"""

from __future__ import annotations

import asyncio
import os
import secrets
import signal
import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Final

import httpx
from msgspec import Struct

from loadtest.bench.fleet import Fleet
from loadtest.bench.memory import descendants
from loadtest.soak.processes import Process, Seen, SoakFailed, born, fanout, send

TOPIC: Final = "soak"
BEACON_S: Final = 1.0
# Beacons, lifetimes and drains at a pace that lets each happen many times within minutes.
_GATEWAY: Final = (
    *("--workers", "2", "--beacon-s", str(BEACON_S), "--ping-s", "10", "--lifetime-s", "90"),
    *("--freeze-lead-s", "0.5", "--freeze-tail-s", "0.5", "--drain-s", "2", "--drain-close-s", "1"),
    # Machines with a core for each process answer sooner than these two, which all of them share.
    *("--loop-lag-max-ms", "1000", "--backoff-cap-ms", "5000"),
)
_PATIENCE_S: Final = 60.0
_POLL_S: Final = 0.05
# Another program may take a gateway's port while it is away.
_TRIES: Final = 5


class Size(Struct, frozen=True):
    """How many devices, and which share of them leaves within a minute."""

    devices: int
    churn: float


class Store:
    """The server that the first control plane has started, and whoever takes its place.

    Args:
        pid: Of that one.
        url: unix://…
        data_dir: Where its file is.
    """

    def __init__(self, pid: int, url: str, data_dir: Path, scratch: Path) -> None:
        self._path = url.removeprefix("unix://")
        self._first = pid
        self._second: Process | None = None
        words = [
            str(Path(f"/proc/{pid}/exe").readlink()),
            "--port",
            "0",
            "--unixsocket",
            self._path,
            "--dir",
            str(data_dir),
        ]
        # As it was started: what it has answered is in its file.
        self._words = (*words, "--appendonly", "yes", "--appendfsync", "always", "--save", "")
        self._scratch = scratch

    @property
    def pid(self) -> int:
        return self._second.pid if self._second is not None else self._first

    async def kill(self) -> None:
        """End it as a crash would."""
        if self._second is not None:
            await asyncio.to_thread(self._second.kill)
        else:
            send(self._first, signal.SIGKILL)
            await until(self._gone, "the end of the store")

    async def _gone(self) -> bool:
        return born(self._first) is None

    async def start(self) -> None:
        """Start it again with its data, and wait until it answers."""
        if self._second is None:
            self._second = Process("store", self._words, self._scratch)
        self._second.start()
        await until(self._answers, "the store")

    async def _answers(self) -> bool:
        with socket.socket(socket.AF_UNIX) as probe:
            probe.settimeout(1)
            try:
                probe.connect(self._path)
                probe.sendall(b"PING\r\n")
                return probe.recv(16).startswith(b"+PONG")
            except OSError:
                return False

    def end(self) -> None:
        """End the one that was started here; the first goes with its parent."""
        if self._second is not None:
            self._second.end()


class Control:
    """A control plane.

    Attributes:
        url: Of its API; another one after each start.
    """

    def __init__(self, process: Process) -> None:
        self.process = process
        self.url = ""

    async def start(self) -> dict[str, Any]:
        """Start it and wait until it serves; return what it says."""
        self.process.start()
        told = await asyncio.to_thread(self.process.line)
        self.url = told["url"]
        return told


class Gateway:
    """A gateway, on the same ports whenever it is started again."""

    def __init__(self, name: str, scratch: Path, redis_url: str, device_key: str) -> None:
        self.url = self.admin_url = ""
        environment = {"FANOUT_REDIS_URL": redis_url, "FANOUT_DEVICE_KEY": device_key}
        self.process = Process(name, _gateway(0, 0), scratch, **environment)

    async def start(self) -> None:
        """Start it and wait until it serves."""
        for last in (False,) * (_TRIES - 1) + (True,):
            try:
                self.process.start()
                told = await asyncio.to_thread(self.process.line)
                break
            except SoakFailed:
                if last or not self.url:
                    raise
                await asyncio.sleep(1)
        self.url, self.admin_url = told["url"], told["admin_url"]
        self.process.words = _gateway(_port(self.url), _port(self.admin_url))

    async def workers(self) -> list[int]:
        """Return the ids of its workers, none if it does not answer."""
        try:
            async with httpx.AsyncClient(trust_env=False, timeout=5) as http:
                return [int(pid) for pid in (await http.get(f"{self.admin_url}/readyz")).json()["workers"]]
        except httpx.HTTPError:
            return []


class System:
    """What a running soak holds.

    Attributes:
        controls: The first holds the store; both take presses.
        gateways: The first is never ended, the second may be.
        elder: The worker that nothing ends, by whose memory growth is judged.
        seen: Every process there has been.
    """

    def __init__(self, scratch: Path, size: Size) -> None:
        self._scratch = scratch
        self._size = size
        self._device_key = secrets.token_hex(32)
        self.admin_key = secrets.token_urlsafe(32)
        self.seen = Seen()
        data_dir = scratch / "data"
        words = fanout("control", "--port", "0", "--json", "--data-dir", str(data_dir))
        self.controls = [Control(Process("control", words, scratch, FANOUT_ADMIN_KEY=self.admin_key))]
        self.gateways: list[Gateway] = []
        self.swarm: Process | None = None
        self.fleet: Fleet | None = None
        self.store: Store | None = None
        self.elder = 0

    async def start(self) -> None:
        """Start all of it, and connect the devices."""
        first = self.controls[0]
        url = (await first.start())["redis_url"]
        (pid,) = descendants(first.process.pid)
        self.store = Store(pid, url, self._scratch / "data", self._scratch)
        words = fanout("control", "--port", "0", "--json", "--redis-url", url)
        self.controls.append(Control(Process("second control", words, self._scratch)))
        await self.controls[1].start()
        for name in ("first gateway", "second gateway"):
            self.gateways.append(Gateway(name, self._scratch, url, self._device_key))
            await self.gateways[-1].start()
        self.elder = (await self.gateways[0].workers())[0]
        await self._start_swarm()

    async def _start_swarm(self) -> None:
        file, size = self._scratch / "swarm.json", self._size
        words = ["--devices", str(size.devices), "--churn-per-min", str(size.churn), "--topics", TOPIC]
        words += ["--origin", self.controls[0].url, "--give-up", "0", "--json", str(file)]
        words += [word for gateway in self.gateways for word in ("--url", gateway.url)]
        self.swarm = Process("swarm", fanout("swarm", *words), self._scratch, FANOUT_DEVICE_KEY=self._device_key)
        self.swarm.start()
        self.fleet = Fleet(self.swarm.child, file)
        # Some are always on their way back.
        nearly = size.devices - max(2, size.devices // 50)
        await self.counted(lambda tally: tally["connected"] >= nearly, "the devices")

    def tally(self) -> dict[str, Any]:
        """Return what the devices have counted so far; nothing before they are there."""
        return self.fleet.tally() if self.fleet is not None else {}

    async def counted(
        self, reached: Callable[[dict[str, Any]], bool], what: str, limit_s: float = _PATIENCE_S
    ) -> dict[str, Any]:
        """Wait until the devices have counted that; return it. Raises SoakFailed."""
        tally: dict[str, Any] = {}

        async def there() -> bool:
            tally.update(self.tally())
            if self.swarm is not None and self.swarm.child.poll() is not None:
                raise SoakFailed(f"the swarm ended with status {self.swarm.child.returncode}")
            return bool(tally) and reached(tally)

        await until(there, what, limit_s)
        return tally

    def look(self) -> None:
        """Note which processes there are."""
        parts: list[Control | Gateway] = [*self.controls, *self.gateways]
        roots = [each.process.pid for each in parts if each.process.started]
        roots += [each.pid for each in (self.swarm, self.store) if each is not None]
        self.seen.look(roots)

    async def end(self) -> None:
        """End all of it: devices first, so that nobody comes back while gateways go."""
        self.look()
        for pid in descendants(os.getpid()):
            send(pid, signal.SIGCONT)  # a fault may have been broken off
        if self.swarm is not None:
            await asyncio.to_thread(self.swarm.end)
        await asyncio.gather(*(asyncio.to_thread(each.process.end) for each in self.gateways))
        for control in reversed(self.controls):
            await asyncio.to_thread(control.process.end)
        if self.store is not None:
            await asyncio.to_thread(self.store.end)


@asynccontextmanager
async def system(scratch: Path, size: Size) -> AsyncIterator[System]:
    """Run everything while the context lasts."""
    made = System(scratch, size)
    try:
        await made.start()
        yield made
    finally:
        await made.end()


async def until(check: Callable[[], Awaitable[bool]], what: str, limit_s: float = _PATIENCE_S) -> None:
    """Wait until a coroutine function says so. Raises SoakFailed."""
    deadline = asyncio.get_running_loop().time() + limit_s
    while not await check():
        if asyncio.get_running_loop().time() > deadline:
            raise SoakFailed(f"{what}: not within {limit_s:g} s")
        await asyncio.sleep(_POLL_S)


def _gateway(port: int, admin_port: int) -> tuple[str, ...]:
    return fanout("gateway", "--port", str(port), "--admin-port", str(admin_port), "--json", *_GATEWAY)


def _port(url: str) -> int:
    found = httpx.URL(url).port
    assert found is not None
    return found
