"""What happens to a page: hidden, frozen, reloaded, with a wrong clock, with no room to keep anything."""

from __future__ import annotations

import time
from typing import Any

from playwright.async_api import Browser
from support.product import Product
from support.waiting import until

from browser.homes import Home, assert_once_at_slots, hiding_home, home, in_chromium

pytestmark = in_chromium

DAY_MS = 24 * 3600 * 1000
# A clock that a test may set, as somebody sets a TV's; and what the time really is.
FALSE_CLOCK = """
(() => {
  const True = Date;
  window.trueNow = True.now.bind(True);
  window.off = %d;
  window.Date = class extends True {
    constructor(...parts) { super(...(parts.length ? parts : [True.now() + window.off])); }
    static now() { return True.now() + window.off; }
  };
})();
"""
# How far the page's clock is off, in whole days: the two are read one after the other.
DAYS_OFF = "Math.round((Date.now() - trueNow()) / 86400000)"
# In the middle of the window, however slow this machine is today.
SET_AFTER_TWO = f"home.reached('onActivate', 2).then(() => {{ window.off = {-10 * DAY_MS}; }}); 0"
FILL = """
(() => {
  let left = 0;
  for (let width = 1 << 20; width >= 1; width >>= 1)
    for (;;) {
      try { localStorage.setItem("app-" + left, "x".repeat(width)); left++; } catch { break; }
    }
  return left;
})()
"""


async def prepared(made: Product, own: Home, campaign: str, names: list[str], **fields: Any) -> None:
    """Bring a campaign of this name, on a topic of the same, to devices that are connected."""
    await made.create(campaign, topic=campaign, **fields)
    before = await own.call("count", "onPrefetched")
    await made.press("prefetch", campaign, window_s=0)
    await own.reached("onPrefetched", before + len(names))


async def looks(own: Home, state: str) -> None:
    """Wait until the page is hidden, or visible, by its own account: it is told a moment after the fact."""

    async def there() -> bool:
        return bool(await own.evaluate("document.visibilityState") == state)

    await until(there, f"a page that is {state}")


async def test_devices_in_a_hidden_tab_flip_once_and_nothing_flips_again_when_it_is_shown(
    made: Product, chrome: Browser, pages: str
) -> None:
    names = [f"hidden-{number}" for number in range(10)]
    async with hiding_home(chrome, f"{pages}esm.html") as (own, tab, other):
        await own.hold(made, names, ["hidden"], storage=None)
        await prepared(made, own, "hidden", names)
        await other.show()
        await looks(own, "hidden")
        activation = (await made.force("live", "hidden", window_s=1))["activation"]
        await made.counted("hidden", active=len(names))
        await tab.show()
        await looks(own, "visible")
        again = (await made.force("ended", "hidden", window_s=0.5))["activation"]
        await own.reached("onActivate", 2 * len(names))
        flips = await own.seen("onActivate")
        assert {flip["visible"] for flip in flips if flip["rev"] == activation["rev"]} == {"hidden"}
        assert_once_at_slots(flips, names, activation)
        assert_once_at_slots(flips, names, again)
        assert len(flips) == 2 * len(names)


async def test_what_was_cancelled_while_the_page_was_frozen_never_fires_and_the_rest_does_once(
    made: Product, chrome: Browser, pages: str
) -> None:
    names = ["frozen-1", "frozen-2", "frozen-3"]
    async with hiding_home(chrome, f"{pages}esm.html") as (own, tab, other):
        await own.hold(made, names, ["off", "on"], storage=None)
        await prepared(made, own, "off", names)
        await prepared(made, own, "on", names)
        await other.show()
        # All that is done before the instant takes a second at most; a machine may stand still for some.
        await made.force("live", "on", window_s=0, in_s=8)
        last = (await made.force("live", "off", window_s=0, in_s=8))["activation"]

        async def all_know() -> bool:
            return bool(await own.call("heard") >= last["rev"])

        await until(all_know, "the activations")
        await tab.freeze()
        await made.press("cancel", "off")
        await until(lambda: time.time() * 1000 > last["at"] + 500, "the instant to pass")
        assert await own.call("count", "onActivate") == 0
        await tab.thaw()
        await tab.show()
        await own.reached("onCancel", len(names))
        await own.reached("onActivate", len(names))
        await made.counted("on", active=len(names))
        assert await own.seen("onActivate", "off") == []
        assert sorted(event["device"] for event in await own.seen("onCancel", "off")) == names
        assert sorted(flip["device"] for flip in await own.seen("onActivate", "on")) == names
        assert set((await own.call("shown", "off")).values()) == {None}


