"""People sign in, and out, and nobody else does it for them."""

from __future__ import annotations

import asyncio
from typing import Any

import httpx
import pytest
from redis.asyncio import Redis
from structlog.testing import capture_logs

from fanout import keyspace
from fanout.console.signin import own_path
from fanout.embedded import EmbeddedValkey
from fanout.roles import Role
from fanout.store.audit import AuditStore

from .desk import PASSWORD, Browser, Desk, desk

API = "/v1/campaigns"
TRIES = 3
# None comes back while a test lasts.
LIMITS: dict[str, Any] = {"login_tries_max": TRIES, "login_tries_per_min": 0.001}


async def sessions(redis: Redis) -> int:
    return len([key async for key in redis.scan_iter(match=keyspace.session("*"))])


async def noted(redis: Redis) -> list[tuple[str, str, Any]]:
    return [(entry.by, entry.action, entry.details) for entry in await AuditStore(redis).newest(None, 100)]


async def is_in(browser: Browser) -> bool:
    return (await browser.http.get(API)).status_code == 200


async def csrf(made: Desk, browser: Browser) -> str:
    session = await made.app.state.services.sessions.find(browser.http.cookies["fanout_session"])
    return str(session.csrf)


async def test_a_name_and_its_password_open_the_api_and_lead_where_somebody_wanted_to_go(redis: Redis) -> None:
    async with desk(redis) as made:
        browser = made.browser()
        assert not await is_in(browser)
        answer = await browser.sign_in(next="/campaigns/cup?tab=audit")
        assert answer.status_code == 303
        assert answer.headers["location"] == "/campaigns/cup?tab=audit"
        assert await is_in(browser)
        assert not await is_in(made.browser())
        # Whoever is signed in is not asked again.
        assert (await browser.http.get("/login?next=/fleet")).headers["location"] == "/fleet"
        assert await noted(redis) == [("mia", "sign in", {"via": "password"})]


async def test_a_phone_that_writes_names_large_is_understood(redis: Redis) -> None:
    async with desk(redis) as made:
        assert (await made.browser().sign_in(" Mia ")).status_code == 303


async def test_a_wrong_password_an_unknown_name_and_no_name_are_answered_alike(redis: Redis) -> None:
    async with desk(redis) as made:
        said = set()
        for name, password in (("mia", "wrong"), ("nobody", PASSWORD), ("", ""), ("\n", "x" * 500)):
            answer = await made.browser().sign_in(name, password)
            assert answer.status_code == 401
            assert "fanout_session" not in answer.headers.get("set-cookie", "")
            said.add(answer.text.split('role="alert"')[1].split("</p>")[0])
        assert len(said) == 1
        assert await sessions(redis) == 0
        assert await noted(redis) == []


async def test_what_was_typed_is_kept_except_the_password_and_is_only_text(redis: Redis) -> None:
    async with desk(redis) as made:
        answer = await made.browser().sign_in('"><script>x</script>', "a secret that nobody sees")
        assert "&lt;script&gt;" in answer.text
        assert "<script>x" not in answer.text
        assert "a secret that nobody sees" not in answer.text
        assert "script-src 'self'" in answer.headers["content-security-policy"]
        assert answer.headers["cache-control"] == "no-store"


@pytest.mark.parametrize(
    ("base_url", "name", "secure"),
    [("http://localhost", "fanout_session", False), ("https://console.example", "__Host-fanout_session", True)],
)
async def test_the_cookie_is_out_of_reach_of_scripts_and_other_sites(
    redis: Redis, base_url: str, name: str, secure: bool
) -> None:
    async with desk(redis, session_s=100) as made:
        browser = made.browser(base_url=base_url)
        cookies = (await browser.sign_in()).headers.get_list("set-cookie")
        (cookie,) = [each for each in cookies if each.startswith(f"{name}=")]
        words = {word.strip().lower() for word in cookie.split(";")[1:]}
        assert words == {"httponly", "samesite=lax", "path=/", "max-age=100"} | ({"secure"} if secure else set())
        assert await is_in(browser)


async def test_a_sign_in_never_takes_over_a_session_that_was_there_before(redis: Redis) -> None:
    async with desk(redis) as made:
        browser = made.browser()
        browser.http.cookies.set("fanout_session", "x" * 43, domain="localhost.local")
        await browser.sign_in()
        first = browser.http.cookies.get("fanout_session", domain="localhost.local")
        assert first != "x" * 43
        form = {**await made.browser().form(), "name": "mia", "password": PASSWORD}
        cookies = {"fanout_login": form["csrf_login"], "fanout_session": str(first)}
        again = made.browser()
        again.http.cookies.update(cookies)
        answer = await again.http.post("/login", data=form)
        assert answer.status_code == 303
        assert f"fanout_session={first}" not in answer.headers["set-cookie"]
        # The one before has ended: it may be what somebody else knows.
        assert not await is_in(browser)


