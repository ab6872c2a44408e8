"""Flight records: what was expected of an activation, and second by second what came of it.

Writing any part twice changes nothing, so that two recorders, while one does not know yet that the other has taken
over, make one record.
"""

from __future__ import annotations

from typing import Any, Final, Literal

import msgspec
from msgspec import Struct
from redis.asyncio import Redis

from fanout import keyspace
from fanout.connect import store_errors
from fanout.errors import NotFound
from fanout.forecast import Forecast
from fanout.readiness import Readiness

Ended = Literal["", "over", "superseded", "cancelled", "closed"]


class Sample(Struct, frozen=True, kw_only=True):
    """The fleet at one second.

    Attributes:
        second: After the activation's instant; negative before it.
    """

    second: int
    connected: int
    ready: int
    active: int
    failed: int


class Flight(Struct, frozen=True, kw_only=True):
    """One activation, from its press on.

    Attributes:
        rev: Its revision, which names it.
        at: Its instant, Unix ms.
        forecast: As of the press.
        newest: As of its newest sample; None before the first.
        ended: Why there will be no further sample, "" while there may: its tail is ``over``, another activation came
            before that (``superseded``), it was taken back before its instant (``cancelled``), or its campaign was
            ``closed``.
        samples: In order; left out in lists.
    """

    campaign: str
    title: str
    rev: int
    stage: str
    at: int
    window_ms: int
    share: float
    by: str
    reason: str
    retracts: bool
    shadow: bool
    forecast: Forecast
    newest: Readiness | None = None
    ended: Ended = ""
    samples: tuple[Sample, ...] = ()


_encoder: Final = msgspec.msgpack.Encoder()
_flight: Final = msgspec.msgpack.Decoder(Flight)
_sample: Final = msgspec.msgpack.Decoder(Sample)


class FlightStore:
    """Writes and reads flight records.

    Args:
        redis: Client of the primary.
        flights_max: How many are kept.
    """

    def __init__(self, redis: Redis, flights_max: int) -> None:
        # Any: the client's types say bytes or str, and ours always answers in bytes.
        self._redis: Any = redis
        self._flights_max = flights_max

    async def begin(self, flight: Flight) -> None:
        """Keep a new record, unless it has begun already; give up the oldest. Raises StoreUnavailable."""
        with store_errors():
            async with self._redis.pipeline(transaction=True) as pipe:
                pipe.set(keyspace.flight(flight.campaign, flight.rev), _encoder.encode(flight), nx=True)
                pipe.zadd(keyspace.FLIGHTS, {_name(flight): flight.at})
                pipe.zadd(keyspace.FLIGHTS_OPEN, {_name(flight): flight.at})
                pipe.zcard(keyspace.FLIGHTS)
                kept = (await pipe.execute())[3]
            if kept > self._flights_max:
                for name in await self._redis.zrange(keyspace.FLIGHTS, 0, kept - self._flights_max - 1):
                    campaign, rev = _named(name)
                    await self._redis.delete(keyspace.flight(campaign, rev), keyspace.samples(campaign, rev))
                    await self._redis.zrem(keyspace.FLIGHTS, name)
                    await self._redis.zrem(keyspace.FLIGHTS_OPEN, name)

    async def add(self, campaign: str, rev: int, sample: Sample) -> None:
        """Keep a sample, unless its second has one. Raises StoreUnavailable."""
        with store_errors():
            await self._redis.hsetnx(keyspace.samples(campaign, rev), sample.second, _encoder.encode(sample))

    async def keep(self, flight: Flight) -> None:
        """Keep how far it is, or how it ended. Raises StoreUnavailable."""
        with store_errors():
            async with self._redis.pipeline(transaction=True) as pipe:
                pipe.set(keyspace.flight(flight.campaign, flight.rev), _encoder.encode(flight), xx=True)
                if flight.ended:
                    pipe.zrem(keyspace.FLIGHTS_OPEN, _name(flight))
                else:
                    pipe.zadd(keyspace.FLIGHTS_OPEN, {_name(flight): flight.at})
                await pipe.execute()

    async def unfinished(self) -> list[Flight]:
        """Return the records that have not ended, without their samples. Raises StoreUnavailable."""
        with store_errors():
            names = await self._redis.zrange(keyspace.FLIGHTS_OPEN, 0, -1)
            docs = await self._redis.mget([keyspace.flight(*_named(name)) for name in names]) if names else []
        return [_flight.decode(doc) for doc in docs if doc is not None]

    async def find(self, campaign: str, rev: int) -> Flight | None:
        """Return a record without its samples, None if there is none. Raises StoreUnavailable."""
        with store_errors():
            doc = await self._redis.get(keyspace.flight(campaign, rev))
        return None if doc is None else _flight.decode(doc)

    async def get(self, campaign: str, rev: int) -> Flight:
        """Return a record with its samples. Raises NotFound, StoreUnavailable."""
        flight = await self.find(campaign, rev)
        if flight is None:
            raise NotFound(f"campaign {campaign[:80]!r} has no flight record {rev}; its list names those there are")
        with store_errors():
            samples = await self._redis.hvals(keyspace.samples(campaign, rev))
        ordered = sorted((_sample.decode(each) for each in samples), key=lambda sample: sample.second)
        return msgspec.structs.replace(flight, samples=tuple(ordered))

    async def list(self, campaign: str | None = None) -> list[Flight]:
        """Return records without their samples, the newest first. Raises StoreUnavailable."""
        with store_errors():
            names = [_named(name) for name in await self._redis.zrevrange(keyspace.FLIGHTS, 0, -1)]
            wanted = [keyspace.flight(*name) for name in names if campaign in (None, name[0])]
            docs = await self._redis.mget(wanted) if wanted else []
        return [_flight.decode(doc) for doc in docs if doc is not None]


def _name(flight: Flight) -> str:
    return f"{flight.campaign} {flight.rev}"


def _named(name: bytes) -> tuple[str, int]:
    campaign, rev = name.decode().split(" ")
    return campaign, int(rev)
