"""What editorial staff may do to a campaign, and what every device then shows."""

from __future__ import annotations

from support.product import LARGE, product
from support.viewers import swarm, viewers
from support.waiting import until

from fanout.device import Rehearsed
from fanout.slots import in_share

DEVICES = 60


async def test_a_cancelled_activation_flips_nobody_and_the_next_one_flips_everyone() -> None:
    async with product() as made:
        await made.create()
        async with swarm(made, DEVICES) as crowd:
            await made.press("prefetch", window_s=0)
            await made.counted(ready=DEVICES)
            first = (await made.press("activate", stage="live", window_s=0.2, in_s=6))["activation"]
            await until(lambda: crowd.knows(first["rev"]), "the arming")
            cancelled = await made.press("cancel")
            assert cancelled["phase"] == "prefetching"
            await until(lambda: crowd.knows(cancelled["rev"]), "the cancel")
            # The second instant is after the first one's window, so the first would have shown by then.
            after_s = (first["at"] + 500 - cancelled["now"]) / 1000
            second = (await made.press("activate", stage="live", window_s=0.5, in_s=after_s))["activation"]
            await made.counted(active=DEVICES)
            assert {seen.flip.rev for seen in crowd.seen} == {second["rev"]}
            crowd.assert_each_once(second)


async def test_who_shows_a_stage_is_still_counted_after_the_next_one_was_armed_and_cancelled() -> None:
    async with product() as made:
        await made.create()
        async with swarm(made, DEVICES) as crowd:
            await made.press("prefetch", window_s=0)
            await made.counted(ready=DEVICES)
            shown = (await made.press("activate", stage="upcoming", window_s=0.2))["activation"]
            await made.counted(active=DEVICES)
            armed = (await made.press("activate", stage="live", window_s=0.2, in_s=60))["activation"]
            await until(lambda: crowd.knows(armed["rev"]), "the arming")
            await made.counted(active=0)
            cancelled = await made.press("cancel")
            await until(lambda: crowd.knows(cancelled["rev"]), "the cancel")
            found = await made.counted(active=DEVICES)
            assert (found["activate_rev"], found["ahead_rev"]) == (shown["rev"], 0)
            assert crowd.shows() == {"upcoming"}


async def test_an_event_that_moves_flips_everyone_once_at_the_new_instant() -> None:
    async with product() as made:
        await made.create()
        async with swarm(made, DEVICES) as crowd:
            await made.press("prefetch", window_s=0)
            await made.counted(ready=DEVICES)
            first = (await made.press("activate", stage="live", window_s=1, in_s=60))["activation"]
            await until(lambda: crowd.knows(first["rev"]), "the arming")
            moved = (await made.press("activate", stage="live", window_s=0.5, in_s=1))["activation"]
            await made.counted(active=DEVICES)
            assert len(crowd.seen) == DEVICES
            crowd.assert_each_once(moved)


async def test_a_retract_shows_everyone_the_previous_stage_again() -> None:
    async with product() as made:
        await made.create()
        async with swarm(made, DEVICES) as crowd, viewers(made, range(2)) as apps:
            await made.press("prefetch", window_s=0)
            await made.counted(ready=DEVICES + 2)
            for stage in ("upcoming", "live"):
                await made.press("activate", stage=stage, window_s=0.3)
                await made.counted(active=DEVICES + 2)
                await made.in_phase("live")
            back = await made.press("retract", reason="a false alarm", window_s=0.3)
            await made.counted(active=DEVICES + 2)
            assert crowd.shows() == {"upcoming"}
            crowd.assert_each_once(back["activation"])
            assert [app.stages for app in apps] == [["upcoming", "live", "upcoming"]] * 2


async def test_a_retract_in_the_middle_of_the_window_leaves_nobody_in_the_wrong_stage() -> None:
    async with product() as made:
        await made.create()
        async with swarm(made, DEVICES) as crowd:
            await made.press("prefetch", window_s=0)
            await made.counted(ready=DEVICES)
            await made.press("activate", stage="upcoming", window_s=0)
            await made.counted(active=DEVICES)
            await made.press("activate", stage="live", window_s=2)
            await until(lambda: "live" in crowd.shows(), "the first to go live")
            await made.press("retract", reason="a false alarm", window_s=0)
            await made.counted(active=DEVICES)
            assert crowd.shows() == {"upcoming"}
            assert crowd.tally.flipped_twice == 0


