"""What the gateway's tests share: they run on uvloop, as the gateway does, and no callback may raise."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator, Mapping

import pytest
import uvloop
from hypothesis import HealthCheck, settings

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
