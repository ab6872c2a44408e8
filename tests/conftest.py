"""What every test may ask for: a real Valkey of its own, on a unix socket, ended afterwards."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator

import pytest
from redis.asyncio import Redis

from fanout.connect import connect
from fanout.embedded import EmbeddedValkey


@pytest.fixture
def valkey() -> Iterator[EmbeddedValkey]:
    """A running server that only this test uses."""
    with EmbeddedValkey() as server:
        yield server


@pytest.fixture
async def redis(valkey: EmbeddedValkey) -> AsyncIterator[Redis]:
    """A client of this test's server."""
    client = connect(valkey.url)
    yield client
    await client.aclose()
