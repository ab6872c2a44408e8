"""Creating and pressing, over HTTP, on a real store."""

from __future__ import annotations

import asyncio
import random
from typing import Any

import pytest
from redis.asyncio import Redis

from fanout import keyspace, limits
from fanout.bus.entry import from_stream
from fanout.bus.publication import Activated, Cancelled, Closed, Prefetched, Publication
from fanout.control import requests
from fanout.roles import Role
from fanout.store.bundles import canonical

from .conftest import STAGES, Api, Present, content, definition


async def published(redis: Redis) -> list[Publication]:
    entries: Any = await redis.xrange(keyspace.LOG)
    return [from_stream(entry_id, fields) for entry_id, fields in entries]


async def test_a_created_campaign_is_shown_with_everything_that_was_asked(api: Api) -> None:
    answer = await api.post("/v1/campaigns", definition(threshold=0.5, miss="silent"), role=Role.EDITOR)
    assert answer.status_code == 201
    assert answer.headers["location"] == "/v1/campaigns/cup"
    assert answer.headers["etag"] == '"1"'
    shown = (await api.get("/v1/campaigns/cup", role=Role.VIEWER)).json()
    assert shown["phase"] == "draft"
    assert shown["allowed"] == ["prefetch", "close", "edit", "schedule"]
    assert (shown["threshold"], shown["miss"], shown["retract_stage"]) == (0.5, "silent", "upcoming")
    assert (shown["author"], shown["version"], shown["etag"]) == ("test-editor", 1, '"1"')
    expected = canonical(content("jp")["stages"])
    assert shown["variants"][0] == {
        "match": {"region": "jp"},
        "bundle": {
            "sha256": expected.sha256,
            "bytes": len(expected.data),
            "url": f"/v1/bundles/{expected.sha256}",
        },
    }
    assert [c["id"] for c in (await api.get("/v1/campaigns")).json()["campaigns"]] == ["cup"]


async def test_creating_again_in_the_same_words_is_no_error_and_in_others_is(api: Api) -> None:
    await api.create()
    same = await api.post("/v1/campaigns", definition())
    assert same.status_code == 200
    other = await api.post("/v1/campaigns", definition(title="Another"))
    assert other.status_code == 409
    assert "cup" in other.json()["detail"]
    assert (await api.get("/v1/campaigns/cup")).json()["title"] == "Cup final"


async def test_a_bundle_may_be_uploaded_before_or_live_elsewhere(api: Api) -> None:
    uploaded = (await api.post("/v1/bundles", content("before"))).json()
    elsewhere = {"sha256": "b" * 64, "bytes": 5000, "url": "https://cdn.example/b.json"}
    variants = [
        {"match": {"platform": "tv"}, "bundle": {"sha256": uploaded["sha256"]}},
        {"bundle": elsewhere},
    ]
    made = await api.create(variants=variants)
    assert made["variants"][0]["bundle"] == uploaded
    assert made["variants"][1]["bundle"] == elsewhere


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"id": "Cup Final!"}, "Cup Final!"),
        ({"topic": ""}, "topic"),
        ({"title": ""}, "title has 0"),
        ({"title": "x" * 201}, "201 characters"),
        ({"stages": []}, "0 stages"),
        ({"stages": ["upcoming", "upcoming"]}, "each name may occur once"),
        ({"stages": [*STAGES, "extra-time"]}, "variants[0].bundle has no content for stage extra-time"),
        ({"variants": [{"content": {}}]}, "`content`; allowed are bundle, match, at $.variants[0]"),
        ({"threshold": 1.5}, "1.5"),
        ({"retract_stage": "later"}, "later"),
        ({"variants": []}, "0 variants"),
        ({"variants": [{"match": {"region": "jp"}, "bundle": content()}]}, "must match all"),
        ({"variants": [{"bundle": {}}]}, "has nothing"),
        ({"variants": [{"bundle": {"sha256": "0" * 64}}]}, "no bundle"),
        ({"variants": [{"bundle": {"sha256": "xyz"}}]}, "64 lower-case hex"),
        ({"variants": [{"bundle": {"sha256": "0" * 64, "bytes": 9}}]}, "sha256, bytes"),
        (
            {"variants": [{"bundle": {"sha256": "0" * 64, "bytes": 9, "url": "ftp://x/y"}}]},
            "http or https",
        ),
        (
            {"variants": [{"bundle": {"sha256": "0" * 64, "bytes": 2**30, "url": "http://x/y"}}]},
            str(limits.BUNDLE_BYTES_MAX),
        ),
        (
            {"variants": [{"match": {"plattform": "tv"}, "bundle": content()}, {"bundle": content()}]},
            "devices have platform",
        ),
        ({"variants": [{"bundle": {"stages": {s: {"x": "y" * 400_000} for s in STAGES}}}]}, "put images"),
    ],
)
async def test_a_campaign_that_cannot_work_is_refused_with_what_is_allowed(
    api: Api, redis: Redis, change: dict[str, Any], says: str
) -> None:
    answer = await api.post("/v1/campaigns", definition(**change))
    assert answer.status_code == 422, answer.text
    assert says in answer.json()["detail"]
    assert await redis.scard(keyspace.CAMPAIGNS) == 0


