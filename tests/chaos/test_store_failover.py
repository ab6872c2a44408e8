"""A failover that loses what was accepted: the gateways bring it back, and nobody notices but the operator."""

from __future__ import annotations

import time
from contextlib import nullcontext

import pytest
from bus.publications import stands_in
from bus.servers import frozen
from support.product import product
from support.viewers import swarm
from support.waiting import PATIENCE_S, until

from fanout.connect import connect

from .pressing import ask, assert_once_each, insist, ready
from .servers import watched

DEVICES = 100
# From the failover to a press that everybody has flipped by. When that comes, is the Sentinels' affair, and on a busy
# machine it may be their second try.
RECOVERY_S_MAX = 10.0


@pytest.mark.parametrize("failure", ["killed", "frozen"])
async def test_what_only_the_old_primary_had_is_put_back_and_everyone_ends_in_the_newest_stage(failure: str) -> None:
    async with watched() as store, product(valkey=store) as made, swarm(made, DEVICES) as crowd:
        await ready(made, DEVICES)
        store.lag()
        # The replica has not heard of it: a gateway that has vouches for it.
        live = await insist(made, "activate", "live", stage="live", window_s=0.5)
        async with connect(store.replica.url, timeout_s=PATIENCE_S) as replica:
            before = await stands_in(replica)
            assert live["rev"] not in {p.rev for p in before["cup"]}, "it was no lag"
        if failure == "killed":
            store.primary.kill()
        with frozen(store.primary) if failure == "frozen" else nullcontext():
            await store.failed_over()
            failed_over_s = time.monotonic()
            async with connect(store.replica.url, timeout_s=PATIENCE_S) as now_primary:

                async def is_back() -> bool:
                    return live["rev"] in {p.rev for p in (await stands_in(now_primary))["cup"]}

                await until(is_back, "the activation in the new primary")
            await until(lambda: crowd.tally.activated == DEVICES, "every flip")
            ended = await insist(made, "activate", "ended", stage="ended", window_s=0.5, force=True, reason="a test")
            await until(lambda: crowd.shows() == {"ended"}, "the newest stage")
            assert time.monotonic() - failed_over_s < RECOVERY_S_MAX
        assert_once_each(crowd, live, ended)
        assert not crowd.tally.closes, "the gateway keeps its devices"
        async with swarm(made, 5, prefix="late") as latecomers:
            await until(lambda: latecomers.shows() == {"ended"}, "the newest stage for newcomers")


@pytest.mark.parametrize("failure", ["restarted", "thawed"])
async def test_a_press_is_not_lost_in_an_old_primary_that_comes_back_before_it_is_told(failure: str) -> None:
    async with watched() as store, product(valkey=store) as made, swarm(made, DEVICES) as crowd:
        await ready(made, DEVICES)
        # Until Sentinel tells it, it believes itself the primary, and its file would vouch.
        if failure == "restarted":
            store.primary.kill()
            await store.failed_over()
            store.primary.start()
        else:
            # The control plane's connections to it live on.
            with frozen(store.primary):
                await store.failed_over()
        async with connect(store.primary.url, timeout_s=PATIENCE_S) as old:
            assert (await old.role())[0] == b"master"
        press = {"stage": "live", "window_s": 0.5, "force": True, "reason": "a test"}
        met = await ask(made, "activate", "live", **press)
        await store.tell_the_old()
        pressed = await insist(made, "activate", "live", **press)
        assert met.status_code == 503 or met.json()["rev"] == pressed["rev"], f"accepted and lost: {met.text}"
        async with connect(store.replica.url, timeout_s=PATIENCE_S) as new:
            assert pressed["rev"] in {p.rev for p in (await stands_in(new))["cup"]}
        await until(lambda: crowd.tally.activated == DEVICES, "every flip")
        assert_once_each(crowd, pressed)
