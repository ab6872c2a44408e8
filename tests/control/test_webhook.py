"""The event moves by a signed call, as the specification signs it."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import time
from typing import Any

import httpx
import pytest
from redis.asyncio import Redis

from fanout.control import webhook
from fanout.control.config import ControlConfig
from fanout.control.http import create_app
from fanout.errors import InvalidInput
from fanout.roles import Role
from fanout.store.keys import KeyStore

from .conftest import Api, Present
from .test_plans import armed_in_an_hour, chain

KEY = b"a webhook key of thirty-two bytes"


@pytest.fixture
async def api(redis: Redis, config: ControlConfig, monkeypatch: pytest.MonkeyPatch) -> Api:
    monkeypatch.setenv(webhook.SECRET, "whsec_" + base64.b64encode(KEY).decode())
    keys = KeyStore(redis)
    return Api(create_app(redis, config), {role: await keys.create(f"test-{role}", role) for role in Role})


async def hook(
    api: Api, body: dict[str, Any], *, message_id: str = "msg_1", at_s: float | None = None, key: bytes = KEY
) -> httpx.Response:
    raw = json.dumps(body).encode()
    at = str(int(time.time() if at_s is None else at_s))
    signature = base64.b64encode(hmac.new(key, f"{message_id}.{at}.".encode() + raw, hashlib.sha256).digest())
    headers = {
        "Content-Type": "application/json",
        "webhook-id": message_id,
        "webhook-timestamp": at,
        "webhook-signature": f"v1,AAAA v1,{signature.decode()}",
    }
    return await api.http.post("/v1/hooks/event", content=raw, headers=headers)


def test_the_specifications_own_example_is_signed_right(monkeypatch: pytest.MonkeyPatch) -> None:
    # standard-webhooks/spec: the example of "Signature scheme", as its libraries test it.
    monkeypatch.setenv(webhook.SECRET, "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw")
    key = webhook.key_from_environment()
    assert key is not None
    signed = hmac.new(key, b'msg_p5jXN8AQM9LWM0D4loKWxJek.1614265330.{"test": 2432232314}', hashlib.sha256).digest()
    assert base64.b64encode(signed) == b"g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="


async def test_a_signed_call_moves_what_is_armed_once(api: Api, redis: Redis, present: Present) -> None:
    at = await armed_in_an_hour(api, present)
    body = {"campaign": "cup", "at": at + 60_000}
    for _ in range(2):
        answer = await hook(api, body)
        assert answer.status_code == 200, answer.text
        assert answer.json()["activation"]["at"] == at + 60_000
    entries = await chain(redis)
    assert [(entry.action, entry.by) for entry in entries[-1:]] == [("move", "(webhook)")]
    assert (await hook(api, {**body, "at": at})).status_code == 422, "another body under the same id"


async def test_whoever_moves_the_event_by_a_call_is_warned_as_by_the_button(api: Api, present: Present) -> None:
    at = await armed_in_an_hour(api, present)
    assert (await hook(api, {"campaign": "cup", "at": at + 60_000})).json()["warnings"] == []
    await api.create("second")
    plan = {"stage": "live", "window_s": 20, "at": at + 3_600_000, "prefetch_at": at, "prefetch_window_s": 600}
    assert (await api.post("/v1/campaigns/second/schedule", plan)).status_code == 200
    beside = {"campaign": "cup", "at": plan["at"]}
    (warning,) = (await hook(api, beside, message_id="msg_2")).json()["warnings"]
    assert "Campaign second is scheduled on the same topic" in warning
    assert (await api.post("/v1/campaigns/cup/move", {"at": plan["at"]})).json()["warnings"] == [warning]


@pytest.mark.parametrize(
    ("how", "words"),
    [
        ({"key": b"another key of thirty-two bytes.."}, "No signature"),
        ({"at_s": 1_000_000_000}, "300 s apart are allowed"),
        ({"at_s": 4_000_000_000}, "300 s apart are allowed"),
        ({"message_id": "with a space"}, "Send webhook-id"),
    ],
)
async def test_what_is_not_signed_now_moves_nothing(
    api: Api, redis: Redis, present: Present, how: dict[str, Any], words: str
) -> None:
    at = await armed_in_an_hour(api, present)
    answer = await hook(api, {"campaign": "cup", "at": at + 60_000}, **how)
    assert answer.status_code == 401
    assert words in answer.json()["detail"]
    assert (await chain(redis))[-1].action == "activate"


async def test_a_call_that_makes_no_sense_says_so(api: Api) -> None:
    assert (await hook(api, {"campaign": "nobody", "at": 1}, message_id="a")).status_code == 404
    assert (await hook(api, {"campaign": "cup"}, message_id="b")).status_code == 422
    bare = await api.http.post("/v1/hooks/event", content=b"{}")
    assert bare.status_code == 401


async def test_without_a_secret_there_is_no_webhook(redis: Redis, config: ControlConfig) -> None:
    app = create_app(redis, config)
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app=app), base_url="http://control") as http:
        answer = await http.post("/v1/hooks/event", content=b"{}")
    assert answer.status_code == 404
    assert webhook.SECRET in answer.json()["detail"]


@pytest.mark.parametrize(("value", "words"), [("whsec_@@@", "no base64"), ("c2hvcnQ=", "has 5 bytes")])
def test_a_secret_that_is_none_is_refused_and_not_repeated(
    monkeypatch: pytest.MonkeyPatch, value: str, words: str
) -> None:
    monkeypatch.setenv(webhook.SECRET, value)
    with pytest.raises(InvalidInput, match=words) as refusal:
        webhook.key_from_environment()
    assert value not in str(refusal.value)
