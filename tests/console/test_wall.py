"""The wall of TVs: who gets one, and what its devices do, in real Chromium on a real store and gateway."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import httpx
import jwt
import pytest
from playwright.async_api import Page, expect
from redis.asyncio import Redis
from support.browser import violations
from support.stack import KEY
from support.viewers import EXACT_MS
from support.waiting import until

from console.room import hold, needs_chromium, press
from console.theatre import Theatre, theatre
from fanout.console import app as console
from fanout.console.wall import TILES_MAX, TILES_MIN, TOKEN_TTL_S
from fanout.control.config import ControlConfig
from fanout.control.http import create_app
from fanout.errors import InvalidInput
from fanout.slots import slot_ms

GATEWAY = "ws://127.0.0.1:9/v1/connect"
WALL: dict[str, Any] = {"open_console": True, "wall_gateway_url": GATEWAY, "wall_topic": "t"}
HOSTILE = "<img src=x onerror=\"document.title='taken'\">"
TILES = TILES_MIN

# A flip is its tile's look and texts, a panel's look and place, and what the counts say in that frame.
MUTATIONS_A_FLIP = 12
# Of no flip, of changes and of layouts: the page settles after its tab came back, words grow longer.
BESIDE = 20
PANELS = 40  # as wall-turns.js has them
OF_ANY_KEYFRAME = {"offset", "computedOffset", "easing", "composite"}


# --- Who gets one.


@asynccontextmanager
async def visitor(redis: Redis, **settings: Any) -> AsyncIterator[httpx.AsyncClient]:
    app = create_app(redis, ControlConfig(**settings), console.routes)
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app=app), base_url="http://localhost") as http:
        yield http


@pytest.fixture
def key(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("FANOUT_DEVICE_KEY_FILE", raising=False)
    monkeypatch.setenv("FANOUT_DEVICE_KEY", KEY)


@pytest.mark.parametrize("settings", [{}, {"open_console": True}])
async def test_nobody_gets_a_wall_who_has_not_asked_for_one(
    redis: Redis, settings: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    # Read, this would be refused: a production control plane does not look at the key.
    monkeypatch.setenv("FANOUT_DEVICE_KEY_FILE", "/nowhere")
    async with visitor(redis, **settings) as http:
        for path in ("/wall", "/wall/tokens?device=wall-0001"):
            assert (await http.get(path)).status_code == 404


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ({"open_console": False}, "not open console"),
        ({"wall_topic": ""}, "go together"),
        ({"wall_gateway_url": ""}, "go together"),
        ({"wall_topic": "No Topic"}, "wall topic is 'No Topic'"),
        ({"wall_gateway_url": "ws://gateway.example:80/v1/connect"}, "on this machine"),
        ({"wall_gateway_url": "ws://127.0.0.1:80;script-src/v1/connect"}, "on this machine"),
        ({"wall_gateway_url": "ws://127.0.0.1:80/v1/connect?x"}, "on this machine"),
        ({"wall_gateway_url": "ws://me@127.0.0.1:80/v1/connect"}, "on this machine"),
        ({"wall_gateway_url": "http://127.0.0.1:80/v1/connect"}, "on this machine"),
    ],
)
def test_settings_that_contradict_each_other_are_refused(settings: dict[str, Any], says: str) -> None:
    with pytest.raises(InvalidInput, match=says) as refused:
        ControlConfig(**{**WALL, **settings})
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize("short", ["", "short"])
async def test_a_wall_without_a_device_key_does_not_start(
    redis: Redis, short: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("FANOUT_DEVICE_KEY_FILE", raising=False)
    monkeypatch.setenv("FANOUT_DEVICE_KEY", short)
    with pytest.raises(InvalidInput, match="FANOUT_DEVICE_KEY has"):
        create_app(redis, ControlConfig(**WALL), console.routes)


async def test_a_page_holds_as_many_tvs_as_asked_for_within_its_range(redis: Redis, key: None) -> None:
    async with visitor(redis, **WALL) as http:
        for tiles, status in ((TILES_MIN, 200), (TILES_MAX, 200), (TILES_MIN - 1, 422), (TILES_MAX + 1, 422)):
            answer = await http.get(f"/wall?tiles={tiles}")
            assert answer.status_code == status
            assert status == 200 or f"from {TILES_MIN} to {TILES_MAX}" in answer.text
        for wrong in ("", "-20", "1e2", "<b>", "9" * 5000):
            assert (await http.get("/wall", params={"tiles": wrong})).status_code == 422
        page = await http.get("/wall")
        policy = page.headers["content-security-policy"]
        assert "connect-src 'self' ws://127.0.0.1:9;" in policy
        assert "ws:" not in (await http.get("/campaigns")).headers["content-security-policy"]


async def test_tokens_are_short_and_for_the_walls_own_devices_alone(redis: Redis, key: None) -> None:
    async with visitor(redis, **WALL) as http:
        answer = await http.get("/wall/tokens?device=wall-0007")
        assert answer.headers["cache-control"] == "no-store"
        claims = jwt.decode(answer.json()["token"], KEY, ["HS256"], audience="fanout")
        assert claims["sub"] == "wall-0007"
        assert claims["topics"] == ["t"]
        assert set(claims["attrs"]) == {"platform", "region"}
        assert 0 < claims["exp"] - claims["iat"] < 2 * TOKEN_TTL_S
        for wrong in ("", "tv-1", "wall-0000", "wall-0201", "wall-00007", "wall-0001\n"):
            refused = await http.get("/wall/tokens", params={"device": wrong})
            assert refused.status_code == 422, wrong
        # By a name that is not this machine's, another site's page may be asking.
        assert (await http.get("http://evil.example/wall/tokens?device=wall-0007")).status_code == 401


# --- What its devices do.


def _stages(title: str) -> dict[str, Any]:
    return {
        "stages": {stage: {"badge": stage.upper(), "title": f"{title} {stage}"} for stage in ("upcoming", "live")}
    }


@needs_chromium
async def test_a_wall_rehearses_unseen_goes_live_in_its_slots_and_comes_back() -> None:
    async with theatre() as made:
        page, product = made.page, made.product
        await page.goto(f"/wall?tiles={TILES}")
        await made.all_are(link="on")
        await product.connected(TILES)
        await _rehearse(made)

        await product.create(stages=["upcoming", "live"], variants=[{"match": {}, "bundle": _stages(HOSTILE)}])
        await product.press("prefetch", window_s=0)
        await made.all_are(look="upcoming")
        await product.counted(ready=TILES)
        await _prefetch_another(made)
        await _unplug_three(made)
        await product.press("prefetch", window_s=0)
        await expect(page.locator("#title")).to_have_text("Cup final")
        work = await made.work()
        await _press_live(made)
        flipped = await _wait_for(made, TILES - 3)
        _assert_little(await work.done(), len(flipped))
        await expect(page.locator("#title")).to_have_text("Cup final")
        activation = (await product.show())["activation"]
        for tv in flipped:
            _assert_at_its_slot(tv, activation)

        await page.get_by_role("button", name="Put all back").click()
        await made.all_are(link="on", look="live")
        await product.counted(active=TILES)
        assert [len(tv["flips"]) for tv in await made.look()] == [1] * TILES, "each once, those that were away too"
        await expect(page.locator("#count-live")).to_have_text(str(TILES))
        await page.locator("#wall-0001").click()
        await expect(page.get_by_role("dialog")).to_contain_text("ms into a window of 2,000 ms")
        assert not await violations(page)

        await product.press("retract", reason="too early", window_s=0)
        await made.all_are(look="upcoming")
        await _assert_text_alone(page)
        assert {tv["errors"] for tv in await made.look()} == {0}


async def _rehearse(made: Theatre) -> None:
    """Rehearse, and hold that no screen shows anything of it."""
    await made.product.create("drill", shadow=True)
    await made.product.press("prefetch", "drill", window_s=0)
    await made.product.counted("drill", ready=TILES)
    await made.product.press("activate", "drill", stage="live", window_s=0)
    found = await made.all_are(drill=True)
    assert {(tv["look"], len(tv["flips"]), len(tv["rehearsals"])) for tv in found} == {("idle", 0, 1)}
    await expect(made.page.locator("#phase")).to_contain_text("no screen changes")
    await made.product.press("close", "drill")
    await made.all_are(drill=False)


async def _prefetch_another(made: Theatre) -> None:
    """Have every TV wait for another event; those without a plug go on doing so."""
    await made.product.create("other", title="Another event")
    await made.product.press("prefetch", "other", window_s=0)
    await made.product.counted("other", ready=TILES)
    await expect(made.page.locator("#title")).to_have_text("Another event")


def _assert_little(work: dict[str, Any], flips: int) -> None:
    """Hold what lets a machine that can show 200 TVs at 60 frames a second do so. Counts: times are the machine's."""
    assert work["mutations"] <= MUTATIONS_A_FLIP * flips + BESIDE, work
    assert work["layouts"] <= flips + BESIDE, work
    assert 0 < work["most"] <= PANELS, work
    assert set(work["animated"]) == {"panel"}, work
    assert set(work["animated"]["panel"]) - OF_ANY_KEYFRAME == {"transform", "opacity"}, work


