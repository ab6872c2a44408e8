"""The event moves while devices are armed, and the store fails in that second: one instant counts, for everyone."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from support.product import Product, product
from support.viewers import WatchedSwarm, swarm
from support.waiting import until

from fanout import keyspace

from .pressing import ask, insist, ready

DEVICES = 100
# Pressed at once after each other; the second moves the event by this much.
MOVED = {"stage": "live", "window_s": 0.3, "in_s": 8, "force": True, "reason": "a test"}
OLD = {**MOVED, "in_s": 4}


async def dead_before(made: Product, crowd: WatchedSwarm) -> None:
    """The move is refused; the store is back after the old instant."""
    made.stack.valkey.kill()
    moving = asyncio.create_task(ask(made, "activate", "move", **MOVED))
    await until(lambda: crowd.tally.activated == DEVICES, "the old instant")
    assert (await moving).status_code == 503
    made.stack.valkey.start()


async def silent_over_it(made: Product, crowd: WatchedSwarm) -> None:
    """The move lies in the store, which goes on only when the old instant is past."""
    await made.stack.redis.client_pause(60_000, all=False)
    moving = asyncio.create_task(ask(made, "activate", "move", **MOVED))
    await until(lambda: crowd.tally.activated == DEVICES, "the old instant")
    await made.stack.redis.client_unpause()
    await moving


async def dead_after(made: Product, crowd: WatchedSwarm) -> None:
    """The move is in the log when the store dies, whatever the caller is told; it stays dead until all is over."""
    entries = await made.stack.redis.xlen(keyspace.LOG)
    moving = asyncio.create_task(ask(made, "activate", "move", **MOVED))

    async def published() -> bool:
        return bool(await made.stack.redis.xlen(keyspace.LOG) > entries)

    await until(published, "the move")
    made.stack.valkey.kill()
    await until(lambda: crowd.tally.activated == DEVICES, "an instant")
    await moving
    made.stack.valkey.start()


@pytest.mark.parametrize("failure", [dead_before, silent_over_it, dead_after], ids=lambda failure: failure.__name__)
async def test_a_move_that_meets_a_failing_store_flips_everyone_once_at_the_old_instant_or_the_new(
    failure: Callable[[Product, WatchedSwarm], Awaitable[None]],
) -> None:
    async with product() as made, swarm(made, DEVICES) as crowd:
        await ready(made, DEVICES)
        old = await made.press("activate", **OLD)
        await until(lambda: crowd.knows(old["rev"]), "the arming")
        assert not crowd.seen, "it was too late for this test"
        await failure(made, crowd)
        new = await insist(made, "activate", "move", **MOVED)
        await until(lambda: crowd.knows(new["rev"]), "the move to reach everyone")
        await made.in_phase("live")
        await made.counted(connected=DEVICES, active=DEVICES)
        assert_one_instant(crowd, old, new)
        assert crowd.shows() == {"live"}
        assert not crowd.tally.closes


def assert_one_instant(crowd: WatchedSwarm, old: dict[str, Any], new: dict[str, Any]) -> None:
    """Hold that every device flipped once, at its slot in one of the two windows."""
    assert sorted(seen.device for seen in crowd.seen) == sorted(d.machine.device_id for d in crowd.devices)
    for pressed in (old, new):
        crowd.assert_slots([seen for seen in crowd.seen if seen.flip.rev == pressed["rev"]], pressed["activation"])
    assert {seen.flip.rev for seen in crowd.seen} <= {old["rev"], new["rev"]}
    assert crowd.tally.flipped_twice == 0
