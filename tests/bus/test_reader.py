"""Laws of the reader while the store serves: everything once, in order, whatever is thrown at it."""

from __future__ import annotations

import asyncio
import time

import pytest
from redis.asyncio import Redis
from support.waiting import PATIENCE_S, until

from fanout import keyspace
from fanout.bus.publisher import Publisher
from fanout.bus.reader import BusState, Reader
from fanout.bus.retained import needed
from fanout.embedded import EmbeddedValkey

from .following import PROBE_INTERVAL_S, SILENCE_S, Follower, Wire, following
from .publications import HOUR_MS, activated, cancelled, closed, log_of, prefetched, retained_in, stands_in


async def everything_was_heard_once(follower: Follower, redis: Redis) -> None:
    """Wait for the log's end; then what the reader told must be the log."""
    log = await log_of(redis)
    await follower.reaches(log[-1].rev)
    assert follower.seen == log


async def publish(redis: Redis, count: int, campaigns: int = 3) -> None:
    for number in range(count):
        await Publisher(redis).publish(prefetched(f"c{number % campaigns}"))


async def test_a_reader_tells_everything_once_and_in_order(valkey: EmbeddedValkey, redis: Redis) -> None:
    async with following(valkey.url) as follower:
        await asyncio.gather(*(publish(redis, 20) for _ in range(5)))
        await everything_was_heard_once(follower, redis)
        assert follower.reader.retained == await stands_in(redis)
        assert follower.reader.reloads == 0


async def test_a_new_reader_is_told_what_stands_and_is_ok_only_then(valkey: EmbeddedValkey, redis: Redis) -> None:
    await publish(redis, 5)
    await Publisher(redis).publish(activated("c1"))
    await Publisher(redis).publish(closed("c2"))
    stands = await retained_in(redis)
    async with following(valkey.url) as follower:
        assert follower.seen == sorted((p for kept in stands.values() for p in kept), key=lambda p: p.rev)
        assert follower.reader.retained == stands
        assert follower.reader.position == (await log_of(redis))[-1].rev
        assert follower.states == [BusState.OK]


async def test_readers_that_start_while_others_publish_miss_nothing(valkey: EmbeddedValkey, redis: Redis) -> None:
    publishing = asyncio.create_task(publish(redis, 60))
    for number in range(5):
        async with following(valkey.url, f"reader-{number}") as follower:
            start = follower.seen[-1].rev if follower.seen else 0
            await Publisher(redis).publish(prefetched("mine"))
            log = await log_of(redis)
            await until(lambda f=follower, end=log[-1].rev: f.reader.position >= end)
            assert follower.revs == sorted(set(follower.revs))
            assert {p.rev for p in log if p.rev > start} <= set(follower.revs)
    await publishing


async def test_what_a_reader_retains_is_what_is_needed(valkey: EmbeddedValkey, redis: Redis) -> None:
    publisher = Publisher(redis)
    async with following(valkey.url) as follower:
        now_ms = await publisher.now_ms()
        for publication in (
            prefetched(),
            activated(at=now_ms - HOUR_MS),
            activated(at=now_ms + HOUR_MS),
            prefetched(),
            closed("other"),
        ):
            await publisher.publish(publication)
        log = await log_of(redis)
        await follower.reaches(log[-1].rev)
        assert follower.reader.retained["cup"] == needed([p for p in log if p.campaign == "cup"], now_ms)
        assert follower.reader.retained == await retained_in(redis)


async def test_a_killed_subscription_misses_nothing_and_repeats_nothing(valkey: EmbeddedValkey, redis: Redis) -> None:
    async with following(valkey.url, silence_s=SILENCE_S) as follower:
        publishing = asyncio.create_task(publish(redis, 150))
        for _ in range(5):
            await redis.client_kill_filter(_type="pubsub")
            heard = len(follower.seen)
            await until(lambda heard=heard: len(follower.seen) > heard or publishing.done())
        await publishing
        await everything_was_heard_once(follower, redis)
        assert follower.reader.reloads == 0


