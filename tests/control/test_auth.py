"""Who a request comes from: a key, a session, or, where the console is open, whoever is at this machine."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from typing import Any

import httpx
import pytest
from redis.asyncio import Redis
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import BaseRoute, Route

from fanout import keyspace
from fanout.control import auth
from fanout.control.config import ControlConfig
from fanout.control.http import create_app
from fanout.control.server import serve
from fanout.control.services import Services
from fanout.errors import InvalidInput
from fanout.roles import Role
from fanout.store.accounts import Account, _encoder
from fanout.store.keys import KeyStore

Open = Callable[..., httpx.AsyncClient]


def whoami(services: Services) -> list[BaseRoute]:
    """A page that tells who looks at it."""

    async def page(request: Request) -> Response:
        found = await auth.visitor(request, services)
        return JSONResponse(None if found is None else [found.name, found.role, found.csrf, found.demo])

    return [Route("/whoami", page)]


@pytest.fixture
async def opened(redis: Redis) -> AsyncIterator[Open]:
    """Open a client of an app with these settings."""
    clients: list[httpx.AsyncClient] = []

    def client(base_url: str = "http://localhost", **settings: Any) -> httpx.AsyncClient:
        app = create_app(redis, ControlConfig(**settings), whoami)
        clients.append(httpx.AsyncClient(transport=httpx.ASGITransport(app=app), base_url=base_url))
        return clients[-1]

    yield client
    for each in clients:
        await each.aclose()


def services(http: httpx.AsyncClient) -> Services:
    transport: Any = http._transport
    app: Starlette = transport.app
    found: Services = app.state.services
    return found


async def session(http: httpx.AsyncClient, redis: Redis, role: Role = Role.EDITOR) -> str:
    """Sign somebody in behind the pages' back; return the session's token for changes."""
    await redis.hset(keyspace.ACCOUNTS, "mia", _encoder.encode(Account("mia", role, "", stamp="s")))
    token, made = await services(http).sessions.begin("mia", stamp="s")
    http.cookies.set("fanout_session", token)
    return made.csrf


async def test_a_key_is_heard_before_a_cookie_and_needs_no_token(redis: Redis, opened: Open) -> None:
    http = opened()
    csrf = await session(http, redis, Role.VIEWER)
    key = await KeyStore(redis).create("pat", Role.EDITOR)
    with_key = {"Authorization": f"Bearer {key}"}
    # 422: whoever it is may do this, and the body is what is wrong.
    assert (await http.post("/v1/campaigns", json={}, headers=with_key)).status_code == 422
    assert (await http.post("/v1/campaigns", json={}, headers={"X-CSRF-Token": csrf})).status_code == 403
    # A key that is not known is not made good by a cookie.
    for wrong in ("Bearer fanout_" + "0" * 43, "Bearer", "Basic x", ""):
        assert (await http.get("/v1/campaigns", headers={"Authorization": wrong})).status_code == 401


async def test_reading_needs_no_token_and_every_change_does(redis: Redis, opened: Open) -> None:
    http = opened()
    csrf = await session(http, redis)
    assert (await http.get("/v1/campaigns")).status_code == 200
    for method, path in (("POST", "/v1/campaigns"), ("PUT", "/v1/campaigns/cup"), ("POST", "/v1/bundles")):
        answer = await http.request(method, path, json={})
        if answer.status_code == 405:
            continue
        assert answer.status_code == 403
        assert answer.json()["type"] == "urn:fanout:problem:csrf"
        answer = await http.request(method, path, json={}, headers={"X-CSRF-Token": csrf})
        assert answer.status_code not in (401, 403)


async def test_a_page_knows_its_visitor_and_nobody_is_no_error(redis: Redis, opened: Open) -> None:
    http = opened()
    assert (await http.get("/whoami")).json() is None
    csrf = await session(http, redis)
    assert (await http.get("/whoami")).json() == ["mia", "editor", csrf, False]
    http.cookies.clear()
    http.cookies.set("fanout_session", "x" * 43)
    assert (await http.get("/whoami")).json() is None


async def test_over_https_only_a_cookie_that_no_other_host_could_set_is_read(redis: Redis, opened: Open) -> None:
    http = opened("https://console.example")
    await session(http, redis)
    assert (await http.get("/whoami")).json() is None
    http.cookies.set("__Host-fanout_session", http.cookies["fanout_session"])
    assert (await http.get("/whoami")).json() is not None


async def test_an_open_console_takes_everybody_for_an_admin_and_says_so(redis: Redis, opened: Open) -> None:
    http = opened(open_console=True)
    name, role, csrf, demo = (await http.get("/whoami")).json()
    assert (name, role, demo) == ("demo", "admin", True)
    assert (await http.get("/v1/campaigns")).status_code == 200
    # Another site can make a browser send a form here, but not know this.
    assert (await http.post("/v1/campaigns", json={})).status_code == 403
    assert (await http.post("/v1/campaigns", json={}, headers={"X-CSRF-Token": csrf})).status_code == 422
    # Whoever says who they are is who they say, or nobody.
    assert (await http.get("/v1/campaigns", headers={"Authorization": "Bearer x"})).status_code == 401
    await session(http, redis)
    assert (await http.get("/whoami")).json()[:2] == ["mia", "editor"]


@pytest.mark.parametrize(
    ("base_url", "is_open"),
    [
        ("http://127.0.0.1:8080", True),
        ("http://[::1]:8080", True),
        ("http://localhost:8080", True),
        ("http://evil.example:8080", False),
        ("http://127.0.0.1.evil.example", False),
        ("http://192.0.2.1", False),
    ],
)
async def test_an_open_console_is_closed_under_every_name_but_this_machines_own(
    opened: Open, base_url: str, is_open: bool
) -> None:
    http = opened(base_url, open_console=True)
    assert ((await http.get("/whoami")).json() is not None) is is_open


async def test_a_console_is_closed_unless_it_was_opened(opened: Open) -> None:
    http = opened()
    assert (await http.get("/whoami")).json() is None
    assert (await http.get("/v1/campaigns")).status_code == 401


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.0.2.1", "console.example", ""])
async def test_an_open_console_is_not_served_to_the_network(host: str) -> None:
    with pytest.raises(InvalidInput, match="an open console"):
        await serve(ControlConfig(open_console=True), "redis://127.0.0.1:1", host, 0, lambda port: None)
