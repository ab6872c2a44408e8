"""A store that stops answering: devices are kept and served from memory, and presses are told the truth."""

from __future__ import annotations

import asyncio

from bus.publications import log_of
from bus.servers import frozen
from support.product import product
from support.viewers import swarm
from support.waiting import until

from gateway.process import Health

from .pressing import ask, assert_once_each, insist, ready

DEVICES = 100
LIVE = {"stage": "live", "window_s": 0.5, "force": True, "reason": "a test"}


async def test_a_stopped_store_degrades_the_gateway_which_keeps_its_devices_and_serves_newcomers_from_memory() -> (
    None
):
    async with product() as made, swarm(made, DEVICES) as crowd:
        await ready(made, DEVICES)
        first = await made.force("upcoming", window_s=0)
        await until(lambda: crowd.shows() == {"upcoming"}, "the first stage")
        said = made.stack.said
        with frozen(made.stack.valkey):
            await until(lambda: said[-1] is Health.DEGRADED, "the gateway to notice")
            pressing = asyncio.create_task(ask(made, "activate", "in-silence", **LIVE))
            async with swarm(made, 20, prefix="late") as newcomers:
                await until(lambda: newcomers.shows() == {"upcoming"}, "what newcomers show")
            refused = await pressing
            assert refused.status_code == 503
            assert refused.headers["content-type"] == "application/problem+json"
            assert "safe to repeat" in refused.json()["detail"]
            assert int(refused.headers["retry-after"]) >= 1
        pressed = await insist(made, "activate", "in-silence", **LIVE)
        await until(lambda: crowd.shows() == {"live"}, "the next stage")
        assert_once_each(crowd, first, pressed)
        await until(lambda: said[-1] is Health.OK, "the gateway to recover")
        # A machine that was held up may have had it degraded more than once.
        assert set(said) == {Health.OK, Health.DEGRADED}, "never unready: all gateways are in that boat"
        assert not crowd.tally.closes


async def test_a_store_that_stops_in_the_middle_of_a_press_leaves_it_unknown_and_the_same_key_settles_it() -> None:
    async with product() as made, swarm(made, DEVICES) as crowd:
        await ready(made, DEVICES)
        redis = made.stack.redis
        # Reading works, and so all that comes before the publication; whatever writes waits.
        await redis.client_pause(60_000, all=False)
        unknown = await ask(made, "activate", "half-way", **LIVE)
        assert unknown.status_code == 503
        assert unknown.json()["type"] == "urn:fanout:problem:outcome-unknown"
        assert unknown.json()["idempotency_key"] == "half-way"
        await redis.client_unpause()
        pressed = await insist(made, "activate", "half-way", **LIVE)
        again = await insist(made, "activate", "half-way", **LIVE)
        assert again == pressed
        await until(lambda: crowd.shows() == {"live"}, "the stage")
        assert_once_each(crowd, pressed)
        assert [p.rev for p in await log_of(redis)][1:] == [pressed["rev"]]
