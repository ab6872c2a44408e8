"""One gateway: as many workers as asked for on one port, restarted when they die, judged as a whole.

Each worker is a process of its own on the same port (SO_REUSEPORT), forked off the nursery; the supervisor holds
no device. It answers the admin port: health in three words, and the sum of the workers' metrics.
"""

from __future__ import annotations

import asyncio
import json
import os
import random
import signal
import socket
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

import msgspec
import structlog

from fanout import __version__
from fanout.doctor.machine import memory_limit_bytes
from fanout.slots import backoff_ms
from gateway.admin import serve_admin
from gateway.config import GatewayConfig
from gateway.metrics import SupervisorMetrics
from gateway.nursery import Nursery, Seed
from gateway.process import CONFIG_VARIABLE, Health, bind, raise_open_files, within_open_files

log = structlog.get_logger(__name__)

_RESTART_BASE_MS: Final = 500
_RESTART_CAP_MS: Final = 30_000
# A worker that lived this long was healthy: its death starts the backoff anew.
_HEALTHY_S: Final = 60.0
# What a worker needs on top of its drain to say goodbye to the store and exit.
_EXIT_GRACE_S: Final = 10.0


@dataclass(slots=True)
class _Slot:
    """One worker's place: the process in it now, and what it said last."""

    number: int
    pid: int = 0
    health: Health = Health.UNREADY
    spoke: bool = False  # a worker says something only once it listens
    failures: int = 0