async def test_what_was_published_while_away_is_read_from_the_log(valkey: EmbeddedValkey, redis: Redis) -> None:
    async with Wire(valkey.socket_path) as wire, following(wire.url) as follower:
        await publish(redis, 3)
        await follower.reaches((await log_of(redis))[-1].rev)
        await wire.cut()
        await follower.becomes(BusState.DEGRADED)
        await publish(redis, 250)  # more than is read at once
        await wire.restore()
        await follower.becomes(BusState.OK)
        await everything_was_heard_once(follower, redis)
        assert (follower.reader.gaps, follower.reader.reloads) == (1, 0)


async def test_a_log_trimmed_past_a_reader_that_was_away_makes_it_reload(
    valkey: EmbeddedValkey, redis: Redis
) -> None:
    async with Wire(valkey.socket_path) as wire, following(wire.url) as follower:
        await publish(redis, 3)
        await follower.reaches((await log_of(redis))[-1].rev)
        await wire.cut()
        await follower.becomes(BusState.DEGRADED)
        await publish(redis, 10)
        await Publisher(redis).publish(closed("c2"))
        await redis.xtrim(keyspace.LOG, maxlen=1, approximate=False)
        await wire.restore()
        await follower.becomes(BusState.OK)
        assert follower.reader.reloads == 1
        assert follower.reader.put_back == 0
        assert follower.reader.retained == await retained_in(redis)
        assert follower.revs == sorted(set(follower.revs))
        [last] = await log_of(redis)
        assert follower.seen[-1] == last == follower.reader.retained["c2"][-1]


async def test_a_gap_in_what_the_doorbell_says_is_read_from_the_log(valkey: EmbeddedValkey, redis: Redis) -> None:
    # A log entry without a ring, then one with: the chain tells.
    async with following(valkey.url) as follower:
        await Publisher(redis).publish(prefetched())
        [first] = await log_of(redis)
        await follower.reaches(first.rev)
        silent = first.rev + 1
        [(_, fields)] = await redis.xrange(keyspace.LOG)
        await redis.xadd(keyspace.LOG, {**fields, b"prev": first.rev, b"key": "silent"}, id=f"{silent}-0")
        await Publisher(redis).publish(prefetched())
        await everything_was_heard_once(follower, redis)
        assert follower.reader.gaps == 1


async def test_an_entry_nobody_rang_for_is_found_by_the_next_probe(valkey: EmbeddedValkey, redis: Redis) -> None:
    async with following(valkey.url) as follower:
        await Publisher(redis).publish(prefetched())
        [(_, fields)] = await redis.xrange(keyspace.LOG)
        [first] = await log_of(redis)
        await redis.xadd(keyspace.LOG, {**fields, b"prev": first.rev}, id=f"{first.rev + 1}-0")
        await everything_was_heard_once(follower, redis)


@pytest.mark.parametrize(
    "garbage",
    [
        b"",
        b"not a publication",
        b"1 2",
        b"1 2 k ",
        b"\xff \xff \xff \xff",
        b"1 2 k \xc1",
        b"9999999999999 0 k \x82\xa4kind\xa6future\xa1x\x01",
        b"1 2 k " + b"\x91" * 100_000,
    ],
    ids=lambda garbage: repr(garbage[:12]),
)
async def test_what_cannot_be_read_neither_stops_a_reader_nor_breaks_the_chain(
    valkey: EmbeddedValkey, redis: Redis, garbage: bytes
) -> None:
    async with following(valkey.url) as follower:
        await publish(redis, 2)
        await redis.xadd(keyspace.LOG, {"junk": garbage})
        await redis.xadd(keyspace.LOG, {"prev": garbage, "key": garbage, "body": garbage})
        await redis.publish(keyspace.DOORBELL, garbage)
        await redis.publish(keyspace.probe("one"), garbage)
        await redis.hset(keyspace.RETAINED, garbage, garbage)
        await redis.hset(keyspace.RETAINED, "c0 1", garbage)
        await publish(redis, 2)
        log = [await_id for await_id, _ in await redis.xrange(keyspace.LOG)]
        await follower.reaches(int(log[-1].split(b"-")[0]))
        assert len(follower.seen) == 4
        assert follower.revs == sorted(set(follower.revs))
        assert (follower.reader.reloads, follower.reader.put_back) == (0, 0)
        async with following(valkey.url, "two") as newcomer:
            assert newcomer.reader.retained == follower.reader.retained


