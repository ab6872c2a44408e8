"""Where the audit chain is kept. What an entry is and whether the chain is whole are `fanout.audit`'s."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any, Final

from msgspec import Struct
from redis.asyncio import Redis

from fanout import audit, keyspace
from fanout.audit import Entry
from fanout.connect import store_errors
from fanout.errors import ChainMoved

# Entries read at a time: some 200 KB.
PAGE: Final = 500
_TRIES: Final = 8

_APPEND: Final = """
local last = redis.call('LINDEX', KEYS[1], -1)
local hash = last and string.sub(last, 1, 64) or string.rep('0', 64)
if hash ~= ARGV[1] then return 0 end
redis.call('RPUSH', KEYS[1], ARGV[2])
return 1
"""


class Head(Struct, frozen=True):
    """The chain as it was read: how many entries it has, and the last one's hash."""

    entries: int
    hash: str

    def follow(self, **what: Any) -> Sealed:
        """Return the entry that comes next; see `fanout.audit.Entry` for what it takes."""
        return Sealed(self.hash, audit.sealed(self.hash, Entry(n=self.entries + 1, **what)))


def ask_head(pipe: Any) -> None:
    """Add to a pipeline, which is a transaction, the two questions that `head_of` takes the answers to."""
    pipe.llen(keyspace.AUDIT).lindex(keyspace.AUDIT, -1)


def head_of(entries: int, last: bytes | None) -> Head:
    """Return where the chain ended when `ask_head`'s questions were answered."""
    return Head(entries, audit.GENESIS if last is None else audit.hash_of(last))


class Sealed(Struct, frozen=True):
    """An entry to be appended, and the hash that the chain must end with when it is."""

    after: str
    line: bytes


class AuditStore:
    """Reads the chain, and appends what is no change of a campaign.

    Args:
        redis: Client of the primary.
    """

    def __init__(self, redis: Redis) -> None:
        # Any: the client's types say bytes or str, and ours always answers in bytes.
        self._redis: Any = redis
        self._append = redis.register_script(_APPEND)

    async def head(self) -> Head:
        """Return where the chain ends now. Raises StoreUnavailable."""
        with store_errors():
            async with self._redis.pipeline(transaction=True) as pipe:
                ask_head(pipe)
                return head_of(*await pipe.execute())

    async def append(self, by: str, action: str, at: int, details: dict[str, Any]) -> None:
        """Note what was done to no campaign: accounts, keys.

        Raises:
            ChainMoved: Others were always first.
            StoreUnavailable: The store did not answer; perhaps it was written.
        """
        for _ in range(_TRIES):
            new = (await self.head()).follow(at=at, by=by, action=action, details=details)
            with store_errors():
                if await self._append(keys=[keyspace.AUDIT], args=[new.after, new.line]):
                    return
        raise ChainMoved

    async def page(self, start: int) -> list[bytes]:
        """Return lines from a place on, from 0; fewer than `PAGE` at the chain's end. Raises StoreUnavailable."""
        with store_errors():
            found: list[bytes] = await self._redis.lrange(keyspace.AUDIT, start, start + PAGE - 1)
        return found

    async def lines(self) -> AsyncIterator[bytes]:
        """Yield every line. Raises StoreUnavailable."""
        start = 0
        while page := await self.page(start):
            for line in page:
                yield line
            start += len(page)

    async def newest(self, campaign: str | None, count: int) -> list[Entry]:
        """Return the newest entries, the newest first; of one campaign, or of all. Raises StoreUnavailable."""
        found: list[Entry] = []
        end = -1
        while len(found) < count:
            with store_errors():
                page = await self._redis.lrange(keyspace.AUDIT, end - PAGE + 1, end)
            entries = (audit.read(line) for line in reversed(page))
            found += [entry for entry in entries if campaign in (None, entry.campaign)]
            if len(page) < PAGE:
                break
            end -= PAGE
        return found[:count]
