"""Laws of publishing: once for a key, in a chain, together with the record, or not at all."""

from __future__ import annotations

import asyncio
import random
import time

import pytest
from redis.asyncio import Redis
from support.waiting import PATIENCE_S

from fanout import keyspace
from fanout.bus.entry import retained_name
from fanout.bus.publication import Publication
from fanout.bus.publisher import Publisher, PutBack, Record, receipt_of, retained_fields
from fanout.bus.retained import Lost, needed
from fanout.connect import connect
from fanout.embedded import EmbeddedValkey
from fanout.errors import StoreUnavailable, TooLate, VersionConflict

from .publications import (
    HOUR_MS,
    a_key,
    activated,
    cancelled,
    closed,
    everything_in,
    log_of,
    prefetched,
    retained_in,
)


@pytest.fixture
def publisher(redis: Redis) -> Publisher:
    return Publisher(redis)


async def test_a_key_publishes_once_and_gets_the_first_answer_again(publisher: Publisher, redis: Redis) -> None:
    first = await publisher.publish(prefetched(key="k"), digest="asked")
    again = await publisher.publish(activated(key="k"), digest="another")
    assert not first.repeated
    assert again.repeated
    assert (again.rev, again.prev, again.digest) == (first.rev, first.prev, "asked")
    assert [p.key for p in await log_of(redis)] == ["k"]
    outcome = receipt_of(await redis.get(keyspace.outcome("k")))
    assert outcome is not None
    assert (outcome.rev, outcome.prev, outcome.digest) == (first.rev, first.prev, "asked")
    assert receipt_of(await redis.get(keyspace.outcome("unheard-of"))) is None


async def test_fifty_at_once_with_one_key_make_one_entry(publisher: Publisher, redis: Redis) -> None:
    receipts = await asyncio.gather(*(publisher.publish(prefetched(key="k")) for _ in range(50)))
    assert len({(r.rev, r.prev, r.digest) for r in receipts}) == 1
    assert [r.repeated for r in receipts].count(False) == 1
    assert len(await log_of(redis)) == 1


async def test_concurrent_publications_form_one_chain_of_rising_revisions(publisher: Publisher, redis: Redis) -> None:
    receipts = await asyncio.gather(*(publisher.publish(prefetched(f"c{n % 3}")) for n in range(40)))
    log = await log_of(redis)
    assert [p.prev for p in log] == [0, *(p.rev for p in log[:-1])]
    assert sorted((r.rev, r.prev) for r in receipts) == [(p.rev, p.prev) for p in log]


async def test_a_revision_is_the_stores_clock(publisher: Publisher) -> None:
    before = await publisher.now_ms()
    receipt = await publisher.publish(prefetched())
    assert before <= receipt.rev <= await publisher.now_ms()


async def test_revisions_rise_when_the_stores_clock_goes_back(publisher: Publisher, redis: Redis) -> None:
    future = await publisher.now_ms() + HOUR_MS
    await redis.xadd(keyspace.LOG, {"prev": 0, "key": "k", "body": b""}, id=f"{future}-0")
    receipts = [await publisher.publish(prefetched()) for _ in range(3)]
    assert [(r.rev, r.prev) for r in receipts] == [(future + n + 1, future + n) for n in range(3)]


async def test_what_is_published_is_what_the_log_the_doorbell_and_the_retained_state_hold(
    publisher: Publisher, redis: Redis
) -> None:
    async with redis.pubsub() as pubsub:
        await pubsub.subscribe(keyspace.DOORBELL)
        assert (await pubsub.get_message(timeout=PATIENCE_S))["type"] == "subscribe"
        receipt = await publisher.publish(prefetched(key="k"))
        rung = (await pubsub.get_message(timeout=PATIENCE_S))["data"]
    fields = await retained_fields(redis, "cup", await redis.hkeys(keyspace.RETAINED))
    [published] = await log_of(redis)
    assert (published.rev, published.prev, published.key) == (receipt.rev, receipt.prev, "k")
    assert fields == {f"cup {receipt.rev}": published}
    assert rung == await redis.hget(keyspace.RETAINED, f"cup {receipt.rev}")


