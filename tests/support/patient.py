"""A client of the store that never gives up: for tests of whatever uses one, and not of how soon it gives up."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest
from redis.asyncio import Redis

from fanout.connect import connect
from support.waiting import PATIENCE_S


@pytest.fixture
async def redis(redis: Redis) -> AsyncIterator[Redis]:
    """As everybody's; two seconds without an answer, which may be this machine's own, are no failure of the store."""
    path = redis.connection_pool.connection_kwargs["path"]
    async with connect(f"unix://{path}", timeout_s=PATIENCE_S) as client:
        yield client
