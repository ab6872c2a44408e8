"""Whole swarms against a real gateway: many processes, slow devices, and what dies in the midst of a run."""

from __future__ import annotations

import asyncio
import os
import signal
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
from support.product import Product, product
from support.stack import KEY
from support.viewers import CLOCK_MS, swarm
from support.waiting import PATIENCE_S, until

from loadtest.crew import Crew, Outcome, RunConfig, orders_of
from loadtest.swarm import SwarmConfig, picked
from loadtest.tally import Merged

EACH = 300
PROCESSES = 2
ALL = EACH * PROCESSES


def test_every_process_gets_its_own_devices_and_so_many_at_a_time_keep_the_pace() -> None:
    config = SwarmConfig(urls=("ws://127.0.0.1:1/",), devices=10, topics=("t",), connects_per_s=100.0)
    parts = [orders.config for orders in orders_of(config, b"key", 3, lanes=2)]
    assert [range(part.first, part.first + part.devices) for part in parts] == [range(4), range(4, 7), range(7, 10)]
    assert [part.connects_per_s for part in parts] == [50, 50, 50]
    # The third begins when the first has done its four.
    assert [part.connects_after_s for part in parts] == [0, 0, 4 / 50]
    assert len({part.seed for part in parts}) == 3


def test_without_a_pace_all_connect_at_once() -> None:
    config = SwarmConfig(urls=("ws://127.0.0.1:1/",), devices=10, topics=("t",))
    parts = [orders.config for orders in orders_of(config, b"key", 3, lanes=2)]
    assert {(part.connects_per_s, part.connects_after_s) for part in parts} == {(0, 0)}


def test_a_share_is_spread_over_all_devices() -> None:
    assert sum(picked(number, 0.05) for number in range(1_000)) == 50
    assert all(sum(picked(n, 0.1) for n in range(start, start + 100)) == 10 for start in range(0, 900, 37))
    assert not any(picked(number, 0.0) for number in range(100))
    assert all(picked(number, 1.0) for number in range(100))


class Running:
    """A swarm of processes in the midst of its run."""

    def __init__(self, crew: Crew, ending: asyncio.Task[Outcome], stop: asyncio.Event) -> None:
        self.crew = crew
        self.ending = ending
        self.stop = stop

    async def has(self, **counts: int) -> None:
        """Wait until it counts so many."""

        def counted() -> bool:
            assert not self.ending.done(), self.ending
            tally = self.crew.merged.tally()
            return all(getattr(tally, name) == count for name, count in counts.items())

        await until(counted, str(counts))

    async def outcome(self) -> Outcome:
        """Wait for its end."""
        async with asyncio.timeout(2 * PATIENCE_S):
            return await self.ending


@asynccontextmanager
async def crew(made: Product, *, processes: int = PROCESSES, **options: Any) -> AsyncIterator[Running]:
    """Run a swarm; whatever is left of it ends with the context."""
    names = RunConfig.__struct_fields__
    config = SwarmConfig(
        urls=(made.url,), devices=ALL, topics=("t",), **{k: v for k, v in options.items() if k not in names}
    )
    run = RunConfig(swarm=config, processes=processes, **{k: v for k, v in options.items() if k in names})
    made_crew, stop = Crew(run, KEY.encode()), asyncio.Event()
    told: list[Merged] = []
    ending = asyncio.create_task(made_crew.run(stop, told.append))
    try:
        yield Running(made_crew, ending, stop)
        assert told, "it says how far it is"
    finally:
        stop.set()
        await asyncio.wait([ending])
        await until(lambda: not any(alive(pid) for pid in made_crew.pids), "the end of its processes")


def alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


async def test_two_processes_go_through_both_phases_and_their_figures_are_one() -> None:
    sources = ("127.0.0.2", "127.0.0.3", "127.0.0.4")
    async with product(workers=1) as made, crew(made, sources=sources, until="activated") as running:
        await made.create()
        await running.has(connected=ALL)
        await made.press("prefetch", window_s=0.5)
        await made.counted(connected=ALL, ready=ALL)
        await running.has(ready=ALL)
        # No later than the last device is at its stage the run is over, so press when all is seen.
        pressed = await made.press("activate", stage="live", window_s=1)
        assert await running.outcome() == Outcome("every device is activated", good=True)
        merged = running.crew.merged
        figures = merged.summary()
        assert (figures["welcomed"], figures["flipped_twice"]) == (ALL, 0)
        assert not figures["refused"]
        assert not figures["closes"]
        assert sum(merged.flips.values()) == ALL
        # By the wall clock here, which is the store's; devices go by what a gateway knows of that.
        assert min(merged.flips) >= pressed["activation"]["at"] - CLOCK_MS
        told = {each["kind"]: each["received"] for each in figures["publications"]}
        assert told == {"prefetch": ALL, "activate": ALL}
        counts = {name: made.get_total_count() for name, made in merged.histograms.items()}
        assert [counts[n] for n in ("connect", "delivery", "prefetch_delivery", "flip_error")] == [ALL] * 4
        assert figures["rss_bytes"] > figures["bytes_per_device"] > 0


async def test_devices_connect_from_the_named_addresses_in_turn() -> None:
    sources = ("127.0.0.7", "127.0.0.8")
    async with product() as made, swarm(made, 6, sources=sources) as crowd:
        used = [crowd.sockets.local(device.socket)[0] for device in crowd.devices]
        assert used == ["127.0.0.7", "127.0.0.8"] * 3