async def test_a_clock_that_is_days_off_and_set_in_the_window_moves_no_slot(
    made: Product, chrome: Browser, pages: str
) -> None:
    names = [f"clock-{number}" for number in range(10)]
    async with home(chrome, f"{pages}esm.html", before=FALSE_CLOCK % (3 * DAY_MS)) as (own, page):
        await own.hold(made, names, ["clock"])
        await prepared(made, own, "clock", names)
        await page.evaluate(SET_AFTER_TWO)
        activation = (await made.force("live", "clock", window_s=1.5))["activation"]
        await own.reached("onActivate", len(names))
        await made.counted("clock", ready=len(names), active=len(names))
        assert await page.evaluate(DAYS_OFF) == -10
        flips = await own.seen("onActivate")
        assert len(flips) == len(names)
        # A clock that was set looks like a sleep, after which a device asks before it acts.
        assert_once_at_slots(flips, names, activation)


async def test_a_full_storage_costs_a_device_nothing_but_a_word_about_it(
    made: Product, chrome: Browser, pages: str
) -> None:
    async with home(chrome, f"{pages}esm.html") as (own, page):
        filled = await page.evaluate(FILL)
        await own.hold(made, ["full"], ["full"])
        await prepared(made, own, "full", ["full"])
        await made.force("live", "full", window_s=0)
        await own.reached("onActivate", 1)
        assert [flip["title"] for flip in await own.seen("onActivate")] == ["full live"]
        assert [(error["kind"], error["count"]) for error in await own.seen("onError")] == [("storage", 1)]
        assert await page.evaluate("localStorage.length") == filled, "the app's own was thrown away"


async def test_a_forbidden_storage_costs_a_device_nothing_but_a_word_about_it(
    made: Product, chrome: Browser, pages: str
) -> None:
    async with home(chrome, f"{pages}opaque.html") as (_, page):
        frame = page.frame("opaque")
        assert frame is not None
        await frame.wait_for_function("window.Fanout")
        own = Home(frame.evaluate)
        denied = "(() => { try { return !localStorage; } catch (error) { return error.name; } })()"
        assert await own.evaluate(denied) == "SecurityError"
        await own.hold(made, ["forbidden"], ["forbidden"])
        await prepared(made, own, "forbidden", ["forbidden"], padding=6_000)
        await made.force("live", "forbidden", window_s=0)
        await own.reached("onActivate", 1)
        assert [flip["title"] for flip in await own.seen("onActivate")] == ["forbidden live"]
        assert [(error["kind"], error["count"]) for error in await own.seen("onError")] == [("storage", 1)]
        await own.settled()


async def test_a_reloaded_page_says_what_it_has_and_fetches_nothing(
    made: Product, chrome: Browser, pages: str
) -> None:
    async with home(chrome, f"{pages}esm.html") as (own, page):
        await own.hold(made, ["reload"], ["reload"])
        await prepared(made, own, "reload", ["reload"], padding=6_000)
        await made.counted("reload", connected=1, ready=1)
        assert len(own.asked) == 1
        [prefetched] = await own.seen("onPrefetched")
        await own.settled()
        await page.reload()
        await made.counted("reload", connected=0)
        await own.hold(made, ["reload"], ["reload"])
        [opened] = await own.call("opened")
        assert opened["have"] == [prefetched["sha256"]]
        await made.counted("reload", connected=1, ready=1)
        activation = (await made.force("live", "reload", window_s=0.5))["activation"]
        await own.reached("onActivate", 1)
        assert_once_at_slots(await own.seen("onActivate"), ["reload"], activation)
        assert len(own.asked) == 1, "it fetched what it had"
