"""Devices that were not there, or not ready, end in the right stage all the same, and not together."""

from __future__ import annotations

import asyncio

from support.product import LARGE, Product, product
from support.relay import relay
from support.viewers import Viewer, mono_ms, swarm, together, viewers
from support.waiting import until

from fanout import keyspace
from fanout.device import MemoryCache, Prefetched

# Devices that lose their gateway come back soon.
SOON = {"backoff_base_ms": 50, "backoff_cap_ms": 200}
WINDOW_S = 1.5
WINDOW_MS = 1_500
# Of twenty random slots, sixteen in one tenth of the window are one chance in twenty billion; a herd is 1.0.
HERD = 0.8


def assert_spread(crowd: list[Viewer]) -> None:
    """Hold that these devices did not act together."""
    assert together([viewer.due_ms for viewer in crowd], WINDOW_MS) < HERD


async def test_devices_that_come_after_the_window_flip_at_their_own_catch_up_slots() -> None:
    async with product() as made:
        await made.create()
        await made.press("prefetch", window_s=0)
        activation = (await made.force("live", window_s=WINDOW_S))["activation"]
        await made.in_phase("live")
        async with viewers(made, range(20)) as crowd:
            await until(lambda: all(viewer.flips for viewer in crowd), "every latecomer's flip")
            await made.counted(connected=20, ready=20, active=20)
            for viewer in crowd:
                viewer.assert_flipped_late(activation)
            assert_spread(crowd)
        assert [viewer.stages for viewer in crowd] == [["live"]] * 20


async def test_devices_that_were_cut_off_during_the_activation_catch_up_at_their_own_slots() -> None:
    async with product(**SOON) as made, relay(made.url) as network:
        await made.create()
        async with viewers(made, range(20), url=network.url) as crowd:
            await made.press("prefetch", window_s=0)
            await made.counted(ready=20)
            await network.cut()
            await made.counted(connected=0)
            activation = (await made.force("live", window_s=WINDOW_S))["activation"]
            await made.in_phase("live")
            assert not any(viewer.flips for viewer in crowd), "nobody has heard of it"
            came_back_ms = mono_ms()
            await network.restore()
            await asyncio.gather(*(viewer.join(came_back_ms) for viewer in crowd))
            await made.counted(connected=20, ready=20, active=20)
            for viewer in crowd:
                viewer.assert_flipped_late(activation)
            assert_spread(crowd)
        assert [viewer.stages for viewer in crowd] == [["live"]] * 20


async def test_devices_that_are_cut_off_once_they_are_armed_flip_at_their_slots_alone() -> None:
    async with product(**SOON) as made, relay(made.url) as network:
        await made.create()
        async with viewers(made, range(20), url=network.url) as crowd:
            await made.press("prefetch", window_s=0)
            await made.counted(ready=20)
            # Ahead by enough for everyone to hear of it before its window is over, on a busy machine too.
            activation = (await made.press("activate", stage="live", window_s=WINDOW_S, in_s=2))["activation"]
            machines = [viewer.device.machine for viewer in crowd]
            await until(lambda: all(m and m.resume().since == activation["rev"] for m in machines), "the arming")
            await network.cut()
            await until(lambda: all(viewer.flips for viewer in crowd), "every flip")
            await until(lambda: not any(machine and machine.connected for machine in machines), "everyone to notice")
            await network.restore()
            await made.counted(connected=20, ready=20, active=20)
            for viewer in crowd:
                viewer.assert_flipped_in_window(activation)
        assert [viewer.stages for viewer in crowd] == [["live"]] * 20


async def test_devices_that_never_prefetched_fetch_at_their_own_slots() -> None:
    async with product() as made:
        await made.create(padding=LARGE)
        async with viewers(made, range(20)) as crowd:
            # Their turn to fetch comes long after the activation.
            await made.press("prefetch", window_s=3_600)
            activation = (await made.force("live", window_s=WINDOW_S, in_s=2))["activation"]
            await made.counted(ready=20, active=20)
            for viewer in crowd:
                viewer.assert_flipped_in_window(activation)
                assert viewer.flips[0][1].content
            assert_spread(crowd)
        assert [viewer.stages for viewer in crowd] == [["live"]] * 20


