"""One gateway process: bus reader, sockets, presence and health, started and stopped in the right order.

It listens only once it has read the whole state, and stops listening before it drains. It talks to its
supervisor through one pipe: its process id first, then a line of JSON whenever its health changes.
"""

from __future__ import annotations

import asyncio
import gc
import json
import os
import random
import resource
import secrets
import signal
import socket
import sys
import time
from collections.abc import Callable
from typing import Final

import msgspec
import structlog
import uvloop

from fanout import tracing
from fanout.bus import presence
from fanout.bus.reader import BusState, Reader
from fanout.connect import STORE_ERRORS, connect
from fanout.errors import FanoutError
from fanout.storms import Storms, flush, install
from gateway import metrics
from gateway.balance import Balance
from gateway.config import GatewayConfig
from gateway.connection import Connection
from gateway.drain import drain
from gateway.listener import Listener
from gateway.measuring import Meter
from gateway.process import CONFIG_VARIABLE, OWN_FILES, Health, bind, raise_open_files, within_open_files
from gateway.reports import grouped
from gateway.server import Server
from gateway.tokens import verifier_from_environment

log = structlog.get_logger(__name__)

# New objects between two young collections. Connections live for half an hour, so looking at them often
# finds nothing. Measured with 8,000 handshakes: without any collection they are no cheaper than with this.
_GC_YOUNG: Final = 50_000


_HEALTH_OF: Final = {
    BusState.STARTING: Health.UNREADY,
    BusState.DEAF: Health.UNREADY,
    BusState.DEGRADED: Health.DEGRADED,
    BusState.OK: Health.OK,
}


