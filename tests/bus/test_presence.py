"""Laws of presence: what a worker said last, for as long as it lives, and sums that lose nothing."""

from __future__ import annotations

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from redis.asyncio import Redis
from support.waiting import until

from fanout import keyspace
from fanout.bus import presence
from fanout.bus.presence import CampaignGauge, Group, WorkerRecord, lag_histogram, merged_lag


def record(worker: str, connections: int = 0, now_ms: int = 0) -> WorkerRecord:
    group = Group({"platform": "tv"}, connected=connections, ready=1, active=0)
    return WorkerRecord(
        worker=worker,
        started_ms=1,
        now_ms=now_ms,
        health="ok",
        bus_rev=7,
        connections=connections,
        groups=[group],
        campaigns={"cup": CampaignGauge(prefetch_rev=5, activate_rev=7, groups=[group], failed=2, flip_lag="")},
    )


async def workers(redis: Redis) -> list[str]:
    return sorted(one.worker for one in await presence.read_all(redis))


async def test_what_a_worker_writes_is_what_is_read_and_replaces_what_it_said_before(redis: Redis) -> None:
    assert await presence.read_all(redis) == []
    await presence.write(redis, record("a", 1))
    await presence.write(redis, record("b", 2))
    await presence.write(redis, record("a", 3))
    assert sorted(await presence.read_all(redis), key=lambda one: one.worker) == [record("a", 3), record("b", 2)]


async def test_a_worker_that_falls_silent_is_forgotten(redis: Redis) -> None:
    await presence.write(redis, record("a"))
    await presence.write(redis, record("b"))
    assert 0 < await redis.pttl(keyspace.presence("a")) <= presence.TTL_S * 1000
    await redis.pexpire(keyspace.presence("a"), 1)

    async def forgotten() -> bool:
        return await workers(redis) == ["b"]

    await until(forgotten)
    assert await redis.zrange(keyspace.PRESENCE, 0, -1) == [b"b"]
    await presence.write(redis, record("a"))
    assert await workers(redis) == ["a", "b"]


async def test_a_worker_that_leaves_is_forgotten_at_once(redis: Redis) -> None:
    await presence.write(redis, record("a"))
    await presence.write(redis, record("b"))
    await presence.remove(redis, "a")
    await presence.remove(redis, "never-there")
    assert await workers(redis) == ["b"]
    assert await redis.exists(keyspace.presence("a")) == 0


async def test_a_worker_whose_clock_is_wrong_buries_nobody(redis: Redis) -> None:
    year_ms = 365 * 24 * 3_600_000
    for worker, now_ms in (("late", 0), ("right", 10 * year_ms), ("early", 20 * year_ms)):
        await presence.write(redis, record(worker, now_ms=now_ms))
    assert await workers(redis) == ["early", "late", "right"]


@pytest.mark.parametrize("garbage", [b"", b"\xc1", msgspec.msgpack.encode({"worker": 7})])
async def test_a_record_that_cannot_be_read_hides_no_other(redis: Redis, garbage: bytes) -> None:
    await presence.write(redis, record("a"))
    await presence.write(redis, record("b"))
    await redis.set(keyspace.presence("a"), garbage)
    assert await workers(redis) == ["b"]


async def test_a_field_that_is_not_known_yet_is_ignored(redis: Redis) -> None:
    await presence.write(redis, record("a"))
    newer = {**msgspec.to_builtins(record("a", 5)), "of_the_future": 1}
    await redis.set(keyspace.presence("a"), msgspec.msgpack.encode(newer))
    assert await presence.read_all(redis) == [record("a", 5)]


LAGS = st.lists(st.integers(1, presence.LAG_MS_MAX), max_size=50)


@given(st.lists(LAGS, max_size=5))
def test_merged_histograms_are_the_histogram_of_everything(parts: list[list[int]]) -> None:
    everything = lag_histogram()
    encoded = [""]
    for part in parts:
        one = lag_histogram()
        for lag_ms in part:
            one.record_value(lag_ms)
            everything.record_value(lag_ms)
        encoded.append(one.encode().decode())
    merged = merged_lag(encoded)
    assert merged.get_total_count() == everything.get_total_count() == sum(map(len, parts))
    for percentile in (0, 50, 99, 100):
        assert merged.get_value_at_percentile(percentile) == everything.get_value_at_percentile(percentile)