async def test_devices_take_the_gateways_in_turn_and_another_one_when_theirs_is_gone() -> None:
    async with product() as made:
        gone = "ws://127.0.0.1:1/v1/connect"
        async with swarm(made, 20, urls=(made.url, gone)) as crowd:
            assert crowd.tally.refused[0] >= 10
            assert crowd.tally.connected == 20


async def test_devices_that_stop_reading_are_closed_and_come_back_and_nobody_else_notices() -> None:
    devices, slow = 40, 4
    settings = {"write_buffer_bytes_max": 300_000, "close_timeout_s": 60.0, "ping_s": 600.0, "beacon_s": 100.0}
    async with product(lifetime_s=10_000.0, **settings) as made:
        await made.create(padding=4_500)
        async with swarm(made, devices, slow_share=slow / devices, slow_s=0, json_share=0.0) as crowd:
            assert crowd.tally.slow == {"stopped": slow}

            async def cut() -> bool:
                await made.press("prefetch", window_s=0)
                return await counted_as(made) == devices - slow

            await until(cut, "the gateway's patience", 3 * PATIENCE_S)
            assert not crowd.tally.closes, "who reads is not closed, and who does not has not seen it"
            crowd.read_again()
            await until(lambda: crowd.tally.slow["back"] == slow, f"their return: {crowd.tally.slow}")
            assert crowd.tally.slow == {"stopped": slow, "closed": slow, "back": slow}
            assert crowd.tally.closes == {4000: slow}
            await made.counted(connected=devices, ready=devices)
            activation = (await made.press("activate", stage="live", window_s=0.5))["activation"]
            await until(lambda: crowd.tally.activated == devices, "every flip")
            crowd.assert_each_once(activation)


async def test_what_devices_leave_lying_for_a_while_holds_all_the_same() -> None:
    devices = 20
    async with product() as made, swarm(made, devices, act_after_s=0.4) as crowd:
        await made.create()
        await made.press("prefetch", window_s=0)
        await made.counted(connected=devices, ready=devices)
        # So far ahead that the cancel comes before it, however long a turn takes here.
        taken_back = (await made.press("activate", stage="live", window_s=0.2, in_s=600))["activation"]

        def everywhere() -> bool:
            told = crowd.tally.publications.get(taken_back["rev"])  # none before the first has it
            return told is not None and told.received == devices

        await until(everywhere, "its receipt")
        await made.press("cancel")
        # Some are cut off while it lies there; what they hear when they come back comes on top of it.
        for device in crowd.devices[:5]:
            crowd.sockets.close(device.socket)
            device.connection_lost()
        await made.counted(connected=devices, ready=devices)
        activation = (await made.press("activate", stage="live", window_s=0.2, in_s=1.5))["activation"]
        await until(lambda: crowd.tally.activated == devices, "every flip")
        crowd.assert_each_once(activation)


async def counted_as(made: Product) -> int:
    """Return how many devices the gateway counts."""
    return sum(record.connections for record in await made.stack.records())


class Leaping:
    """A clock that a test lets leap ahead."""

    ahead_s = 0.0

    def monotonic(self) -> float:
        return time.monotonic() + self.ahead_s


async def test_a_gateway_that_dies_in_mid_run_ends_the_swarm_with_what_it_has_seen(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    clock = Leaping()
    monkeypatch.setattr("loadtest.crew.time", clock)
    # By its clock, or a swarm that takes a while to connect would have given up before anything died.
    async with product(workers=1) as made, crew(made, until="activated", give_up_s=60.0, timeout_s=1e9) as running:
        await running.has(connected=ALL)
        gateway = made.stack.gateway
        assert gateway is not None
        gateway.process.kill()

        def given_up() -> bool:
            clock.ahead_s += 1.0
            return running.ending.done()

        await until(given_up, "its end")
        outcome = await running.outcome()
        assert not outcome.good
        assert "no device has been connected for 60 s" in outcome.words
        figures = running.crew.merged.summary()
        assert (figures["devices"], figures["welcomed"], figures["activated"]) == (ALL, ALL, 0)
        assert sum(figures["closes"].values()) >= ALL


async def test_a_process_that_dies_ends_the_swarm_with_what_all_have_seen() -> None:
    async with product() as made, crew(made, seconds=600.0) as running:
        await running.has(connected=ALL)
        os.kill(running.crew.pids[1], signal.SIGKILL)
        assert await running.outcome() == Outcome("process 2 of the swarm ended with status -9", good=False)
        assert running.crew.merged.tally().welcomed == ALL


async def test_a_run_ends_when_its_time_is_up_and_fails_if_that_is_not_what_it_was_for() -> None:
    async with product() as made:
        async with crew(made, processes=1, seconds=0.1) as running:
            assert (await running.outcome()).good
        async with crew(made, processes=1, until="ready", timeout_s=0.2) as running:
            outcome = await running.outcome()
            assert not outcome.good
            assert f"of {ALL} devices are ready after 0.2 s" in outcome.words


async def test_a_stopped_run_is_good_unless_it_had_a_goal() -> None:
    async with product() as made:
        for goal in (None, "activated"):
            async with crew(made, processes=1, until=goal) as running:
                await running.has(connected=ALL)
                running.stop.set()
                assert await running.outcome() == Outcome("stopped", good=goal is None)
                assert running.crew.merged.tally().connected == ALL, "the last report tells who was there"