class Worker:
    """Everything one process does.

    Args:
        config: The gateway's settings.
        server_socket: Bound, with SO_REUSEPORT; not listening yet.
        tell: Called with the health whenever it changes.

    Attributes:
        storms: Counts the lines it logs, where that is installed.
    """

    def __init__(self, config: GatewayConfig, server_socket: socket.socket, tell: Callable[[Health], None]) -> None:
        self.name = f"{socket.gethostname()}-{os.getpid()}-{secrets.token_hex(4)}"
        self._config = config
        self._socket = server_socket
        self._tell = tell
        self._redis = connect(config.redis_url, timeout_s=config.probe_timeout_s)
        self._reader = Reader(
            lambda: connect(config.redis_read_url or config.redis_url, timeout_s=config.probe_timeout_s),
            self.name,
            lambda publication: self._server.publish(publication),
            self._bus_became,
            # Without replicas there is nobody else to ask whether it is our replica alone that is silent.
            primary=(lambda: connect(config.redis_url, timeout_s=config.probe_timeout_s))
            if config.redis_read_url
            else None,
            probe_interval_s=config.probe_interval_s,
            probe_timeout_s=config.probe_timeout_s,
        )
        verifier = verifier_from_environment(config.audience, config.attr_keys)
        files, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
        self._server = Server(config, verifier, self._reader, files - OWN_FILES, asyncio.get_running_loop().call_soon)
        self._balance = Balance(config, self._redis, self._server)
        self._meter = Meter(config, self._server, self._reader)
        self.storms = Storms(config.log_lines_max, config.log_period_s)
        self._health = Health.UNREADY
        self._listening = False
        self._synced = asyncio.Event()
        self._stop = asyncio.Event()
        self._started_ms = int(time.time() * 1000)

    async def run(self) -> None:
        """Serve until SIGTERM or SIGINT, then drain and return."""
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self.stop)
        tasks = [
            asyncio.create_task(self._reader.run()),
            asyncio.create_task(self._server.run()),
            asyncio.create_task(self._server.broadcaster.run()),
            asyncio.create_task(self._announce()),
            asyncio.create_task(self._balance.run()),
        ]
        stopping = asyncio.create_task(self._stop.wait())
        try:
            await asyncio.wait(
                [stopping, asyncio.create_task(self._synced.wait()), *tasks],
                return_when=asyncio.FIRST_COMPLETED,
            )
            if not self._stop.is_set():
                await self._serve(stopping, tasks)
        finally:
            for task in (stopping, *tasks):
                task.cancel()
            await asyncio.gather(stopping, *tasks, return_exceptions=True)
            await self._leave()

    def stop(self) -> None:
        """Make `run` drain and return."""
        self._stop.set()

    async def _serve(self, stopping: asyncio.Task[bool], tasks: list[asyncio.Task[None]]) -> None:
        _bound_the_kernel(self._socket, self._config)
        listener = Listener(self._socket, lambda: Connection(self._server))
        await listener.open()
        looking = asyncio.create_task(listener.run())
        tasks.append(looking)
        # What exists now lives as long as the process: the collector need not look at it again.
        gc.collect()
        gc.freeze()
        self._listening = True
        self._judge()
        log.info("listening", worker=self.name, port=self._socket.getsockname()[1])
        done, _ = await asyncio.wait([stopping, *tasks], return_when=asyncio.FIRST_COMPLETED)
        self._listening = False
        self._judge()
        self._server.draining = True
        looking.cancel()
        listener.close()
        for task in done - {stopping}:
            task.result()  # a part that ends by itself has failed: say why, and let the supervisor restart us
        log.info("draining", worker=self.name, devices=self._server.cohorts.connections)
        await drain(self._server.cohorts, self._config)

    async def _leave(self) -> None:
        try:
            await presence.remove(self._redis, self.name)
        except STORE_ERRORS:
            pass  # it expires by itself
        await self._redis.aclose()

    # --- Health.

    def _bus_became(self, state: BusState) -> None:
        if state is BusState.OK:
            self._synced.set()
            # The client's errors and connections refer to each other: seconds without a store leave thousands of
            # them, which would lie about until enough devices have come to make a collection due.
            gc.collect(0)
        self._judge()

    def _judge(self) -> None:
        health = _HEALTH_OF[self._reader.state] if self._listening else Health.UNREADY
        if health is not self._health:
            self._health = health
            self._tell(health)
        for each in Health:
            metrics.HEALTH.labels(each.value).set(each is health)

    # --- Presence.

    async def _announce(self) -> None:
        """Write this worker's record, with jitter, until cancelled."""
        task = asyncio.current_task()
        assert task is not None
        rng = random.Random()
        last_s, last_opened, last_sent = time.monotonic(), 0, 0
        # Before Python 3.12 asyncio.wait_for can lose a cancellation, and the Redis client uses it.
        while not task.cancelling():
            await asyncio.sleep(self._config.presence_interval_s * rng.uniform(0.9, 1.1))
            now_s, opened, sent = time.monotonic(), self._server.opened_ever, self._server.broadcaster.sent
            span_s = now_s - last_s
            record = self._record((opened - last_opened) / span_s, (sent - last_sent) / span_s)
            last_s, last_opened, last_sent = now_s, opened, sent
            flush(self.storms)
            self._meter.read()
            try:
                await presence.write(self._redis, record)
            except STORE_ERRORS as exc:
                log.warning("presence not written", error=str(exc))

    def _record(self, connects_per_s: float, sends_per_s: float) -> presence.WorkerRecord:
        server, names = self._server, self._config.presence_attrs
        return presence.WorkerRecord(
            worker=self.name,
            started_ms=self._started_ms,
            now_ms=self._reader.now_ms(),
            health=self._health.value,
            bus_rev=self._reader.position,
            connections=server.cohorts.connections,
            connects_per_s=round(connects_per_s, 1),
            sends_per_s=round(sends_per_s, 1),
            broadcast_per_s=round(server.broadcaster.per_s, 1),
            loop_lag_ms=round(server.loop_lag_ms, 1),
            groups=grouped(server.cohorts, names, lambda cohort: (len(cohort.members), 0, 0)),
            campaigns=server.reports.gauges(names),
        )


def _bound_the_kernel(sock: socket.socket, config: GatewayConfig) -> None:
    """Set on the listening socket what every accepted one inherits, before it listens."""
    # A device that stops reading pins this much; the rest waits in the worker, where all share one frame.
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, config.tcp_send_buffer_bytes)
    if hasattr(socket, "TCP_USER_TIMEOUT"):
        # The kernel drops the half-open ones by itself.
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, config.tcp_user_timeout_ms)


def main(status_fd: int) -> None:
    """Run one worker as the supervisor configured it; ``status_fd`` is the pipe it speaks through."""
    config = msgspec.json.decode(os.environ[CONFIG_VARIABLE], type=GatewayConfig)
    pipe = os.fdopen(status_fd, "w", buffering=1)
    print(json.dumps({"pid": os.getpid()}), file=pipe)
    config = within_open_files(config, raise_open_files())
    gc.set_threshold(_GC_YOUNG, 20, 100)

    def tell(health: Health) -> None:
        try:
            print(json.dumps({"health": health.value}), file=pipe)
        except OSError:
            pass  # the supervisor is gone; SIGTERM is on its way

    async def run() -> None:
        worker = Worker(config, bind(config.host, config.port), tell)
        install(worker.storms)
        tracing.start("fanout-gateway", worker.name)
        await worker.run()

    try:
        uvloop.run(run())
    except (FanoutError, OSError) as exc:
        log.error("a worker cannot run", why=str(exc))
        sys.exit(1)
    finally:
        tracing.stop()
