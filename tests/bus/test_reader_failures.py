"""Laws of the reader while the store fails: it says so in the right word, and catches up afterwards."""

from __future__ import annotations

import asyncio
from contextlib import ExitStack, nullcontext

import pytest
from redis.asyncio import Redis
from support.waiting import PATIENCE_S, until

from fanout.bus.publication import Publication
from fanout.bus.publisher import Publisher
from fanout.bus.reader import BusState, Reader
from fanout.connect import connect
from fanout.embedded import EmbeddedValkey
from fanout.errors import OutcomeUnknown, StoreUnavailable
from gateway.config import GatewayConfig

from .following import SILENCE_S, Wire, following
from .publications import log_of, prefetched
from .servers import frozen


async def insist(publisher: Publisher, publication: Publication) -> None:
    """Publish as the control plane's callers do: again with the same key until it is accepted."""

    async def accepted() -> bool:
        try:
            await publisher.publish(publication)
        except (StoreUnavailable, OutcomeUnknown):
            return False
        return True

    await until(accepted, "the publication to be accepted")


async def test_a_store_killed_between_and_during_publications_loses_and_repeats_nothing(
    valkey: EmbeddedValkey,
) -> None:
    redis = connect(valkey.url)
    publisher = Publisher(redis)
    keys = [f"k{number}" for number in range(60)]

    async def press() -> None:
        for number, key in enumerate(keys):
            await insist(publisher, prefetched(f"c{number % 3}", key))

    async with following(valkey.url) as follower:
        await publisher.publish(prefetched(key="first"))
        valkey.kill()
        await follower.becomes(BusState.DEGRADED)
        valkey.start()
        await follower.becomes(BusState.OK)
        pressing = asyncio.create_task(press())
        for _ in range(3):
            heard = len(follower.seen)
            await until(lambda heard=heard: len(follower.seen) > heard + 5)
            valkey.kill()
            await asyncio.sleep(0)
            valkey.start()
        await pressing
        log = await log_of(redis)
        await follower.reaches(log[-1].rev)
        assert [p.key for p in log] == ["first", *keys]
        assert follower.seen == log
        assert follower.reader.put_back == 0
    await redis.aclose()


async def test_a_store_that_hangs_degrades_a_reader_and_it_recovers(valkey: EmbeddedValkey, redis: Redis) -> None:
    async with following(valkey.url, silence_s=SILENCE_S) as follower:
        with frozen(valkey):
            await follower.becomes(BusState.DEGRADED)
        await follower.becomes(BusState.OK)
        await Publisher(redis).publish(prefetched())
        [published] = await log_of(redis)
        await follower.reaches(published.rev)
        assert follower.seen == [published]
        assert BusState.DEAF not in follower.states


async def test_a_store_that_thaws_while_its_silence_is_judged_makes_nobody_deaf(
    valkey: EmbeddedValkey, redis: Redis
) -> None:
    # Replica and primary hang together, and are back in the moment between a reader's failure and its question
    # whether it is the replica alone.
    with ExitStack() as hanging:

        def primary() -> str:
            hanging.close()
            return valkey.url

        async with following(valkey.url, primary=primary, silence_s=SILENCE_S) as follower:
            follower.states.clear()
            hanging.enter_context(frozen(valkey))
            await until(lambda: follower.connects > 2, "another session")
            await insist(Publisher(redis), prefetched())
            await follower.reaches((await log_of(redis))[-1].rev)
            await follower.becomes(BusState.OK)
            assert BusState.DEAF not in follower.states


def test_a_silent_store_is_noticed_within_two_intervals_as_gateways_come() -> None:
    config = GatewayConfig(redis_url="")
    # One probe may have been answered just before; the next is sent an interval after it, and waited for this long.
    assert config.probe_timeout_s <= config.probe_interval_s


async def test_a_store_out_of_reach_degrades_a_reader_which_keeps_what_it_has(
    valkey: EmbeddedValkey, redis: Redis
) -> None:
    await Publisher(redis).publish(prefetched())
    async with following(valkey.url) as follower:
        retained = dict(follower.reader.retained)
        valkey.stop_process()
        await follower.becomes(BusState.DEGRADED)
        assert follower.reader.retained == retained != {}
        valkey.start()
        await follower.becomes(BusState.OK)
        assert follower.reader.retained == retained
        assert len(follower.seen) == 1


async def test_a_reader_that_never_reached_the_store_is_starting_until_it_has_synced() -> None:
    server = EmbeddedValkey()
    try:
        async with following(server.url, ok=False) as follower:
            await until(lambda: follower.connects > 4, "a few tries")
            assert follower.reader.state is BusState.STARTING
            assert follower.states == []
            server.start()
            await follower.becomes(BusState.OK)
            redis = connect(server.url)
            await Publisher(redis).publish(prefetched())
            await until(lambda: follower.seen)
            await redis.aclose()
    finally:
        server.stop()


async def test_a_half_open_subscription_is_deaf_although_the_store_answers(
    valkey: EmbeddedValkey, redis: Redis
) -> None:
    async with Wire(valkey.socket_path) as wire, following(wire.url, silence_s=SILENCE_S) as follower:
        wire.deaf = True
        await Publisher(redis).publish(prefetched())
        await follower.becomes(BusState.DEAF)
        assert follower.seen == []
        wire.deaf = False
        await follower.becomes(BusState.OK)
        assert follower.seen == await log_of(redis)
        assert follower.states == [BusState.OK, BusState.DEAF, BusState.OK]


async def test_one_lost_subscription_is_rebuilt_before_anyone_is_told_it_was_deaf(
    valkey: EmbeddedValkey, redis: Redis
) -> None:
    async with Wire(valkey.socket_path) as wire, following(wire.url, silence_s=SILENCE_S) as follower:
        connects = follower.connects
        wire.deaf = True
        await Publisher(redis).publish(prefetched())
        await until(lambda: wire.back.dropped)
        wire.deaf = False
        wire.mute_present()
        await until(lambda: follower.connects > connects, "a new subscription")
        await until(lambda: follower.seen)
        assert follower.seen == await log_of(redis)
        assert BusState.DEAF not in follower.states


async def test_a_reader_that_may_not_subscribe_is_deaf_until_it_may(valkey: EmbeddedValkey, redis: Redis) -> None:
    async with following(valkey.url) as follower:
        # Closes the subscriptions that are no longer allowed, and refuses new ones; commands work.
        await redis.execute_command("ACL", "SETUSER", "default", "resetchannels")
        await follower.becomes(BusState.DEAF)
        await redis.execute_command("ACL", "SETUSER", "default", "allchannels")
        await follower.becomes(BusState.OK)
        await Publisher(redis).publish(prefetched())
        await until(lambda: follower.seen)


@pytest.mark.parametrize("failure", ["none", "cut", "frozen"])
async def test_a_cancelled_reader_ends_whatever_it_is_doing(valkey: EmbeddedValkey, failure: str) -> None:
    async with Wire(valkey.socket_path) as wire:
        for steps in range(0, 40, 2):
            reader = Reader(lambda: connect(wire.url, timeout_s=0.2), "one", lambda publication: None)
            task = asyncio.create_task(reader.run())
            if steps % 4:
                await until(lambda reader=reader: reader.state is BusState.OK)
            with frozen(valkey) if failure == "frozen" else nullcontext():
                if failure == "cut":
                    wire.drop()
                for _ in range(steps):
                    await asyncio.sleep(0)
                task.cancel()
                done, _ = await asyncio.wait([task], timeout=PATIENCE_S)
            assert done, f"the reader still runs, cancelled {steps} steps after the failure"
            assert task.cancelled()
