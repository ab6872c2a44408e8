"""People sign in at their OpenID provider: what it says of them is believed when it is right, and only then."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any
from urllib.parse import parse_qs, urlsplit

import httpx
import pytest
from joserfc.jwk import ECKey, OctKey
from redis.asyncio import Redis
from structlog.testing import capture_logs
from support.provider import CLIENT_ID, CLIENT_SECRET, Provider, provider
from support.web import web

from fanout import keyspace
from fanout.console import oidc
from fanout.control.config import ControlConfig
from fanout.errors import InvalidInput
from fanout.roles import Role
from fanout.store.audit import AuditStore
from fanout.store.keys import KeyStore

from .desk import Browser, Desk, desk

API = "/v1/campaigns"
ROLES = ("publisher=live-desk", "viewer=staff", "admin=sre")


@pytest.fixture
async def idp(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Provider]:
    monkeypatch.setenv("FANOUT_OIDC_CLIENT_SECRET", CLIENT_SECRET)
    async with provider() as made:
        yield made


def settings(idp: Provider, **more: Any) -> dict[str, Any]:
    return {"oidc_issuer": idp.issuer, "oidc_client_id": CLIENT_ID, "oidc_roles": ROLES, **more}


async def at_provider(url: str) -> str:
    """Follow somebody to the provider; return the URL it sends them back to."""
    async with web() as http:
        return (await http.get(url)).headers["location"]


async def go(browser: Browser, path: str = "/") -> httpx.Response:
    """Sign in at the provider; return what the console makes of it."""
    away = await browser.http.get("/login/oidc", params={"next": path})
    assert away.status_code == 303, away.text
    return await browser.http.get(await at_provider(away.headers["location"]))


async def role(made: Desk, browser: Browser) -> Role | None:
    if (await browser.http.get(API)).status_code != 200:
        return None
    session = await made.app.state.services.sessions.find(browser.http.cookies["fanout_session"])
    return Role(session.role)


async def test_whoever_the_provider_knows_gets_the_role_of_their_group(redis: Redis, idp: Provider) -> None:
    async with desk(redis, **settings(idp)) as made:
        await made.accounts.remove("mia")
        browser = made.browser()
        assert "Sign in with 127.0.0.1" in (await browser.http.get("/login")).text
        answer = await go(browser, "/campaigns/cup")
        assert (answer.status_code, answer.headers["location"]) == (303, "/campaigns/cup")
        assert await role(made, browser) is Role.PUBLISHER
        (entry,) = await AuditStore(redis).newest(None, 9)
        assert (entry.by, entry.action, entry.details) == ("mia", "sign in", {"via": "oidc"})


@pytest.mark.parametrize(
    ("groups", "expected"),
    [
        (["staff", "live-desk", "sre"], Role.ADMIN),
        (["live-desk", "staff"], Role.PUBLISHER),
        ("staff", Role.VIEWER),
        (["Staff"], None),
        (["publisher"], None),
        ([["staff"], 7, None], None),
        ({"staff": True}, None),
        (None, None),
    ],
)
async def test_the_highest_role_counts_and_nobody_without_one_gets_in(
    redis: Redis, idp: Provider, groups: Any, expected: Role | None
) -> None:
    idp.person = {"sub": "7", "preferred_username": "Kim@Example.org", "groups": groups}
    async with desk(redis, **settings(idp)) as made:
        browser = made.browser()
        answer = await go(browser)
        assert await role(made, browser) is expected
        if expected is None:
            assert answer.status_code == 403
            assert "kim@example.org" in answer.text


async def test_a_name_that_is_an_accounts_or_a_keys_is_nobody_elses(redis: Redis, idp: Provider) -> None:
    await KeyStore(redis).create("clock", Role.ADMIN)
    async with desk(redis, **settings(idp)) as made:
        for name in ("mia", "clock"):
            idp.person["preferred_username"] = name
            browser = made.browser()
            answer = await go(browser)
            assert answer.status_code == 409
            assert await role(made, browser) is None


async def test_a_name_that_cannot_be_one_here_is_refused_and_shown_as_text(redis: Redis, idp: Provider) -> None:
    idp.person["preferred_username"] = "<b>kim</b>"
    async with desk(redis, **settings(idp)) as made:
        answer = await go(made.browser())
        assert answer.status_code == 502
        assert "&lt;b&gt;kim" in answer.text


async def test_the_secret_stays_between_the_console_and_the_provider(redis: Redis, idp: Provider) -> None:
    async with desk(redis, **settings(idp)) as made:
        browser = made.browser()
        away = await browser.http.get("/login/oidc")
        asked = parse_qs(urlsplit(away.headers["location"]).query)
        trips = [await redis.get(key) async for key in redis.scan_iter(match=keyspace.trip("*"))]
        assert len(trips) == 1
        # The verifier and the nonce are in the store, the state that opens them is not.
        assert asked["nonce"][0].encode() in trips[0]
        assert asked["state"][0].encode() not in trips[0]
        assert set(asked) == {
            *("response_type", "client_id", "redirect_uri", "scope", "state", "nonce"),
            *("code_challenge", "code_challenge_method"),
        }
        assert asked["redirect_uri"] == ["http://localhost/login/oidc/callback"]
        cookie = away.headers["set-cookie"].lower()
        assert "fanout_trip=" in cookie
        assert "httponly" in cookie
        assert "samesite=lax" in cookie


async def test_another_browser_cannot_be_sent_back_in_somebodys_place(redis: Redis, idp: Provider) -> None:
    idp.person["preferred_username"] = "kim"
    async with desk(redis, **settings(idp)) as made:
        attacker, victim = made.browser(), made.browser()
        back = await at_provider((await attacker.http.get("/login/oidc")).headers["location"])
        assert (await victim.http.get(back)).status_code == 400
        assert await role(made, victim) is None
        # One who is on a trip of their own neither.
        await victim.http.get("/login/oidc")
        assert (await victim.http.get(back)).status_code == 400
        # And it leads in once.
        cookie = attacker.http.cookies["fanout_trip"]
        assert (await attacker.http.get(back)).status_code == 303
        attacker.http.cookies.set("fanout_trip", cookie)
        assert (await attacker.http.get(back)).status_code == 400


@pytest.mark.parametrize(
    "query", ["", "?state=", "?state=x&code=y", "?code=y", f"?state={'x' * 43}&code=y", "?state=%00&code=%ff"]
)
async def test_coming_back_without_having_left_leads_nowhere(redis: Redis, idp: Provider, query: str) -> None:
    async with desk(redis, **settings(idp)) as made:
        browser = made.browser()
        browser.http.cookies.set("fanout_trip", "x" * 43)
        assert (await browser.http.get(f"/login/oidc/callback{query}")).status_code == 400
        assert await role(made, browser) is None


@pytest.mark.parametrize(
    "lies",
    [
        {"iss": "https://another.example"},
        {"aud": "another-client"},
        {"aud": "another-client", "azp": CLIENT_ID},
        {"aud": [CLIENT_ID, "another-client"]},
        {"aud": [CLIENT_ID], "azp": "another-client"},
        {"nonce": "another"},
        {"nonce": None},
        {"exp": 1_000_000_000},
        {"exp": None},
        {"sub": None},
        {"iat": 4_000_000_000},
    ],
    ids=str,
)
async def test_a_token_that_is_not_meant_for_this_sign_in_is_not_believed(
    redis: Redis, idp: Provider, lies: dict[str, Any]
) -> None:
    idp.lies = lies
    async with desk(redis, **settings(idp)) as made:
        browser = made.browser()
        assert (await go(browser)).status_code == 502
        assert await role(made, browser) is None


@pytest.mark.parametrize("kind", ["another key", "shared secret", "public key as secret", "none"])
async def test_a_token_signed_otherwise_is_not_believed(redis: Redis, idp: Provider, kind: str) -> None:
    kid, public = {"kid": idp.signing.kid}, idp.signing.as_pem(private=False)
    if kind == "another key":
        idp.signing = ECKey.generate_key("P-256", kid)
    elif kind == "shared secret":
        idp.signing, idp.algorithm = OctKey.import_key(CLIENT_SECRET, kid), "HS256"
    elif kind == "public key as secret":
        idp.signing = OctKey.import_key({"kty": "oct", "k": OctKey.import_key(public.hex()).as_dict()["k"], **kid})
        idp.algorithm = "HS256"
    else:
        idp.algorithm = "none"
    async with desk(redis, **settings(idp)) as made:
        browser = made.browser()
        assert (await go(browser)).status_code == 502
        assert await role(made, browser) is None


async def test_a_provider_that_turns_its_keys_is_believed_with_the_new_one(redis: Redis, idp: Provider) -> None:
    idp.person["preferred_username"] = "kim"
    async with desk(redis, **settings(idp)) as made:
        for algorithm in ("ES256", "ES256", "RS256", "PS256", "Ed25519"):
            idp.turn_keys(algorithm)
            browser = made.browser()
            assert (await go(browser)).status_code == 303
            assert await role(made, browser) is Role.PUBLISHER


async def test_what_the_provider_refuses_is_said(redis: Redis, idp: Provider) -> None:
    idp.refuses = "access_denied"
    async with desk(redis, **settings(idp)) as made:
        answer = await go(made.browser())
        assert answer.status_code == 403
        assert "access_denied" in answer.text


async def test_a_wrong_secret_lets_nobody_in_and_is_not_shown(
    redis: Redis, idp: Provider, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FANOUT_OIDC_CLIENT_SECRET", "not what they share")
    async with desk(redis, **settings(idp)) as made:
        answer = await go(made.browser())
        assert answer.status_code == 502
        assert "not what they share" not in answer.text


async def test_trips_are_limited_like_guesses(redis: Redis, idp: Provider) -> None:
    idp.person["preferred_username"] = "kim"
    async with desk(redis, **settings(idp, key_tries_max=3, key_tries_per_min=0.001)) as made:
        for _ in range(6):
            assert (await go(made.browser())).status_code == 303
        left = [(await made.browser().http.get("/login/oidc")).status_code for _ in range(5)]
        assert left == [303] * 3 + [429] * 2


@pytest.mark.parametrize(
    "wrong",
    [
        {"issuer": "https://another.example"},
        {"token_endpoint": None},
        {"jwks_uri": "file:///etc/passwd"},
        {"authorization_endpoint": "javascript:alert(1)"},
    ],
    ids=str,
)
async def test_a_provider_that_is_not_as_configured_is_not_used_and_passwords_work(
    redis: Redis, idp: Provider, wrong: dict[str, Any]
) -> None:
    idp.metadata.update(wrong)
    async with desk(redis, **settings(idp)) as made:
        with capture_logs() as lines:
            for check in made.app.state.services.at_start:
                await check()
        assert [line["log_level"] for line in lines] == ["warning"]
        browser = made.browser()
        answer = await browser.http.get("/login/oidc")
        assert answer.status_code == 502
        assert 'name="password"' in answer.text
        assert (await browser.sign_in()).status_code == 303


async def test_a_provider_that_is_not_there_is_said_and_passwords_work(redis: Redis, idp: Provider) -> None:
    gone = settings(idp, oidc_issuer="http://127.0.0.1:1")
    async with desk(redis, **gone) as made:
        assert (await made.browser().http.get("/login/oidc")).status_code == 502
        assert (await made.browser().sign_in()).status_code == 303


async def test_without_a_provider_there_is_no_way_to_one(redis: Redis) -> None:
    async with desk(redis) as made:
        browser = made.browser()
        assert "/login/oidc" not in (await browser.http.get("/login")).text
        for path in ("/login/oidc", "/login/oidc/callback"):
            assert (await browser.http.get(path)).status_code == 404


@pytest.mark.parametrize(
    ("fields", "told"),
    [
        ({"oidc_issuer": "https://login.example"}, "go together"),
        ({"oidc_client_id": "x"}, "go together"),
        ({"oidc_issuer": "http://login.example", "oidc_client_id": "x"}, "send https://"),
        ({"oidc_issuer": "login.example", "oidc_client_id": "x"}, "send https://"),
        ({"oidc_roles": ("boss=a",)}, "one of viewer, editor, publisher, admin"),
        ({"oidc_roles": ("admin",)}, "ROLE=GROUP"),
        ({"oidc_roles": ("admin=",)}, "ROLE=GROUP"),
    ],
)
def test_settings_that_cannot_work_are_refused(fields: dict[str, Any], told: str) -> None:
    with pytest.raises(InvalidInput, match=told):
        ControlConfig(**fields)


def test_the_secret_comes_from_one_place(monkeypatch: pytest.MonkeyPatch, tmp_path: Any) -> None:
    config = ControlConfig(oidc_issuer="https://login.example", oidc_client_id="x")
    monkeypatch.setenv("FANOUT_OIDC_CLIENT_SECRET_FILE", str(tmp_path / "none"))
    with pytest.raises(InvalidInput, match="cannot be read"):
        oidc.from_environment(config)
    monkeypatch.setenv("FANOUT_OIDC_CLIENT_SECRET", "x")
    with pytest.raises(InvalidInput, match="both set"):
        oidc.from_environment(config)