async def test_a_forged_ring_is_corrected_by_the_log(valkey: EmbeddedValkey, redis: Redis) -> None:
    async with following(valkey.url) as follower:
        await Publisher(redis).publish(prefetched())
        [real] = await log_of(redis)
        await follower.reaches(real.rev)
        entry = await redis.hget(keyspace.RETAINED, f"cup {real.rev}")
        body = entry.split(b" ", 3)[3]
        await redis.publish(keyspace.DOORBELL, f"{real.rev + HOUR_MS} {real.rev} forged ".encode() + body)
        await Publisher(redis).publish(prefetched("other"))
        await until(lambda: "other" in follower.reader.retained)


async def test_the_stores_clock_is_followed_not_this_hosts(
    valkey: EmbeddedValkey, redis: Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(time, "time", lambda: 0.0)
    now_ms = await Publisher(redis).now_ms()
    await Publisher(redis).publish(activated(at=now_ms - HOUR_MS))
    await Publisher(redis).publish(activated(at=now_ms + HOUR_MS))
    async with following(valkey.url) as follower:
        before = await Publisher(redis).now_ms()
        told = follower.reader.now_ms()
        after = await Publisher(redis).now_ms()
        # An answer is at most this much younger or older than its middle, or nobody would have waited for it.
        slack_ms = PATIENCE_S * 1000
        assert before - slack_ms <= told <= after + slack_ms
        assert len(follower.reader.retained["cup"]) == 2


async def test_a_reader_that_ends_leaves_no_connection(valkey: EmbeddedValkey, redis: Redis) -> None:
    for _ in range(3):
        async with following(valkey.url) as follower:
            assert follower.connects == 2

    async def alone() -> bool:
        return len(await redis.client_list()) == 1

    await until(alone, "the reader's connections to end")


def test_the_probes_here_are_short() -> None:
    assert PROBE_INTERVAL_S < SILENCE_S <= 2


async def test_nobody_is_told_to_do_what_was_struck_while_a_reader_was_away(
    valkey: EmbeddedValkey, redis: Redis
) -> None:
    publisher = Publisher(redis)
    async with Wire(valkey.socket_path) as wire, following(wire.url) as follower:
        now_ms = await publisher.now_ms()
        shown = await publisher.publish(activated(at=now_ms - HOUR_MS))
        await follower.reaches(shown.rev)
        await wire.cut()
        await follower.becomes(BusState.DEGRADED)
        # By the time it is back, their instants have come: devices would act on them at once.
        armed = await publisher.publish(activated(at=now_ms + HOUR_MS))
        moved = await publisher.publish(activated(at=now_ms + HOUR_MS))
        await publish(redis, 250)  # more than is read at once
        cancel = await publisher.publish(cancelled())
        await publisher.publish(activated("gone", at=now_ms - HOUR_MS))
        closing = await publisher.publish(closed("gone"))
        await wire.restore()
        await follower.reaches(closing.rev)
        of_both = [p.rev for p in follower.seen if p.campaign in ("cup", "gone")]
        assert of_both == [shown.rev, cancel.rev, closing.rev]
        # Whoever comes next is told all of it, in one message.
        assert [p.rev for p in follower.reader.retained["cup"]] == [shown.rev, armed.rev, moved.rev, cancel.rev]
        assert follower.reader.retained == await retained_in(redis)


async def test_a_reader_that_starts_after_the_instant_of_what_was_struck_knows_what_stands(
    valkey: EmbeddedValkey, redis: Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    publisher = Publisher(redis)
    now_ms = await publisher.now_ms()
    shown = await publisher.publish(activated(at=now_ms - HOUR_MS))
    armed = await publisher.publish(activated(at=now_ms + HOUR_MS))
    cancel = await publisher.publish(cancelled())
    monkeypatch.setattr(Reader, "now_ms", lambda _: now_ms + 2 * HOUR_MS)
    async with following(valkey.url) as follower:
        assert [p.rev for p in follower.reader.retained["cup"]] == [shown.rev, armed.rev, cancel.rev]
        assert [p.rev for p in follower.seen] == [shown.rev, cancel.rev]
