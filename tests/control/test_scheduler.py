"""Schedules take their steps by themselves, once, whoever leads; and the flight recorder keeps what came of them."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import pytest
from redis.asyncio import Redis
from support.waiting import until

from fanout import keyspace
from fanout.bus.publication import Activated, Prefetched
from fanout.bus.publisher import Publisher
from fanout.bus.tasks import until_ended
from fanout.control.config import ControlConfig
from fanout.control.services import Services

from .conftest import Api, Present
from .test_campaigns import published

QUICK = ControlConfig(tick_s=0.05, lease_s=0.5)
HOUR_S = 3600.0

Replica = Callable[[], asyncio.Task[None]]
Tick = Callable[[], Awaitable[None]]
Pass = Callable[[float], None]


@pytest.fixture
def passes(monkeypatch: pytest.MonkeyPatch) -> Pass:
    """Let so many seconds pass at once for every control plane, so that no step is due within a few of ours."""
    now_ms, passed_ms = Publisher.now_ms, 0

    async def later_ms(publisher: Publisher) -> int:
        return await now_ms(publisher) + passed_ms

    def let_pass(seconds: float) -> None:
        nonlocal passed_ms
        passed_ms += int(seconds * 1000)

    monkeypatch.setattr(Publisher, "now_ms", later_ms)
    return let_pass


@pytest.fixture
def tick(redis: Redis) -> Tick:
    """Have whoever leads do everything once."""
    duties = Services(redis, QUICK, b"").leading._duties

    async def once() -> None:
        for duty in duties:
            await duty()

    return once


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
    api: Api, redis: Redis, present: Present, replica: Replica, passes: Pass
) -> None:
    for _ in range(3):
        replica()
    at = await scheduled(api, in_s=HOUR_S, ahead_s=HOUR_S)
    await ready_when_prefetched(api, present)

    async def armed() -> bool:
        return await phase(api) == "armed"

    await until(armed)
    passes(HOUR_S)
    assert await phase(api) == "live"
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
    api: Api, redis: Redis, present: Present, replica: Replica, passes: Pass
) -> None:
    first = replica()
    await scheduled(api, in_s=HOUR_S, ahead_s=HOUR_S / 2)

    async def prefetched() -> bool:
        return await phase(api) == "prefetching"

    await until(prefetched)
    first.cancel()
    await asyncio.wait([first])
    replica()
    await ready_when_prefetched(api, present)
    passes(HOUR_S / 2)

    async def armed() -> bool:
        return await phase(api) == "armed"

    await until(armed)
    passes(HOUR_S / 2)
    assert await phase(api) == "live"
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
    await scheduled(api, in_s=HOUR_S, ahead_s=2 * HOUR_S)

    async def waits() -> str:
        return str((await api.get("/v1/campaigns/cup")).json()["waits"])

    async def waits_for_devices() -> bool:
        return "activate: 0 of 0 connected devices are ready" in await waits()

    await until(waits_for_devices)
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
    plan = {"stage": "live", "in_s": HOUR_S, "window_s": 0, "arm_ahead_s": 2 * HOUR_S, "prefetch_at": now}
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


async def in_flight(api: Api, present: Present, tick: Tick, **more: Any) -> tuple[str, int]:
    """Go live and be watched for a second of it; return where the record is, and the prefetch's revision."""
    await api.create()
    rev = await api.prefetch()
    await present(prefetch_rev=rev)
    pressed = await api.post("/v1/campaigns/cup/activate", {"stage": "live", "window_s": 600, **more})
    await present(prefetch_rev=rev, activate_rev=pressed.json()["rev"], active=99, lags_ms=[5] * 90 + [70] * 9)
    await tick()
    return f"/v1/campaigns/cup/flights/{pressed.json()['rev']}", rev


async def test_a_retract_right_after_the_press_leaves_the_record_its_percentiles(
    api: Api, present: Present, tick: Tick
) -> None:
    path, rev = await in_flight(api, present, tick)
    back = (await api.post("/v1/campaigns/cup/retract", {"reason": "wrong match"})).json()["rev"]
    await present(prefetch_rev=rev, activate_rev=back, active=3)
    await tick()
    flight = (await api.get(path)).json()
    assert flight["ended"] == "superseded"
    assert flight["newest"]["flip_lag"]["p99_ms"] == pytest.approx(70, rel=0.02)
    assert flight["newest"]["platforms"]["tv"]["active"] == 99
    assert (flight["outcome"]["flipped"], flight["outcome"]["stragglers"]["silent"]) == (99, 1)
    assert flight["outcome"]["t50_s"] is not None
    listed = (await api.get("/v1/campaigns/cup/flights")).json()["flights"]
    assert [(each["ended"], each["outcome"]["flipped"]) for each in listed] == [("", 3), ("superseded", 99)]


async def test_what_is_taken_back_before_its_instant_is_recorded_as_cancelled(
    api: Api, present: Present, tick: Tick
) -> None:
    path, _ = await in_flight(api, present, tick, in_s=60)
    assert (await api.get(path)).json()["ended"] == ""
    await api.post("/v1/campaigns/cup/cancel")
    await tick()
    flight = (await api.get(path)).json()
    assert (flight["ended"], flight["outcome"]["flipped"], flight["outcome"]["expected"]) == ("cancelled", 0, 100)


async def test_what_a_later_plan_has_hidden_is_recorded_on_once_that_is_cancelled(
    api: Api, present: Present, tick: Tick
) -> None:
    path, rev = await in_flight(api, present, tick)
    shown = int(path.rpartition("/")[2])
    await api.post("/v1/campaigns/cup/activate", {"stage": "ended", "window_s": 0, "in_s": 300})
    await tick()
    assert (await api.get(path)).json()["ended"] == "superseded"
    await api.post("/v1/campaigns/cup/cancel")
    await present(prefetch_rev=rev, activate_rev=shown, active=100)
    await tick()
    flight = (await api.get(path)).json()
    assert (flight["ended"], flight["outcome"]["flipped"]) == ("", 100)


async def test_a_campaign_that_is_closed_closes_its_record_and_begins_none(
    api: Api, present: Present, tick: Tick
) -> None:
    path, _ = await in_flight(api, present, tick)
    await api.post("/v1/campaigns/cup/close")
    await tick()
    flight = (await api.get(path)).json()
    assert (flight["ended"], flight["outcome"]["flipped"]) == ("closed", 99)
    await api.create("gala")
    await present(prefetch_rev=await api.prefetch("gala"), campaign="gala")
    await api.post("/v1/campaigns/gala/activate", {"stage": "live", "window_s": 0, "in_s": 60})
    await api.post("/v1/campaigns/gala/close")
    await tick()
    assert (await api.get("/v1/campaigns/gala/flights")).json()["flights"] == []


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
