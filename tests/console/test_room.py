"""An event night in real Chromium, on a real store, gateway and devices."""

from __future__ import annotations

import asyncio
import json
import re
from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest
from playwright.async_api import Browser, Page, Route, expect
from support.browser import person
from support.product import LARGE, definition
from support.viewers import swarm
from support.waiting import until

from console.room import (
    beside_chrome,
    fill,
    hold,
    keep_back,
    needs_chromium,
    outcome,
    press,
    room,
    sign_in,
    take_hold,
)
from fanout.roles import Role

pytestmark = [needs_chromium, beside_chrome]

DEVICES = 60
# One device every four seconds: far from the gate for as long as the test needs.
SLOW_S = "240"
# Until the first of them, ms. None has its slot before that once in 5,000,000,000 times.
FIRST_MS = 75_000
ACTIVATE = "**/v1/campaigns/cup/activate"
_SLOW_RING = """() => {
  window.usual = setTimeout;
  window.setTimeout = (work, ms) => usual(work, 100 * ms);
}"""


async def _create(page: Page) -> None:
    await page.goto("/campaigns")
    await page.get_by_role("link", name="New campaign").click()
    await page.locator("[name=id]").fill("cup")
    await page.locator("[name=title]").fill("Cup final")
    await page.locator("[name=topic]").fill("t")
    await page.get_by_label("Two keys").check()
    await page.locator("[data-stage=live] .title-field").fill("It is on")
    await page.get_by_role("button", name="Create the campaign").click()
    await page.wait_for_url("**/campaigns/cup")
    # Nobody counts the devices of a draft, but they are there.
    await expect(press(page, "prefetch")).to_have_text(f"Prefetch {DEVICES} devices over 60 s")
    await expect(page.locator("#campaign-readiness")).to_contain_text(f"{DEVICES} devices are connected")
    await expect(page.locator("#forecast dd").last).to_have_text("0 s")


@pytest.mark.timeout(240)
async def test_two_people_take_an_event_from_the_form_to_the_flight_record(chrome: Browser) -> None:
    async with (
        room(chrome, open_console=False, mia=Role.PUBLISHER, noa=Role.PUBLISHER) as made,
        swarm(made.product, DEVICES) as crowd,
        person(made.browser, made.url) as mia,
        person(made.browser, made.url) as noa,
    ):
        await made.product.connected(DEVICES)
        await sign_in(mia, "mia")
        await _create(mia)
        await expect(press(mia, "activate")).to_be_disabled()

        await fill(mia, "prefetch-form", window_s=SLOW_S)
        await press(mia, "prefetch").click()
        await expect(outcome(mia)).to_contain_text("done, revision")
        some = re.compile(rf"[1-9]\d* of {DEVICES} devices")
        await expect(mia.locator("#campaign-readiness")).to_contain_text(some, timeout=FIRST_MS)
        await expect(mia.locator("#why-activate")).to_contain_text("second key")
        await expect(mia.locator("#why-approve")).to_contain_text("somebody else")

        await sign_in(noa, "noa", "/campaigns/cup")
        await press(noa, "approve").click()
        await expect(outcome(noa)).to_contain_text("done")
        await expect(mia.locator("#campaign-plan")).to_contain_text("Approved by noa")

        await fill(mia, "live-form", window_s="3", in_s="1")
        await expect(press(mia, "activate")).to_have_text(f"Show LIVE on {DEVICES} devices over 3 s")
        await hold(mia, press(mia, "activate"))
        await expect(outcome(mia)).to_contain_text(re.compile(rf"refused.*\d+ of {DEVICES}.*threshold is 95.0%"))
        await expect(mia.locator("#force-reason")).to_be_visible()

        await fill(mia, "prefetch-form", window_s="0")
        await press(mia, "prefetch").click()
        await expect(mia.locator("#campaign-readiness")).to_contain_text("The gate is open")
        await hold(mia, press(mia, "activate"))
        await expect(outcome(mia)).to_contain_text("done, revision")
        for page in (mia, noa):
            await expect(page.locator("#campaign-head")).to_contain_text(
                f"{DEVICES} of {DEVICES} devices show 'live'"
            )
        await until(lambda: crowd.shows() == {"live"}, "every device")
        await expect(mia.locator("#curve-words")).to_contain_text("To LIVE")
        for page in (mia, noa):
            await expect(page.locator("#curve")).to_have_attribute("data-active", str(DEVICES))

        await noa.get_by_role("link", name=re.compile("^Record")).first.click()
        await expect(noa.locator(".figures")).to_contain_text(f"{DEVICES} of {DEVICES}")
        await expect(noa.locator("#flight-plot canvas")).to_be_visible()
        async with noa.expect_download() as download:
            await noa.get_by_role("link", name="one HTML file").click()
        text = (await (await download.value).path()).read_text("utf-8")
        assert "uPlot" in text
        assert "src=" not in text
        assert 'rel="stylesheet"' not in text

        await noa.go_back()
        await press(noa, "retract").click()
        await expect(outcome(noa)).to_contain_text("Retract to UPCOMING now: done")
        await until(lambda: crowd.shows() == {"upcoming"}, "every device back")
        await expect(mia.locator("#campaign-done")).to_contain_text("retracted from the console")


