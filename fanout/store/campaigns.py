"""Campaign records. Owns how a record is read, listed and created.

Every later change of a record is written by the publication that causes it, in the bus's own script, so this
module has no update. It knows nothing of phases: it stores what `fanout.campaign` decides.
"""

from __future__ import annotations

from typing import Any, Final

import msgspec
from redis.asyncio import Redis

from fanout import keyspace
from fanout.bus.publisher import Record
from fanout.campaign import Campaign
from fanout.connect import store_errors
from fanout.errors import NotFound

# The record is written before its publication has a revision, so the script leaves the revision beside it.
REV_PREFETCH: Final = "rev:prefetch"
REV_ACTIVATE: Final = "rev:activate"

_CREATE: Final = """
if redis.call('EXISTS', KEYS[1]) == 1 then return 0 end
redis.call('HSET', KEYS[1], 'doc', ARGV[1], 'version', ARGV[2])
redis.call('SADD', KEYS[2], ARGV[3])
return 1
"""

_encoder: Final = msgspec.msgpack.Encoder()
_decoder: Final = msgspec.msgpack.Decoder(Campaign)


def record(before: Campaign, after: Campaign, rev_field: str = "", deadline_ms: int | None = None) -> Record:
    """Return what the bus is to write when it publishes the change from ``before`` to ``after``.

    Args:
        rev_field: Where the record keeps the publication's revision, "" for nowhere.
        deadline_ms: An instant on whose not having come the change rests, None for none.
    """
    assert after.version == before.version + 1, "one publication is one version"
    return Record(before.version, _encoder.encode(after), rev_field, deadline_ms)


def with_rev(campaign: Campaign, rev_field: str, rev: int) -> Campaign:
    """Return the campaign with the revision that the log gave to its newest prefetch or activation.

    Only where none is known yet: after a cancel, the field still holds the revision of what was cancelled,
    and the activation that stands again brought its own.
    """
    if rev_field == REV_PREFETCH and campaign.prefetch is not None and campaign.prefetch.rev == 0:
        return msgspec.structs.replace(campaign, prefetch=msgspec.structs.replace(campaign.prefetch, rev=rev))
    if rev_field == REV_ACTIVATE and campaign.activation is not None and campaign.activation.rev == 0:
        activation = msgspec.structs.replace(campaign.activation, rev=rev)
        return msgspec.structs.replace(campaign, activation=activation)
    return campaign


class CampaignStore:
    """Reads and creates campaign records.

    Args:
        redis: Client of the primary.
    """

    def __init__(self, redis: Redis) -> None:
        # Any: the client's types say bytes or str, and ours always answers in bytes.
        self._redis: Any = redis
        self._create = redis.register_script(_CREATE)

    async def create(self, campaign: Campaign) -> bool:
        """Store a new campaign.

        Returns:
            False if one with this id exists already; it is left alone.
        Raises:
            StoreUnavailable: The store did not answer. Creating again is safe.
        """
        with store_errors():
            created = await self._create(
                keys=[keyspace.campaign(campaign.id), keyspace.CAMPAIGNS],
                args=[_encoder.encode(campaign), campaign.version, campaign.id],
            )
        return int(created) == 1

    async def get(self, campaign_id: str) -> Campaign:
        """Return the campaign as of its last change.

        Raises:
            NotFound: There is no campaign of this id.
            StoreUnavailable: The store did not answer.
        """
        with store_errors():
            fields = await self._redis.hgetall(keyspace.campaign(campaign_id))
        if b"doc" not in fields:
            raise NotFound(f"there is no campaign {campaign_id[:80]!r}; GET /v1/campaigns lists them")
        return _read(fields)

    async def list(self) -> list[Campaign]:
        """Return every campaign, the newest change first. Raises StoreUnavailable."""
        with store_errors():
            ids = await self._redis.smembers(keyspace.CAMPAIGNS)
            async with self._redis.pipeline(transaction=False) as pipe:
                for campaign_id in ids:
                    pipe.hgetall(keyspace.campaign(campaign_id.decode()))
                records = await pipe.execute()
        found = [_read(fields) for fields in records if b"doc" in fields]
        return sorted(found, key=lambda c: (-c.updated_ms, c.id))


def _read(fields: dict[bytes, bytes]) -> Campaign:
    campaign = _decoder.decode(fields[b"doc"])
    for rev_field in (REV_PREFETCH, REV_ACTIVATE):
        if rev := fields.get(rev_field.encode()):
            campaign = with_rev(campaign, rev_field, int(rev))
    return campaign
