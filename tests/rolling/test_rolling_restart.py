"""A deployment rolled with a full house: gateways are replaced one by one while a fleet is connected and flips."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from support.service import write
from support.stack import FAST, KEY, ROOT, GatewayProcess, activated, prefetched
from support.waiting import PATIENCE_S, until
from support.web import web

from fanout import processes
from fanout.bus.publisher import Publisher
from fanout.connect import connect
from fanout.embedded import EmbeddedValkey
from gateway.config import GatewayConfig

DEVICES = 8_000
GATEWAYS = 4
# A look at the fleet's figures or at a pod's log reads a file.
LOOK_S = 0.1
# Half an hour of a deployment's life in half a minute: the wheel turns every four seconds, so a round of evening out
# takes five. Three that keep 3 percent each leave the fourth within ten.
SETTINGS: dict[str, Any] = {
    **FAST,
    "drain_s": 3.0,
    "drain_close_s": 0.5,
    "beacon_s": 4.0,
    "lifetime_spread_ms": 1_000,
    "rebalance_s": 5.0,
    "rebalance_tolerance": 0.03,
    "freeze_lead_s": 1.0,
    "freeze_tail_s": 1.0,
    "presence_interval_s": 0.5,
    "probe_interval_s": 0.5,
    # Everything here shares two cores, and other tests may have them too: late is not dead.
    "probe_timeout_s": 5.0,
    "loop_lag_max_ms": 5_000.0,
}


class Deployment:
    """Four gateways behind a service, and a fleet that knows the service alone.

    Args:
        folder: For files.
        redis_url: The store.
        ends: What is to be ended with it.
    """

    def __init__(self, folder: Path, redis_url: str, ends: AsyncExitStack) -> None:
        self.folder = folder
        self._redis_url = redis_url
        self._ends = ends
        self._made = 0
        self.pods: list[GatewayProcess] = []

    # --- What Kubernetes does.

    async def start(self) -> GatewayProcess:
        """Start a pod; it is an endpoint at once, and gets devices once it says that it is ready."""
        scratch = self.folder / f"pod-{self._made}"
        scratch.mkdir()
        self._made += 1
        pod = GatewayProcess(scratch, GatewayConfig(**SETTINGS, redis_url=self._redis_url))
        self._ends.callback(pod.stop)
        await pod.started()
        self.pods.append(pod)
        self._tell()
        await until(lambda: endpoint(pod) in self.ready(), "the pod's readiness")
        return pod

    async def replace(self, pod: GatewayProcess) -> None:
        """Replace a pod in Kubernetes' order: no endpoint any more, preStop, SIGTERM, its end, the next one."""
        self.pods.remove(pod)
        self._tell()
        # That is what preStop sleeps for: that whoever deals connections has heard of it.
        await until(lambda: endpoint(pod) not in self.ready(), "the end of the endpoint")
        pod.process.terminate()
        assert await pod.exited() == 0, pod.errors
        assert "Traceback" not in pod.errors, pod.errors
        assert "did not drain in time" not in pod.errors, pod.errors
        await self.start()

    def _tell(self) -> None:
        write(self.folder / "endpoints", [endpoint(pod) for pod in self.pods])

    def ready(self) -> list[list[int]]:
        """Return who gets connections now."""
        file = self.folder / "ready"
        return list(json.loads(file.read_text())) if file.exists() else []

    # --- What there is to see.

    def fleet(self) -> dict[str, Any]:
        """Return the swarm's figures."""
        file = self.folder / "fleet.json"
        nothing = dict.fromkeys(("connected", "ready", "activated"), 0)
        return dict(json.loads(file.read_text())) if file.exists() else nothing

    async def connections(self) -> list[int]:
        """Return how many devices each gateway has."""
        async with web() as http:
            pages = await asyncio.gather(*(http.get(f"{pod.admin_url}/metrics") for pod in self.pods))
        wanted = "\nfanout_gateway_connections "
        return [int(float(page.text.partition(wanted)[2].split()[0])) for page in pages]


def endpoint(pod: GatewayProcess) -> list[int]:
    return [int(url.split(":")[2].split("/")[0]) for url in (pod.url, pod.admin_url)]


@asynccontextmanager
async def deployment() -> AsyncIterator[tuple[Deployment, Publisher]]:
    async with AsyncExitStack() as ends:
        folder = Path(ends.enter_context(tempfile.TemporaryDirectory(prefix="fanout-rolling-")))
        ends.enter_context(pytest.MonkeyPatch.context()).setenv("FANOUT_DEVICE_KEY", KEY)
        store = ends.enter_context(EmbeddedValkey())
        redis = connect(store.url)
        ends.push_async_callback(redis.aclose)
        made = Deployment(folder, store.url, ends)
        write(folder / "endpoints", [])
        service = processes.start([sys.executable, str(ROOT / "tests/support/service.py"), str(folder)], env=env())
        ends.callback(processes.stop, service, PATIENCE_S)
        for _ in range(GATEWAYS):
            await made.start()
        yield made, Publisher(redis)


@asynccontextmanager
async def fleet(there: Deployment) -> AsyncIterator[subprocess.Popen[bytes]]:
    """Run the devices, as ``fanout swarm`` has them, while the context lasts."""
    url = f"ws://127.0.0.1:{json.loads((there.folder / 'port').read_text())}/v1/connect"
    words = ["--url", url, "--devices", str(DEVICES), "--topics", "t", "--connects-per-s", "2000"]
    with (there.folder / "said").open("wb") as said:
        child = processes.start(
            [sys.executable, "-m", "fanout.cli", "swarm", *words, "--json", str(there.folder / "fleet.json")],
            env=env(),
            stderr=said,
        )
    try:
        yield child
        assert child.poll() is None, (there.folder / "said").read_text()
        child.send_signal(signal.SIGINT)
        await until(lambda: child.poll() is not None, "the end of the fleet")
    finally:
        processes.stop(child, PATIENCE_S)


def env() -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": str(ROOT)}


@pytest.mark.slow
@pytest.mark.timeout(600)
async def test_a_rolling_restart_under_a_full_house_loses_nobody_and_ends_even() -> None:
    async with deployment() as (there, publisher):
        async with fleet(there):
            await until(lambda: there.fleet()["connected"] == DEVICES, "everyone", poll_s=LOOK_S)
            await publisher.publish(prefetched())
            await until(lambda: there.fleet()["ready"] == DEVICES, "everyone's bundle", poll_s=LOOK_S)
            first, second, *others = there.pods
            await there.replace(first)
            replacing = asyncio.create_task(there.replace(second))
            # While devices are being asked to leave it, the moment comes.
            await until(lambda: '"draining"' in second.errors or replacing.done(), "the drain", poll_s=LOOK_S)
            assert not replacing.done()
            await publisher.publish(activated(window_ms=2_000))
            await replacing
            for pod in others:
                await there.replace(pod)

            async def even() -> bool:
                counts = await there.connections()
                return sum(counts) == DEVICES and all(
                    0.9 * DEVICES / GATEWAYS <= count <= 1.1 * DEVICES / GATEWAYS for count in counts
                )

            await until(even, "an even fleet", timeout_s=120, poll_s=5 * LOOK_S)
            await until(lambda: there.fleet()["activated"] == DEVICES, "everyone's flip", poll_s=LOOK_S)
        found = there.fleet()
        # Nobody was refused; and closed was at most who had not found the time to move, by 1012, and came back.
        assert found["final"]
        assert (found["connected"], found["activated"], found["flipped_twice"]) == (DEVICES, DEVICES, 0)
        assert found["refused"] == {}
        assert set(found["closes"]) <= {"1012"}
