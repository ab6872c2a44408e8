"""Presence: one record a second from every gateway worker, and their sum.

Gauges only, with a TTL: what a crashed worker counted vanishes with it, and nothing is counted twice. A
hundred million devices become a few hundred records a second, and nothing central sees a device.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

import msgspec
import structlog
from hdrh.histogram import HdrHistogram
from msgspec import Struct

from fanout import keyspace
from fanout.connect import Commands

log: Final = structlog.get_logger(__name__)

# A worker that misses this many seconds is gone: long enough for a store that pauses to save.
TTL_S: Final = 5.0
# Flip lag: 1 ms to one hour, two significant digits; some 80 bytes encoded, mergeable anywhere.
LAG_MS_MAX: Final = 3_600_000


class Group(Struct, frozen=True):
    """One campaign's audience in one worker, by the attributes it is shown by (platform, region).

    Attributes:
        connected: Devices that listen to the campaign's topic.
        ready: Of those, how many hold the bundle of the newest prefetch.
        active: Of those, how many have acted on the newest activation.
    """

    attrs: dict[str, str]
    connected: int
    ready: int
    active: int


class CampaignGauge(Struct, frozen=True):
    """One campaign in one worker.

    Attributes:
        prefetch_rev: The revision ``ready`` is about, 0 before the first prefetch.
        activate_rev: The revision ``active`` and ``flip_lag`` are about: of the newest activation that has begun, 0
            before the first.
        newest_rev: Of the newest activation the worker knows of, begun or only armed; 0 from one of a version that
            counted each from its publication on.
        failed: Devices that reported they could not, since that revision.
        flip_lag: HdrHistogram (base64) of milliseconds between slot and flip.
    """

    prefetch_rev: int
    activate_rev: int
    groups: list[Group]
    failed: int = 0
    flip_lag: str = ""
    newest_rev: int = 0


class WorkerRecord(Struct, frozen=True, kw_only=True):
    """What one gateway worker says of itself.

    Attributes:
        broadcast_per_s: How fast it wrote its newest large broadcast, devices a second; 0 before the first.
    """

    worker: str
    started_ms: int
    now_ms: int
    health: str
    bus_rev: int
    connections: int
    connects_per_s: float = 0.0
    sends_per_s: float = 0.0
    broadcast_per_s: float = 0.0
    loop_lag_ms: float = 0.0
    groups: list[Group] = []
    campaigns: dict[str, CampaignGauge] = {}


class Average(Struct, frozen=True):
    """What the workers that serve have to share among them.

    Attributes:
        workers: How many take devices; those that start or leave do not count.
        connections: How many devices they have, all together.
    """

    workers: int
    connections: int


_encoder: Final = msgspec.msgpack.Encoder()
_decoder: Final = msgspec.msgpack.Decoder(WorkerRecord)


def lag_histogram() -> HdrHistogram:
    """Return an empty histogram of milliseconds, mergeable with every other from here."""
    return HdrHistogram(1, LAG_MS_MAX, 2)


def merged_lag(encoded: Iterable[str]) -> HdrHistogram:
    """Return the sum of encoded histograms."""
    total = lag_histogram()
    for one in encoded:
        if one:
            total.decode_and_add(one)
    return total


async def write(redis: Commands, record: WorkerRecord) -> None:
    """Replace this worker's record; it expires by itself. Raises the client's errors."""
    async with redis.pipeline(transaction=False) as pipe:
        pipe.set(keyspace.presence(record.worker), _encoder.encode(record), px=int(TTL_S * 1000))
        pipe.zadd(keyspace.PRESENCE, {record.worker: record.now_ms + TTL_S * 1000})
        await pipe.execute()


async def remove(redis: Commands, worker: str) -> None:
    """Forget a worker that leaves in good order, at once."""
    async with redis.pipeline(transaction=False) as pipe:
        pipe.delete(keyspace.presence(worker))
        pipe.zrem(keyspace.PRESENCE, worker)
        await pipe.execute()


async def read_all(redis: Commands) -> list[WorkerRecord]:
    """Return the records that have not expired. Raises the client's errors."""
    workers = await redis.zrange(keyspace.PRESENCE, 0, -1)
    if not workers:
        return []
    values = await redis.mget([keyspace.presence(worker.decode()) for worker in workers])
    # The store's TTL alone says who is gone: a worker's own clock may be wrong, and must not bury the others.
    gone = [worker for worker, value in zip(workers, values, strict=True) if value is None]
    if gone:
        await redis.zrem(keyspace.PRESENCE, *gone)
    records: list[WorkerRecord] = []
    for worker, value in zip(workers, values, strict=True):
        try:
            if value is not None:
                records.append(_decoder.decode(value))
        except (msgspec.DecodeError, UnicodeDecodeError) as exc:
            log.warning("unreadable presence", worker=worker.decode(errors="replace"), error=str(exc))
    return records


async def average(redis: Commands, keep_s: float) -> Average:
    """Return what the serving workers have on average: no older than ``keep_s``. Raises the client's errors.

    Whoever finds it gone adds it up for all, so that a fleet of a thousand reads its records once and not a
    thousand times.
    """
    kept = await redis.get(keyspace.AVERAGE)
    if kept is not None:
        try:
            return msgspec.msgpack.decode(kept, type=Average)
        except msgspec.DecodeError:
            pass  # of another version: made anew
    serving = [record for record in await read_all(redis) if record.health != "unready"]
    found = Average(len(serving), sum(record.connections for record in serving))
    await redis.set(keyspace.AVERAGE, _encoder.encode(found), px=max(1, int(keep_s * 1000)))
    return found
