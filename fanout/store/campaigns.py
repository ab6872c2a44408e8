"""Campaign records. Owns how a record is read, listed and written.

A change that devices are told of is written by its publication, in the bus's own script; all others are written
here. Either way the record's version and the audit chain decide together: both go on by one, or nothing happens.
Knows nothing of phases: it stores what `fanout.campaign` decides.
"""

from __future__ import annotations

from typing import Any, Final

import msgspec
from msgspec import Struct
from redis.asyncio import Redis

from fanout import keyspace
from fanout.bus.publisher import Receipt, Record, receipt_of, unix_ms
from fanout.campaign import Campaign
from fanout.connect import store_errors
from fanout.errors import ChainMoved, NotFound, VersionConflict
from fanout.store.audit import Head, Sealed, ask_head, head_of

# The record is written before its publication has a revision, so the script leaves the revision beside it.
REV_PREFETCH: Final = "rev:prefetch"
REV_ACTIVATE: Final = "rev:activate"

_WRITE: Final = """
local version = redis.call('HGET', KEYS[1], 'version') or '0'
if version ~= ARGV[1] then return {'conflict', version} end
local last = redis.call('LINDEX', KEYS[3], -1)
local hash = last and string.sub(last, 1, 64) or string.rep('0', 64)
if hash ~= ARGV[4] then return {'moved', hash} end
redis.call('HSET', KEYS[1], 'doc', ARGV[2], 'version', tonumber(ARGV[1]) + 1)
redis.call('SADD', KEYS[2], ARGV[3])
redis.call('RPUSH', KEYS[3], ARGV[5])
return {'done'}
"""

_encoder: Final = msgspec.msgpack.Encoder()
_decoder: Final = msgspec.msgpack.Decoder(Campaign)


def record(
    version: int, after: Campaign, audit: Sealed, rev_field: str = "", deadline_ms: int | None = None
) -> Record:
    """Return what is to be written when a campaign changes.

    Args:
        version: The one the change is based on, 0 for a new campaign.
        audit: The entry that tells of it.
        rev_field: Where the record keeps the publication's revision, "" for nowhere.
        deadline_ms: An instant on whose not having come the change rests, None for none.
    """
    assert after.version == version + 1, "one change is one version"
    return Record(version, _encoder.encode(after), rev_field, deadline_ms, audit.after, audit.line)


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


class Standing(Struct, frozen=True):
    """All that a press is judged by, as of one instant.

    Attributes:
        campaign: As of its last change.
        first: What was published under the press's key before, None if nothing was.
        head: Where the audit chain ends.
        now_ms: The store's clock, Unix ms.
    """

    campaign: Campaign
    first: Receipt | None
    head: Head
    now_ms: int


class CampaignStore:
    """Reads and writes campaign records.

    Args:
        redis: Client of the primary.
    """

    def __init__(self, redis: Redis) -> None:
        # Any: the client's types say bytes or str, and ours always answers in bytes.
        self._redis: Any = redis
        self._write = redis.register_script(_WRITE)

    async def write(self, campaign_id: str, record: Record) -> None:
        """Write a change that devices are not told of, or a new campaign.

        Raises:
            VersionConflict: The record has another version; nothing was changed.
            ChainMoved: Something else was written into the audit chain meanwhile; nothing was changed.
            StoreUnavailable: The store did not answer; perhaps it was written.
        """
        with store_errors():
            answer = await self._write(
                keys=[keyspace.campaign(campaign_id), keyspace.CAMPAIGNS, keyspace.AUDIT],
                args=[record.version, record.doc, campaign_id, record.audit_after, record.audit_line],
            )
        if answer[0] == b"conflict":
            raise VersionConflict(record.version, int(answer[1]))
        if answer[0] == b"moved":
            raise ChainMoved

    async def get(self, campaign_id: str) -> Campaign:
        """Return the campaign as of its last change.

        Raises:
            NotFound: There is no campaign of this id.
            StoreUnavailable: The store did not answer.
        """
        with store_errors():
            fields = await self._redis.hgetall(keyspace.campaign(campaign_id))
        return _found(campaign_id, fields)

    async def standing(self, campaign_id: str, key: str) -> Standing:
        """Return the campaign and what else a press under this key is judged by, read in one step.

        In one step because they are about each other: a key that is unknown here was not used before the record was
        read. And a press that asks less often is with the devices sooner.

        Raises:
            NotFound: There is no campaign of this id.
            StoreUnavailable: The store did not answer.
        """
        with store_errors():
            async with self._redis.pipeline(transaction=True) as pipe:
                pipe.hgetall(keyspace.campaign(campaign_id)).get(keyspace.outcome(key)).time()
                ask_head(pipe)
                fields, outcome, now, *chain = await pipe.execute()
        return Standing(_found(campaign_id, fields), receipt_of(outcome), head_of(*chain), unix_ms(*now))

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


def _found(campaign_id: str, fields: dict[bytes, bytes]) -> Campaign:
    if b"doc" not in fields:
        raise NotFound(f"there is no campaign {campaign_id[:80]!r}; GET /v1/campaigns lists them")
    return _read(fields)


def _read(fields: dict[bytes, bytes]) -> Campaign:
    campaign = _decoder.decode(fields[b"doc"])
    for rev_field in (REV_PREFETCH, REV_ACTIVATE):
        if rev := fields.get(rev_field.encode()):
            campaign = with_rev(campaign, rev_field, int(rev))
    # Beside the record for the same reason: the document was written before it was known.
    return msgspec.structs.replace(campaign, activate_rev=int(fields.get(REV_ACTIVATE.encode(), 0)))
