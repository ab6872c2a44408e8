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

# Between themes nothing but colours changes, so that is all there is to ask of the second one.
LOOKS: tuple[dict[str, Any], ...] = (
    {"color_scheme": "light", "viewport": {"width": 1280, "height": 900}},
    {"color_scheme": "light", "viewport": {"width": 400, "height": 900}},
    {"color_scheme": "dark", "viewport": {"width": 1280, "height": 900}},
)


# Some thirty pages, each read by axe.
@pytest.mark.timeout(300)
async def test_every_page_can_be_used_by_everybody(chrome: Browser) -> None:
    async with room(chrome) as made, swarm(made.product, 5):
        for look in LOOKS:
            async with person(made.browser, made.url, **look) as page:
                await page.goto("/campaigns")
                assert not await violations(page), "before there is a campaign"
        await made.product.create()
        await made.product.create("drill", shadow=True, two_keys=True)
        await made.product.press("prefetch", window_s=0)
        await made.product.counted(ready=5)
        rev = (await made.product.press("activate", stage="live", window_s=0))["rev"]
        await made.product.in_phase("live")
        for look in LOOKS:
            rules = ("color-contrast",) if look["color_scheme"] == "dark" else ()
            async with person(made.browser, made.url, **look) as page:
                for path in (*PATHS, f"/campaigns/cup/flights/{rev}"):
                    await page.goto(path)
                    # What a click away is too wide is too wide.
                    await page.evaluate("for (const each of document.querySelectorAll('details')) each.open = true")
                    assert not await violations(page, *rules), f"{path}, {look}"
                    wider = await page.evaluate("document.documentElement.scrollWidth - innerWidth")
                    cut = await page.evaluate(CUT)
                    assert not cut, f"{path} has {cut} tables that are wider than their place: {look}"
                    assert wider <= 0, f"{path} is {wider} px too wide: {look}"
