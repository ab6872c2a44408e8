"""Laws of the answer "accepted": nobody gives it before a replica, a file or a gateway has the entry."""

from __future__ import annotations

import asyncio
from contextlib import ExitStack

import pytest
from redis.asyncio import Redis
from support.waiting import until

from fanout.bus import presence
from fanout.bus.presence import WorkerRecord
from fanout.bus.publisher import Publisher
from fanout.connect import connect
from fanout.embedded import EmbeddedValkey
from fanout.errors import OutcomeUnknown, StoreUnavailable

from .publications import log_of, prefetched
from .servers import frozen, listening, replicate

NO_FILE = {"appendonly": "no"}
# How long publishers wait to be vouched for that nobody vouches for: to run into it must not take long. The others
# have the time that they have everywhere.
SAFE_S = 0.3


def applied(rev: int) -> WorkerRecord:
    return WorkerRecord(worker="one", started_ms=0, now_ms=0, health="ok", bus_rev=rev, connections=0)


async def test_a_synced_file_vouches(redis: Redis) -> None:
    receipt = await Publisher(redis).publish(prefetched())
    assert not receipt.repeated


async def test_what_nobody_vouches_for_is_unknown_until_a_gateway_has_applied_it() -> None:
    with EmbeddedValkey(options=NO_FILE) as server:
        redis = connect(server.url)
        publisher = Publisher(redis, safe_timeout_s=SAFE_S)
        with pytest.raises(OutcomeUnknown) as unknown:
            await publisher.publish(prefetched(key="k"))
        assert unknown.value.key == "k"
        [published] = await log_of(redis)
        await presence.write(redis, applied(published.rev - 1))
        with pytest.raises(OutcomeUnknown):
            await publisher.publish(prefetched(key="k"))
        await presence.write(redis, applied(published.rev))
        receipt = await Publisher(redis).publish(prefetched(key="k"))
        assert receipt.repeated
        assert receipt.rev == published.rev
        assert await log_of(redis) == [published]
        await redis.aclose()


async def test_a_gateway_that_applies_it_while_the_publisher_waits_vouches() -> None:
    with EmbeddedValkey(options=NO_FILE) as server:
        redis = connect(server.url)
        publishing = asyncio.create_task(Publisher(redis, safe_timeout_s=20).publish(prefetched()))
        [published] = await until(lambda: log_of(redis), "the entry")
        await presence.write(redis, applied(published.rev))
        assert (await publishing).rev == published.rev
        await redis.aclose()


async def test_a_replica_vouches_where_no_file_is_kept_also_for_a_repeated_key(valkey: EmbeddedValkey) -> None:
    with listening(NO_FILE) as (primary, port):
        redis, other = connect(primary.url), connect(valkey.url)
        await replicate(other, port)
        publisher = Publisher(redis, safe_timeout_s=10)
        first = await publisher.publish(prefetched(key="k"))
        assert [p.rev for p in await log_of(other)] == [first.rev]
        again = await publisher.publish(prefetched(key="k"))
        assert again.repeated
        await redis.aclose()
        await other.aclose()


async def test_a_replica_that_hangs_vouches_for_nothing_but_a_gateway_still_may(valkey: EmbeddedValkey) -> None:
    with listening(NO_FILE) as (primary, port):
        redis, fresh, other = connect(primary.url), connect(primary.url), connect(valkey.url)
        await replicate(other, port)
        with frozen(valkey):
            # The repetition comes over a connection that has written nothing, and is no safer for it.
            for client in (redis, fresh):
                with pytest.raises(OutcomeUnknown):
                    await Publisher(client, safe_timeout_s=SAFE_S).publish(prefetched(key="k"))
            [published] = await log_of(redis)
            await presence.write(redis, applied(published.rev))
            assert (await Publisher(redis).publish(prefetched(key="k"))).repeated
        for client in (redis, fresh, other):
            await client.aclose()


async def test_a_replica_that_hangs_keeps_no_gateway_from_vouching(valkey: EmbeddedValkey) -> None:
    with listening(NO_FILE) as (primary, port):
        redis, other = connect(primary.url), connect(valkey.url)
        await replicate(other, port)

        async def waiting() -> list[str]:
            return [c["id"] for c in await redis.client_list() if c["cmd"] == "wait"]

        with frozen(valkey):
            # Nobody would wait this long for the replica.
            publishing = asyncio.create_task(Publisher(redis, safe_timeout_s=3_600).publish(prefetched(key="k")))
            await until(waiting, "WAIT")
            [published] = await log_of(redis)
            await presence.write(redis, applied(published.rev))
            assert (await publishing).rev == published.rev

            async def left() -> bool:
                return not await waiting()

            await until(left, "the blocked connection to end")
        # Nor is an answer left for somebody else to find.
        assert await asyncio.gather(*(redis.echo(str(n)) for n in range(5))) == [b"0", b"1", b"2", b"3", b"4"]
        assert (await Publisher(redis).publish(prefetched(key="k"))).repeated
        await redis.aclose()
        await other.aclose()


@pytest.mark.parametrize("failure", ["stopped", "killed"])
async def test_a_store_that_falls_silent_while_it_is_asked_leaves_the_outcome_unknown(
    valkey: EmbeddedValkey, failure: str
) -> None:
    with listening() as (primary, port):
        redis, watch, other = connect(primary.url), connect(primary.url), connect(valkey.url)
        await replicate(other, port)
        with frozen(valkey), ExitStack() as until_told:
            # Time enough to be seen waiting.
            publishing = asyncio.create_task(Publisher(redis, safe_timeout_s=3).publish(prefetched(key="k")))

            async def waiting() -> list[str]:
                return [str(c["id"]) for c in await watch.client_list() if c["cmd"] == "wait"]

            [client] = await until(waiting, "WAIT")
            if failure == "stopped":
                until_told.enter_context(frozen(primary))
            else:
                await watch.client_kill_filter(_id=client)
            with pytest.raises(OutcomeUnknown):
                await publishing
        # Late answers must not be taken for answers to something else.
        assert await asyncio.gather(*(redis.echo(str(n)) for n in range(5))) == [b"0", b"1", b"2", b"3", b"4"]
        receipt = await Publisher(redis).publish(prefetched(key="k"))
        assert receipt.repeated
        assert [p.rev for p in await log_of(watch)] == [receipt.rev]
        for client_of in (redis, watch, other):
            await client_of.aclose()


async def test_a_stopped_store_gives_one_publication_when_it_goes_on(valkey: EmbeddedValkey) -> None:
    redis = connect(valkey.url)
    publisher = Publisher(redis)
    await redis.ping()
    with frozen(valkey), pytest.raises((OutcomeUnknown, StoreUnavailable)):
        await publisher.publish(prefetched(key="k"))
    receipt = await publisher.publish(prefetched(key="k"))
    assert [(p.rev, p.key) for p in await log_of(redis)] == [(receipt.rev, "k")]
    await redis.aclose()


async def test_a_replica_takes_no_publications(valkey: EmbeddedValkey) -> None:
    with listening() as (_, port):
        redis = connect(valkey.url)
        await replicate(redis, port)
        with pytest.raises(StoreUnavailable):
            await Publisher(redis).publish(prefetched())
        await redis.aclose()


async def test_publishing_leaves_no_connection_in_use(redis: Redis) -> None:
    publisher = Publisher(redis)
    for _ in range(20):
        await publisher.publish(prefetched())
    # One to publish; and one to ask the gateways, if the store is slow to vouch for the first.
    assert len(await redis.client_list()) <= 2
