"""Making publications, and reading back what the store made of them. Knows nothing of what is tested."""

from __future__ import annotations

import itertools
from typing import Final

from redis.asyncio import Redis

from fanout import keyspace, wire
from fanout.bus.entry import from_doorbell, from_stream
from fanout.bus.publication import Activated, Cancelled, Closed, Prefetched, Publication, Variant
from fanout.bus.retained import needed

ALL: Final = (Variant({}, wire.Bundle("0" * 64, 2)),)
HOUR_MS: Final = 3_600_000
_numbers: Final = itertools.count(1)


def a_key() -> str:
    """Return a key that was not used yet."""
    return f"key-{next(_numbers)}"


def prefetched(campaign: str = "cup", key: str = "") -> Prefetched:
    return Prefetched(campaign=campaign, topic="sport", key=key or a_key(), variants=ALL, from_ms=0, window_ms=1_000)


def activated(campaign: str = "cup", key: str = "", at: int = 0, share: float = 1.0) -> Activated:
    return Activated(
        campaign=campaign,
        topic="sport",
        key=key or a_key(),
        variants=ALL,
        stage="live",
        at=at,
        window_ms=1_000,
        share=share,
    )


def cancelled(campaign: str = "cup", key: str = "") -> Cancelled:
    return Cancelled(campaign=campaign, topic="sport", key=key or a_key())


def closed(campaign: str = "cup", key: str = "") -> Closed:
    return Closed(campaign=campaign, topic="sport", key=key or a_key())


async def log_of(redis: Redis) -> list[Publication]:
    """Return every publication in the store's log, in order."""
    return [from_stream(stream_id, fields) for stream_id, fields in await redis.xrange(keyspace.LOG)]


async def retained_in(redis: Redis) -> dict[str, list[Publication]]:
    """Return what the store retains, by campaign, in order of revision."""
    found: dict[str, list[Publication]] = {}
    for value in await redis.hvals(keyspace.RETAINED):
        publication = from_doorbell(value)
        found.setdefault(publication.campaign, []).append(publication)
    return {campaign: sorted(kept, key=lambda p: p.rev) for campaign, kept in found.items()}


def named(retained: dict[str, list[Publication]]) -> dict[str, list[tuple[int, str]]]:
    """Return revisions and keys: what is the same for an entry and for its restored copy."""
    return {campaign: [(p.rev, p.key) for p in kept] for campaign, kept in retained.items()}


async def stands_in(redis: Redis) -> dict[str, list[Publication]]:
    """Return what readers make of what the store retains.

    Racing publishers and put-backs leave more than is needed there, until the campaign's next publication.
    """
    seconds, _ = await redis.time()
    return {c: needed(kept, int(seconds) * 1000) for c, kept in (await retained_in(redis)).items()}


async def everything_in(redis: Redis) -> dict[bytes, bytes]:
    """Return the store's whole content, to see whether anything changed."""
    return {name: await redis.dump(name) for name in await redis.keys("*")}
