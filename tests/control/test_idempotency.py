"""One key, one publication, one answer: whatever is repeated, raced or left unanswered."""

from __future__ import annotations

import asyncio

import pytest
from redis.asyncio import Redis

from fanout import keyspace
from fanout.bus import presence
from fanout.bus.presence import WorkerRecord
from fanout.connect import connect
from fanout.control.config import ControlConfig
from fanout.control.http import create_app
from fanout.embedded import EmbeddedValkey
from fanout.roles import Role
from fanout.store.keys import KeyStore

from .conftest import Api, Present, definition

KEY = {"Idempotency-Key": "press-1"}
LIVE = {"stage": "live", "window_s": 0}


async def test_a_repeated_key_gets_the_first_answer_byte_for_byte(api: Api, redis: Redis, present: Present) -> None:
    await api.create()
    await present(prefetch_rev=await api.prefetch())
    first = await api.post("/v1/campaigns/cup/activate", {**LIVE, "in_s": 600}, headers=KEY)
    await api.post("/v1/campaigns/cup/close")
    again = await api.post("/v1/campaigns/cup/activate", {**LIVE, "in_s": 600}, headers=KEY)
    assert (again.status_code, again.content) == (200, first.content)
    assert again.headers["etag"] == first.headers["etag"]
    assert again.headers["idempotency-replayed"] == "true"
    assert "idempotency-replayed" not in first.headers
    assert await redis.xlen(keyspace.LOG) == 3


async def test_one_key_pressed_twenty_times_at_once_publishes_once_and_answers_alike(
    api: Api, redis: Redis, present: Present
) -> None:
    await api.create()
    await present(prefetch_rev=await api.prefetch())
    answers = await asyncio.gather(
        *(api.post("/v1/campaigns/cup/activate", {**LIVE, "in_s": 600}, headers=KEY) for _ in range(20))
    )
    assert {answer.status_code for answer in answers} == {200}
    assert len({answer.content for answer in answers}) == 1
    assert await redis.xlen(keyspace.LOG) == 2


async def test_a_cancel_pressed_many_times_under_one_key_is_one_cancel_and_no_refusal(
    api: Api, redis: Redis, present: Present
) -> None:
    await api.create()
    await present(prefetch_rev=await api.prefetch())
    await api.post("/v1/campaigns/cup/activate", {**LIVE, "in_s": 600})
    answers = await asyncio.gather(*(api.post("/v1/campaigns/cup/cancel", headers=KEY) for _ in range(10)))
    assert {answer.status_code for answer in answers} == {200}
    assert len({answer.content for answer in answers}) == 1
    assert await redis.xlen(keyspace.LOG) == 3


async def test_a_key_used_for_another_request_is_refused(api: Api, redis: Redis) -> None:
    await api.create()
    assert (await api.post("/v1/campaigns/cup/prefetch", {"window_s": 1}, headers=KEY)).status_code == 200
    for path, body in (
        ("/v1/campaigns/cup/prefetch", {"window_s": 2}),
        ("/v1/campaigns/cup/close", None),
        ("/v1/campaigns", definition("other")),
    ):
        answer = await api.post(path, body, headers=KEY)
        assert answer.status_code == 422
        assert answer.json()["type"] == "urn:fanout:problem:key-reused"
    assert await redis.xlen(keyspace.LOG) == 1


async def test_keys_of_different_callers_never_meet(api: Api, redis: Redis) -> None:
    await api.create()
    for role in (Role.EDITOR, Role.ADMIN):
        answer = await api.post("/v1/campaigns/cup/prefetch", {"window_s": 1}, headers=KEY, role=role)
        assert answer.status_code == 200
        assert "idempotency-replayed" not in answer.headers
    assert await redis.xlen(keyspace.LOG) == 2


async def test_a_refusal_is_not_kept_so_the_key_may_try_again(api: Api, present: Present) -> None:
    await api.create()
    rev = await api.prefetch()
    assert (await api.post("/v1/campaigns/cup/activate", LIVE, headers=KEY)).status_code == 409
    await present(prefetch_rev=rev)
    assert (await api.post("/v1/campaigns/cup/activate", LIVE, headers=KEY)).status_code == 200


async def test_a_created_campaign_is_created_again_under_its_key(api: Api) -> None:
    first = await api.post("/v1/campaigns", definition(), headers=KEY)
    again = await api.post("/v1/campaigns", definition(), headers=KEY)
    assert (again.status_code, again.content) == (201, first.content)
    assert again.headers["location"] == "/v1/campaigns/cup"


async def test_a_press_without_a_key_is_told_the_one_it_was_given(api: Api) -> None:
    await api.create()
    first = await api.post("/v1/campaigns/cup/prefetch", {"window_s": 1})
    key = {"Idempotency-Key": first.headers["idempotency-key"]}
    again = await api.post("/v1/campaigns/cup/prefetch", {"window_s": 1}, headers=key)
    assert again.content == first.content


@pytest.mark.parametrize("key", ["", "two words", "x" * 129, "t\tab"])
async def test_a_key_that_could_not_travel_is_refused(api: Api, key: str) -> None:
    await api.create()
    answer = await api.post("/v1/campaigns/cup/prefetch", {"window_s": 1}, headers={"Idempotency-Key": key})
    assert answer.status_code == 422
    assert "Idempotency-Key" in answer.json()["detail"]


async def test_a_key_whose_first_try_ended_unknown_gets_its_answer_once_someone_vouches_for_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(presence, "TTL_S", 3600.0)  # the gateway's record is written once, and not every second
    # A store without a file and without replicas: only a gateway can vouch, and none is there at first.
    with EmbeddedValkey(options={"appendonly": "no"}) as valkey:
        redis = connect(valkey.url)
        keys = {Role.PUBLISHER: await KeyStore(redis).create("pat", Role.PUBLISHER)}
        api = Api(create_app(redis, ControlConfig(safe_timeout_s=0.1)), keys)
        await api.create()
        armed = {"window_s": 0}
        unknown = await api.post("/v1/campaigns/cup/prefetch", armed, headers=KEY)
        assert unknown.status_code == 503
        assert unknown.json()["type"] == "urn:fanout:problem:outcome-unknown"
        assert unknown.json()["idempotency_key"] == "press-1"
        assert 1 <= int(unknown.headers["retry-after"]) <= 5
        still = await api.post("/v1/campaigns/cup/prefetch", armed, headers=KEY)
        assert still.status_code == 503
        other = await api.post("/v1/campaigns/cup/prefetch", {"window_s": 1}, headers=KEY)
        assert other.status_code == 422

        # Meanwhile somebody closes the campaign, as unsure of the outcome; a prefetch is forbidden now.
        await api.post("/v1/campaigns/cup/close")
        [(entry_id, _), _] = await redis.xrange(keyspace.LOG)
        await presence.write(
            redis,
            WorkerRecord(worker="gw", started_ms=0, now_ms=0, health="ok", bus_rev=2**50, connections=0),
        )
        told = await api.post("/v1/campaigns/cup/prefetch", armed, headers=KEY)
        assert told.status_code == 200, told.text
        assert f"{told.json()['rev']}-0".encode() == entry_id
        again = await api.post("/v1/campaigns/cup/prefetch", armed, headers=KEY)
        assert again.content == told.content
        assert await redis.xlen(keyspace.LOG) == 2
        await api.http.aclose()
        await redis.aclose()
