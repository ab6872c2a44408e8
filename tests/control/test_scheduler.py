"""Schedules take their steps by themselves, once, whoever leads; and the flight recorder keeps what came of them."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable

import pytest
from redis.asyncio import Redis
from support.waiting import until

from fanout import keyspace
from fanout.bus.publication import Activated, Prefetched
from fanout.bus.tasks import until_ended
from fanout.control.config import ControlConfig
from fanout.control.services import Services

from .conftest import Api, Present
from .test_campaigns import published

QUICK = ControlConfig(tick_s=0.05, lease_s=0.5)

Replica = Callable[[], asyncio.Task[None]]


@pytest.fixture
async def replica(redis: Redis) -> AsyncIterator[Replica]:
    """Start a control plane's part in the election; all of them end with the test."""
    tasks: list[asyncio.Task[None]] = []

    def start() -> asyncio.Task[None]:
        tasks.append(asyncio.create_task(until_ended(Services(redis, QUICK, b"").leading.run())))
        return tasks[-1]

    yield start
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


async def scheduled(api: Api, *, in_s: float, ahead_s: float = 60.0, window_s: float = 0.0) -> int:
    """Create a campaign that prefetches now and goes live by itself; return its instant."""
    await api.create()
    now = (await api.get("/v1/campaigns/cup")).json()["now"]
    plan = {"stage": "live", "in_s": in_s, "window_s": window_s, "arm_ahead_s": ahead_s, "prefetch_at": now}
    answer = await api.post("/v1/campaigns/cup/schedule", plan)
    assert answer.status_code == 200, answer.text
    return int(answer.json()["schedule"]["at"])


async def ready_when_prefetched(api: Api, present: Present) -> None:
    """Be a fleet that is ready as soon as there is something to be ready for."""

    async def rev() -> int:
        prefetch = (await api.get("/v1/campaigns/cup")).json()["prefetch"]
        return int(prefetch["rev"]) if prefetch else 0

    await present(prefetch_rev=await until(rev))


async def phase(api: Api) -> str:
    return str((await api.get("/v1/campaigns/cup")).json()["phase"])


async def test_a_schedule_prefetches_arms_and_goes_live_once_with_three_replicas(
    api: Api, redis: Redis, present: Present, replica: Replica
) -> None:
    for _ in range(3):
        replica()
    at = await scheduled(api, in_s=1.0)
    await ready_when_prefetched(api, present)

    async def live() -> bool:
        return await phase(api) == "live"

    await until(live)
    log = await published(redis)
    assert [type(each) for each in log] == [Prefetched, Activated]
    assert isinstance(log[1], Activated)
    assert log[1].at == at
    entries = (await api.get("/v1/audit")).json()["entries"]
    assert [(entry["action"], entry["by"]) for entry in entries[:2]] == [
        ("activate", "(scheduler)"),
        ("prefetch", "(scheduler)"),
    ]


async def test_who_leads_may_vanish_between_the_steps_and_another_takes_the_next(
    api: Api, redis: Redis, present: Present, replica: Replica
) -> None:
    first = replica()
    await scheduled(api, in_s=2.0, ahead_s=0.5)

    async def prefetched() -> bool:
        return await phase(api) == "prefetching"

    await until(prefetched)
    first.cancel()
    await asyncio.wait([first])
    replica()
    await ready_when_prefetched(api, present)

    async def live() -> bool:
        return await phase(api) == "live"

    await until(live)
    assert [type(each) for each in await published(redis)] == [Prefetched, Activated]


async def test_a_leader_that_died_without_a_word_is_followed_when_its_lease_ends(
    api: Api, redis: Redis, replica: Replica
) -> None:
    await redis.set(keyspace.LEADER, "somebody who has died", px=300)
    replica()
    await scheduled(api, in_s=60)

    async def prefetched() -> bool:
        return await phase(api) == "prefetching"

    await until(prefetched)
    assert await redis.get(keyspace.LEADER) != b"somebody who has died"


