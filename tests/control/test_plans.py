"""Edits, the second key, schedules, the event that moves, forecasts and the audit chain, through the API."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from redis.asyncio import Redis

from fanout import audit
from fanout.bus.publication import Activated, Prefetched
from fanout.roles import Role
from fanout.store.audit import AuditStore
from fanout.store.campaigns import CampaignStore

from .conftest import Api, Present, content, definition
from .test_campaigns import published

HOUR_S = 3600


async def chain(redis: Redis) -> list[audit.Entry]:
    """Return what was done, after making sure that the chain is whole."""
    lines = [line async for line in AuditStore(redis).lines()]
    versions = {campaign.id: campaign.version for campaign in await CampaignStore(redis).list()}
    assert audit.verify(lines, versions).faults == ()
    return [audit.read(line) for line in lines]


async def armed_in_an_hour(api: Api, present: Present) -> int:
    await api.create()
    await present(prefetch_rev=await api.prefetch())
    answer = await api.post("/v1/campaigns/cup/activate", {"stage": "live", "window_s": 2, "in_s": HOUR_S})
    assert answer.status_code == 200, answer.text
    return int(answer.json()["activation"]["at"])


# --- Edits


async def test_an_edit_replaces_the_definition_and_what_was_prefetched_is_prefetched_again(api: Api) -> None:
    await api.create()
    await api.prefetch()
    wanted = definition(title="The semi-final", variants=[{"bundle": content("new")}], origin_per_s=50)
    edited = await api.call("PUT", "/v1/campaigns/cup", wanted, role=Role.EDITOR)
    assert edited.status_code == 200, edited.text
    shown = edited.json()
    assert (shown["title"], shown["phase"], shown["prefetch"]) == ("The semi-final", "draft", None)
    assert shown["editors"] == ["test-publisher", "test-editor"]
    assert (await api.prefetch()) > 0


async def test_an_edit_of_what_somebody_else_changed_meanwhile_is_refused(api: Api) -> None:
    seen = (await api.create())["etag"]
    tries = [
        api.call("PUT", "/v1/campaigns/cup", definition(title=f"try {n}"), headers={"If-Match": seen})
        for n in range(3)
    ]
    statuses = [answer.status_code for answer in await asyncio.gather(*tries)]
    assert sorted(statuses) == [200, 412, 412]


@pytest.mark.parametrize(
    ("wanted", "status", "words"),
    [
        (definition("other"), 422, "copy the campaign instead"),
        (definition(origin_per_s=0), 422, "origin_per_s is 0"),
        (definition(title=""), 422, "title has 0 characters"),
    ],
)
async def test_a_bad_edit_changes_nothing(api: Api, wanted: object, status: int, words: str) -> None:
    before = await api.create()
    answer = await api.call("PUT", "/v1/campaigns/cup", wanted)
    assert answer.status_code == status
    assert words in answer.json()["detail"]
    after = (await api.get("/v1/campaigns/cup")).json()
    assert after["version"] == before["version"]


# --- The second key


async def test_nobody_goes_live_alone(api: Api, present: Present) -> None:
    await api.create(two_keys=True)
    await present(prefetch_rev=await api.prefetch())
    go = "/v1/campaigns/cup/activate", {"stage": "live", "window_s": 0, "force": True, "reason": "now!"}
    alone = await api.post(*go)
    assert alone.status_code == 409
    assert "somebody other than test-publisher" in alone.json()["detail"]
    own = await api.post("/v1/campaigns/cup/approve")
    assert own.status_code == 409
    assert "the second key is somebody else's" in own.json()["detail"]
    assert (await api.post("/v1/campaigns/cup/approve", role=Role.VIEWER)).status_code == 403
    approved = await api.post("/v1/campaigns/cup/approve", role=Role.EDITOR)
    assert approved.json()["approval"]["by"] == "test-editor"
    assert (await api.post(*go)).status_code == 200


async def test_an_approval_of_another_version_than_was_seen_is_refused(api: Api) -> None:
    seen = (await api.create(two_keys=True))["etag"]
    await api.call("PUT", "/v1/campaigns/cup", definition(two_keys=True, title="Another"))
    answer = await api.post("/v1/campaigns/cup/approve", role=Role.EDITOR, headers={"If-Match": seen})
    assert answer.status_code == 412


# --- Schedules, and the event that moves


async def test_a_schedule_is_kept_with_the_campaign_and_taken_back(api: Api) -> None:
    await api.create()
    now = (await api.get("/v1/campaigns/cup")).json()["now"]
    plan = {
        "stage": "live",
        "window_s": 45,
        "at": now + 7_200_000,
        "prefetch_at": now + 3_600_000,
        "prefetch_window_s": 600,
    }
    answer = await api.post("/v1/campaigns/cup/schedule", plan)
    assert answer.status_code == 200, answer.text
    schedule = answer.json()["schedule"]
    assert (schedule["at"], schedule["arm_at"]) == (now + 7_200_000, now + 7_140_000)
    assert (schedule["prefetched"], schedule["armed"]) == (False, False)
    assert (await api.post("/v1/campaigns/cup/unschedule")).json()["schedule"] is None


@pytest.mark.parametrize(
    ("plan", "words"),
    [
        ({"stage": "over", "in_s": 60, "window_s": 1}, "stage is 'over'"),
        ({"stage": "live", "in_s": 60, "window_s": 1}, "send prefetch_at too"),
        ({"stage": "live", "at": 1577836800000, "window_s": 1}, "at is 2020-01-01T00:00:00Z, "),
        ({"stage": "live", "at": 1577836800000, "window_s": 1}, "in the past"),
        ({"stage": "live", "in_s": -50, "window_s": 1}, "in_s is -50, 50 s in the past"),
        ({"stage": "live", "in_s": 60, "window_s": 6000}, "activate window is 6000000 ms"),
        ({"stage": "live", "in_s": 1e9, "window_s": 1}, "11,574 days 1 h ahead; the limit is 7 days"),
        ({"stage": "live", "in_s": 60, "window_s": 1, "prefetch_at": 1577836800000}, "prefetch_at is 2020-"),
        ({"stage": "live", "window_s": 1}, "neither at nor in_s was sent; send an instant to come"),
    ],
)
async def test_a_schedule_that_cannot_be_kept_is_refused_at_its_field(api: Api, plan: Any, words: str) -> None:
    await api.create()
    answer = await api.post("/v1/campaigns/cup/schedule", plan)
    assert answer.status_code == 422
    detail = answer.json()["detail"]
    assert words in detail
    # What is scheduled is not now, and a number with an exponent is no length of time.
    assert "to mean now" not in detail
    assert "e+" not in detail
    fields = {*plan, "at", "prefetch_at"}
    assert answer.json()["path"].removeprefix("$.") in fields


async def test_what_is_armed_moves_on_devices_and_is_one_newer_activation(
    api: Api, redis: Redis, present: Present
) -> None:
    at = await armed_in_an_hour(api, present)
    await present(ready=0)  # the gate has been passed: a late kick-off is no reason to ask again
    moved = await api.post("/v1/campaigns/cup/move", {"at": at + 420_000})
    assert moved.status_code == 200, moved.text
    assert moved.json()["activation"]["at"] == at + 420_000
    log = await published(redis)
    assert [type(each) for each in log] == [Prefetched, Activated, Activated]
    assert isinstance(log[2], Activated)
    assert (log[2].at, log[2].rev) == (at + 420_000, moved.json()["rev"])


async def test_a_move_that_makes_no_sense_is_refused(api: Api) -> None:
    await api.create()
    answer = await api.post("/v1/campaigns/cup/move", {"in_s": 60})
    assert answer.status_code == 409
    assert "nothing to move" in answer.json()["detail"]
    nowhere = await api.post("/v1/campaigns/cup/move", {})
    assert "neither at nor in_s" in nowhere.json()["detail"]


# --- Forecasts


async def test_a_forecast_says_how_long_what_the_origin_sees_and_what_to_think_about(
    api: Api, present: Present
) -> None:
    await api.create(variants=[{"bundle": {"sha256": "b" * 64, "bytes": 50_000, "url": "https://cdn.example/b"}}])
    rev = await api.prefetch()
    await present(connected=100_000, ready=60_000, prefetch_rev=rev, worker="one")
    await present(connected=20_000, ready=20_000, prefetch_rev=rev, worker="two")
    answer = await api.get("/v1/campaigns/cup/forecast?window_s=10&in_s=30", role=Role.VIEWER)
    assert answer.status_code == 200, answer.text
    found = answer.json()
    assert (found["devices"], found["unready"], found["met"]) == (120_000, 40_000, False)
    assert found["origin_per_s_peak"] == pytest.approx(4_000)
    assert found["window_s_safe"] == pytest.approx(20)
    assert "80,000 of 120,000" in found["warnings"][0]
    assert "20.0 s or more" in found["warnings"][1]
    wide = (await api.get("/v1/campaigns/cup/forecast?window_s=20&in_s=30")).json()
    assert wide["within_budget"]
    assert wide["t50_s"] == pytest.approx(10, abs=0.1)


async def test_a_campaign_on_the_same_topic_is_warned_of(api: Api, present: Present) -> None:
    await armed_in_an_hour(api, present)
    await api.create("second")
    found = (await api.get("/v1/campaigns/second/forecast?window_s=10")).json()
    assert any("Campaign cup is armed on the same topic" in warning for warning in found["warnings"])


async def test_two_schedules_on_one_topic_warn_of_each_other_and_of_nobody_far_off(api: Api) -> None:
    await api.create("first")
    await api.create("second")
    await api.create("elsewhere", topic="news")
    now = (await api.get("/v1/campaigns/first")).json()["now"]
    at = now + 7_200_000

    async def planned(campaign: str, at: int) -> list[str]:
        plan = {"stage": "live", "window_s": 20, "at": at, "prefetch_at": at - 3_600_000, "prefetch_window_s": 600}
        answer = await api.post(f"/v1/campaigns/{campaign}/schedule", plan)
        assert answer.status_code == 200, answer.text
        return list(answer.json()["warnings"])

    assert await planned("first", at) == []
    (warning,) = await planned("second", at + 5_000)
    assert "Campaign first is scheduled on the same topic, sport, for " in warning
    assert ", 5 s before this one: devices will hold both." in warning
    (warning,) = await planned("first", at)
    assert "Campaign second" in warning
    assert "5 s after this one" in warning
    assert await planned("second", at + 3_600_000) == []
    assert await planned("elsewhere", at) == []
    moved = await api.post("/v1/campaigns/second/move", {"at": at + 20_000})
    assert "20 s before this one" in moved.json()["warnings"][0]


async def test_a_press_beside_a_live_campaign_is_answered_with_a_warning(api: Api, present: Present) -> None:
    await api.create("first")
    await present(prefetch_rev=await api.prefetch("first"), campaign="first")
    go = {"stage": "live", "window_s": 60}
    alone = await api.post("/v1/campaigns/first/activate", go)
    assert alone.json()["warnings"] == []
    await api.create("second")
    await present(prefetch_rev=await api.prefetch("second"), campaign="second")
    beside = await api.post("/v1/campaigns/second/activate", go)
    (warning,) = beside.json()["warnings"]
    assert "Campaign first is activating on the same topic, sport, since " in warning
    shown = (await api.get("/v1/campaigns/second")).json()
    assert "warnings" not in shown


async def test_a_plan_that_cannot_be_kept_is_answered_with_the_number(api: Api, present: Present) -> None:
    await api.create(variants=[{"bundle": {"sha256": "b" * 64, "bytes": 50_000, "url": "https://cdn.example/b"}}])
    await present(connected=100_000, ready=0)
    now = (await api.get("/v1/campaigns/cup")).json()["now"]
    plan = {"stage": "live", "window_s": 0, "at": now + 7_200_000, "arm_ahead_s": 0}
    plan |= {"prefetch_at": now + 60_000, "prefetch_window_s": 10}
    crowded, hurried = (await api.post("/v1/campaigns/cup/schedule", plan)).json()["warnings"]
    assert "the origin would see 10,000 requests a second; its budget is 2,000. A window of 50 s" in crowded
    assert "more than the window of 0 s" in hurried
    prefetched = await api.post("/v1/campaigns/cup/prefetch", {"window_s": 10})
    assert prefetched.json()["warnings"] == [crowded]
    await present(connected=100_000, ready=0, prefetch_rev=prefetched.json()["rev"])
    assert (await api.post("/v1/campaigns/cup/prefetch", {"window_s": 50})).json()["warnings"] == []


async def test_what_is_short_or_few_is_not_rounded_away(api: Api, present: Present) -> None:
    await api.create()
    await present(connected=300, ready=300, prefetch_rev=await api.prefetch())
    hurried = (await api.get("/v1/campaigns/cup/forecast?window_s=0")).json()
    assert "Gateways need 8 ms to tell everyone, more than the window of 0 s." in hurried["warnings"]
    few = (await api.get("/v1/campaigns/cup/forecast?window_s=1&share=0.00001")).json()["warnings"]
    assert few == ["A share of 0.001 % of 300 devices is most likely none of them."]


async def test_a_draft_is_not_said_to_have_nobody(api: Api, present: Present) -> None:
    await api.create()
    await present(connected=300, ready=0, campaign="another")
    found = (await api.get("/v1/campaigns/cup/forecast?window_s=1")).json()["warnings"]
    assert found == ["Nothing is prefetched yet; 300 devices are connected."]


@pytest.mark.parametrize(
    ("query", "words"),
    [
        ("", "window_s"),
        ("?window_s=x", "float"),
        ("?window_s=-1", ">= 0"),
        ("?window_s=1&share=2", "<= 1"),
        ("?window_s=1&colour=red", "colour"),
        ("?window_s=nan", "window_s"),
    ],
)
async def test_a_forecast_of_nonsense_is_refused(api: Api, query: str, words: str) -> None:
    await api.create()
    answer = await api.get(f"/v1/campaigns/cup/forecast{query}")
    assert answer.status_code == 422, answer.text
    assert words in answer.json()["detail"]


# --- What was done


async def test_everything_that_was_done_is_one_whole_chain(api: Api, redis: Redis, present: Present) -> None:
    await api.create(role=Role.EDITOR)
    await present(prefetch_rev=await api.prefetch(), ready=10)
    forced = {"stage": "live", "window_s": 0, "force": True, "reason": "kick-off"}
    assert (await api.post("/v1/campaigns/cup/activate", forced)).status_code == 200
    assert (await api.post("/v1/campaigns/cup/retract", {"reason": "wrong match"})).status_code == 200
    await api.create("other")
    entries = await chain(redis)
    assert [entry.action for entry in entries] == ["create", "prefetch", "activate", "retract", "create"]
    activate = entries[2]
    assert activate.by == "test-publisher"
    assert activate.details["coverage"] == 0.1
    assert activate.details["forced"]
    assert activate.details["reason"] == "kick-off"
    assert len(activate.details["bundles"]) == 2

    shown = (await api.get("/v1/audit?campaign=cup&count=2", role=Role.VIEWER)).json()["entries"]
    assert [entry["action"] for entry in shown] == ["retract", "activate"]
    assert (await api.get("/v1/audit?campaign=nobody")).status_code == 404
    assert len((await api.get("/v1/audit")).json()["entries"]) == 5


async def test_many_at_once_make_one_chain_and_lose_nothing(api: Api, redis: Redis) -> None:
    made = await asyncio.gather(*(api.post("/v1/campaigns", definition(f"c{n}")) for n in range(6)))
    assert [answer.status_code for answer in made] == [201] * 6
    pressed = await asyncio.gather(*(api.post(f"/v1/campaigns/c{n}/prefetch", {"window_s": 0}) for n in range(6)))
    assert [answer.status_code for answer in pressed] == [200] * 6
    assert len(await chain(redis)) == 12


async def test_a_press_that_is_refused_or_repeated_adds_nothing(api: Api, redis: Redis) -> None:
    await api.create()
    key = {"Idempotency-Key": "the-same"}
    for _ in range(2):
        assert (await api.post("/v1/campaigns/cup/prefetch", {"window_s": 0}, headers=key)).status_code == 200
    assert (await api.post("/v1/campaigns/cup/activate", {"stage": "live", "window_s": 0})).status_code == 409
    assert [entry.action for entry in await chain(redis)] == ["create", "prefetch"]
