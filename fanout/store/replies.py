"""First answers, by caller and Idempotency-Key: whoever asks again is told what the first was told.

Only what was accepted is kept. A refusal changed nothing, so the same key may try again.
"""

from __future__ import annotations

import random
from typing import Any, Final

import msgspec
from msgspec import Struct
from redis.asyncio import Redis

from fanout import keyspace, limits
from fanout.connect import store_errors


class Reply(Struct, frozen=True):
    """An answer as it was sent.

    Attributes:
        digest: What was asked, so that another request under the same key can be told.
        status: HTTP status.
        headers: The headers that belong to this answer, e.g. its ETag.
        body: Bytes as sent.
    """

    digest: str
    status: int
    headers: dict[str, str]
    body: bytes


_encoder: Final = msgspec.msgpack.Encoder()
_decoder: Final = msgspec.msgpack.Decoder(Reply)


class ReplyStore:
    """Keeps first answers for about a day.

    Args:
        redis: Client of the primary.
    """

    def __init__(self, redis: Redis) -> None:
        # Any: the client's types say bytes or str, and ours always answers in bytes.
        self._redis: Any = redis

    async def get(self, principal: str, key: str) -> Reply | None:
        """Return the first answer to this caller's key, None if there is none. Raises StoreUnavailable."""
        with store_errors():
            found = await self._redis.get(keyspace.reply(principal, key))
        return None if found is None else _decoder.decode(found)

    async def keep(self, principal: str, key: str, reply: Reply) -> Reply:
        """Keep this answer, unless another came first.

        Returns:
            The first answer: this one, or the one that was there.
        Raises:
            StoreUnavailable: The store did not answer.
        """
        # What expires here expires with jitter.
        ttl_s = int(limits.IDEMPOTENCY_TTL_S * (1 + random.random() / 10))
        with store_errors():
            first = await self._redis.set(
                keyspace.reply(principal, key), _encoder.encode(reply), nx=True, get=True, ex=ttl_s
            )
        return reply if first is None else _decoder.decode(first)