async def test_the_record_is_written_with_the_entry(publisher: Publisher, redis: Redis) -> None:
    receipt = await publisher.publish(prefetched(), record=Record(0, b"doc", "rev:prefetch"))
    assert await redis.hgetall(keyspace.campaign("cup")) == {
        b"doc": b"doc",
        b"version": b"1",
        b"rev:prefetch": str(receipt.rev).encode(),
    }


async def test_a_version_conflict_changes_nothing(publisher: Publisher, redis: Redis) -> None:
    await publisher.publish(prefetched(), record=Record(0, b"one"))
    before = await everything_in(redis)
    with pytest.raises(VersionConflict) as refused:
        await publisher.publish(activated(), record=Record(0, b"two"))
    assert (refused.value.sent, refused.value.current) == (0, 1)
    assert await everything_in(redis) == before


async def test_after_its_deadline_nothing_is_changed(publisher: Publisher, redis: Redis) -> None:
    await publisher.publish(prefetched(), record=Record(0, b"one"))
    before = await everything_in(redis)
    with pytest.raises(TooLate):
        await publisher.publish(activated(), record=Record(1, b"two", deadline_ms=await publisher.now_ms()))
    assert await everything_in(redis) == before
    await publisher.publish(activated(), record=Record(1, b"two", deadline_ms=await publisher.now_ms() + HOUR_MS))


async def test_of_racing_changes_to_one_record_one_wins(publisher: Publisher, redis: Redis) -> None:
    tries = [publisher.publish(activated(), record=Record(0, str(n).encode())) for n in range(10)]
    results = await asyncio.gather(*tries, return_exceptions=True)
    assert sum(isinstance(r, VersionConflict) for r in results) == 9
    assert len(await log_of(redis)) == 1
    assert await redis.hget(keyspace.campaign("cup"), "version") == b"1"


@pytest.mark.parametrize("seed", range(4))
async def test_the_store_retains_exactly_what_is_needed(publisher: Publisher, redis: Redis, seed: int) -> None:
    rng = random.Random(seed)
    for _ in range(25):
        campaign = rng.choice(["cup", "cup2", "x"])
        now_ms = await publisher.now_ms()
        at = now_ms + rng.choice([-HOUR_MS, HOUR_MS])
        kinds: list[Publication] = [
            prefetched(campaign),
            activated(campaign, at=at),
            activated(campaign, at=at, share=0.5),
            cancelled(campaign),
            closed(campaign),
        ]
        await publisher.publish(rng.choices(kinds, [3, 6, 3, 2, 1])[0])
        log = await log_of(redis)
        expected = {
            c: needed([p for p in log if p.campaign == c], await publisher.now_ms())
            for c in {p.campaign for p in log}
        }
        assert await retained_in(redis) == expected


async def test_a_closed_campaign_keeps_only_its_close(publisher: Publisher, redis: Redis) -> None:
    await publisher.publish(prefetched())
    await publisher.publish(activated())
    other = await publisher.publish(prefetched("other"))
    close = await publisher.publish(closed())
    assert set(await redis.hkeys(keyspace.RETAINED)) == {
        f"other {other.rev}".encode(),
        f"cup {close.rev}".encode(),
    }


async def test_what_cannot_be_read_of_a_campaign_neither_stops_it_nor_is_dropped(
    publisher: Publisher, redis: Redis
) -> None:
    await redis.hset(keyspace.RETAINED, "cup 7", "from the future")
    await publisher.publish(prefetched())
    await publisher.publish(closed())
    assert await redis.hget(keyspace.RETAINED, "cup 7") == b"from the future"


async def test_a_put_back_keeps_its_revision_and_is_done_once(publisher: Publisher, redis: Redis) -> None:
    await publisher.publish(prefetched())
    [lost] = await log_of(redis)
    await redis.flushall()
    assert [await publisher.put_back(Lost(lost, [])) for _ in range(2)] == [PutBack.DONE, PutBack.KNOWN]
    assert await log_of(redis) == [lost]
    again = await publisher.publish(prefetched(key=lost.key), digest="asked")
    assert again.repeated
    assert again.rev == lost.rev
    assert again.digest == ""


