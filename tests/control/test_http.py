"""What every answer has in common: problems, roles, limits, headers, the document, the store's absence."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest
from openapi_spec_validator import validate
from redis.asyncio import Redis

from fanout import keyspace
from fanout.control.config import ControlConfig
from fanout.control.routes import OPERATIONS
from fanout.embedded import EmbeddedValkey
from fanout.errors import InvalidInput
from fanout.roles import Role

from .conftest import Api, Present, content, definition


def is_problem(answer: httpx.Response, status: int) -> dict[str, Any]:
    assert answer.status_code == status, answer.text
    assert answer.headers["content-type"] == "application/problem+json"
    body = answer.json()
    assert body["status"] == status
    assert body["type"].startswith("urn:fanout:problem:")
    assert body["title"]
    assert body["detail"]
    assert "Traceback" not in answer.text
    return dict(body)


def url_of(path: str) -> str:
    return path.replace("{id}", "cup").replace("{sha256}", "0" * 64)


@pytest.mark.parametrize("operation", [o for o in OPERATIONS if o.role], ids=lambda o: o.name)
async def test_every_guarded_operation_wants_a_key_and_a_role(api: Api, operation: Any) -> None:
    path = url_of(operation.path)
    unknown = await api.call(operation.method, path, role=None)
    assert is_problem(unknown, 401)
    assert unknown.headers["www-authenticate"].startswith("Bearer")
    for bad in ("Bearer nonsense", "Basic dXNlcjpwYXNz", "Bearer", f"Bearer {'x' * 43}"):
        assert is_problem(await api.call(operation.method, path, role=None, headers={"Authorization": bad}), 401)
    for role in Role:
        answer = await api.call(operation.method, path, role=role)
        if role.includes(operation.role):
            assert answer.status_code not in (401, 403)
        else:
            problem = is_problem(answer, 403)
            assert (problem["role"], problem["needed"]) == (role, operation.role)


def test_roles_are_what_the_control_room_promises() -> None:
    needed = {(o.method, o.path.rsplit("/", 1)[-1]): o.role for o in OPERATIONS}
    assert needed["POST", "prefetch"] is Role.EDITOR
    assert needed["POST", "campaigns"] is Role.EDITOR
    assert needed["POST", "bundles"] is Role.EDITOR
    for button in ("activate", "cancel", "retract", "close"):
        assert needed["POST", button] is Role.PUBLISHER
    for read in ("campaigns", "{id}", "readiness", "fleet"):
        assert needed["GET", read] is Role.VIEWER
    for open_to_all in ("{sha256}", "openapi.json", "healthz", "readyz", "metrics"):
        assert needed["GET", open_to_all] is None


@pytest.mark.parametrize(
    ("body", "path", "says"),
    [
        ({"window_s": "ten"}, "$.window_s", "float"),
        ({}, "$", "window_s"),
        ({"window_s": 1, "windows": 2}, "$", "from, in_s, window_s"),
        ([], "$", "object"),
        ({"window_s": 1, "from": []}, "$.from", "int | str"),
    ],
)
async def test_json_of_the_wrong_shape_is_told_where_and_what_is_allowed(
    api: Api, body: Any, path: str, says: str
) -> None:
    await api.create()
    problem = is_problem(await api.post("/v1/campaigns/cup/prefetch", body), 422)
    assert problem["path"] == path
    assert says in problem["detail"]
    assert problem["allowed"]


async def test_what_was_sent_is_quoted_but_not_at_any_length(api: Api) -> None:
    sent = definition(variants=[{"bundle": content()}, {"match": ["x" * 5000], "bundle": content()}])
    problem = is_problem(await api.post("/v1/campaigns", sent), 422)
    assert problem["path"] == "$.variants[1].match"
    assert problem["sent"].startswith('["xxx')
    assert len(problem["sent"]) == 200


@pytest.mark.parametrize(
    ("raw", "media_type", "status"),
    [
        (b"{", "application/json", 400),
        (b"", "application/json", 400),
        (b"\xff\xfe", "application/json", 400),
        (b'{"window_s": 1e999}', "application/json", 422),
        (b'{"window_s": "x", [', "application/json", 422),
        (b"[" * 10_000, "application/json", 422),
        (b'{"window_s": 1}', "text/plain", 415),
        (b'{"window_s": 1}', "", 415),
        (b'{"window_s": 1}', "application/json; charset=utf-8", 200),
    ],
)
async def test_bytes_that_are_no_json_are_refused_without_a_traceback(
    api: Api, raw: bytes, media_type: str, status: int
) -> None:
    await api.create()
    headers = {"Authorization": f"Bearer {api.keys[Role.EDITOR]}", "Content-Type": media_type}
    answer = await api.http.post("/v1/campaigns/cup/prefetch", content=raw, headers=headers)
    if status == 200:
        assert answer.status_code == 200
    else:
        is_problem(answer, status)


async def test_a_bundle_of_hostile_json_is_stored_or_refused_but_never_breaks_anything(api: Api) -> None:
    headers = {"Authorization": f"Bearer {api.keys[Role.EDITOR]}", "Content-Type": "application/json"}
    for inner in (
        b'{"t":"\\ud800"}',
        b'{"n":123456789012345678901234567890}',
        b'{"n":' + b"[" * 900 + b"]" * 900 + b"}",
        b'{"n":' + b"[" * 100_000 + b"]" * 100_000 + b"}",
        b'{"a":1,"a":2}',
        b'{"t":"\\u0000\\u2028</script>"}',
        b'{"n":-0.0,"m":1e308}',
    ):
        answer = await api.http.post("/v1/bundles", content=b'{"stages":{"live":' + inner + b"}}", headers=headers)
        assert answer.status_code in (201, 400, 422), answer.text
        if answer.status_code == 201:
            stored = await api.get(f"/v1/bundles/{answer.json()['sha256']}", role=None)
            assert json.loads(stored.content)["stages"].keys() == {"live"}


@pytest.mark.parametrize("declared", [True, False])
async def test_a_body_beyond_its_limit_is_refused_declared_or_not(api: Api, declared: bool) -> None:
    limit = ControlConfig().action_body_bytes_max

    async def chunks() -> AsyncIterator[bytes]:
        for _ in range(100):
            yield b" " * 1024

    headers = {"Authorization": f"Bearer {api.keys[Role.EDITOR]}", "Content-Type": "application/json"}
    body: Any = b" " * 102_400 if declared else chunks()
    answer = await api.http.post("/v1/campaigns/cup/prefetch", content=body, headers=headers)
    problem = is_problem(answer, 413)
    assert problem["allowed"] == limit
    assert answer.headers["connection"] == "close"


async def test_wrong_methods_are_told_the_right_ones(api: Api) -> None:
    answer = await api.call("DELETE", "/v1/campaigns")
    is_problem(answer, 405)
    assert {"GET", "POST"} <= set(answer.headers["allow"].split(", "))
    is_problem(await api.get("/v1/campaigns/cup/activate"), 405)


async def test_every_answer_carries_the_security_headers_and_no_api_answer_is_cached(api: Api) -> None:
    await api.create()
    for answer in (
        await api.get("/v1/campaigns"),
        await api.get("/v1/fleet", role=None),
        await api.get("/nowhere", role=None),
        await api.get("/healthz", role=None),
        await api.post("/v1/campaigns/cup/cancel"),
    ):
        assert answer.headers["x-content-type-options"] == "nosniff"
        assert answer.headers["cache-control"] == "no-store"
        assert "default-src 'none'" in answer.headers["content-security-policy"]


async def test_a_bug_of_ours_is_a_500_problem_and_tells_no_secret(
    api: Api, redis: Redis, capsys: pytest.CaptureFixture[str]
) -> None:
    await api.create()
    # A record that no version of ours wrote.
    await redis.hset(keyspace.campaign("cup"), "doc", b"\xc1secret")
    answer = await api.get("/v1/campaigns/cup")
    is_problem(answer, 500)
    assert "secret" not in answer.text
    assert api.keys[Role.PUBLISHER] not in capsys.readouterr().out


async def test_the_document_is_valid_and_lists_exactly_the_routes_that_are_served(api: Api) -> None:
    document = (await api.get("/v1/openapi.json", role=None)).json()
    validate(document)
    documented = {(method.upper(), path) for path, item in document["paths"].items() for method in item}
    served = {
        (method, route.path)
        for route in api.app.routes
        for method in route.methods
        if method != "HEAD" or route.path == "/v1/bundles/{sha256}"
    }
    assert documented == served
    schemas = document["components"]["schemas"]
    assert set(schemas["ActivateRequest"]["required"]) == {"stage", "window_s"}
    assert "from" in schemas["PrefetchRequest"]["properties"]
    assert {"phase", "allowed", "etag", "variants"} <= set(schemas["CampaignView"]["properties"])


async def test_answers_are_what_the_document_says(api: Api, present: Present) -> None:
    from openapi_schema_validator import OAS31Validator

    document = (await api.get("/v1/openapi.json", role=None)).json()
    created = await api.create()
    await present(prefetch_rev=await api.prefetch(), lags_ms=[5], activate_rev=0)
    answers = {
        "CampaignView": [
            created,
            (await api.post("/v1/campaigns/cup/activate", {"stage": "live", "window_s": 0})).json(),
            (await api.get("/v1/campaigns/cup")).json(),
        ],
        "CampaignList": [(await api.get("/v1/campaigns")).json()],
        "Readiness": [(await api.get("/v1/campaigns/cup/readiness")).json()],
        "Fleet": [(await api.get("/v1/fleet")).json()],
        "BundleView": [(await api.post("/v1/bundles", content())).json()],
        "Problem": [(await api.get("/v1/campaigns/nope")).json()],
    }
    for name, bodies in answers.items():
        schema = {"$ref": f"#/components/schemas/{name}", "components": document["components"]}
        for body in bodies:
            OAS31Validator(schema).validate(body)


async def test_a_bundle_is_served_to_anyone_for_ever(api: Api) -> None:
    made = await api.post("/v1/bundles", content())
    assert made.status_code == 201
    assert (await api.post("/v1/bundles", content())).status_code == 200
    path = made.headers["location"]
    answer = await api.get(path, role=None)
    assert answer.status_code == 200
    assert len(answer.content) == made.json()["bytes"]
    assert answer.headers["cache-control"] == "public, max-age=31536000, immutable"
    assert answer.headers["access-control-allow-origin"] == "*"
    assert answer.headers["content-type"] == "application/json"
    assert answer.headers["access-control-allow-origin"] == "*"
    etag = answer.headers["etag"]
    assert etag == f'"{made.json()["sha256"]}"'
    for tags in (etag, f"W/{etag}", f'"other", {etag}', "*"):
        not_modified = await api.get(path, role=None, headers={"If-None-Match": tags})
        assert (not_modified.status_code, not_modified.content) == (304, b"")
        assert not_modified.headers["etag"] == etag
    assert (await api.get(path, role=None, headers={"If-None-Match": '"other"'})).status_code == 200
    head = await api.call("HEAD", path, role=None)
    assert (head.status_code, head.content, head.headers["etag"]) == (200, b"", etag)
    assert head.headers["content-length"] == str(made.json()["bytes"])


@pytest.mark.parametrize("name", ["0" * 64, "A" * 64, "nope", "..%2f..%2fetc"])
async def test_a_bundle_that_is_not_there_is_not_cached_as_missing(api: Api, name: str) -> None:
    answer = await api.get(f"/v1/bundles/{name}", role=None)
    is_problem(answer, 404)
    assert answer.headers["cache-control"] == "no-store"


async def test_metrics_count_by_route_and_the_origin_apart(api: Api) -> None:
    made = (await api.create())["variants"][0]["bundle"]
    path = f"/v1/bundles/{made['sha256']}"
    await api.get(path, role=None)
    await api.get(path, role=None, headers={"If-None-Match": "*"})
    await api.call("HEAD", path, role=None)
    await api.get("/wp-login.php", role=None)
    await api.prefetch()
    text = (await api.get("/metrics", role=None)).text
    assert "fanout_control_origin_requests_total 2.0" in text
    assert 'fanout_control_requests_total{route="/v1/bundles/{sha256}",status="304"} 1.0' in text
    assert 'fanout_control_requests_total{route="unmatched",status="404"} 1.0' in text
    assert "fanout_control_publish_seconds_count 1.0" in text
    assert "wp-login" not in text


async def test_without_the_store_everything_is_a_503_that_changed_nothing_and_then_recovers(
    api: Api, valkey: EmbeddedValkey, redis: Redis
) -> None:
    created = await api.create()
    before = await redis.hgetall(keyspace.campaign("cup"))
    valkey.kill()
    for answer in (
        await api.get("/v1/campaigns"),
        await api.post("/v1/campaigns", definition("other")),
        await api.post("/v1/campaigns/cup/prefetch", {"window_s": 0}),
        await api.get("/v1/fleet"),
        await api.get(f"/v1/bundles/{'0' * 64}", role=None),
    ):
        problem = is_problem(answer, 503)
        assert 1 <= int(answer.headers["retry-after"]) <= 5
        assert str(valkey.socket_path) not in answer.text
        assert "nothing was published" in problem["detail"]
    assert (await api.get("/healthz", role=None)).status_code == 200
    assert (await api.get("/readyz", role=None)).status_code == 503
    # What this process has in memory, devices still get.
    small = created["variants"][0]["bundle"]["url"]
    assert (await api.get(small, role=None)).status_code == 200

    valkey.start()
    assert (await api.get("/readyz", role=None)).status_code == 200
    assert await redis.hgetall(keyspace.campaign("cup")) == before
    assert await redis.xlen(keyspace.LOG) == 0
    assert (await api.post("/v1/campaigns/cup/prefetch", {"window_s": 0})).status_code == 200


async def test_a_store_that_dies_between_two_steps_of_a_press_loses_no_press(
    api: Api, valkey: EmbeddedValkey, redis: Redis
) -> None:
    await api.create()
    key = {"Idempotency-Key": "through-it-all"}
    presses = [
        asyncio.create_task(api.post("/v1/campaigns/cup/prefetch", {"window_s": 0}, headers=key)) for _ in range(30)
    ]
    await asyncio.wait(presses, return_when=asyncio.FIRST_COMPLETED)
    valkey.kill()
    answers = await asyncio.gather(*presses)
    assert {answer.status_code for answer in answers} <= {200, 503}
    valkey.start()
    final = await api.post("/v1/campaigns/cup/prefetch", {"window_s": 0}, headers=key)
    assert final.status_code == 200
    assert await redis.xlen(keyspace.LOG) == 1
    assert {a.json()["rev"] for a in answers if a.status_code == 200} <= {final.json()["rev"]}


async def test_a_store_that_became_a_replica_is_unavailable_and_unchanged(
    api: Api, valkey: EmbeddedValkey, redis: Redis
) -> None:
    await api.create()
    await redis.replicaof("127.0.0.1", "1")
    is_problem(await api.post("/v1/campaigns/cup/prefetch", {"window_s": 0}), 503)
    is_problem(await api.post("/v1/campaigns", definition("other")), 503)
    await redis.replicaof("NO", "ONE")
    assert await redis.xlen(keyspace.LOG) == 0
    assert (await api.post("/v1/campaigns/cup/prefetch", {"window_s": 0})).json()["version"] == 2


async def test_the_public_url_is_where_devices_are_sent(redis: Redis) -> None:
    config = ControlConfig(public_url="https://cdn.example/fanout/")
    assert config.bundle_url("ab") == "https://cdn.example/fanout/v1/bundles/ab"
    for bad in ("cdn.example", "ftp://cdn.example", "https://cdn.example/?x=1"):
        with pytest.raises(InvalidInput, match="public url"):
            ControlConfig(public_url=bad)
