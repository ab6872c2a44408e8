"""Reading what the fleet says of itself out of the store, for `fanout.readiness` to add up."""

from __future__ import annotations

from typing import Any

from redis.asyncio import Redis

from fanout import keyspace
from fanout.bus import presence
from fanout.bus.entry import rev_of
from fanout.bus.presence import WorkerRecord
from fanout.campaign import Campaign
from fanout.connect import store_errors
from fanout.readiness import Fleet, Readiness, fleet, readiness


class Observer:
    """Looks at the fleet through presence records.

    Args:
        redis: Client of the primary.
    """

    def __init__(self, redis: Redis) -> None:
        self._redis = redis

    async def readiness(self, campaign: Campaign, now_ms: int) -> Readiness:
        """Return one campaign across the fleet. Raises StoreUnavailable."""
        return (await self.both(campaign, now_ms))[0]

    async def both(self, campaign: Campaign, now_ms: int) -> tuple[Readiness, list[WorkerRecord]]:
        """Return one campaign across the fleet, and what it was added up from. Raises StoreUnavailable."""
        with store_errors():
            records = await presence.read_all(self._redis)
        return readiness(campaign, records, now_ms), records

    async def fleet(self, now_ms: int) -> Fleet:
        """Return every worker and their sums. Raises StoreUnavailable."""
        records, bus_rev = await self.records()
        return fleet(records, bus_rev, now_ms)

    async def records(self) -> tuple[list[WorkerRecord], int]:
        """Return what every worker says, and the log's newest revision. Raises StoreUnavailable."""
        with store_errors():
            records = await presence.read_all(self._redis)
            newest: Any = await self._redis.xrevrange(keyspace.LOG, count=1)
        return records, rev_of(newest[0][0]) if newest else 0
