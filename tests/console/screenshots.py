"""Every page at 1280 and 400 px, light and dark: ``PYTHONPATH=.:tests python -m console.screenshots [FOLDER]``.

On the real product, with devices on real sockets, in the states worth seeing: filling up, refused, in flight, over.
"""

from __future__ import annotations

import argparse
import asyncio
import sys
from pathlib import Path

from PIL import Image
from playwright.async_api import Page, expect
from support.browser import browser, person
from support.viewers import swarm
from support.waiting import until

from console.room import Room, fill, hold, press, room
from console.theatre import theatre
from fanout.console.wall import TILES_DEFAULT
from fanout.demo import seeded_campaign

FOLDER = Path(__file__).parents[2] / "docs/screenshots"
DEVICES = 1200
SIZES = {"1280": (1280, 900), "400": (400, 860)}
THEMES = ("light", "dark")
# Some of the devices, for pages that show how it fills up, s.
_FILLING_S = 25.0


async def main(folder: Path) -> None:
    """Take all of them."""
    async with browser() as chrome, room(chrome) as made:
        await _shoot(made, folder, "campaigns-empty", "/campaigns")
        async with swarm(made.product, DEVICES, connects_per_s=1000.0):
            await made.product.connected(DEVICES)
            await _campaigns(made)
            await _shoot(made, folder, "campaign-draft", "/campaigns/big-match")
            await made.product.press("prefetch", "big-match", window_s=_FILLING_S)
            await made.product.press("prefetch", "drill", window_s=0)
            await until(lambda: _ready(made, DEVICES // 3), "a third of the devices")
            await _shoot(made, folder, "campaign-filling", "/campaigns/big-match")
            await made.product.counted("big-match", ready=DEVICES)
            await _shoot(made, folder, "fleet", "/fleet")
            rev = await _night(made, folder)
            await _shoot(made, folder, "rehearsal", "/campaigns/drill")
            await _shoot(made, folder, "campaigns", "/campaigns")
            await _shoot(made, folder, "new", "/campaigns/new?from=big-match")
            await _shoot(made, folder, "audit", "/audit")
            await _shoot(made, folder, "sign-in", "/login")
            await until(lambda: _ended(made, rev), "the record's end", timeout_s=120.0)
            await _shoot(made, folder, "flight", f"/campaigns/big-match/flights/{rev}")
    await _wall(folder)


async def _wall(folder: Path) -> None:
    """Show a wall in the middle of its window, with ten plugs pulled."""
    async with theatre() as made:
        await made.page.goto(f"/wall?tiles={TILES_DEFAULT}")
        await made.all_are(link="on")
        await made.product.connected(TILES_DEFAULT)
        await asyncio.to_thread(made.product.api.post, "/v1/campaigns", {**seeded_campaign(), "topic": "t"})
        await made.product.press("prefetch", "big-match", window_s=0)
        await made.all_are(look="upcoming")
        await made.product.counted("big-match", ready=TILES_DEFAULT)
        await made.page.get_by_role("button", name="Pull ten plugs").click()
        await made.product.press("activate", "big-match", stage="live", window_s=20)
        half = "wall.look().filter(tv => tv.look === 'live').length > wall.tiles.length * 0.6"
        await until(lambda: made.page.evaluate(half), "more than half of the flips")
        # Two hundred gradients are no flat colours.
        await made.page.screenshot(path=folder / "wall-1280-dark.jpg", type="jpeg", quality=70)
    print("wall", file=sys.stderr)


async def _ended(made: Room, rev: int) -> bool:
    flight = await asyncio.to_thread(made.product.api.get, f"/v1/campaigns/big-match/flights/{rev}")
    return flight["ended"] == "over"


async def _ready(made: Room, devices: int) -> bool:
    return int((await made.product.readiness("big-match"))["total"]["ready"]) >= devices


async def _campaigns(made: Room) -> None:
    seed = seeded_campaign()
    for more in (
        {"topic": "t"},
        {"topic": "t", "id": "drill", "title": "The big match, rehearsed", "shadow": True},
        {"topic": "t", "id": "next-week", "title": "Next week's final", "two_keys": True},
    ):
        await asyncio.to_thread(made.product.api.post, "/v1/campaigns", {**seed, **more})


async def _night(made: Room, folder: Path) -> int:
    """Go live from the page, and show it while it flies and when it is over; return the revision."""
    size = {"width": 1280, "height": 900}
    async with person(made.browser, made.url, viewport=size) as page:
        await page.goto("/campaigns/big-match")
        await fill(page, "live-form", window_s="24", in_s="1")
        await expect(press(page, "activate")).to_contain_text("over 24 s")
        await hold(page, press(page, "activate"))
        await expect(page.locator(".outcome").last).to_contain_text("done")
        rev = (await made.product.show("big-match"))["activation"]["rev"]
        await until(lambda: _active(made, DEVICES // 3), "a third of the flips")
        await _settled(page)
        await page.screenshot(path=folder / "campaign-pressed-1280-light.png")
    await _shoot(made, folder, "campaign-flying", "/campaigns/big-match")
    await made.product.counted("big-match", active=DEVICES)
    await made.product.in_phase("live", "big-match")
    await _shoot(made, folder, "campaign-live", "/campaigns/big-match")
    return int(rev)


async def _active(made: Room, devices: int) -> bool:
    return int((await made.product.readiness("big-match"))["total"]["active"]) >= devices


async def _shoot(made: Room, folder: Path, name: str, path: str) -> None:
    for size, (width, height) in SIZES.items():
        for theme in THEMES:
            viewport = {"width": width, "height": height}
            async with person(made.browser, made.url, viewport=viewport, color_scheme=theme) as page:
                await page.goto(path)
                await _settled(page)
                await page.screenshot(path=folder / f"{name}-{size}-{theme}.png", full_page=True)
    print(name, file=sys.stderr)


async def _settled(page: Page) -> None:
    """Wait for what a page asks for itself, and for its plot."""
    if await page.locator("#link").count():
        await expect(page.locator("#link")).to_have_text("live")
    if await page.locator("#forecast").count():
        await expect(page.locator("#forecast dl").first).to_be_visible()
    for plot in await page.locator(".plot").all():
        await expect(plot.locator("canvas")).to_be_visible()
    # A bar that has grown moves for as long as its transition lasts.
    await page.evaluate("Promise.all(document.getAnimations().map((each) => each.finished.catch(() => 0)))")


if __name__ == "__main__":
    words = argparse.ArgumentParser(description="Take screenshots of every page.")
    words.add_argument("folder", nargs="?", type=Path, default=FOLDER, help="where they go (default: %(default)s)")
    where = words.parse_args().folder
    where.mkdir(parents=True, exist_ok=True)
    asyncio.run(main(where))
    for shot in where.glob("*.png"):
        # Flat colours need no more, and the files are a third of the size.
        Image.open(shot).convert("RGB").quantize(192).save(shot, optimize=True)