async def test_a_form_that_another_site_sends_signs_nobody_in(redis: Redis) -> None:
    async with desk(redis) as made:
        form = {**await made.browser().form(), "name": "mia", "password": PASSWORD}
        # It can know a form's token, but not set its cookie here.
        for cookies, headers in (
            ({}, {"Origin": "https://evil.example"}),
            ({"fanout_login": "another"}, {}),
            ({"fanout_login": ""}, {}),
            ({"fanout_login": form["csrf_login"]}, {"Sec-Fetch-Site": "cross-site"}),
        ):
            victim = made.browser()
            victim.http.cookies.update(cookies)
            answer = await victim.http.post("/login", data=form, headers=headers)
            assert answer.status_code == 403
            assert await sessions(redis) == 0
        assert (await made.browser().http.post("/login", data={**form, "csrf_login": ""})).status_code == 403


async def test_a_change_without_the_sessions_token_does_nothing(redis: Redis) -> None:
    async with desk(redis) as made:
        browser, other = made.browser(), made.browser()
        await browser.sign_in()
        await other.sign_in()
        body = {"id": "cup"}
        for headers in (
            {},
            {"Origin": "https://evil.example", "Content-Type": "text/plain"},
            {"X-CSRF-Token": ""},
            {"X-CSRF-Token": await csrf(made, other)},
            {"X-CSRF-Token": await csrf(made, browser), "Sec-Fetch-Site": "cross-site"},
            {"X-CSRF-Token": await csrf(made, browser), "Sec-Fetch-Site": "same-site"},
        ):
            answer = await browser.http.post(API, json=body, headers=headers)
            assert answer.status_code == 403
            assert answer.json()["type"] == "urn:fanout:problem:csrf"
        assert await redis.scard(keyspace.CAMPAIGNS) == 0
        # With it, the body is what is looked at.
        right = {"X-CSRF-Token": await csrf(made, browser), "Sec-Fetch-Site": "same-origin"}
        assert (await browser.http.post(API, json=body, headers=right)).status_code == 422


async def test_signing_out_ends_the_session_for_whoever_has_its_cookie(redis: Redis) -> None:
    async with desk(redis) as made:
        browser, thief = made.browser(), made.browser()
        await browser.sign_in()
        thief.http.cookies.update(browser.http.cookies)
        assert await is_in(thief)
        for wrong in ({}, {"csrf": "x"}):
            assert (await browser.http.post("/logout", data=wrong)).status_code == 403
        assert (await browser.http.get("/logout")).status_code == 405
        assert await is_in(browser)
        answer = await browser.http.post("/logout", data={"csrf": await csrf(made, browser)})
        assert answer.headers["location"] == "/login"
        assert "fanout_session" not in browser.http.cookies
        assert not await is_in(thief)
        assert [action for _, action, _ in await noted(redis)] == ["sign out", "sign in"]
        # Once more does no harm.
        assert (await browser.http.post("/logout")).status_code == 303


async def test_a_role_taken_an_account_removed_or_a_password_changed_counts_at_once(redis: Redis) -> None:
    async with desk(redis) as made:
        browser = made.browser()
        await browser.sign_in()
        headers = {"X-CSRF-Token": await csrf(made, browser)}
        assert (await browser.http.post(API, json={}, headers=headers)).status_code == 422
        await made.accounts.set_role("mia", Role.VIEWER)
        assert (await browser.http.post(API, json={}, headers=headers)).status_code == 403
        assert await is_in(browser)
        await made.accounts.set_password("mia", "another few words")
        assert not await is_in(browser)
        for password in ("another few words", "yet another few words"):
            await browser.sign_in(password=password)
            assert await is_in(browser)
            await made.accounts.set_password("mia", password + ".")
            assert not await is_in(browser)
            await made.accounts.set_password("mia", "yet another few words")
        await browser.sign_in(password="yet another few words")
        assert await is_in(browser)
        await made.accounts.remove("mia")
        assert not await is_in(browser)
        # Nor does it open another account of that name.
        await made.accounts.create("mia", Role.ADMIN, PASSWORD)
        assert not await is_in(browser)


async def test_after_a_few_wrong_passwords_a_name_is_closed_from_everywhere_and_says_for_how_long(
    redis: Redis,
) -> None:
    async with desk(redis, **LIMITS) as made:
        for n in range(TRIES):
            assert (await made.browser(f"192.0.2.{n}").sign_in(password="wrong")).status_code == 401
        answer = await made.browser("192.0.2.200").sign_in()
        assert answer.status_code == 429
        assert int(answer.headers["retry-after"]) > 1
        assert answer.headers["retry-after"] in answer.text
        assert 'value="mia"' in answer.text
        # A name that nobody has is treated no differently.
        statuses = [(await made.browser().sign_in("nobody")).status_code for _ in range(TRIES + 1)]
        assert statuses == [401] * TRIES + [429]