async def _unplug_three(made: Theatre) -> None:
    """Pull three plugs, by key and by button, and hear of it from the gateway."""
    page = made.page
    await page.locator("#wall-0001").focus()
    await page.keyboard.press("p")
    await page.keyboard.press("ArrowRight")
    await page.keyboard.press("p")
    await page.keyboard.press("End")
    await page.keyboard.press("Enter")
    details = page.get_by_role("dialog")
    await expect(details).to_contain_text(f"wall-00{TILES}")
    await expect(details.locator("li", has_text="onPrefetched").first).to_be_visible()
    await details.get_by_role("button", name="Pull the plug").click()
    await expect(details).to_contain_text("plug pulled")
    await page.keyboard.press("Escape")
    await expect(details).to_be_hidden()
    await expect(page.locator(f"#wall-00{TILES}")).to_be_focused()
    assert [tv["id"] for tv in await made.look() if tv["out"]] == ["wall-0001", "wall-0002", f"wall-00{TILES}"]
    await made.product.connected(TILES - 3)


async def _press_live(made: Theatre) -> None:
    """Go the way a person goes: from the wall to the control room beside it, and its red button."""
    async with made.page.context.expect_page() as opened:
        await made.page.get_by_role("link", name="Go live from the control room").click()
    room = await opened.value
    await expect(room.get_by_role("link", name="Watch it on a wall of TVs")).to_be_visible()
    await room.locator("#live-form [name=window_s]").fill("2")
    # Every TV has heard of it before its slot, or it would take another one.
    await room.locator("#live-form [name=in_s]").fill("3")
    await expect(press(room, "activate")).to_contain_text(f"{TILES - 3} devices over 2 s")
    await hold(room, press(room, "activate"))
    await expect(room.locator(".outcome").last).to_contain_text("done, revision")
    # A tab behind another one is shown to nobody, and its timers are slow.
    await room.close()