async def test_two_who_both_believe_to_lead_take_a_step_once(api: Api, redis: Redis, present: Present) -> None:
    await scheduled(api, in_s=60)
    both = [Services(redis, QUICK, b"") for _ in range(2)]
    ticks = [duty for each in both for duty in each.leading._duties]
    await asyncio.gather(*(tick() for tick in ticks))
    await ready_when_prefetched(api, present)
    await asyncio.gather(*(tick() for tick in ticks))
    await asyncio.gather(*(tick() for tick in ticks))
    assert [type(each) for each in await published(redis)] == [Prefetched, Activated]
    assert await phase(api) == "armed"


async def test_below_the_gate_it_waits_says_why_and_goes_live_once_enough_are_ready(
    api: Api, present: Present, replica: Replica
) -> None:
    replica()
    await scheduled(api, in_s=30)

    async def waits() -> str:
        return str((await api.get("/v1/campaigns/cup")).json()["waits"])

    assert "activate: 0 of 0 connected devices are ready" in await until(waits)
    await ready_when_prefetched(api, present)

    async def armed() -> bool:
        return await phase(api) == "armed"

    await until(armed)

    async def nothing_waits() -> bool:
        return await waits() == ""

    await until(nothing_waits)


async def test_a_schedule_that_nobody_approved_waits_for_the_second_key(
    api: Api, present: Present, replica: Replica
) -> None:
    replica()
    await api.create(two_keys=True)
    now = (await api.get("/v1/campaigns/cup")).json()["now"]
    plan = {"stage": "live", "in_s": 30, "window_s": 0, "arm_ahead_s": 60, "prefetch_at": now}
    await api.post("/v1/campaigns/cup/schedule", plan)
    await ready_when_prefetched(api, present)

    async def waits() -> bool:
        return "second key" in (await api.get("/v1/campaigns/cup")).json()["waits"]

    await until(waits)
    assert await phase(api) == "prefetching"


async def test_a_flight_record_keeps_the_forecast_and_what_came_of_it(
    api: Api, redis: Redis, present: Present, replica: Replica
) -> None:
    await api.create()
    rev = await api.prefetch()
    await present(prefetch_rev=rev, connected=100, ready=100)
    replica()
    pressed = await api.post("/v1/campaigns/cup/activate", {"stage": "live", "window_s": 1})
    activate_rev = pressed.json()["rev"]
    path = f"/v1/campaigns/cup/flights/{activate_rev}"

    async def seconds(active: int) -> list[int]:
        await present(prefetch_rev=rev, activate_rev=activate_rev, connected=100, ready=100, active=active)
        answer = await api.get(path)
        samples = answer.json()["samples"] if answer.status_code == 200 else []
        return [sample["second"] for sample in samples if sample["active"] == active]

    assert await until(lambda: seconds(40))
    assert await until(lambda: seconds(100))
    flight = (await api.get(path)).json()
    assert (flight["stage"], flight["by"], flight["window_ms"]) == ("live", "test-publisher", 1000)
    assert flight["forecast"]["devices"] == 100
    assert flight["forecast"]["t100_s"] == pytest.approx(1)
    listed = (await api.get("/v1/campaigns/cup/flights")).json()["flights"]
    assert [each["rev"] for each in listed] == [activate_rev]
    assert listed[0]["samples"] == []


async def test_flights_that_are_not_there_are_not_found(api: Api) -> None:
    await api.create()
    for path in ("cup/flights/1", "cup/flights/x", "cup/flights/" + "9" * 40, "nobody/flights"):
        assert (await api.get(f"/v1/campaigns/{path}")).status_code == 404


async def test_the_oldest_flights_are_given_up(redis: Redis, api: Api, present: Present) -> None:
    few = Services(redis, ControlConfig(flights_max=2), b"")
    await api.create()
    await present(prefetch_rev=await api.prefetch())
    for stage in ("upcoming", "live", "ended"):
        await api.post("/v1/campaigns/cup/activate", {"stage": stage, "window_s": 0})
        for duty in few.leading._duties:
            await duty()
    assert [flight.stage for flight in await few.flights.list()] == ["ended", "live"]
    assert len(await redis.keys("*flight:*")) == 2