async def test_a_campaign_goes_from_draft_to_closed_and_every_press_is_one_publication(
    api: Api, redis: Redis, present: Present
) -> None:
    await api.create()
    rev = await api.prefetch()
    await present(prefetch_rev=rev)
    armed = await api.post(
        "/v1/campaigns/cup/activate", {"stage": "live", "window_s": 1.5, "in_s": 600, "share": 0.5}
    )
    assert armed.status_code == 200, armed.text
    assert armed.json()["phase"] == "armed"
    assert armed.json()["activation"]["by"] == "test-publisher"
    assert armed.json()["activation"]["rev"] == armed.json()["rev"]
    assert armed.json()["allowed"] == ["prefetch", "activate", "cancel", "close", "move"]
    cancelled = await api.post("/v1/campaigns/cup/cancel")
    assert cancelled.json()["phase"] == "prefetching"
    live = await api.post("/v1/campaigns/cup/activate", {"stage": "live", "window_s": 0})
    assert (live.json()["phase"], live.json()["stage"]) == ("live", "live")
    back = await api.post("/v1/campaigns/cup/retract", {"reason": "wrong match"})
    assert (back.json()["stage"], back.json()["activation"]["reason"]) == ("upcoming", "wrong match")
    closed = await api.post("/v1/campaigns/cup/close", {})
    assert (closed.json()["phase"], closed.json()["allowed"]) == ("closed", [])

    log = await published(redis)
    assert [type(p) for p in log] == [Prefetched, Activated, Cancelled, Activated, Activated, Closed]
    assert [p.rev for p in log[1:]] == [answer.json()["rev"] for answer in (armed, cancelled, live, back, closed)]
    first = log[1]
    assert isinstance(first, Activated)
    assert (first.stage, first.window_ms, first.share, first.topic) == ("live", 1500, 0.5, "sport")
    assert closed.json()["version"] == 7
    assert [answer.headers["etag"] for answer in (armed, closed)] == ['"3"', '"7"']


async def test_small_bundles_travel_in_the_prefetch_and_never_in_the_activation(
    api: Api, redis: Redis, present: Present
) -> None:
    big = {"stages": {stage: {"x": "y" * 10_000} for stage in STAGES}}
    elsewhere = {"sha256": "b" * 64, "bytes": 50, "url": "https://cdn.example/b.json"}
    await api.create(
        variants=[
            {"match": {"region": "jp"}, "bundle": content("jp")},
            {"match": {"region": "us"}, "bundle": big},
            {"bundle": elsewhere},
        ]
    )
    await present(prefetch_rev=await api.prefetch())
    await api.post("/v1/campaigns/cup/activate", {"stage": "live", "window_s": 0})
    prefetch, activate = await published(redis)
    assert isinstance(prefetch, Prefetched)
    assert isinstance(activate, Activated)
    small, large, outside = (variant.bundle for variant in prefetch.variants)
    assert small.inline == canonical(content("jp")["stages"]).data.decode()
    assert (large.inline, large.url) == (None, f"/v1/bundles/{large.sha256}")
    assert (outside.inline, outside.url) == (None, "https://cdn.example/b.json")
    assert [v.bundle.inline for v in activate.variants] == [None] * 3
    assert [v.bundle.sha256 for v in activate.variants] == [v.bundle.sha256 for v in prefetch.variants]


