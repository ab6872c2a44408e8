"""A hundred devices on one page: both phases, a network that breaks, a gateway that restarts."""

from __future__ import annotations

import statistics
from contextlib import AsyncExitStack
from typing import Any

from playwright.async_api import Browser
from support.product import Product
from support.relay import relay
from support.stack import stack

from browser.homes import (
    AT_ONCE,
    FAST_BACKOFF,
    ROUNDING_MS,
    assert_once_at_slots,
    home,
    in_chromium,
    needs_umd,
    slots,
)
from loadtest.ports import reserved_ports

pytestmark = in_chromium

# Three stages of it are more than may travel inline, so that devices have to fetch them.
PADDING = 6_000
# Of what is looked at, or broken off, in its middle: a machine may stand still for a second or two of it.
WINDOW_S = 6


def names(prefix: str, devices: int) -> list[str]:
    return [f"{prefix}-{number}" for number in range(devices)]


@needs_umd
async def test_a_hundred_devices_fetch_and_flip_once_each_at_their_slots(
    made: Product, chrome: Browser, pages: str
) -> None:
    crowd = names("crowd", 100)
    await made.create("crowd", topic="crowd", padding=PADDING)
    async with home(chrome, f"{pages}umd.html") as (own, _):
        await own.hold(made, crowd, ["crowd"], storage=None)
        prefetch = (await made.press("prefetch", "crowd", window_s=1.5))["prefetch"]
        await own.reached("onPrefetched", len(crowd))
        activation = (await made.force("live", "crowd", window_s=WINDOW_S))["activation"]
        await own.reached("onActivate", len(crowd))
        await made.counted("crowd", connected=100, ready=100, active=100)

        ready = await own.seen("onPrefetched")
        assert sorted(event["device"] for event in ready) == sorted(crowd)
        assert {event["via"] for event in ready} == {"fetch"}
        fetching = slots(crowd, prefetch["from_ms"], prefetch)
        assert all(event["at"] >= fetching[event["device"]] - ROUNDING_MS for event in ready), "one fetched early"
        flips = await own.seen("onActivate")
        assert_once_at_slots(flips, crowd, activation)
        due = slots(crowd, activation["at"], activation)
        assert any(flip["due_ms"] == due[flip["device"]] for flip in flips), "all of them came late"
        assert {flip["title"] for flip in flips} == {"crowd live"}
        assert await own.seen("onError") == []
        lag_ms = [flip["at"] - flip["due_ms"] for flip in flips]
        print(f"flips after their slots: median {statistics.median(lag_ms):.0f} ms, last {max(lag_ms):.0f} ms")


async def test_a_network_cut_in_the_window_stops_no_flip_and_what_was_missed_is_caught_up_once(
    made: Product, chrome: Browser, pages: str
) -> None:
    crowd = names("cut", AT_ONCE)
    await made.create("cut", topic="cut")
    async with relay(made.url) as network, home(chrome, f"{pages}esm.html") as (own, _):
        await own.hold(made, crowd, ["cut"], url=network.url, storage=None)
        await made.press("prefetch", "cut", window_s=0)
        await own.reached("onPrefetched", len(crowd))
        first = (await made.force("live", "cut", window_s=WINDOW_S))["activation"]
        await own.reached("onActivate", 2)
        await network.cut()
        assert await own.call("count", "onActivate") < len(crowd), "the window was over before the network broke"
        await own.reached("waiting", len(crowd))
        # Armed is armed: nobody needs the network for it.
        await own.reached("onActivate", len(crowd))
        second = (await made.force("ended", "cut", window_s=1))["activation"]
        await network.restore()
        await own.reached("onActivate", 2 * len(crowd))
        await made.counted("cut", connected=AT_ONCE, ready=AT_ONCE, active=AT_ONCE)

        flips = await own.seen("onActivate")
        assert_once_at_slots([flip for flip in flips if flip["stage"] == "live"], crowd, first)
        caught_up = [flip for flip in flips if flip["stage"] == "ended"]
        assert sorted(flip["device"] for flip in caught_up) == sorted(crowd)
        assert {flip["rev"] for flip in caught_up} == {second["rev"]}
        assert all(shown[0] == "ended" for shown in (await own.call("shown", "cut")).values())
        assert len(await own.seen("onPrefetched")) == len(crowd), "what is held is ready on every connection"


async def test_a_gateway_restarted_amid_the_prefetch_leaves_everyone_ready_and_asks_the_origin_for_nothing_twice(
    made: Product, chrome: Browser, pages: str
) -> None:
    crowd = names("restart", AT_ONCE)
    await made.create("fetched", topic="fetched", padding=PADDING)
    await made.create("inlined", topic="inlined")
    async with AsyncExitStack() as ends:
        [port] = ends.enter_context(reserved_ports(1))
        gateway: dict[str, Any] = {"valkey": made.stack.valkey, "origins": ("*",), "port": port, **FAST_BACKOFF}
        own, _ = await ends.enter_async_context(home(chrome, f"{pages}esm.html"))
        async with stack(**gateway) as old:
            await own.hold(made, crowd, ["fetched", "inlined"], url=old.url, storage=None)
            await made.press("prefetch", "fetched", window_s=WINDOW_S)
            await made.press("prefetch", "inlined", window_s=WINDOW_S)
            await own.reached("onPrefetched", 3)
        some = await own.call("count", "onPrefetched")
        assert some < 2 * len(crowd), "it was all over before the restart"
        await ends.enter_async_context(stack(**gateway))
        await own.reached("onPrefetched", 2 * len(crowd))
        for campaign in ("fetched", "inlined"):
            await made.counted(campaign, connected=AT_ONCE, ready=AT_ONCE)
            ready = await own.seen("onPrefetched", campaign)
            assert sorted(event["device"] for event in ready) == sorted(crowd)
            assert {event["via"] for event in ready} == {"fetch" if campaign == "fetched" else "inline"}
        assert {stats["fetches"] for stats in (await own.call("stats")).values()} == {1}
        assert len(own.asked) == len(crowd)
