"""Laws of evening out: who parts with devices, how many, and where that ends."""

from __future__ import annotations

import random
import time
from contextlib import AsyncExitStack

import pytest
from hypothesis import given
from hypothesis import strategies as st
from redis.asyncio import Redis
from support.stack import Stack, activated, connecting, receive, stack
from support.waiting import until

from fanout import keyspace
from fanout.bus import presence
from fanout.bus.presence import Average, WorkerRecord
from gateway.balance import surplus

TOLERANCE = 0.02


def record(worker: str, connections: int, health: str = "ok") -> WorkerRecord:
    return WorkerRecord(worker=worker, started_ms=0, now_ms=10**13, health=health, bus_rev=0, connections=connections)


@given(st.integers(0, 200_000), st.integers(0, 2_000), st.integers(0, 10**8), st.floats(0.001, 1))
def test_nobody_parts_with_more_than_it_has_over_the_average(
    own: int, workers: int, others: int, tolerance: float
) -> None:
    average = Average(workers, own + others)
    count = surplus(own, average, tolerance)
    assert 0 <= count <= own
    if count:
        assert workers >= 2
        mean = average.connections / workers
        assert own - count >= mean > 0
        assert own > mean * (1 + tolerance)


@pytest.mark.parametrize("devices", [40, 8_000])
@pytest.mark.parametrize("seed", range(5))
def test_a_fleet_of_four_whose_newest_is_empty_ends_even_and_then_rests(devices: int, seed: int) -> None:
    rng = random.Random(seed)
    fleet = [devices // 2, devices // 3, devices - devices // 2 - devices // 3, 0]
    rounds = 0
    while any(moving := [surplus(own, Average(4, devices), TOLERANCE) for own in fleet]):
        fleet = [own - count for own, count in zip(fleet, moving, strict=True)]
        for _ in range(sum(moving)):
            fleet[rng.randrange(4)] += 1
        rounds += 1
        assert rounds < 100, fleet
    mean = devices / 4
    # Three that are left alone at the tolerance leave the fourth no further off than all three together.
    allowed = 3 * max(TOLERANCE * mean, mean**0.5) + 3
    assert all(abs(own - mean) <= allowed for own in fleet), fleet


async def test_the_average_counts_those_that_serve_and_is_made_once_for_all(redis: Redis) -> None:
    for each in (record("a", 300), record("b", 100, "degraded"), record("starts", 0, "unready")):
        await presence.write(redis, each)
    assert await presence.average(redis, 60) == Average(workers=2, connections=400)
    await presence.write(redis, record("c", 200))
    assert await presence.average(redis, 60) == Average(workers=2, connections=400)
    await redis.delete(keyspace.AVERAGE)  # as its time does
    assert await presence.average(redis, 60) == Average(workers=3, connections=600)
    assert 0 < await redis.pttl(keyspace.AVERAGE) <= 60_000


async def test_an_average_that_cannot_be_read_is_made_anew(redis: Redis) -> None:
    await presence.write(redis, record("a", 300))
    await redis.set(keyspace.AVERAGE, b"of another version")
    assert await presence.average(redis, 60) == Average(workers=1, connections=300)


@pytest.mark.parametrize("frozen", [False, True], ids=["any time", "near an instant"])
async def test_who_has_more_than_its_share_asks_the_surplus_to_move_but_never_near_an_instant(frozen: bool) -> None:
    quick = {"beacon_s": 0.3, "lifetime_spread_ms": 10, "rebalance_s": 0.3, "freeze_lead_s": 3_600.0}
    async with stack(**quick) as s, AsyncExitStack() as ends:
        if frozen:
            rev = (await s.publisher.publish(activated(at=int(time.time() * 1000) + 1_800_000))).rev
            await until(lambda: heard(s, rev), "the activation in the worker's record")
        devices = [await ends.enter_async_context(connecting(s.url)) for _ in range(24)]
        begun_ms = await s.publisher.now_ms()
        asked: set[int] = set()

        async def over() -> bool:
            """Read one message of each; tell whether half were asked, or two seconds have passed: several rounds."""
            # Another worker says that it has nobody, so twelve are too many here. Its record lives for five seconds.
            await presence.write(s.redis, record("empty", 0))
            said = [await receive(device) for device in devices]
            asked.update(number for number, message in enumerate(said) if message["t"] == "reconnect")
            passed = all(message.get("now", 0) > begun_ms + 2_000 for message in said)
            return passed if frozen else len(asked) >= 12

        await until(over, "several rounds, or twelve who were asked")
        assert not (frozen and asked)


async def heard(s: Stack, rev: int) -> bool:
    return any(each.bus_rev >= rev for each in await s.records())
