"""What a control plane tells Prometheus of the fleet and its campaigns: as of now, few, and absent when unknown."""

from __future__ import annotations

import math
import os
import signal
from typing import Any

import pytest
from prometheus_client.parser import text_string_to_metric_families
from redis.asyncio import Redis

from fanout import keyspace
from fanout.control import sampling
from fanout.embedded import EmbeddedValkey

from .conftest import Api, Present


class Told:
    """One scrape."""

    def __init__(self, text: str) -> None:
        self.samples = [sample for family in text_string_to_metric_families(text) for sample in family.samples]

    def value(self, name: str, **labels: str) -> float | None:
        """Return one sample's value, None if it is absent."""
        found = [s.value for s in self.samples if s.name == f"fanout_control_{name}" and s.labels == labels]
        return found[0] if found else None

    def labels(self, name: str, label: str) -> list[str]:
        return [s.labels[label] for s in self.samples if s.name == f"fanout_control_{name}"]


@pytest.fixture(autouse=True)
def _always_fresh(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sampling, "FRESH_S", 0.0)


async def scrape(api: Api) -> Told:
    answer = await api.get("/metrics", role=None)
    assert answer.status_code == 200
    return Told(answer.text)


async def test_an_open_campaign_tells_its_phase_its_gate_and_who_is_ready(api: Api, present: Present) -> None:
    await api.create(threshold=0.9)
    await present(80, 60, prefetch_rev=await api.prefetch())
    told = await scrape(api)
    assert told.value("campaign_coverage_ratio", campaign="cup") == 0.75
    assert told.value("campaign_threshold_ratio", campaign="cup") == 0.9
    assert told.value("campaign_phase", campaign="cup", phase="prefetching") == 1
    assert told.labels("campaign_phase", "phase") == ["prefetching"]
    assert told.value("campaign_devices", campaign="cup", reached="connected") == 80
    assert told.value("campaign_devices", campaign="cup", reached="ready") == 60
    assert told.value("campaigns_open") == 1
    assert told.labels("campaign_instant_timestamp_seconds", "campaign") == []


async def test_ready_devices_of_an_older_prefetch_do_not_count(api: Api, present: Present) -> None:
    await api.create()
    await present(80, 60, prefetch_rev=await api.prefetch())
    await api.prefetch()
    assert (await scrape(api)).value("campaign_coverage_ratio", campaign="cup") == 0


async def test_the_next_instant_is_the_planned_one_then_the_armed_one_then_none(api: Api, present: Present) -> None:
    await api.create()
    await present(prefetch_rev=await api.prefetch())
    now = (await api.get("/v1/campaigns/cup")).json()["now"]
    plan = {"stage": "live", "at": now + 3_600_000, "window_s": 0, "arm_ahead_s": 60}
    assert (await api.post("/v1/campaigns/cup/schedule", plan)).status_code == 200

    async def instant() -> float | None:
        return (await scrape(api)).value("campaign_instant_timestamp_seconds", campaign="cup")

    assert await instant() == (now + 3_600_000) / 1000
    activation = {"stage": "live", "window_s": 0, "at": now + 7_200_000}
    assert (await api.post("/v1/campaigns/cup/activate", activation)).status_code == 200
    assert await instant() == (now + 7_200_000) / 1000
    assert (await api.post("/v1/campaigns/cup/cancel")).status_code == 200
    assert await instant() is None, "what was taken back does not come"
    assert (await api.post("/v1/campaigns/cup/activate", {"stage": "live", "window_s": 0})).status_code == 200
    assert await instant() is None, "what has come is not ahead"


async def test_a_closed_campaign_is_gone_from_the_metrics(api: Api) -> None:
    await api.create()
    await api.create("other", topic="other")
    assert sorted((await scrape(api)).labels("campaign_phase", "campaign")) == ["cup", "other"]
    await api.post("/v1/campaigns/cup/close")
    told = await scrape(api)
    for family in ("phase", "devices", "coverage_ratio", "threshold_ratio"):
        assert set(told.labels(f"campaign_{family}", "campaign")) == {"other"}
    assert told.value("campaigns_open") == 1