async def _lose_the_answer(page: Page) -> asyncio.Event:
    """Let the next press through, and its answer not; what is sent again waits until this is set."""
    let_go = await keep_back(page, ACTIVATE)

    async def lose(route: Route) -> None:
        await route.fetch()
        await route.abort()

    await page.route(ACTIVATE, lose, times=1)
    return let_go


async def test_a_press_into_a_dropped_network_or_a_crash_is_told_and_happens_once(chrome: Browser) -> None:
    async with (
        room(chrome, open_console=False, mia=Role.PUBLISHER) as made,
        swarm(made.product, 5) as crowd,
        person(made.browser, made.url) as page,
    ):
        await made.product.create()
        await made.product.press("prefetch", window_s=0)
        await made.product.counted(ready=5)
        await sign_in(page, "mia", "/campaigns/cup")
        await expect(page.locator("#link")).to_have_text("live")
        await fill(page, "live-form", window_s="0", in_s="0")
        again = await _lose_the_answer(page)
        await hold(page, press(page, "activate"))
        await expect(outcome(page)).to_contain_text("asking again under the same key")
        again.set()
        await expect(outcome(page)).to_contain_text("done, revision")
        await made.product.in_phase("live")
        done = made.product.api.get("/v1/audit?campaign=cup")["entries"]
        assert [entry["action"] for entry in done].count("activate") == 1
        made.kill()
        await expect(page.locator("#lost")).to_contain_text("Connection lost; this is what was known at")
        await press(page, "retract").click()
        await expect(outcome(page)).to_contain_text("asking again under the same key")
        made.start()
        await expect(outcome(page)).to_contain_text("done, revision")
        await expect(page.locator("#lost")).to_be_hidden()
        await until(lambda: crowd.shows() == {"upcoming"}, "every device back")
        done = made.product.api.get("/v1/audit?campaign=cup")["entries"]
        assert [entry["action"] for entry in done].count("retract") == 1


async def test_a_stale_page_is_told_who_was_first(chrome: Browser) -> None:
    async with room(chrome) as made, swarm(made.product, 5), person(made.browser, made.url) as page:
        await made.product.create()
        await made.product.press("prefetch", window_s=0)
        await made.product.counted(ready=5)
        await page.goto("/campaigns/cup")
        await expect(press(page, "activate")).to_contain_text("5 devices")
        sent = await keep_back(page, ACTIVATE)
        await take_hold(page, press(page, "activate"))
        await made.product.press("prefetch", window_s=0)
        sent.set()
        await expect(outcome(page)).to_contain_text("somebody else changed it: tests, prefetch")
        await page.mouse.up()
        assert (await made.product.show())["phase"] == "prefetching"


async def test_two_who_press_at_once_make_one_activation_and_both_are_told(chrome: Browser) -> None:
    async with (
        room(chrome) as made,
        swarm(made.product, 5),
        person(made.browser, made.url) as one,
        person(made.browser, made.url) as other,
    ):
        await made.product.create()
        await made.product.press("prefetch", window_s=0)
        await made.product.counted(ready=5)
        for page in (one, other):
            await page.goto("/campaigns/cup")
            await expect(press(page, "activate")).to_contain_text("5 devices")
        # What both have held leaves at once, whoever has held it first.
        sent = [await keep_back(page, ACTIVATE) for page in (one, other)]
        await asyncio.gather(*(hold(page, press(page, "activate")) for page in (one, other)))
        for let_go in sent:
            let_go.set()
        told = []
        for page in (one, other):
            await expect(outcome(page)).to_contain_text(re.compile("done, revision|somebody else changed it"))
            told.append("done" in (await outcome(page).inner_text()).partition("somebody")[0])
        assert sorted(told) == [False, True]
        done = made.product.api.get("/v1/audit?campaign=cup")["entries"]
        assert [entry["action"] for entry in done].count("activate") == 1