async def test_all_inline_content_of_a_publication_is_bounded(api: Api, redis: Redis) -> None:
    def variant(n: int) -> dict[str, Any]:
        stages = {stage: {"x": f"{n:02}" + "y" * 5000} for stage in STAGES}
        return {"match": {"region": f"r{n}"} if n else {}, "bundle": {"stages": stages}}

    await api.create(variants=[variant(n) for n in reversed(range(30))])
    await api.prefetch()
    [prefetch] = await published(redis)
    assert isinstance(prefetch, Prefetched)
    inline = [v.bundle for v in prefetch.variants if v.bundle.inline is not None]
    assert sum(b.bytes for b in inline) <= limits.INLINE_BYTES_PER_PUBLICATION_MAX
    assert 0 < len(inline) < 30
    assert all(v.bundle.url for v in prefetch.variants)


@pytest.mark.parametrize(
    ("action", "body", "says"),
    [
        ("prefetch", {"window_s": 90_000}, "86400"),
        ("prefetch", {"window_s": -1}, "-1000 ms"),
        ("prefetch", {"window_s": 1e300}, "limit"),
        ("prefetch", {"window_s": 1, "from": "tomorrow"}, "ISO 8601"),
        ("prefetch", {"window_s": 1, "from": "2026-07-01T20:00:00"}, "no time zone"),
        ("prefetch", {"window_s": 1, "from": 1_700_000_000}, "leave from out to mean now"),
        ("prefetch", {"window_s": 1, "from": 2**60}, "ahead"),
        ("prefetch", {"window_s": 1, "from": 2**60, "in_s": 4}, "one of them"),
        ("activate", {"stage": "half-time", "window_s": 1}, "upcoming, live, ended"),
        ("activate", {"stage": "live", "window_s": 601}, "600000 ms"),
        ("activate", {"stage": "live", "window_s": 1, "share": 0}, "share is 0"),
        ("activate", {"stage": "live", "window_s": 1, "in_s": 8 * 24 * 3600}, "ahead"),
        ("activate", {"stage": "live", "window_s": 1, "force": True, "reason": " "}, "without a reason"),
        ("retract", {"reason": " "}, "reason is empty"),
        ("retract", {"reason": "x", "window_s": 3600}, "60000 ms"),
    ],
)
async def test_a_press_out_of_bounds_says_what_was_sent_and_what_is_allowed(
    api: Api, redis: Redis, present: Present, action: str, body: dict[str, Any], says: str
) -> None:
    await api.create()
    await present(prefetch_rev=await api.prefetch())
    answer = await api.post(f"/v1/campaigns/cup/{action}", body)
    assert answer.status_code == 422, answer.text
    assert says in answer.json()["detail"]
    assert answer.json()["path"].removeprefix("$.") in {*body, "reason"}
    assert len(await published(redis)) == 1


async def test_instants_may_be_iso_or_unix_and_the_recent_past_is_now(
    api: Api, present: Present, monkeypatch: pytest.MonkeyPatch
) -> None:
    # So that it is still recent when it arrives, however slow this machine is.
    monkeypatch.setattr(requests, "PAST_MS_MAX", 3_600_000)
    await api.create()
    await present(prefetch_rev=await api.prefetch())
    now = (await api.get("/v1/campaigns/cup")).json()["now"]
    body = {"stage": "live", "window_s": 1, "at": now + 3_600_000}
    unix = (await api.post("/v1/campaigns/cup/activate", body)).json()
    assert unix["activation"]["at"] == now + 3_600_000
    prefetch = await api.post("/v1/campaigns/cup/prefetch", {"window_s": 1, "from": now - 2000})
    assert prefetch.json()["prefetch"]["from_ms"] >= now


async def test_a_press_that_the_phase_forbids_says_which_are_allowed(api: Api, redis: Redis) -> None:
    await api.create()
    for action, body in (
        ("activate", {"stage": "live", "window_s": 0}),
        ("cancel", None),
        ("retract", {"reason": "x"}),
    ):
        answer = await api.post(f"/v1/campaigns/cup/{action}", body)
        assert answer.status_code == 409
        assert "draft" in answer.json()["detail"]
        assert "prefetch, close" in answer.json()["detail"]
    assert await published(redis) == []


