"""Every page in both themes and both widths: nothing that axe calls serious, and nothing wider than the screen."""

from __future__ import annotations

from typing import Any

import pytest
from playwright.async_api import Browser
from support.browser import person, violations
from support.viewers import swarm

from console.room import beside_chrome, needs_chromium, room

pytestmark = [needs_chromium, beside_chrome]

PATHS = (
    "/campaigns",
    "/campaigns/cup",
    "/campaigns/drill",
    "/campaigns/new",
    "/campaigns/new?from=cup",
    "/campaigns/cup/edit",
    "/campaigns/nobody",
    "/fleet",
    "/audit",
    "/login",
)


# Tables that are wider than their place, where nothing shows that they scroll.
CUT = "[...document.querySelectorAll('.scroll')].filter((each) => each.scrollWidth > each.clientWidth).length"

# How the pages are looked at, and what axe is asked then. Between themes nothing but colours changes, and between
# widths everything else may; colours take axe most of its time.
COLOURS = ("color-contrast",)
WIDE, NARROW = {"width": 1280, "height": 900}, {"width": 400, "height": 900}
LOOKS: tuple[tuple[dict[str, Any], dict[str, Any]], ...] = (
    ({"color_scheme": "light", "viewport": WIDE}, {}),
    ({"color_scheme": "light", "viewport": NARROW}, {"without": COLOURS}),
    ({"color_scheme": "dark", "viewport": WIDE}, {"only": COLOURS}),
)


# Some thirty pages, each read by axe.
@pytest.mark.slow
@pytest.mark.timeout(300)
async def test_every_page_can_be_used_by_everybody(chrome: Browser) -> None:
    async with room(chrome) as made, swarm(made.product, 5):
        for look, asked in LOOKS:
            async with person(made.browser, made.url, **look) as page:
                await page.goto("/campaigns")
                assert not await violations(page, **asked), "before there is a campaign"
        await made.product.create()
        await made.product.create("drill", shadow=True, two_keys=True)
        await made.product.press("prefetch", window_s=0)
        await made.product.counted(ready=5)
        rev = (await made.product.press("activate", stage="live", window_s=0))["rev"]
        await made.product.in_phase("live")
        for look, asked in LOOKS:
            async with person(made.browser, made.url, **look) as page:
                for path in (*PATHS, f"/campaigns/cup/flights/{rev}"):
                    await page.goto(path)
                    # What a click away is too wide is too wide.
                    await page.evaluate("for (const each of document.querySelectorAll('details')) each.open = true")
                    assert not await violations(page, **asked), f"{path}, {look}"
                    wider = await page.evaluate("document.documentElement.scrollWidth - innerWidth")
                    cut = await page.evaluate(CUT)
                    assert not cut, f"{path} has {cut} tables that are wider than their place: {look}"
                    assert wider <= 0, f"{path} is {wider} px too wide: {look}"
