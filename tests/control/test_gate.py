"""The readiness gate, readiness and the fleet, from presence as gateways write it."""

from __future__ import annotations

import pytest
from redis.asyncio import Redis

from fanout import keyspace

from .conftest import Api, Present

LIVE = {"stage": "live", "window_s": 0}


async def test_nothing_goes_live_while_nobody_is_connected(api: Api, redis: Redis) -> None:
    await api.create(threshold=0)
    await api.prefetch()
    answer = await api.post("/v1/campaigns/cup/activate", LIVE)
    assert answer.status_code == 409
    assert answer.json()["type"] == "urn:fanout:problem:gate"
    assert (answer.json()["connected"], answer.json()["coverage"]) == (0, 0)
    assert await redis.xlen(keyspace.LOG) == 1


@pytest.mark.parametrize(("ready", "status"), [(94, 409), (95, 200), (100, 200)])
async def test_the_gate_opens_exactly_at_the_threshold(api: Api, present: Present, ready: int, status: int) -> None:
    await api.create(threshold=0.95)
    await present(100, ready, prefetch_rev=await api.prefetch())
    assert (await api.post("/v1/campaigns/cup/activate", LIVE)).status_code == status


async def test_a_closed_gate_says_who_is_missing(api: Api, present: Present) -> None:
    await api.create()
    rev = await api.prefetch()
    await present(60, 60, prefetch_rev=rev, worker="a", attrs={"platform": "tv", "region": "jp"})
    await present(40, 10, prefetch_rev=rev, worker="b", attrs={"platform": "web"})
    problem = (await api.post("/v1/campaigns/cup/activate", LIVE)).json()
    assert (problem["ready"], problem["connected"], problem["coverage"]) == (70, 100, 0.7)
    assert problem["threshold"] == 0.95
    assert problem["platforms"]["web"] == {"connected": 40, "ready": 10, "active": 0, "coverage": 0.25}
    assert problem["regions"]["unknown"]["connected"] == 40
    assert "70.0%" in problem["detail"]


async def test_force_with_a_reason_opens_the_gate_and_is_remembered(api: Api, present: Present) -> None:
    await api.create()
    await present(100, 10, prefetch_rev=await api.prefetch())
    without = await api.post("/v1/campaigns/cup/activate", {**LIVE, "force": True})
    assert without.status_code == 422
    forced = await api.post("/v1/campaigns/cup/activate", {**LIVE, "force": True, "reason": "kick-off"})
    assert forced.status_code == 200
    assert forced.json()["activation"]["forced"] is True
    assert forced.json()["activation"]["reason"] == "kick-off"


async def test_force_that_was_not_needed_is_not_held_against_anyone(api: Api, present: Present) -> None:
    await api.create()
    await present(prefetch_rev=await api.prefetch())
    answer = await api.post("/v1/campaigns/cup/activate", {**LIVE, "force": True, "reason": "to be sure"})
    assert answer.json()["activation"]["forced"] is False


async def test_a_retract_never_waits_for_readiness(api: Api, present: Present) -> None:
    await api.create()
    rev = await api.prefetch()
    await present(prefetch_rev=rev)
    await api.post("/v1/campaigns/cup/activate", LIVE)
    await present(100, 0, prefetch_rev=rev)
    assert (await api.post("/v1/campaigns/cup/activate", LIVE)).status_code == 409
    assert (await api.post("/v1/campaigns/cup/retract", {"reason": "false alarm"})).status_code == 200


async def test_devices_ahead_of_the_record_are_told_of_and_can_be_taken_back(api: Api, present: Present) -> None:
    await api.create()
    rev = await api.prefetch()
    await present(prefetch_rev=rev)
    retract = {"reason": "what was lost was wrong"}
    assert (await api.post("/v1/campaigns/cup/retract", retract)).status_code == 409
    # As after a failover that lost the press: gateways have what the record does not.
    lost = rev + 50
    await present(prefetch_rev=rev, activate_rev=lost, active=100)
    assert (await api.get("/v1/campaigns/cup/readiness")).json()["ahead_rev"] == lost
    back = await api.post("/v1/campaigns/cup/retract", retract)
    assert back.status_code == 200, back.text
    shown = back.json()
    assert (shown["phase"], shown["stage"], shown["activation"]["retracts"]) == ("live", "upcoming", True)
    await present(prefetch_rev=rev, activate_rev=shown["rev"])
    assert (await api.get("/v1/campaigns/cup/readiness")).json()["ahead_rev"] == 0


