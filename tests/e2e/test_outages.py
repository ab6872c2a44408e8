"""The store and the control plane die at the worst moments: nothing is lost, nothing flips twice."""

from __future__ import annotations

from typing import Any

from support.product import ControlProcess, Product, product
from support.viewers import WatchedSwarm, swarm
from support.waiting import until

from fanout.roles import Role
from fanout.store.keys import KeyStore

DEVICES = 300


async def ready_swarm(made: Product) -> None:
    """Take a campaign to the point where every device holds its bundle."""
    await made.create()
    await made.press("prefetch", window_s=0.5)
    await made.counted(connected=DEVICES, ready=DEVICES)


async def assert_all_well(made: Product, crowd: WatchedSwarm, activation: dict[str, Any]) -> None:
    """Hold that every device flipped once, at its slot, and that the sums say so."""
    await until(lambda: crowd.tally.activated == DEVICES, "every flip")
    found = await made.counted(connected=DEVICES, ready=DEVICES, active=DEVICES)
    assert found["activate_rev"] == activation["rev"]
    assert (found["expected"], found["failed"]) == (DEVICES, 0)
    for parts in (found["platforms"], found["regions"]):
        assert sum(part["active"] for part in parts.values()) == DEVICES
    crowd.assert_each_once(activation)
    assert len(crowd.seen) == DEVICES
    assert crowd.tally.flipped_twice == 0
    assert not crowd.tally.closes, "the gateway keeps its devices"


async def test_the_store_dies_between_the_phases_and_nothing_is_lost() -> None:
    async with product() as made, swarm(made, DEVICES) as crowd:
        await ready_swarm(made)
        made.stack.valkey.kill()
        made.stack.valkey.start()
        await made.counted(connected=DEVICES, ready=DEVICES)
        pressed = await made.press("activate", stage="live", window_s=1)
        await assert_all_well(made, crowd, pressed["activation"])


async def test_the_store_dies_in_the_middle_of_the_activation_and_everyone_flips_once() -> None:
    async with product() as made, swarm(made, DEVICES) as crowd:
        await ready_swarm(made)
        pressed = await made.press("activate", stage="live", window_s=3, in_s=1)
        crowd.once_activated(DEVICES // 10, made.stack.valkey.kill)
        assert crowd.tally.activated < DEVICES // 2, "it was too late for this test"
        await until(lambda: crowd.tally.activated > DEVICES // 2, "flips without a store")
        made.stack.valkey.start()
        await assert_all_well(made, crowd, pressed["activation"])


async def test_a_press_while_the_store_is_down_is_refused_and_changes_nothing() -> None:
    async with product() as made, swarm(made, DEVICES) as crowd:
        await ready_swarm(made)
        before = await made.show()
        made.stack.valkey.kill()
        key = {"Idempotency-Key": "press-in-the-dark"}
        body = {"stage": "live", "window_s": 1}
        refused = await made.post("/v1/campaigns/cup/activate", body, key)
        assert refused.status_code == 503
        assert refused.headers["content-type"] == "application/problem+json"
        assert int(refused.headers["retry-after"]) >= 1
        made.stack.valkey.start()
        after = await made.show()
        assert (after["version"], after["phase"]) == (before["version"], "prefetching")
        await made.counted(connected=DEVICES, ready=DEVICES, active=0)
        # The same press, with the same key, is taken now, and only now does anyone flip.
        assert not crowd.seen
        pressed = (await made.post("/v1/campaigns/cup/activate", body, key)).json()
        await assert_all_well(made, crowd, pressed["activation"])


async def test_the_store_may_die_several_times_while_devices_flip() -> None:
    async with product() as made, swarm(made, DEVICES) as crowd:
        await ready_swarm(made)
        pressed = await made.press("activate", stage="live", window_s=2.5)
        for share in (0.1, 0.35, 0.6):
            await until(lambda share=share: crowd.tally.activated > DEVICES * share, "flips")
            made.stack.valkey.kill()
            made.stack.valkey.start()
        await assert_all_well(made, crowd, pressed["activation"])


async def test_what_is_armed_by_the_clock_survives_the_death_of_store_and_control_plane() -> None:
    async with product() as made:
        key = await KeyStore(made.stack.redis).create("clock", Role.ADMIN)
        control = ControlProcess("--redis-url", made.stack.valkey.url)
        try:
            elsewhere = Product(made.stack, control.url, key)
            with elsewhere.api:
                async with swarm(made, DEVICES) as crowd:
                    await ready_swarm(elsewhere)
                    pressed = await elsewhere.press("activate", stage="live", window_s=1, in_s=8)
                    activation = pressed["activation"]
                    await until(lambda: crowd.knows(activation["rev"]), "the arming")
                    control.kill()
                    made.stack.valkey.kill()
                    assert not crowd.seen, "it was too late for this test"
                    await until(lambda: crowd.tally.activated == DEVICES, "every flip")
                    crowd.assert_each_once(activation)
                    made.stack.valkey.start()
                    await assert_all_well(made, crowd, activation)
        finally:
            control.kill()


async def test_a_gateway_that_starts_anew_tells_from_the_store_what_stands() -> None:
    """The store comes back with its file; nobody who was there before is needed."""
    async with product() as made:
        await made.create()
        await made.press("prefetch", window_s=0)
        await made.force("live", window_s=0)
        made.stack.valkey.kill()
        made.stack.valkey.start()
        async with product(valkey=made.stack.valkey, key_name="again") as again, swarm(again, 20) as crowd:
            await until(lambda: crowd.shows() == {"live"}, "the stage")
            assert len(crowd.seen) == 20
