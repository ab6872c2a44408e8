"""Laws of a store that loses what it accepted: any one reader that has seen it brings it back, once."""

from __future__ import annotations

import asyncio

import pytest
from redis.asyncio import Redis
from support.waiting import until

from fanout import keyspace
from fanout.bus.publication import Activated, Cancelled, Prefetched
from fanout.bus.publisher import Publisher
from fanout.bus.reader import BusState
from fanout.connect import connect
from fanout.embedded import EmbeddedValkey

from .following import SILENCE_S, Wire, following
from .publications import HOUR_MS, activated, cancelled, closed, log_of, named, prefetched, retained_in, stands_in
from .servers import listening, replicate


async def fill(redis: Redis) -> int:
    """Publish a few campaigns; return the newest revision."""
    publisher = Publisher(redis)
    future = await publisher.now_ms() + 60_000
    for publication in (
        prefetched(),
        prefetched("other"),
        activated(at=future),
        cancelled(),
        activated(at=future),
        closed("over"),
    ):
        receipt = await publisher.publish(publication)
    return receipt.rev


@pytest.mark.parametrize("readers", [1, 2])
async def test_a_flushed_store_gets_back_everything_that_stands_exactly_once(
    valkey: EmbeddedValkey, redis: Redis, readers: int
) -> None:
    async with following(valkey.url, "one") as one, following(valkey.url, "two") as two:
        followers = [one, two][:readers] if readers == 2 else [one]
        if readers == 1:
            two.reader.retained.clear()  # a reader that has nothing to give
        newest = await fill(redis)
        for follower in followers:
            await follower.reaches(newest)
        stood, seen = await retained_in(redis), list(one.seen)
        count = sum(len(kept) for kept in stood.values())
        await redis.flushall()
        # Nobody publishes: the probes tell.
        await until(lambda: one.reader.put_back + two.reader.put_back >= count, "the last to be put back")
        for follower in (one, two):
            await follower.reaches(newest)
        assert [p.rev for p in await log_of(redis)] == sorted(p.rev for kept in stood.values() for p in kept)
        assert named(await retained_in(redis)) == named(stood)
        await Publisher(redis).publish(prefetched("new"))
        for follower in followers:
            await until(lambda f=follower: "new" in f.reader.retained)
            assert follower.seen[:-1] == seen
        assert one.reader.put_back + two.reader.put_back == count
        assert one.reader.retained == {**stood, "new": one.reader.retained["new"]}


async def test_a_failover_to_a_replica_that_lagged_loses_nothing(valkey: EmbeddedValkey) -> None:
    with listening() as (primary, port):
        old, new = connect(primary.url), connect(valkey.url)
        url = primary.url
        await replicate(new, port)
        async with following(lambda: url) as follower:
            await Publisher(old).publish(prefetched(key="replicated"))
            await new.replicaof("NO", "ONE")  # from here on it hears nothing
            await fill(old)
            log = await log_of(old)
            await follower.reaches(log[-1].rev)
            # The new primary goes on with another campaign before anyone has put anything back.
            moved_on = await Publisher(new).publish(prefetched("elsewhere"))
            url = valkey.url
            primary.kill()
            await until(lambda: follower.reader.reloads, "a reload")
            await follower.becomes(BusState.OK)
            lost = [p for kept in follower.reader.retained.values() for p in kept]

            async def agreed() -> bool:
                return named(follower.reader.retained) == named(await stands_in(new))

            await until(agreed, "reader and store to agree")
            kept = await stands_in(new)
            assert [p.key for p in kept["cup"]] == [p.key for p in log if p.campaign == "cup"][1:]
            assert [p.key for p in kept["over"]] == [p.key for p in log if p.campaign == "over"]
            assert moved_on.rev in follower.revs
            assert min(p.rev for p in kept["cup"]) > moved_on.rev
            assert len(lost) >= 4
        await old.aclose()
        await new.aclose()


async def test_a_reader_of_a_replica_hears_everything_and_puts_back_into_the_primary(valkey: EmbeddedValkey) -> None:
    with listening() as (primary, port):
        written, read = connect(primary.url), connect(valkey.url)
        await replicate(read, port)
        async with following(valkey.url, primary=lambda: primary.url) as follower:
            await follower.reaches(await fill(written))
            stood = await retained_in(written)
            await written.flushall()
            count = sum(len(kept) for kept in stood.values())
            await until(lambda: follower.reader.put_back >= count, "the last to be put back")

            async def agreed() -> bool:
                there = named(await retained_in(written))
                return there == named(stood) and named(await retained_in(read)) == there

            await until(agreed, "primary and replica to have it again")
            await follower.becomes(BusState.OK)
        await written.aclose()
        await read.aclose()


