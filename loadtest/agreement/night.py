"""One night of real devices: the product by its commands, an engine against it, the presses, and what came of it.

The gateway and the control plane are started and asked as an operator would; this knows no module of theirs.
"""

from __future__ import annotations

import json
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from statistics import quantiles
from threading import Thread
from typing import Any, Final

from msgspec import Struct
from rich.console import Console

from fanout.errors import InvalidInput
from loadtest.agreement.engines import KINDS, Ended, Running
from loadtest.agreement.engines import engine as engine_of
from loadtest.agreement.experiment import Engine, Name
from loadtest.bench.fleet import FleetFailed
from loadtest.bench.million import size_of
from loadtest.bench.rig import Product, prepare, product
from loadtest.capacity import raise_files_max

# Many processes on two cores wait for each other: that is no reason to turn devices away, or to take the bus for
# dead. Nobody is to move to another socket meanwhile.
_GATEWAY: Final = (
    *("--ping-s", "3000", "--lifetime-s", "7200", "--drain-close-s", "0"),
    *("--admit-per-s", "100000", "--loop-lag-max-ms", "10000", "--handshake-timeout-s", "60"),
    *("--probe-interval-s", "5", "--probe-timeout-s", "20"),
)
# A phase that takes longer than this, beside its window and a second for so many devices, has failed.
_PATIENCE_S: Final = 60.0
_DEVICES_PER_S_MIN: Final = 500
_POLL_S: Final = 0.5
_TOLD_S: Final = 5.0
# So many there and back say what loopback takes, to the 99th percentile.
_PINGS: Final = 500


class Loopback(Struct, frozen=True):
    """One way over this machine's loopback, between two idle sockets: half of there and back; ms."""

    median_ms: float
    p99_ms: float


class Measured(Struct, frozen=True, kw_only=True):
    """A night of real devices.

    Attributes:
        prefix: Of their ids, which a number from 0 on follows.
        rev: Of the activation; the ms of its publication.
        at_ms: The instant, Unix ms.
        ahead_s: From the press to the instant.
        connections: By gateway worker, before the press.
        clock_samples: Each device had at least, before the instant: the welcome's and its beacons'.
        sends_per_s: Of a worker, by the gateway's own clock of its broadcasts.
        seconds: What each phase took.
    """

    engine: Name
    devices: int
    prefix: str
    rev: int
    at_ms: int
    ahead_s: float
    window_s: float
    connections: list[int]
    clock_samples: int
    sends_per_s: float
    loopback: Loopback
    seconds: dict[str, float]
    ended: Ended


def workers_for(name: Name, engine: Engine, devices: int) -> int:
    """Return how many gateway workers there are.

    Raises:
        InvalidInput: This machine cannot hold so many devices; the message has the number that forbids it.
    """
    workers = engine.workers or size_of(devices, raise_files_max()).workers
    words = ["--workers", str(workers), "--processes", str(workers if name == "swarm" else 1)]
    asked = [sys.executable, "-m", "fanout.cli", "doctor", "--with-swarm", *words, "--json"]
    done = subprocess.run(asked, capture_output=True, text=True, check=True)
    found = json.loads(done.stdout)["with_swarm"]["devices"]
    if found["total"] is not None and found["total"] < devices:
        bound = next(each for each in found["bounds"] if each["limit"] == found["binds"])
        raise InvalidInput(
            f"{devices:,} devices by {name} do not fit on this machine, {found['total']:,} do: {bound['title']} is "
            f"{bound['value']:,}. For more: {bound.get('for_twice', 'a larger machine')}"
        )
    return workers