async def test_of_many_campaigns_those_are_told_whose_instant_is_next(
    api: Api, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sampling, "CAMPAIGNS_MAX", 2)
    for number, in_s in enumerate((7_200, 3_600, 10_800)):
        await api.create(f"c-{number}", topic=f"t-{number}")
        await api.prefetch(f"c-{number}")
        plan = {"stage": "live", "in_s": in_s, "window_s": 0, "arm_ahead_s": 60}
        assert (await api.post(f"/v1/campaigns/c-{number}/schedule", plan)).status_code == 200
    await api.create("unplanned", topic="x")
    told = await scrape(api)
    assert told.labels("campaign_phase", "campaign") == ["c-1", "c-0"]
    assert told.value("campaigns_open") == 4


async def test_the_fleet_is_told_with_its_health_and_who_is_behind(api: Api, present: Present) -> None:
    await api.create()
    rev = await api.prefetch()
    await present(70, worker="a", bus_rev=rev)
    await present(30, worker="b", bus_rev=rev - 1, health="degraded")
    told = await scrape(api)
    assert told.value("fleet_connections") == 100
    assert told.value("fleet_workers", health="ok") == 1
    assert told.value("fleet_workers", health="degraded") == 1
    assert told.value("fleet_workers", health="unready") == 0
    assert told.value("fleet_workers_behind") == 1
    assert (told.value("fleet_bus_lag_seconds") or math.nan) > 0


async def test_without_the_store_what_is_in_it_is_absent_and_the_rest_is_told(
    api: Api, present: Present, valkey: EmbeddedValkey
) -> None:
    await api.create()
    await present()
    assert (await scrape(api)).value("store_up") == 1
    valkey.kill()
    told = await scrape(api)
    assert told.value("store_up") == 0
    assert told.value("requests_total", route="/v1/campaigns", status="201") == 1
    assert {s.name for s in told.samples if "fleet" in s.name or "campaign_" in s.name} == set()
    valkey.start()
    assert (await scrape(api)).value("fleet_connections") is not None


async def test_a_record_nobody_can_read_takes_away_no_count_of_this_process(api: Api, redis: Redis) -> None:
    await api.create()
    await redis.hset(keyspace.campaign("cup"), "doc", b"\xc1")
    told = await scrape(api)
    assert told.value("store_up") == 1
    assert told.value("requests_total", route="/v1/campaigns", status="201") == 1
    assert told.value("fleet_connections") is None


async def test_two_scrapes_at_once_ask_the_store_once(
    api: Api, redis: Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    # They share an answer as long as that is fresh, and on a slow machine five of them take their time.
    monkeypatch.setattr(sampling, "FRESH_S", 3600.0)
    await api.create()
    await redis.config_resetstat()
    for _ in range(5):
        await scrape(api)
    stats: Any = await redis.info("commandstats")
    assert stats["cmdstat_zrange"]["calls"] == 1
    assert "cmdstat_smembers" in stats
    assert stats["cmdstat_smembers"]["calls"] == 1


async def test_a_store_that_falls_silent_is_down_and_the_scrape_is_answered(
    api: Api, valkey: EmbeddedValkey, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sampling, "_PATIENCE_S", 0.2)
    os.kill(valkey.pid, signal.SIGSTOP)
    try:
        assert (await scrape(api)).value("store_up") == 0
    finally:
        os.kill(valkey.pid, signal.SIGCONT)
    monkeypatch.setattr(sampling, "_PATIENCE_S", 30.0)
    assert (await scrape(api)).value("store_up") == 1


async def test_who_leads_says_so_and_nobody_else(api: Api, redis: Redis) -> None:
    leading = api.app.state.services.leading
    assert (await scrape(api)).value("leader") == 0
    await leading.tick()
    assert (await scrape(api)).value("leader") == 1
    await redis.set(keyspace.LEADER, "another")
    await leading.tick()
    assert (await scrape(api)).value("leader") == 0


async def test_a_scheduled_step_that_is_refused_is_counted_every_time_it_is_tried(api: Api, present: Present) -> None:
    await api.create()
    await present(100, 0, prefetch_rev=await api.prefetch())
    plan = {"stage": "live", "in_s": 60, "window_s": 0, "arm_ahead_s": 60}
    assert (await api.post("/v1/campaigns/cup/schedule", plan)).status_code == 200
    assert (await scrape(api)).value("scheduler_failures_total") == 0
    for tries in (1, 2):
        await api.app.state.services.leading.tick()
        assert (await scrape(api)).value("scheduler_failures_total") == tries