async def test_without_the_store_the_page_keeps_what_was_known_and_says_so(chrome: Browser) -> None:
    async with room(chrome) as made, swarm(made.product, 5), person(made.browser, made.url) as page:
        await made.product.create()
        await made.product.press("prefetch", window_s=0)
        await made.product.counted(ready=5)
        await page.goto("/campaigns/cup")
        await expect(page.locator("#campaign-readiness")).to_contain_text("5 of 5 devices")
        made.product.stack.valkey.kill()
        await expect(page.locator("#lost")).to_contain_text("The store does not answer; this is what was known at")
        await expect(page.locator("#campaign-readiness")).to_contain_text("5 of 5 devices")
        made.product.stack.valkey.start()
        await expect(page.locator("#lost")).to_be_hidden()


async def test_letting_go_early_sends_nothing_and_keys_hold_too(chrome: Browser) -> None:
    async with room(chrome) as made, swarm(made.product, 5), person(made.browser, made.url) as page:
        await made.product.create(shadow=True)
        await made.product.press("prefetch", window_s=0)
        await made.product.counted(ready=5)
        await page.goto("/campaigns/cup")
        assert "REHEARSAL" in await page.title()
        await expect(page.get_by_text("Devices do everything but show it.")).to_be_visible()
        # The ring takes minutes to fill: however slow this machine is, a click is too early.
        await page.evaluate(_SLOW_RING)
        await press(page, "activate").click()
        await expect(outcome(page)).to_contain_text("Let go too early")
        assert (await made.product.show())["phase"] == "prefetching"
        await page.evaluate("() => { window.setTimeout = window.usual; }")
        await expect(press(page, "activate")).to_contain_text("5 devices")
        await press(page, "activate").focus()
        await page.keyboard.down("Space")
        await expect(outcome(page)).to_contain_text("Rehearse LIVE on 5 devices over 15 s: done")
        await page.keyboard.up("Space")


async def test_the_form_keeps_what_was_typed_and_says_what_is_wrong_beside_it(chrome: Browser) -> None:
    async with room(chrome) as made, person(made.browser, made.url) as page:
        await page.goto("/campaigns/new")
        await page.locator("[name=id]").fill("Cup!")
        await page.locator("[name=topic]").fill("t")
        await page.locator("[name=threshold]").fill("101")
        await page.locator("[data-stage=live] .content").fill('{"title": ')
        await expect(page.locator("[data-stage=ended] .untitled")).to_be_visible()
        save = page.get_by_role("button", name="Create the campaign")
        await save.click()
        # Everything that is wrong at once, each beside its field.
        await expect(page.locator("#fault-id")).to_contain_text("id is 'Cup!'; allowed are")
        await expect(page.locator("#fault-title")).to_contain_text("1 to 200 characters")
        await expect(page.locator("#fault-threshold")).to_contain_text("'101'; allowed are 0 to 100")
        await expect(page.locator("[data-stage=live] .fault")).to_contain_text("This is no JSON")
        await expect(page.locator("[name=topic]")).to_have_value("t")
        await page.locator("[name=title]").fill("Cup final")
        await expect(page.locator("[data-stage=ended] .tv")).to_contain_text("Cup final")
        await expect(page.locator("[data-stage=ended] .untitled")).to_be_hidden()
        await page.locator("[name=id]").fill("cup")
        await page.locator("[name=threshold]").fill("95")
        # What only the API knows is said beside its field too.
        await page.locator(".match").fill("platform=tv")
        await page.locator("[data-stage=live] .content").fill('{"title": "<img src=x onerror=alert(1)>"}')
        await expect(page.locator("[data-stage=live] .tv")).to_have_text("<img src=x onerror=alert(1)>")
        await save.click()
        await expect(page.locator("#fault-variants")).to_contain_text("it must match all")
        await page.locator(".match").fill("")
        await save.click()
        await page.wait_for_url("**/campaigns/cup")
        await expect(page.locator(".tv").nth(1)).to_have_text("<img src=x onerror=alert(1)>")