async def test_after_a_cancel_what_had_begun_stands_again_and_can_be_retracted(api: Api, present: Present) -> None:
    await api.create()
    await present(prefetch_rev=await api.prefetch())
    begun = (await api.post("/v1/campaigns/cup/activate", {"stage": "live", "window_s": 0})).json()
    await api.post("/v1/campaigns/cup/activate", {"stage": "ended", "window_s": 0, "in_s": 600})
    await api.post("/v1/campaigns/cup/cancel")
    shown = (await api.get("/v1/campaigns/cup")).json()
    assert (shown["phase"], shown["stage"]) == ("live", "live")
    assert shown["activation"] == begun["activation"]
    assert "retract" in shown["allowed"]
    back = (await api.post("/v1/campaigns/cup/retract", {"reason": "x"})).json()
    assert (back["stage"], back["activation"]["rev"]) == ("upcoming", back["rev"])
    assert "retract" not in back["allowed"]
    assert (await api.post("/v1/campaigns/cup/retract", {"reason": "x"})).status_code == 409


async def test_a_cancel_is_never_accepted_once_the_instant_has_come(api: Api, redis: Redis, present: Present) -> None:
    rng = random.Random(7)
    for n in range(20):
        campaign = f"c{n}"
        await api.create(campaign)
        await present(campaign=campaign, prefetch_rev=await api.prefetch(campaign))
        body = {"stage": "live", "window_s": 60, "in_s": rng.uniform(0.003, 0.02)}
        armed = (await api.post(f"/v1/campaigns/{campaign}/activate", body)).json()
        cancel = await api.post(f"/v1/campaigns/{campaign}/cancel")
        if cancel.status_code == 200:
            assert cancel.json()["rev"] < armed["activation"]["at"]
        else:
            assert cancel.status_code == 409, cancel.text
            assert "activating" in cancel.json()["detail"]
            assert not any(p.campaign == campaign for p in await published(redis) if isinstance(p, Cancelled))


async def test_what_is_not_there_is_a_404_problem(api: Api) -> None:
    for answer in (
        await api.get("/v1/campaigns/nope"),
        await api.get("/v1/campaigns/nope/readiness"),
        await api.post("/v1/campaigns/nope/cancel"),
        await api.get("/v1/nope"),
        await api.get("/v1/campaigns/"),
    ):
        assert answer.status_code == 404
        assert answer.headers["content-type"] == "application/problem+json"
        assert answer.json()["status"] == 404


async def test_if_match_holds_a_press_back_once_the_campaign_has_changed(api: Api, redis: Redis) -> None:
    created = await api.create()
    stale = {"If-Match": created["etag"]}
    assert (await api.post("/v1/campaigns/cup/prefetch", {"window_s": 0}, headers=stale)).status_code == 200
    answer = await api.post("/v1/campaigns/cup/prefetch", {"window_s": 0}, headers=stale)
    assert answer.status_code == 412
    assert (answer.json()["sent"], answer.json()["current"]) == (1, 2)
    assert len(await published(redis)) == 1
    bad = await api.post("/v1/campaigns/cup/close", headers={"If-Match": "three"})
    assert bad.status_code == 422


async def test_of_two_activations_of_one_version_at_once_one_wins_and_the_other_is_told(
    api: Api, redis: Redis, present: Present
) -> None:
    await api.create()
    await present(prefetch_rev=await api.prefetch())
    seen = {"If-Match": (await api.get("/v1/campaigns/cup")).headers["etag"]}
    answers = await asyncio.gather(
        *(
            api.post("/v1/campaigns/cup/activate", {"stage": stage, "window_s": 1, "in_s": 60}, headers=seen)
            for stage in ("upcoming", "live", "upcoming", "live")
        )
    )
    assert sorted(a.status_code for a in answers) == [200, 412, 412, 412]
    assert len(await published(redis)) == 2


async def test_presses_at_once_without_if_match_take_effect_one_after_the_other(
    api: Api, redis: Redis, present: Present
) -> None:
    await api.create()
    await present(prefetch_rev=await api.prefetch())
    await api.post("/v1/campaigns/cup/activate", {"stage": "live", "window_s": 0, "in_s": 600})
    answers = await asyncio.gather(*(api.post("/v1/campaigns/cup/cancel") for _ in range(4)))
    # The second cancel finds nothing armed any more.
    assert sorted(a.status_code for a in answers) == [200, 409, 409, 409]
    assert [type(p) for p in await published(redis)] == [Prefetched, Activated, Cancelled]