async def test_a_closed_campaign_leaves_nothing_on_the_devices() -> None:
    async with product() as made:
        await made.create(padding=LARGE)
        async with swarm(made, DEVICES) as crowd, viewers(made, range(2)) as apps:
            await made.press("prefetch", window_s=0)
            await made.counted(ready=DEVICES + 2)
            await made.press("activate", stage="live", window_s=0)
            await made.counted(active=DEVICES + 2)
            closed = await made.press("close")
            await until(lambda: crowd.knows(closed["rev"]), "the close")
            await until(lambda: all(app.closed for app in apps), "what the apps are told")
            assert crowd.shows() == {None}
            machines = [device.machine for device in crowd.devices] + [app.device.machine for app in apps]
            assert [machine.held for machine in machines if machine] == [()] * (DEVICES + 2)
            assert [[event.rev for event in app.closed] for app in apps] == [[closed["rev"]]] * 2
        async with swarm(made, 3, prefix="later") as late:
            assert late.shows() == {None}, "who comes now is told of nothing"
            assert not late.seen


async def test_a_canary_flips_its_share_and_widening_it_flips_nobody_twice() -> None:
    async with product() as made:
        await made.create()
        async with swarm(made, DEVICES) as crowd:
            await made.press("prefetch", window_s=0)
            await made.counted(ready=DEVICES)
            ids = [device.machine.device_id for device in crowd.devices]
            canaries = {device for device in ids if in_share(device, "cup", 0.3)}
            assert 0 < len(canaries) < DEVICES
            small = (await made.press("activate", stage="live", window_s=0.5, share=0.3))["activation"]
            await made.counted(active=len(canaries))
            await made.in_phase("live")
            assert {seen.device for seen in crowd.seen} == canaries
            wide = (await made.press("activate", stage="live", window_s=0.5, share=1))["activation"]
            await made.counted(active=DEVICES)
            assert sorted(seen.device for seen in crowd.seen) == sorted(ids)
            crowd.assert_slots([seen for seen in crowd.seen if seen.device in canaries], small)
            crowd.assert_slots([seen for seen in crowd.seen if seen.device not in canaries], wide)


async def test_a_rehearsal_is_reported_and_shown_to_nobody() -> None:
    async with product() as made:
        await made.create(shadow=True)
        async with viewers(made, range(10)) as apps:
            rehearsed = [app.device.events() for app in apps]
            await made.press("prefetch", window_s=0)
            await made.counted(ready=10)
            activation = (await made.press("activate", stage="live", window_s=0.3))["activation"]
            found = await made.counted(active=10)
            assert found["flip_lag"]["count"] == 10
        assert [app.flips for app in apps] == [[]] * 10
        for events in rehearsed:  # they have ended with the devices
            told = [event async for event in events if isinstance(event, Rehearsed)]
            assert [(event.rev, event.stage) for event in told] == [(activation["rev"], "live")]


async def test_each_audience_gets_its_own_bundle_in_either_encoding() -> None:
    async with product() as made:
        badges = {"tv": "on the big screen", "": "everywhere else"}
        variants = [
            {
                "match": {"platform": platform} if platform else {},
                "bundle": {"stages": {stage: {"badge": badge} for stage in ("upcoming", "live", "ended")}},
            }
            for platform, badge in badges.items()
        ]
        created = await made.create(variants=variants)
        television = created["variants"][0]["bundle"]["sha256"]
        other = created["variants"][1]["bundle"]["sha256"]
        async with swarm(made, 12, json_share=0.5) as crowd:
            await made.press("prefetch", window_s=0)
            await made.counted(ready=12)
            await made.press("activate", stage="live", window_s=0.2)
            found = await made.counted(active=12)
            assert {name: part["active"] for name, part in found["platforms"].items()} == {
                "phone": 4,
                "tv": 4,
                "web": 4,
            }
            for device in crowd.devices:
                is_tv = device.number % 3 == 0
                assert device.machine.shown("cup") == ("live", television if is_tv else other)
            assert crowd.tally.origin_requests == 0