async def test_an_activation_that_overtakes_its_prefetch_flips_everyone_once() -> None:
    async with product() as made:
        await made.create()
        async with swarm(made, 60) as crowd:
            # The bundle travels inline, paced over the window; the activation goes out at once. Had it to wait for
            # the bundle, half of the devices would hear of it when its own window is over.
            await made.press("prefetch", window_s=6)
            activation = (await made.force("live", window_s=3))["activation"]
            await made.counted(ready=60, active=60)
            crowd.assert_each_once(activation)
            assert all(seen.flip.due_ms < activation["at"] + activation["window_ms"] for seen in crowd.seen)
            assert crowd.shows() == {"live"}
        assert crowd.tally.flipped_twice == 0


async def test_a_publication_that_is_repeated_changes_nothing() -> None:
    async with product() as made:
        await made.create()
        async with swarm(made, 40) as crowd:
            await made.press("prefetch", window_s=0)
            await made.counted(ready=40)
            path, body = "/v1/campaigns/cup/activate", {"stage": "live", "window_s": 0.5}
            pressed = [(await made.post(path, body, {"Idempotency-Key": "one-press"})).json() for _ in range(3)]
            assert len({answer["rev"] for answer in pressed}) == 1
            await made.counted(active=40)
            await another_campaign_is_ready(made, 40)
            assert len(crowd.seen) == 40


async def test_a_doorbell_that_rings_twice_and_in_the_wrong_order_changes_nothing() -> None:
    async with product() as made:
        await made.create()
        async with swarm(made, 40) as crowd:
            await made.press("prefetch", window_s=0)
            await made.counted(ready=40)
            await made.press("activate", stage="upcoming", window_s=0.2)
            await made.counted(active=40)
            await made.press("activate", stage="live", window_s=0.2)
            await made.counted(active=40)
            said = await made.stack.redis.hgetall(keyspace.RETAINED)
            for entry in sorted(said.values(), reverse=True):
                await made.stack.redis.publish(keyspace.DOORBELL, entry)
            await another_campaign_is_ready(made, 40)
            assert crowd.shows() == {"live"}
            assert len(crowd.seen) == 80
            await made.counted(connected=40, ready=40, active=40)


async def test_pressing_the_same_stage_again_is_recorded_but_flips_nobody() -> None:
    async with product() as made:
        await made.create()
        async with swarm(made, 40) as crowd:
            await made.press("prefetch", window_s=0)
            await made.counted(ready=40)
            first = await made.press("activate", stage="live", window_s=0.2)
            await made.counted(active=40)
            again = await made.press("activate", stage="live", window_s=0.2)
            assert again["rev"] > first["rev"]
            await until(lambda: crowd.knows(again["rev"]), "the second activation")
            found = await made.counted(active=40)
            assert found["activate_rev"] == again["rev"]
            crowd.assert_each_once(first["activation"])
            assert len(crowd.seen) == 40


async def test_a_device_that_starts_anew_with_its_old_cache_is_told_everything_and_fetches_nothing() -> None:
    async with product() as made:
        await made.create(padding=LARGE)
        await made.press("prefetch", window_s=0)
        await made.force("upcoming", window_s=0)
        await made.force("live", window_s=0)
        cache = MemoryCache()
        arrivals: list[Prefetched] = []
        for _ in range(2):
            async with viewers(made, [1], cache=cache, on_prefetched=arrivals.append) as (viewer,):
                await made.counted(connected=1, ready=1, active=1)
                assert viewer.stages == ["live"], "only the newest, for nobody should see the evening replayed"
            await made.counted(connected=0)
        assert [event.via for event in arrivals] == ["fetch", "cache"]


async def another_campaign_is_ready(made: Product, devices: int) -> None:
    """Say something later on the same road: once it has arrived, so has whatever came before it."""
    await made.create("marker")
    await made.press("prefetch", "marker", window_s=0)
    await made.counted("marker", ready=devices)