async def test_guesses_at_the_same_time_count_each(redis: Redis) -> None:
    async with desk(redis, **LIMITS) as made:
        browsers = [made.browser(f"192.0.2.{n}") for n in range(10)]
        answers = await asyncio.gather(*(each.sign_in(password="wrong") for each in browsers))
        assert sorted(answer.status_code for answer in answers) == [401] * TRIES + [429] * (10 - TRIES)


async def test_nobody_is_kept_out_from_where_they_have_signed_in_before(redis: Redis) -> None:
    async with desk(redis, **LIMITS) as made:
        assert (await made.browser("192.0.2.1").sign_in()).status_code == 303
        for n in range(TRIES + 1):
            await made.browser(f"203.0.113.{n}").sign_in(password="wrong")
        assert (await made.browser("203.0.113.99").sign_in()).status_code == 429
        assert (await made.browser("192.0.2.1").sign_in()).status_code == 303
        # But who guesses there has only so many tries as well.
        statuses = [(await made.browser("192.0.2.1").sign_in(password="no")).status_code for _ in range(TRIES + 1)]
        assert statuses == [401] * TRIES + [429]


async def test_an_address_that_tries_many_names_is_turned_away_and_good_ones_use_nothing_up(redis: Redis) -> None:
    async with desk(redis, key_tries_max=TRIES, key_tries_per_min=0.001) as made:
        await made.accounts.create("kim", Role.VIEWER, PASSWORD)
        for _ in range(2 * TRIES):
            assert (await made.browser().sign_in("mia")).status_code == 303
            assert (await made.browser().sign_in("kim")).status_code == 303
        statuses = [(await made.browser().sign_in(f"n{n}")).status_code for n in range(TRIES + 1)]
        assert statuses == [401] * TRIES + [429]
        # Those who have been here before are let in all the same.
        assert (await made.browser().sign_in("mia")).status_code == 303


async def test_failures_are_logged_a_few_at_a_time_and_without_what_may_be_a_password(redis: Redis) -> None:
    async with desk(redis, key_tries_max=100) as made:
        with capture_logs() as lines:
            await made.browser().sign_in(password="wrong")
            await made.browser().sign_in("my-secret-in-the-wrong-field", "x")
            for n in range(40):
                await made.browser().sign_in(f"nobody{n}", "x")
        failed = [line for line in lines if line["event"] == "a sign-in failed"]
        assert [line["account"] for line in failed[:2]] == ["mia", None]
        assert len(failed) < 30
        assert "wrong" not in str(lines)


@pytest.mark.parametrize(
    "sent",
    [
        "https://evil.example/",
        "//evil.example/",
        "/\\evil.example/",
        "\\\\evil.example",
        "/\t/evil.example",
        "/\n/evil.example",
        "javascript:alert(1)",
        "evil",
        "",
        "/" + "x" * 2000,
        "/login?next=/login",
        "/logout",
    ],
)
async def test_signing_in_leads_nowhere_but_to_a_page_of_ours(redis: Redis, sent: str) -> None:
    assert own_path(sent) == "/"
    async with desk(redis) as made:
        browser = made.browser()
        form = {**await browser.form(), "next": sent, "name": "mia", "password": PASSWORD}
        assert (await browser.http.post("/login", data=form)).headers["location"] == "/"


async def test_a_store_that_does_not_answer_is_said_on_the_page_and_uses_up_no_tries(
    valkey: EmbeddedValkey, redis: Redis
) -> None:
    async with desk(redis, **LIMITS) as made:
        browser = made.browser()
        form = {**await browser.form(), "name": "mia", "password": PASSWORD}
        valkey.kill()
        for _ in range(2 * TRIES):
            answer = await browser.http.post("/login", data=form)
            assert answer.status_code == 503
            assert "store does not answer" in answer.text
            assert 'value="mia"' in answer.text
        assert (await browser.http.get("/login")).status_code == 200
        valkey.start()
        await made.accounts.list()
        assert (await browser.http.post("/login", data=form)).status_code in (303, 401)


@pytest.mark.parametrize("body", [b"\xff=\xfe", b"&".join(b"a=b" for _ in range(100)), b"a=" + b"x" * 9000, b""])
async def test_what_is_no_form_of_ours_is_refused(redis: Redis, body: bytes) -> None:
    async with desk(redis) as made:
        answer: httpx.Response = await made.browser().http.post("/login", content=body)
        assert answer.status_code in (400, 403, 413)
