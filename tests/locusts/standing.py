"""The whole product as processes, for locust to load: a store, a control plane, gateways that may be killed."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from support.product import ControlProcess
from support.stack import FAST, KEY, ROOT, GatewayProcess
from support.waiting import PATIENCE_S

from fanout.connect import connect as connect_store
from fanout.embedded import EmbeddedValkey
from fanout.store.keys import KeyStore, Role
from gateway.config import GatewayConfig
from loadtest.ports import reserved_ports


def children(pid: int) -> list[int]:
    """Return the processes that this one has started and that are still there."""
    return [int(each) for each in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


@dataclass
class Standing:
    """What locust needs to know."""

    gateways: list[GatewayProcess]
    control_url: str
    api_key: str

    @property
    def words(self) -> list[str]:
        """Options that lead there."""
        urls = ",".join(gateway.url for gateway in self.gateways)
        return ["--gateway-url", urls, "--origin", self.control_url, "--control-url", self.control_url]

    def kill(self, number: int) -> None:
        """End a gateway as a power cut would: the supervisor, and its workers before they learn of it."""
        supervisor = self.gateways[number].process.pid
        os.kill(supervisor, signal.SIGSTOP)
        pids = children(supervisor)
        for pid in pids:  # the nursery, and what it has forked
            pids += children(pid)
        for pid in (*reversed(pids), supervisor):
            os.kill(pid, signal.SIGKILL)


@asynccontextmanager
async def standing(*, gateways: int, **settings: Any) -> AsyncIterator[Standing]:
    """Run it while the context lasts.

    Args:
        gateways: How many, of one worker each.
        settings: Of `GatewayConfig`.
    """
    async with AsyncExitStack() as ends:
        store = ends.enter_context(EmbeddedValkey())
        redis = connect_store(store.url)
        ends.push_async_callback(redis.aclose)
        key = await KeyStore(redis).create("locust", Role.ADMIN)
        before = os.environ.get("FANOUT_DEVICE_KEY")
        os.environ["FANOUT_DEVICE_KEY"] = KEY
        made: list[GatewayProcess] = []
        try:
            for _ in range(gateways):
                scratch = Path(ends.enter_context(tempfile.TemporaryDirectory(prefix="fanout-locust-")))
                config = GatewayConfig(**{**FAST, "redis_url": store.url, "workers": 1, **settings})
                made.append(GatewayProcess(scratch, config))
                ends.callback(made[-1].stop)
        finally:
            if before is None:
                del os.environ["FANOUT_DEVICE_KEY"]
            else:
                os.environ["FANOUT_DEVICE_KEY"] = before
        control = await asyncio.to_thread(ControlProcess, "--redis-url", store.url)
        ends.callback(control.stop)
        for gateway in made:
            await gateway.started()
        yield Standing(made, control.url, key)


@contextmanager
def locust(*words: str, api_key: str = "", output: Path | None = None) -> Iterator[subprocess.Popen[bytes]]:
    """Run locust as a process of its own; it and its workers are killed if they are still there in the end."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("FANOUT_", "LOCUST_"))}
    # Of the master and its workers: two tests at a time would get each other's by the usual port.
    with reserved_ports(1) as [port]:
        ports = ("--master-bind-host", "127.0.0.1", "--master-bind-port", str(port), "--master-port", str(port))
        with (output or Path(os.devnull)).open("wb") as said:
            child = subprocess.Popen(
                [sys.executable, "-m", "locust", "-f", str(ROOT / "loadtest/locustfile.py"), *ports, *words],
                env={**environment, "PYTHONPATH": str(ROOT), "FANOUT_DEVICE_KEY": KEY, "FANOUT_API_KEY": api_key},
                stdin=subprocess.DEVNULL,
                stdout=said,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        try:
            yield child
        finally:
            if child.poll() is None:
                child.terminate()
                try:
                    child.wait(PATIENCE_S)
                except subprocess.TimeoutExpired:
                    pass
            try:
                os.killpg(child.pid, signal.SIGKILL)
            except ProcessLookupError:
                pass
            child.wait()
