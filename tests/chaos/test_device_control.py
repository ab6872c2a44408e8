"""Rows 7 and 8: the control plane dies, with the store or alone; devices need neither to keep what was decided.

That an armed activation fires without either is `tests/e2e/test_outages.py`.
"""

from __future__ import annotations

import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from bus.publications import log_of
from support.product import ControlProcess, Product, product
from support.stack import Stack, stack
from support.viewers import WatchedSwarm, mono_ms, server_ms, swarm
from support.waiting import until

from fanout import keyspace
from fanout.bus.publication import Activated
from fanout.roles import Role
from fanout.store.keys import KeyStore

DEVICES = 200


@asynccontextmanager
async def control(made: Product, name: str) -> AsyncIterator[tuple[Product, ControlProcess]]:
    """Run another control plane on the same store, as a process of its own."""
    key = await KeyStore(made.stack.redis).create(name, Role.ADMIN)
    process = ControlProcess("--redis-url", made.stack.valkey.url)
    try:
        elsewhere = Product(made.stack, process.url, key)
        with elsewhere.api:
            yield elsewhere, process
    finally:
        process.kill()


async def test_a_control_plane_that_dies_between_the_phases_is_replaced_and_everyone_flips_once() -> None:
    async with product() as made, swarm(made, DEVICES) as crowd:
        async with control(made, "first") as (first, process):
            await first.create()
            await first.press("prefetch", window_s=0.5)
            await first.counted(ready=DEVICES)
            process.kill()
        assert (await made.show())["phase"] == "prefetching"
        pressed = await made.press("activate", stage="live", window_s=0.5, in_s=3)
        await made.counted(connected=DEVICES, ready=DEVICES, active=DEVICES)
        crowd.assert_each_once(pressed["activation"])
        assert len(crowd.seen) == DEVICES
        assert crowd.tally.flipped_twice == 0


@asynccontextmanager
async def replica(running: Stack, name: str) -> AsyncIterator[tuple[Product, ControlProcess]]:
    """Run a control plane that would lead, and soon finds out that nobody else does."""
    key = await KeyStore(running.redis).create(name, Role.ADMIN)
    process = ControlProcess("--redis-url", running.valkey.url, "--lease-s", "3", "--tick-s", "0.1")
    try:
        made = Product(running, process.url, key)
        with made.api:
            yield made, process
    finally:
        process.kill()


async def test_a_leader_that_is_killed_with_an_activation_due_is_followed_and_it_fires_once_and_on_time() -> None:
    async with stack() as running, replica(running, "first") as (first, leads), swarm(first, DEVICES) as crowd:
        await until(lambda: running.redis.exists(keyspace.LEADER), "the leader")
        async with replica(running, "second") as (second, _):
            await first.create()
            await first.press("prefetch", window_s=0)
            await first.counted(ready=DEVICES)
            at = int(time.time() * 1000) + 10_000
            # Due while nobody leads: the lease of the dead one is still there.
            plan = {"stage": "live", "at": at, "window_s": 0.5, "arm_ahead_s": 9.7}
            await first.press("schedule", **plan)
            leads.kill()
            assert await running.redis.get(keyspace.LEADER), "the dead one still has the lease"
            await until(lambda: crowd.tally.activated == DEVICES, "every flip")
            (armed,) = [each for each in await log_of(running.redis) if isinstance(each, Activated)]
            assert armed.at == at
            crowd.assert_each_once({"rev": armed.rev, "at": at, "window_ms": 500})
            assert (await second.show())["stage"] == "live"


async def test_a_cancel_that_was_delivered_holds_when_store_and_control_plane_are_gone() -> None:
    async with product() as made, swarm(made, DEVICES) as crowd:
        async with control(made, "only") as (only, process):
            await only.create()
            await only.press("prefetch", window_s=0)
            await only.counted(ready=DEVICES)
            activation = (await only.press("activate", stage="live", window_s=0.5, in_s=5))["activation"]
            cancelled = await only.press("cancel")
            await until(lambda: crowd.knows(cancelled["rev"]), "the cancel")
            process.kill()
            made.stack.valkey.kill()
        over_ms = activation["at"] + activation["window_ms"] + 500
        await until(lambda: all(now > over_ms for now in crowd_ms(crowd)), "the end of the window")
        assert not crowd.seen
        made.stack.valkey.start()
        # What was known of them may have lapsed. The next one finds them all, and none of them shows the first.
        await made.counted(connected=DEVICES, ready=DEVICES)
        again = (await made.press("activate", stage="live", window_s=0.3))["activation"]
        await made.counted(active=DEVICES)
        # Not at which instants: whoever hears of it after its short window has a slot of its own from then on.
        flipped = [(seen.device, seen.flip.rev) for seen in crowd.seen]
        assert sorted(flipped) == sorted((device.machine.device_id, again["rev"]) for device in crowd.devices)


def crowd_ms(crowd: WatchedSwarm) -> list[float]:
    """Return what each device takes the server's clock for."""
    return [server_ms(device.machine, mono_ms()) for device in crowd.devices]
