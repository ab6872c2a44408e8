"""A subscription that the store ends behind everyone's back: what it would have brought is read from the log."""

from __future__ import annotations

import math
import os
import signal
from typing import Any

from redis.asyncio import Redis
from support.stack import Stack, connecting, prefetched, receive, stack
from support.waiting import PATIENCE_S, until
from support.web import web

# What a bundle that travels inline may weigh at the most.
CONTENT = "x" * 16_000
# More than the server may keep for a subscriber here, and than the kernel takes for it.
MANY = 60
# What ends the subscription is the store, and not a probe that a busy machine has made late.
PATIENT = {"probe_timeout_s": PATIENCE_S}


async def metric(running: Stack, name: str) -> float:
    """Return a gateway's metric as Prometheus would read it, NaN before there is one."""
    assert running.gateway is not None
    async with web() as http:
        text = (await http.get(f"{running.gateway.admin_url}/metrics")).text
    values = [float(line.split(" ")[1]) for line in text.splitlines() if line.startswith(f"{name} ")]
    return values[0] if values else math.nan


async def worker_of(running: Stack) -> int:
    """Return the process id of a gateway's only worker."""
    assert running.gateway is not None
    async with web() as http:
        [pid] = (await http.get(f"{running.gateway.admin_url}/readyz")).json()["workers"]
    return int(pid)


async def hears_all(running: Stack, socket: Any, campaigns: list[str]) -> None:
    """Hold that a device is told of these campaigns, each once, in this order; and that the gap was counted."""
    heard: list[str] = []
    while len(heard) < len(campaigns):
        message = await receive(socket)
        if message["t"] == "prefetch":
            heard.append(message["campaign"])
    assert heard == campaigns

    async def counted() -> bool:
        return await metric(running, "fanout_gateway_bus_gaps_total") >= 1

    await until(counted, "the gap in the metrics")
    assert await metric(running, "fanout_gateway_bus_reloads_total") == 0


async def disconnections(redis: Redis) -> int:
    """Return how many clients the server has ended because they read too slowly."""
    return int((await redis.info("stats"))["client_output_buffer_limit_disconnections"])


async def test_a_subscriber_cut_off_for_reading_too_slowly_reads_the_gap_from_the_log_and_counts_it() -> None:
    # The device is to hear all of it at once, too: that is another test's matter.
    patient = {**PATIENT, "write_buffer_bytes_max": 4 * MANY * len(CONTENT)}
    async with stack(workers=1, **patient) as running, connecting(running.url) as socket:
        await receive(socket)
        await running.redis.config_set("client-output-buffer-limit", "pubsub 65536 0 0")
        campaigns = [f"c{number}" for number in range(MANY)]
        pid = await worker_of(running)
        os.kill(pid, signal.SIGSTOP)
        try:
            for campaign in campaigns:
                await running.publisher.publish(prefetched(campaign, content=CONTENT))
            assert await disconnections(running.redis) >= 1
        finally:
            os.kill(pid, signal.SIGCONT)
        await hears_all(running, socket, campaigns)


async def test_a_subscription_killed_by_the_store_is_made_up_for_from_the_log_and_counted() -> None:
    async with stack(workers=1, **PATIENT) as running, connecting(running.url) as socket:
        await receive(socket)
        campaigns = [f"c{number}" for number in range(5)]
        pid = await worker_of(running)
        os.kill(pid, signal.SIGSTOP)
        try:
            # Stopped, so that all of it is said while it has no subscription.
            assert await running.redis.client_kill_filter(_type="pubsub") == 1
            for campaign in campaigns:
                await running.publisher.publish(prefetched(campaign))
        finally:
            os.kill(pid, signal.SIGCONT)
        await hears_all(running, socket, campaigns)