async def test_what_was_lost_together_is_put_back_together_though_the_log_has_moved_on(
    publisher: Publisher, redis: Redis
) -> None:
    await publisher.publish(prefetched())
    await publisher.publish(activated())
    lost = await log_of(redis)
    await redis.flushall()
    elsewhere = await publisher.publish(prefetched("other"))
    assert [await publisher.put_back(Lost(p, [])) for p in lost] == [PutBack.DONE] * 2
    restored = (await retained_in(redis))["cup"]
    assert [p.key for p in restored] == [p.key for p in lost]
    assert [p.rev for p in restored] == [elsewhere.rev + 1, elsewhere.rev + 2]
    names = [retained_name(name) for name in await redis.hkeys(keyspace.RETAINED)]
    assert [rev for campaign, rev in names if campaign == "cup"] == [p.rev for p in lost]


async def test_nothing_is_put_back_over_something_newer(publisher: Publisher, redis: Redis) -> None:
    await publisher.publish(prefetched())
    [lost] = await log_of(redis)
    await redis.flushall()
    await publisher.publish(cancelled())
    [seen] = await redis.hkeys(keyspace.RETAINED)
    await publisher.publish(activated("other"))
    await publisher.publish(activated())
    before = await everything_in(redis)
    for beside in ([], [seen.decode()]):
        assert await publisher.put_back(Lost(lost, beside)) is PutBack.NEWER
    assert await everything_in(redis) == before


async def test_what_was_looked_at_and_is_not_in_the_way_stays_beside_what_is_put_back(
    publisher: Publisher, redis: Redis
) -> None:
    await publisher.publish(activated())
    [lost] = await log_of(redis)
    await redis.flushall()
    await publisher.publish(prefetched())
    [seen] = await redis.hkeys(keyspace.RETAINED)
    assert await publisher.put_back(Lost(lost, [seen.decode()])) is PutBack.DONE
    [kept, restored] = (await retained_in(redis))["cup"]
    assert f"cup {kept.rev}".encode() == seen
    assert restored.key == lost.key


async def test_a_stopped_store_is_unavailable_and_nothing_was_changed(valkey: EmbeddedValkey) -> None:
    redis = connect(valkey.url)
    publisher = Publisher(redis)
    await publisher.publish(prefetched(key="before"))
    valkey.stop_process()
    key = a_key()
    with pytest.raises(StoreUnavailable):
        await publisher.publish(prefetched(key=key))
    for ask in (publisher.now_ms, lambda: publisher.put_back(Lost(prefetched(), []))):
        with pytest.raises(StoreUnavailable):
            await ask()
    valkey.start()
    assert await redis.get(keyspace.outcome(key)) is None
    assert [p.key for p in await log_of(redis)] == ["before"]
    await redis.aclose()


@pytest.mark.parametrize(
    "setting",
    [("min-replicas-to-write", "1"), ("maxmemory", "1")],
    ids=lambda pair: pair[0],
)
async def test_a_store_that_refuses_writes_is_unavailable_and_nothing_was_changed(
    publisher: Publisher, valkey: EmbeddedValkey, redis: Redis, setting: tuple[str, str]
) -> None:
    await publisher.publish(prefetched())
    before = await everything_in(redis)
    await redis.config_set(*setting)
    with pytest.raises(StoreUnavailable):
        await publisher.publish(activated())
    await redis.config_set(setting[0], "0")
    assert await everything_in(redis) == before


async def test_an_outcome_is_remembered_for_a_day_and_no_two_expire_together(
    publisher: Publisher, redis: Redis
) -> None:
    keys = [a_key() for _ in range(20)]
    for key in keys:
        await publisher.publish(prefetched(key=key))
    lives_ms = [await redis.pttl(keyspace.outcome(key)) for key in keys]
    day_ms = 24 * HOUR_MS
    assert all(day_ms * 0.99 < life <= day_ms * 1.11 for life in lives_ms)
    assert max(lives_ms) - min(lives_ms) > day_ms / 100


async def test_a_published_instant_comes_from_the_store_not_from_here(
    publisher: Publisher, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(time, "time", lambda: 0.0)
    assert (await publisher.publish(prefetched())).rev > HOUR_MS