async def test_what_was_cancelled_is_not_ahead_of_the_record(api: Api, present: Present) -> None:
    await api.create()
    rev = await api.prefetch()
    await present(prefetch_rev=rev)
    armed = (await api.post("/v1/campaigns/cup/activate", {**LIVE, "in_s": 600})).json()["rev"]
    await api.post("/v1/campaigns/cup/cancel")
    # Gateways go on counting for the newest they have heard of.
    await present(prefetch_rev=rev, activate_rev=armed)
    assert (await api.get("/v1/campaigns/cup/readiness")).json()["ahead_rev"] == 0
    assert (await api.post("/v1/campaigns/cup/retract", {"reason": "x"})).status_code == 409


async def test_ready_for_an_older_prefetch_is_not_ready(api: Api, present: Present) -> None:
    await api.create()
    old = await api.prefetch()
    await present(50, 50, prefetch_rev=old, worker="a")
    await present(50, 50, prefetch_rev=await api.prefetch(), worker="b")
    readiness = (await api.get("/v1/campaigns/cup/readiness")).json()
    assert readiness["total"] == {"connected": 100, "ready": 50, "active": 0, "coverage": 0.5}
    assert (readiness["workers"], readiness["workers_behind"], readiness["met"]) == (2, 1, False)


async def test_before_the_first_prefetch_whoever_is_connected_may_be_reached(api: Api, present: Present) -> None:
    await api.create()
    await present(60, worker="a", campaign="another")
    await present(40, worker="b", campaign="another")
    draft = (await api.get("/v1/campaigns/cup/readiness")).json()
    assert (draft["reachable"], draft["total"]["connected"], draft["prefetch_rev"]) == (100, 0, 0)
    await present(25, worker="a", prefetch_rev=await api.prefetch())
    told = (await api.get("/v1/campaigns/cup/readiness")).json()
    assert (told["reachable"], told["total"]["connected"]) == (65, 25)


async def test_readiness_follows_an_activation_as_devices_report_it(api: Api, present: Present) -> None:
    await api.create()
    rev = await api.prefetch()
    await present(prefetch_rev=rev)
    before = (await api.get("/v1/campaigns/cup/readiness")).json()
    assert (before["activate_rev"], before["flip_lag"], before["expected"]) == (0, None, 0)
    body = {**LIVE, "share": 0.8}
    activate_rev = (await api.post("/v1/campaigns/cup/activate", body)).json()["rev"]
    lags_ms = [*range(1, 100), 900]
    for worker in ("a", "b"):
        await present(
            100,
            100,
            prefetch_rev=rev,
            activate_rev=activate_rev,
            active=70,
            failed=2,
            lags_ms=lags_ms,
            worker=worker,
        )
    await present(10, 10, prefetch_rev=rev, activate_rev=1, active=9, lags_ms=[5000], worker="gw-1")
    after = (await api.get("/v1/campaigns/cup/readiness")).json()
    assert after["total"]["active"] == 140
    assert (after["expected"], after["failed"]) == (168, 4)
    lag = after["flip_lag"]
    assert lag["count"] == 200
    assert lag["p50_ms"] == pytest.approx(50, rel=0.02)
    assert lag["p99_ms"] == pytest.approx(99, rel=0.02)
    assert lag["p999_ms"] == pytest.approx(900, rel=0.02)
    assert lag["max_ms"] == pytest.approx(900, rel=0.02)


async def test_the_fleet_is_the_sum_of_its_workers(api: Api, present: Present) -> None:
    empty = (await api.get("/v1/fleet")).json()
    assert (empty["devices"], empty["workers"], empty["bus_rev"]) == (0, [], 0)
    await api.create()
    rev = await api.prefetch()
    await present(60, worker="b", bus_rev=rev)
    await present(40, worker="a", bus_rev=rev - 1, health="degraded", attrs={"platform": "web"})
    fleet = (await api.get("/v1/fleet")).json()
    assert (fleet["devices"], fleet["bus_rev"], fleet["workers_behind"]) == (100, rev, 1)
    assert fleet["health"] == {"ok": 1, "degraded": 1}
    assert [w["worker"] for w in fleet["workers"]] == ["a", "b"]
    assert [w["behind"] for w in fleet["workers"]] == [True, False]
    assert fleet["platforms"] == {"tv": 60, "web": 40}
    assert (fleet["connects_per_s"], fleet["sends_per_s"]) == (3.0, 20.0)
    await present(40, worker="a", bus_rev=rev)
    assert (await api.get("/v1/fleet")).json()["bus_lag_ms"] == 0
