"""Pages without a browser: who sees what, what is escaped, what is said when something is wrong."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import httpx
import pytest
from redis.asyncio import Redis
from support.product import definition

from console.desk import PASSWORD, Browser, desk
from fanout.bus import presence
from fanout.bus.presence import CampaignGauge, Group, WorkerRecord
from fanout.campaign import Phase
from fanout.console import app as console
from fanout.console import reading, words
from fanout.console.templating import percent, seconds
from fanout.control.config import ControlConfig
from fanout.control.http import create_app
from fanout.control.problems import Problem
from fanout.control.routes import OPERATIONS
from fanout.embedded import EmbeddedValkey
from fanout.forecast import Load, Question, forecast
from fanout.readiness import Audience, Readiness, fleet
from fanout.roles import Role
from fanout.store.flights import Ended, Flight, Sample
from fanout.store.keys import KeyStore
from fanout.store.outcomes import outcome


@asynccontextmanager
async def open_console(redis: Redis) -> AsyncIterator[httpx.AsyncClient]:
    app = create_app(redis, ControlConfig(open_console=True), console.routes)
    transport = httpx.ASGITransport(app=app)
    async with httpx.AsyncClient(transport=transport, base_url="http://localhost") as http:
        key = await KeyStore(redis).create("tests", Role.ADMIN)
        http.headers["Authorization"] = f"Bearer {key}"
        yield http


async def create(http: httpx.AsyncClient, campaign: str = "cup", **fields: Any) -> None:
    answer = await http.post("/v1/campaigns", json=definition(campaign, **fields))
    assert answer.status_code == 201, answer.text


async def page(http: httpx.AsyncClient, path: str, status: int = 200) -> str:
    """Return a page, asked for as a browser does: without an API key."""
    answer = await http.get(path, headers={"Authorization": ""})
    assert answer.status_code == status, answer.text
    return answer.text


async def test_whoever_is_not_signed_in_is_led_there_and_back(redis: Redis) -> None:
    async with desk(redis) as made:
        app = create_app(redis, ControlConfig(), console.routes)
        app.state.services.accounts = made.accounts
        browser = Browser(app)
        answer = await browser.http.get("/campaigns/new?from=cup")
        assert answer.status_code == 303
        assert answer.headers["location"] == "/login?next=%2Fcampaigns%2Fnew%3Ffrom%3Dcup"
        for path in ("/fleet", "/audit", "/console/live?page=fleet", "/campaigns/x/flights/1/download.html"):
            assert (await browser.http.get(path)).status_code == 303
        await browser.sign_in("mia", PASSWORD)
        assert (await browser.http.get("/campaigns")).status_code == 200
        await browser.http.aclose()


async def test_a_viewer_sees_every_button_disabled_with_the_reason(redis: Redis) -> None:
    async with desk(redis) as made:
        await made.accounts.create("vic", Role.VIEWER, PASSWORD)
        app = create_app(redis, ControlConfig(), console.routes)
        app.state.services.accounts = made.accounts
        key = await KeyStore(redis).create("tests", Role.ADMIN)
        browser = Browser(app)
        made.browsers.append(browser)
        answer = await browser.http.post(
            "/v1/campaigns", json=definition(), headers={"Authorization": f"Bearer {key}"}
        )
        assert answer.status_code == 201
        await browser.sign_in("vic", PASSWORD)
        text = (await browser.http.get("/campaigns/cup")).text
        assert text.count("You are viewer; this needs the role publisher.") >= 5
        assert 'data-press="retract" aria-describedby="why-retract" disabled' in text


async def test_what_people_write_is_shown_as_they_wrote_it_and_runs_nothing(redis: Redis) -> None:
    async with open_console(redis) as http:
        await create(http, title='</script><script>alert("1")</script>')
        for path in ("/campaigns", "/campaigns/cup", "/campaigns/new?from=cup", "/audit"):
            text = await page(http, path)
            assert "<script>alert" not in text
            assert "alert(" in text
        answer = await http.get("/campaigns")
        assert "script-src 'self'" in answer.headers["content-security-policy"]
        assert "unsafe" not in answer.headers["content-security-policy"]
        # Styles and scripts in attributes would be stopped by that policy, and be missing on the night.
        for path in ("/campaigns", "/campaigns/cup", "/campaigns/new", "/fleet", "/audit"):
            text = await page(http, path)
            assert ' style="' not in text
            assert " onclick=" not in text


async def test_what_is_not_there_is_said_on_a_page(redis: Redis) -> None:
    async with open_console(redis) as http:
        assert "there is no campaign" in await page(http, "/campaigns/nobody", 404)
        await create(http)
        assert "no flight record" in await page(http, "/campaigns/cup/flights/7", 404)
        assert "is no revision" in await page(http, "/campaigns/cup/flights/x", 404)
        assert (await http.get("/console/live?page=nothing")).status_code == 404
        assert (await http.get("/console/live?page=campaign&id=nobody")).status_code == 404
        assert (await http.get("/static/../app.py")).status_code == 404


async def test_devices_ahead_of_the_record_are_said_to_be_and_can_be_taken_back(
    redis: Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(presence, "TTL_S", 3600.0)  # written once, and not every second
    async with open_console(redis) as http:
        await create(http)
        disabled = 'data-press="retract" aria-describedby="why-retract" disabled'
        assert disabled in await page(http, "/campaigns/cup")
        await presence.write(redis, a_worker(campaigns={"cup": CampaignGauge(0, 10**13, [])}))
        text = await page(http, "/campaigns/cup")
        assert "Devices show a newer activation, revision 10000000000000," in text
        assert disabled not in text


async def test_a_path_that_is_nowhere_is_a_page_for_people_and_a_problem_for_programs(redis: Redis) -> None:
    async with open_console(redis) as http:
        for path in ("/nothing", "/campaigns/", "/campaigns/cup/nothing"):
            people = await http.get(path, headers={"Accept": "text/html,*/*", "Authorization": ""})
            assert people.status_code == 404
            assert people.headers["content-type"].startswith("text/html")
            assert "There is no such page" in people.text
            program = await http.get(path, headers={"Accept": "application/json"})
            assert program.json()["type"] == "urn:fanout:problem:no-such-route"
        api = await http.get("/v1/nothing", headers={"Accept": "text/html"})
        assert api.json()["status"] == 404
        other = await http.post("/nothing", headers={"Accept": "text/html"})
        assert other.status_code == 404


async def test_a_store_that_does_not_answer_is_said_on_a_page(valkey: EmbeddedValkey, redis: Redis) -> None:
    async with open_console(redis) as http:
        valkey.kill()
        text = await page(http, "/campaigns", 503)
        assert "The store does not answer" in text
        assert "data-again" in text


async def test_an_empty_list_says_what_to_do(redis: Redis) -> None:
    async with open_console(redis) as http:
        assert "Nothing here yet" in await page(http, "/campaigns")
        await create(http)
        assert "Nothing here yet" not in await page(http, "/campaigns")


def test_buttons_need_what_the_api_asks_for() -> None:
    roles = {operation.name: operation.role for operation in OPERATIONS if operation.press}
    roles["edit"] = roles.pop("editCampaign")
    assert roles == dict(words.NEEDED)


def a_worker(**fields: Any) -> WorkerRecord:
    usual = {"worker": "gw-1", "started_ms": 1, "now_ms": 2, "health": "ok", "bus_rev": 5, "connections": 3}
    return WorkerRecord(**{**usual, **fields})


@pytest.mark.parametrize(
    ("worker", "said"),
    [
        (a_worker(), []),
        (a_worker(health="unready"), ["unready"]),
        (a_worker(health="degraded"), ["cannot reach the store"]),
        (a_worker(loop_lag_ms=900.0), ["900 ms late"]),
        (a_worker(bus_rev=4), ["1 of 1 workers has not heard"]),
    ],
)
def test_what_is_wrong_is_said_in_sentences(worker: WorkerRecord, said: list[str]) -> None:
    found = words.wrong(fleet([worker], bus_rev=5, now_ms=10_000))
    assert len(found) == len(said)
    assert all(part in sentence for part, sentence in zip(said, found, strict=True))


def test_a_fleet_without_a_gateway_is_not_well() -> None:
    assert words.wrong(fleet([], bus_rev=0, now_ms=1))


def test_a_region_that_nobody_is_in_any_more_is_not_shown() -> None:
    groups = [Group({"platform": "tv", "region": "jp"}, 0, 0, 0), Group({"platform": "web", "region": "fr"}, 3, 0, 0)]
    found = fleet([a_worker(groups=groups)], bus_rev=5, now_ms=10_000)
    assert (found.platforms, found.regions) == ({"web": 3}, {"fr": 3})


def a_flight(*samples: Sample, newest: Readiness | None = None, **fields: Any) -> Flight:
    expected = forecast(Question(workers=[Load(100, 1e6)], ready_share=0.9, window_s=10.0, origin_per_s=100.0))
    return Flight(
        campaign="cup", title="Cup", rev=7, stage="live", at=0, window_ms=10_000, share=1.0, by="mia",
        reason="", retracts=False, shadow=False, forecast=expected, samples=samples, newest=newest, **fields,
    )  # fmt: skip


def a_sample(second: int, active: int) -> Sample:
    return Sample(second=second, connected=100, ready=100, active=active, failed=0)


def a_look(active: int, *, ready: int = 100, failed: int = 0) -> Readiness:
    return Readiness(
        campaign="cup", phase=Phase.ACTIVATING, now=1, threshold=0.95, met=True, prefetch_rev=6, activate_rev=7,
        total=Audience(100, ready, active, ready / 100), platforms={}, regions={}, expected=100, failed=failed,
        flip_lag=None, workers=1, workers_behind=0,
    )  # fmt: skip


def test_stragglers_are_counted_once_each_and_before_the_first_sample_as_forecast() -> None:
    found = outcome(a_flight(newest=a_look(80, ready=85, failed=2))).stragglers
    assert (found.failed, found.not_ready, found.silent, found.total) == (2, 15, 3, 20)
    unseen = outcome(a_flight())
    assert (unseen.flipped, unseen.expected) == (0, 100)
    assert (unseen.stragglers.not_ready, unseen.stragglers.silent, unseen.stragglers.total) == (10, 90, 100)


def test_the_time_to_a_share_lies_between_the_samples_around_it() -> None:
    found = outcome(a_flight(a_sample(0, 0), a_sample(4, 40), a_sample(6, 60), newest=a_look(60)))
    assert (found.t50_s, found.t99_s, found.t100_s) == (5.0, None, None)


@pytest.mark.parametrize(
    ("ended", "said"),
    [
        ("", "In flight"),
        ("over", ""),
        ("superseded", "Another activation came"),
        ("cancelled", "taken back"),
        ("closed", "was closed"),
    ],
)
def test_a_record_says_why_it_ends_where_it_does(ended: Ended, said: str) -> None:
    assert said in words.of_flight(a_flight(newest=a_look(5), ended=ended))
    assert (words.of_flight(a_flight(newest=a_look(5), ended=ended)) == "") == (ended == "over")


@pytest.mark.parametrize(
    ("raw", "said"),
    [
        (b"{", "line 1, column 2"),
        (b'{\n "id": }', "line 2"),
        (b"id: [\ntitle: x", "line 2"),
        (b"a: &a [1]\nb: *a", "line 2, column 4: aliases"),
        (b"just words", "it holds str"),
        (b"when: 2026-01-01", "not JSON serializable"),
        (b"\xff\xfe", "utf-8"),
    ],
)
def test_a_file_that_is_no_campaign_is_refused_with_its_line(raw: bytes, said: str) -> None:
    with pytest.raises(Problem) as caught:
        reading.read(raw)
    assert said in caught.value.detail


def test_numbers_never_flatter() -> None:
    assert percent(0.9999) == "99.9%"
    assert percent(1.0) == "100%"
    assert seconds(750) == "12 min 30 s"
    assert seconds(None) == "never"


async def test_the_page_shows_each_change_though_the_chain_is_searched_once_a_version(redis: Redis) -> None:
    async with open_console(redis) as http:
        await create(http)
        assert "prefetch</td>" not in await page(http, "/campaigns/cup")
        assert (await http.post("/v1/campaigns/cup/prefetch", json={"window_s": 0})).status_code == 200
        assert "prefetch</td>" in await page(http, "/campaigns/cup")


async def test_the_stage_under_the_finger_is_the_one_that_is_on_until_its_window_is_over(redis: Redis) -> None:
    async with open_console(redis) as http:
        await create(http)
        await http.post("/v1/campaigns/cup/prefetch", json={"window_s": 0})

        async def chosen() -> str:
            # The select of the form that goes live is the first on the page.
            page = (await http.get("/campaigns/cup")).text
            return page.split(" selected>")[1].split("<")[0]

        assert await chosen() == "live"
        pressed = {"stage": "live", "force": True, "reason": "nobody is connected"}
        await http.post("/v1/campaigns/cup/activate", json={**pressed, "window_s": 600, "share": 0.5})
        assert await chosen() == "live", "a canary is widened"
        await http.post("/v1/campaigns/cup/activate", json={**pressed, "window_s": 0})
        assert await chosen() == "ended"


def steps_of(text: str) -> list[str]:
    """Return how each step of the timeline is."""
    return re.findall(r'<span class="state">([^<]*)</span>', text)


async def test_a_campaign_closed_before_its_instant_tells_of_nothing_that_did_not_happen(redis: Redis) -> None:
    async with open_console(redis) as http:
        await create(http)
        await http.post("/v1/campaigns/cup/prefetch", json={"window_s": 0})
        pressed = {"stage": "live", "force": True, "reason": "nobody is connected", "window_s": 60, "in_s": 600}
        await http.post("/v1/campaigns/cup/schedule", json={"stage": "ended", "window_s": 0, "in_s": 6000})
        await http.post("/v1/campaigns/cup/activate", json=pressed)
        assert steps_of(await page(http, "/campaigns/cup"))[0] == "done"
        await http.post("/v1/campaigns/cup/close")
        text = await page(http, "/campaigns/cup")
        assert steps_of(text) == ["done", "not reached", "not reached", "not reached"]
        assert "<dt>Event</dt>" not in text
        assert re.search('data-press="unschedule"[^>]* disabled', text)


async def test_a_campaign_closed_in_its_window_says_that_it_was_cut_short(redis: Redis) -> None:
    async with open_console(redis) as http:
        await create(http)
        await http.post("/v1/campaigns/cup/prefetch", json={"window_s": 600})
        pressed = {"stage": "live", "force": True, "reason": "nobody is connected", "window_s": 60}
        await http.post("/v1/campaigns/cup/activate", json=pressed)
        await http.post("/v1/campaigns/cup/close")
        assert steps_of(await page(http, "/campaigns/cup")) == ["cut short", "done", "cut short", "not reached"]