async def _wait_for(made: Theatre, devices: int) -> list[dict[str, Any]]:
    async def there() -> list[dict[str, Any]]:
        live = [tv for tv in await made.look() if tv["look"] == "live"]
        return live if len(live) == devices else []

    return await until(there, f"{devices} TVs that are live")


def _assert_at_its_slot(tv: dict[str, Any], activation: dict[str, Any]) -> None:
    [flip] = tv["flips"]
    assert flip["rev"] == activation["rev"]
    slot = slot_ms(tv["id"], activation["rev"], activation["window_ms"])
    assert flip["due_ms"] == activation["at"] + slot, f"{tv['id']} was due {flip['due_ms']}"
    assert flip["late_ms"] >= 0
    early_ms = flip["due_ms"] + flip["late_ms"] - flip["at_ms"]
    assert early_ms <= EXACT_MS, f"{tv['id']} flipped {early_ms} ms early"


async def _assert_text_alone(page: Page) -> None:
    """Hold that what somebody wrote into a bundle is shown as they wrote it, and is nothing but text."""
    await expect(page.locator(".tile .title").first).to_have_text(f"{HOSTILE} upcoming")
    assert await page.locator(".tile img").count() == 0
    assert "taken" not in await page.title()
    shown = await page.evaluate(
        """async () => {
          const { screen } = await import("/static/wall-content.js");
          const contents = ["", "null", "[1]", "{", '{"stages": 7}', '{"stages": {"live": null}}',
            '{"stages": {"live": {"title": {"a": 1}, "badge": 5}}}', '{"stages": {"__proto__": {}}}', null];
          return contents.map((each) => { const { badge, title } = screen(each, "live"); return [badge, title]; });
        }"""
    )
    assert all(badge == "LIVE" and isinstance(title, str) and title for badge, title in shown)
    assert ["LIVE", '{"title":{"a":1},"badge":5}'] in shown