@pytest.mark.parametrize("loss", ["its link", "its process"])
async def test_a_reader_whose_replica_is_lost_is_deaf_not_well_and_recovers_with_it(
    valkey: EmbeddedValkey, loss: str
) -> None:
    with listening() as (primary, port):
        written, read = connect(primary.url), connect(valkey.url)
        await replicate(read, port)
        async with following(valkey.url, primary=lambda: primary.url, silence_s=SILENCE_S) as follower:
            if loss == "its link":
                await read.replicaof("NO", "ONE")  # it answers, and hears nothing any more
            else:
                valkey.kill()
            newest = await fill(written)
            await follower.becomes(BusState.DEAF)
            assert follower.reader.position < newest
            if loss == "its process":
                valkey.start()
            await replicate(read, port)
            await follower.becomes(BusState.OK)
            await follower.reaches(newest)
        await written.aclose()
        await read.aclose()


async def test_a_put_back_that_fails_half_way_is_finished(valkey: EmbeddedValkey, redis: Redis) -> None:
    async with Wire(valkey.socket_path) as wire, following(wire.url) as follower:
        newest = await fill(redis)
        await follower.reaches(newest)
        stood = await retained_in(redis)
        tries = 0

        def second_or_third(said: bytes) -> bool:
            nonlocal tries
            # The third is the client's own repetition of the second.
            put_back = b"EVALSHA" in said and keyspace.DOORBELL.encode() in said
            tries += put_back
            return put_back and tries in (2, 3)

        wire.drops_after = second_or_third
        await redis.flushall()
        await follower.becomes(BusState.DEGRADED)
        await follower.becomes(BusState.OK)
        await follower.reaches(newest)
        assert named(await retained_in(redis)) == named(stood)
        assert follower.reader.reloads >= 2


async def test_a_reader_with_old_news_puts_nothing_over_what_came_since(valkey: EmbeddedValkey, redis: Redis) -> None:
    async with Wire(valkey.socket_path) as wire, following(wire.url) as follower:
        newest = await fill(redis)
        await follower.reaches(newest)
        await wire.cut()
        await follower.becomes(BusState.DEGRADED)
        await redis.flushall()
        close = await Publisher(redis).publish(closed())
        await wire.restore()
        await follower.becomes(BusState.OK)
        assert follower.reader.retained["cup"] == (await retained_in(redis))["cup"]
        assert [p.rev for p in follower.reader.retained["cup"]] == [close.rev]


async def test_what_came_since_for_another_lane_or_campaign_is_not_in_the_way(
    valkey: EmbeddedValkey, redis: Redis
) -> None:
    async with Wire(valkey.socket_path) as wire, following(wire.url) as follower:
        publisher = Publisher(redis)
        future = await publisher.now_ms() + HOUR_MS
        await publisher.publish(prefetched(key="old-content"))
        await publisher.publish(activated(key="struck", at=future))
        await publisher.publish(cancelled(key="strikes"))
        live = await publisher.publish(activated(key="live", at=future))
        await follower.reaches(live.rev)
        await wire.cut()
        await follower.becomes(BusState.DEGRADED)
        await redis.flushall()
        await publisher.publish(prefetched("elsewhere"))
        await publisher.publish(prefetched(key="new-content"))
        await wire.restore()
        await until(lambda: follower.reader.put_back == 3, "what nothing newer replaces")
        _, *log = await log_of(redis)
        assert [(p.key, type(p)) for p in log] == [
            ("new-content", Prefetched),
            ("struck", Cancelled),  # under its new revision it would stand
            ("strikes", Cancelled),
            ("live", Activated),
        ]
        await follower.reaches(log[-1].rev)
        assert (await publisher.publish(activated(key="struck", at=future))).repeated


async def test_publishing_goes_on_while_readers_put_back(valkey: EmbeddedValkey, redis: Redis) -> None:
    async with following(valkey.url, "one") as one, following(valkey.url, "two") as two:
        newest = await fill(redis)
        for follower in (one, two):
            await follower.reaches(newest)
        before = await retained_in(redis)
        await redis.flushall()
        await asyncio.gather(*(Publisher(redis).publish(prefetched(f"new{n}")) for n in range(20)))

        async def agreed() -> bool:
            kept = await stands_in(redis)
            return kept.keys() >= before.keys() and (
                named(one.reader.retained) == named(two.reader.retained) == named(kept)
            )

        await until(agreed, "readers and store to agree")
        kept = await stands_in(redis)
        for campaign, stood in before.items():
            assert [p.key for p in kept[campaign]] == [p.key for p in stood]
