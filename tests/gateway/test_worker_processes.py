"""A gateway as production runs it: a supervisor, worker processes, the admin port, signals and crashes."""

from __future__ import annotations

import asyncio
import json
import os
import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, Final

import httpx
import websockets
from support.stack import GatewayProcess, Stack, activated, closed, connecting, prefetched, receive, stack
from support.waiting import PATIENCE_S, until
from support.web import web

# Should the machine stand still for some seconds, the store is slow and not gone, and what a device hears next is
# what was published.
PATIENT: Final = {"probe_timeout_s": PATIENCE_S, "beacon_s": 100.0}


@asynccontextmanager
async def gateway(**settings: Any) -> AsyncIterator[tuple[Stack, GatewayProcess, httpx.AsyncClient]]:
    """Run one; hold that it leaves in good order and has never written a traceback."""
    async with stack(**PATIENT, **settings) as s:
        assert s.gateway is not None
        async with web(base_url=s.gateway.admin_url, timeout=PATIENCE_S) as admin:
            yield s, s.gateway, admin
        s.gateway.stop()
        assert "Traceback" not in s.gateway.errors, s.gateway.errors
        assert s.gateway.process.returncode == 0


async def readiness(admin: httpx.AsyncClient) -> tuple[int, str, dict[int, str]]:
    """Return the status, the word, and each worker's word by process id."""
    answer = await admin.get("/readyz")
    body = answer.json()
    return answer.status_code, body["status"], {int(pid): word for pid, word in body["workers"].items()}


async def becomes(admin: httpx.AsyncClient, status: int, word: str) -> None:
    async def so() -> bool:
        return (await readiness(admin))[:2] == (status, word)

    await until(so, f"{status} {word}")


async def served(url: str) -> bool:
    """Tell whether a new device gets its welcome now."""
    try:
        async with connecting(url) as device:
            return (await receive(device))["t"] == "welcome"
    except (OSError, websockets.InvalidHandshake, websockets.ConnectionClosed):
        return False


async def test_the_admin_port_tells_health_and_sums_the_workers() -> None:
    async with gateway(workers=2) as (s, _, admin):
        assert (await admin.get("/healthz")).status_code == 200
        status, word, workers = await readiness(admin)
        assert (status, word, set(workers.values())) == (200, "ok", {"ok"})
        assert len(workers) == 2
        async with connecting(s.url) as a, connecting(s.url) as b:
            await receive(a)
            await receive(b)

            async def counted() -> bool:
                return "\nfanout_gateway_connections 2.0\n" in (await admin.get("/metrics")).text

            await until(counted, "both devices in the metrics")
            await s.publisher.publish(activated())
            await receive(a)
            await receive(b)

            async def sent() -> bool:
                return "\nfanout_gateway_sends_total 2.0\n" in (await admin.get("/metrics")).text

            await until(sent, "both sends in the metrics")


async def test_without_the_store_devices_stay_and_new_ones_are_served_from_memory() -> None:
    async with gateway(workers=1) as (s, _, admin), connecting(s.url) as stays:
        await receive(stays)
        await s.publisher.publish(prefetched())
        rev = (await s.publisher.publish(activated())).rev
        while (await receive(stays))["rev"] != rev:
            pass
        s.valkey.kill()
        await becomes(admin, 200, "degraded")
        async with connecting(s.url) as comes:
            assert [message["t"] for message in (await receive(comes))["state"]] == ["prefetch", "activate"]
        await stays.send(json.dumps({"t": "sync", "since": rev}))
        message = await receive(stays)
        while message["t"] != "beacon":
            assert message["t"] == "prefetch"
            message = await receive(stays)
        s.valkey.start()
        await becomes(admin, 200, "ok")
        later = (await s.publisher.publish(activated(stage="ended"))).rev
        assert (await receive(stays))["rev"] == later


async def test_a_killed_worker_is_restarted_and_the_port_goes_on_serving() -> None:
    async with gateway(workers=2) as (s, process, admin):
        pids = set((await readiness(admin))[2])
        victim = min(pids)
        async with connecting(s.url) as first, connecting(s.url) as second:
            await receive(first)
            await receive(second)
            os.kill(victim, signal.SIGKILL)

            async def replaced() -> bool:
                status, word, workers = await readiness(admin)
                # A worker that is on its way takes no connections, so it makes nobody unready.
                assert (status, word) == (200, "ok")
                return len(workers) == 2 and victim not in workers and set(workers.values()) == {"ok"}

            await until(replaced, "the new worker")
        assert "worker died" in process.errors
        assert await served(s.url)
        # Its gauges went with it: nobody is connected any more.

        async def empty() -> bool:
            return "\nfanout_gateway_connections 0.0\n" in (await admin.get("/metrics")).text

        await until(empty, "the metrics without the dead worker")
        # The others never noticed, and everyone comes back.
        rev = (await s.publisher.publish(activated())).rev
        async with connecting(s.url) as device:
            # Whoever is there before its worker has heard of it is told right after the welcome.
            told = (await receive(device))["state"] or [await receive(device)]
            assert [message["rev"] for message in told] == [rev]


async def test_sigterm_asks_devices_to_move_then_closes_them_and_leaves() -> None:
    async with gateway(workers=2, drain_s=0.5, drain_close_s=0.3) as (s, process, _):
        devices = [await connecting(s.url, encoding=e) for e in ("json", "msgpack") for _ in range(10)]
        for device in devices:
            await receive(device)
        process.process.terminate()
        said = await asyncio.gather(*(receive(device) for device in devices))
        assert [message["t"] for message in said] == ["reconnect"] * 20
        codes = await asyncio.gather(*(closed(device) for device in devices))
        assert codes == [1012] * 20
        assert await process.exited() == 0
        assert not await served(s.url)
        assert await s.records() == [], "a worker that leaves takes its record away"


async def test_sigterm_while_a_worker_is_being_restarted_leaves_nobody_behind() -> None:
    async with gateway(workers=1) as (s, process, admin):
        (pid,) = (await readiness(admin))[2]
        s.valkey.kill()  # so that the next one, which has to read the log first, is not ready before we have looked
        os.kill(pid, signal.SIGKILL)

        async def gone() -> bool:
            return pid not in (await readiness(admin))[2]

        await until(gone, "the worker's death")
        assert (await readiness(admin))[0] == 503
        process.process.terminate()
        assert await process.exited() == 0