async def test_a_file_fills_the_form_and_a_broken_one_is_refused_with_its_line(chrome: Browser) -> None:
    async with room(chrome) as made, person(made.browser, made.url) as page:
        await page.goto("/campaigns/new")
        broken = {"name": "cup.yaml", "mimeType": "text/yaml", "buffer": b"id: cup\ntitle: [unclosed\ntopic: t\n"}
        await page.locator("#file").set_input_files([broken])
        await expect(page.locator("#fault-file")).to_contain_text("line 3")
        whole = json.dumps(definition(threshold=0.5)).encode()
        await page.locator("#file").set_input_files(
            [{"name": "cup.json", "mimeType": "application/json", "buffer": whole}]
        )
        await expect(page.locator("[name=threshold]")).to_have_value("50")
        await expect(page.locator("[data-stage=ended] .tv")).to_have_text("cup ended")
        await page.get_by_role("button", name="Create the campaign").click()
        await page.wait_for_url("**/campaigns/cup")
        assert (await made.product.show())["threshold"] == 0.5


async def test_the_forecast_answers_as_the_window_is_moved(chrome: Browser) -> None:
    async with room(chrome) as made, swarm(made.product, 5), person(made.browser, made.url) as page:
        await made.product.create(origin_per_s=1, padding=LARGE)
        # In a day: hardly anybody fetches before this is over, and the origin would see too many at once.
        await made.product.press("prefetch", window_s=86_400)
        await made.product.counted(connected=5)
        await page.goto("/campaigns/cup")
        await fill(page, "live-form", window_s="2")
        await expect(page.locator("#forecast")).to_contain_text("The origin would see")
        await page.get_by_role("button", name="Use it").click()
        await expect(page.locator("#forecast")).not_to_contain_text("The origin would see")
        # A record goes on for a minute; where nobody flips any more there is nothing to see.
        end = await page.evaluate(
            "import('/static/flight-plot.js').then(({ end }) => end({"
            " forecast: { window_s: 24, curve_step_s: 1, curve: Array(25).fill(5) },"
            " samples: Array.from({ length: 90 }, (_, second) => ({ second, active: Math.min(second, 30) })) }))"
        )
        assert end == 35


async def test_instants_are_in_the_viewers_zone_with_utc_beside_and_the_event_moves(chrome: Browser) -> None:
    tokyo = ZoneInfo("Asia/Tokyo")
    event = (datetime.now(tokyo) + timedelta(hours=2)).replace(microsecond=0)
    local = "%Y-%m-%dT%H:%M:%S"
    async with room(chrome) as made, person(made.browser, made.url, timezone_id="Asia/Tokyo", locale="en-GB") as page:
        await made.product.create()
        await page.goto("/campaigns/cup")
        spoken = "import('/static/times.js').then(({ local }) => local('since 2026-07-01T20:00:00Z: both'))"
        assert await page.evaluate(spoken) == "since 2 Jul 2026, 05:00:00 (20:00:00 UTC): both"
        await page.get_by_text("Schedule and move").click()
        before = (event - timedelta(hours=1)).strftime(local)
        await fill(page, "schedule-form", at=event.strftime(local), prefetch_at=before, window_s="601")
        await press(page, "schedule").click()
        faults = page.locator("#schedule-form .fault:not(:empty)")
        await expect(faults).to_have_text(["window_s is '601'; allowed are 0 to 600"])
        await expect(page.locator(".outcome")).to_have_count(0)
        await fill(page, "schedule-form", window_s="15", prefetch_window_s="7200")
        for _ in range(2):
            await press(page, "schedule").click()
            await expect(faults).to_contain_text(["the prefetch ends 61 min after devices are to be armed"])
            await expect(outcome(page)).to_contain_text("refused")
        await expect(page.locator(".outcome")).to_have_count(1)
        await fill(page, "schedule-form", prefetch_window_s="60")
        await press(page, "schedule").click()
        await expect(outcome(page)).to_contain_text("done")
        await expect(faults).to_have_count(0)
        assert (await made.product.show())["schedule"]["at"] == event.timestamp() * 1000
        shown = page.locator("#campaign-plan [data-at]")
        await expect(shown).to_contain_text(f"{event:%H:%M:%S}")
        await expect(shown).to_contain_text(f"{event.astimezone(UTC):%H:%M:%S} UTC")
        await page.locator("#move-form [name=at]").fill(event.strftime(local))
        await page.get_by_role("button", name="+7 min").click()
        await press(page, "move").click()
        await expect(outcome(page)).to_contain_text("Move the event: done")
        later = event + timedelta(minutes=7)
        assert (await made.product.show())["schedule"]["at"] == later.timestamp() * 1000
        await expect(shown).to_contain_text(f"{later:%H:%M:%S}")
