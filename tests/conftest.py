"""What every test has: uvloop, as the product has; the knowledge that no callback raised; and, if it asks, a
real Valkey of its own, on a unix socket, ended afterwards."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator, Mapping

import pytest
import uvloop
from hypothesis import HealthCheck, settings
from redis.asyncio import Redis

from fanout.connect import connect
from fanout.embedded import EmbeddedValkey

# How long an example takes says something about the machine and nothing about a law.
settings.register_profile("laws", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("laws")


def pytest_asyncio_loop_factories() -> Mapping[str, Callable[[], asyncio.AbstractEventLoop]]:
    return {"uvloop": uvloop.new_event_loop}


@pytest.fixture(autouse=True)
def _no_tracebacks(caplog: pytest.LogCaptureFixture) -> Iterator[None]:
    """Hold that nothing raised into the event loop, and that no parser failed: both only log."""
    yield
    logged = [record for record in caplog.get_records("call") if record.name in ("asyncio", "gateway.websockets")]
    assert not logged, [record.getMessage() for record in logged]


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