class _Night:
    def __init__(self, running: Product, devices: Running, count: int, console: Console) -> None:
        self._product = running
        self._devices = devices
        self._count = count
        self._console = console
        self.seconds: dict[str, float] = {}

    def phase(self, name: str, served: Callable[[], int], limit_s: float) -> None:
        """Wait until both ends, the devices and the control plane, have counted everyone.

        Raises:
            FleetFailed: They have not within the limit, or the engine has ended.
        """
        began_s = told_s = time.monotonic()
        while min(counts := (self._devices.counts().get(name, 0), served())) < self._count:
            now_s = time.monotonic()
            words = f"{name}: {counts[0]:,} by the devices' count, {counts[1]:,} by the control plane's"
            if now_s - began_s > limit_s:
                raise FleetFailed(f"{words}, of {self._count:,} after {limit_s:g} s")
            if now_s - told_s >= _TOLD_S:
                told_s = now_s
                self._console.print(f"  {words}", highlight=False)
            time.sleep(_POLL_S)
        self.seconds[name] = round(time.monotonic() - began_s, 1)
        self._console.print(f"  {name}: all {self._count:,} in {self.seconds[name]:g} s", highlight=False)

    def drive(self, engine: Engine) -> dict[str, Any]:
        """Connect, prefetch, activate; return what is needed to know of the press."""
        served, path = self._product.get, "/v1/campaigns/bench"
        patience_s = _PATIENCE_S + self._count / _DEVICES_PER_S_MIN
        connecting_s = self._count / engine.connects_per_s
        self.phase("connected", lambda: int(served("/v1/fleet")["devices"]), connecting_s + patience_s)
        prepare(self._product, engine.prefetch_window_s)
        limit_s = engine.prefetch_window_s + patience_s
        self.phase("ready", lambda: int(served(f"{path}/readiness")["total"]["ready"]), limit_s)
        connections = [int(worker["connections"]) for worker in served("/v1/fleet")["workers"]]
        before_s = self._product.broadcast_seconds()
        pressed = {"stage": "on", "window_s": engine.window_s, "in_s": engine.ahead_s}
        told = self._product.post(f"{path}/activate", pressed)["activation"]
        limit_s = engine.ahead_s + engine.window_s + patience_s
        self.phase("activated", lambda: int(served(f"{path}/readiness")["total"]["active"]), limit_s)
        took_s = self._product.broadcast_seconds() - before_s
        if took_s <= 0:
            raise FleetFailed("the gateway has no time for its broadcast in its metrics")
        return {
            "rev": int(told["rev"]),
            "at_ms": int(told["at"]),
            "connections": connections,
            "sends_per_s": round(self._count / took_s, 1),
        }


def night(
    name: Name, engine: Engine, devices: int, workers: int, console: Console
) -> tuple[Measured, dict[str, Any]]:
    """Run a night of real devices; return what is compared of it, and the engine's own figures whole.

    Args:
        name: Of the engine.
        engine: And its night.
        devices: How many.
        workers: Of the gateway.
        console: To tell how far it is.
    Raises:
        FleetFailed: They do not get where they should.
    """
    loopback = measured_loopback()
    with (
        product("--workers", str(workers), "--beacon-s", str(engine.beacon_s), *_GATEWAY) as running,
        engine_of(name, running, devices, workers, engine) as started,
    ):
        made = _Night(running, started, devices, console)
        pressed = made.drive(engine)
        ended, whole = started.end()
    found = Measured(
        engine=name,
        devices=devices,
        prefix=KINDS[name].prefix,
        ahead_s=engine.ahead_s,
        window_s=engine.window_s,
        clock_samples=1 + int((engine.prefetch_window_s + engine.ahead_s) / engine.beacon_s),
        loopback=loopback,
        seconds=made.seconds,
        ended=ended,
        **pressed,
    )
    return found, whole


def measured_loopback() -> Loopback:
    """Return what loopback takes on this machine, before there is any load."""
    with socket.create_server(("127.0.0.1", 0)) as listening:

        def echo() -> None:
            other, _ = listening.accept()
            with other:
                while data := other.recv(64):
                    other.sendall(data)

        thread = Thread(target=echo)
        thread.start()
        ways_ms: list[float] = []
        with socket.create_connection(listening.getsockname()) as here:
            here.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            for _ in range(_PINGS):
                began_s = time.perf_counter()
                here.sendall(b"ping")
                here.recv(64)
                ways_ms.append((time.perf_counter() - began_s) * 1000 / 2)
        thread.join()
    cuts = quantiles(ways_ms, n=100)
    return Loopback(round(cuts[49], 4), round(cuts[98], 4))