class Supervisor:
    """Runs a gateway's workers.

    Args:
        config: Handed to every worker; port 0 is resolved once, here.
        seed: What becomes the first nursery; None: it starts that, too.

    Attributes:
        metrics: What it knows besides its workers' metrics.
    """

    def __init__(self, config: GatewayConfig, seed: Seed | None = None) -> None:
        # Bound and never listening: it keeps the port ours while workers come and go.
        self._socket = bind(config.host, config.port)
        self.port: int = self._socket.getsockname()[1]
        self._config = msgspec.structs.replace(config, port=self.port)
        self._slots = [_Slot(number) for number in range(config.workers)]
        self.metrics = SupervisorMetrics(__version__, config.workers, memory_limit_bytes())
        self._stopping = asyncio.Event()
        self._ready = asyncio.Event()
        self._metrics_dir = tempfile.TemporaryDirectory(prefix="fanout-metrics-")
        self._nursery = Nursery(
            {
                CONFIG_VARIABLE: msgspec.json.encode(self._config).decode(),
                "PROMETHEUS_MULTIPROC_DIR": self._metrics_dir.name,
            },
            seed,
        )
        self._rng = random.Random()

    @property
    def workers(self) -> dict[int, Health]:
        """What each running worker said last, by process id."""
        return {slot.pid: slot.health for slot in self._slots if slot.pid}

    @property
    def health(self) -> Health:
        """The gateway's health: unready if any listening worker is, for connections reach all of them.

        One that has just been restarted does not count until it listens: no connection reaches it yet.
        """
        said = [slot.health for slot in self._slots if slot.pid and slot.spoke]
        if self._stopping.is_set() or not said or Health.UNREADY in said:
            return Health.UNREADY
        return Health.DEGRADED if Health.DEGRADED in said else Health.OK

    async def run(self, admin_port: int | None, on_ready: Callable[[int, int | None], None]) -> None:
        """Run until SIGTERM or SIGINT; return when every worker has drained.

        Args:
            admin_port: For /healthz, /readyz and /metrics; 0 picks one, None has none.
            on_ready: Called once with both ports when all workers serve.
        Raises:
            OSError: The admin port cannot be had.
        """
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._stopping.set)
        async with serve_admin(self, admin_port, self._config.host, self._metrics_dir.name) as port:
            keepers = [asyncio.create_task(self._keep(slot)) for slot in self._slots]
            announce = asyncio.create_task(self._announce(lambda: on_ready(self.port, port)))
            await self._stopping.wait()
            self.metrics.draining.one(1)
            announce.cancel()
            for slot in self._slots:
                _signal(slot, signal.SIGTERM)
            await asyncio.gather(*keepers)
            await self._nursery.close()
        self._socket.close()
        self._metrics_dir.cleanup()

    async def _announce(self, on_ready: Callable[[], None]) -> None:
        await self._ready.wait()
        on_ready()

    async def _keep(self, slot: _Slot) -> None:
        """Keep one place filled until the gateway stops."""
        while not self._stopping.is_set():
            started = time.monotonic()
            try:
                await self._live(slot)
            except OSError as exc:
                log.error("worker not started", number=slot.number, error=str(exc))
            if self._stopping.is_set():
                break
            if time.monotonic() - started > _HEALTHY_S:
                slot.failures = 0
            wait_ms = _RESTART_BASE_MS + backoff_ms(slot.failures, _RESTART_BASE_MS, _RESTART_CAP_MS, self._rng)
            slot.failures += 1
            self.metrics.restarts.inc()
            log.error("worker died", number=slot.number, restart_in_ms=wait_ms)
            try:
                await asyncio.wait_for(self._stopping.wait(), wait_ms / 1000)
            except TimeoutError:
                pass

    async def _live(self, slot: _Slot) -> None:
        """Run one worker process to its end."""
        slot.health, slot.spoke = Health.UNREADY, False
        reading, writing = os.pipe()
        try:
            await self._nursery.bear(writing)
        except OSError:
            os.close(reading)
            raise
        finally:
            os.close(writing)
        try:
            await self._wait(slot, asyncio.create_task(self._listen(slot, reading)))
        finally:
            if slot.pid:
                _forget_gauges(self._metrics_dir.name, slot.pid)
            slot.pid = 0

    async def _wait(self, slot: _Slot, listening: asyncio.Task[None]) -> None:
        """Wait for a worker's end; once the gateway stops, no longer than its drain may take."""
        stopping = asyncio.create_task(self._stopping.wait())
        await asyncio.wait([listening, stopping], return_when=asyncio.FIRST_COMPLETED)
        stopping.cancel()
        grace_s = self._config.drain_s + self._config.drain_close_s + _EXIT_GRACE_S
        await asyncio.wait([listening], timeout=grace_s)
        if listening.done():
            listening.result()
            return
        log.error("worker did not drain in time", pid=slot.pid, grace_s=grace_s)
        _signal(slot, signal.SIGKILL)
        listening.cancel()

    async def _listen(self, slot: _Slot, reading: int) -> None:
        """Take in what the worker says of itself, until its end of the pipe closes: that is its end too."""
        stream = asyncio.StreamReader()
        pipe = os.fdopen(reading, "rb")
        transport, _ = await asyncio.get_running_loop().connect_read_pipe(
            lambda: asyncio.StreamReaderProtocol(stream), pipe
        )
        try:
            async for line in stream:
                said = json.loads(line)
                if "pid" in said:
                    slot.pid = said["pid"]
                    if self._stopping.is_set():
                        _signal(slot, signal.SIGTERM)  # the signal went round while this one was being born
                    continue
                slot.health, slot.spoke = Health(said["health"]), True
                log.info("worker health", number=slot.number, pid=slot.pid, health=slot.health.value)
                if all(each.pid and each.spoke for each in self._slots) and self.health is not Health.UNREADY:
                    self._ready.set()
        finally:
            transport.close()


def _signal(slot: _Slot, number: signal.Signals) -> None:
    """Send a signal to the worker in this place, if there is one."""
    if slot.pid:
        try:
            os.kill(slot.pid, number)
        except ProcessLookupError:
            pass  # it has just died by itself


def _forget_gauges(directory: str, pid: int) -> None:
    """Drop a dead worker's gauges; its counters stay in the sums."""
    from prometheus_client import multiprocess

    multiprocess.mark_process_dead(pid, directory)  # type: ignore[no-untyped-call]


async def supervise(
    config: GatewayConfig,
    admin_port: int | None,
    on_ready: Callable[[int, int | None], None],
    seed: Seed | None = None,
) -> None:
    """Run a whole gateway until it is told to stop. Raises OSError when a port cannot be had."""
    files = raise_open_files()
    devices_max = within_open_files(config, files).connections_max * config.workers
    log.info("open files", limit=files, devices_max=devices_max)
    await Supervisor(config, seed).run(admin_port, on_ready)


def port_in_use(host: str, port: int) -> bool:
    """Tell whether another program listens on this address already (SO_REUSEPORT would not say)."""
    with socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET) as probe:
        probe.settimeout(1)
        return port != 0 and probe.connect_ex((host, port)) == 0
