"""What every test has: uvloop, as the product has; the knowledge that no callback raised; and, if it asks, a
real Valkey on a unix socket: one of its own, or one that is as good as new."""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import AsyncIterator, Callable, Iterator, Mapping

import pytest
import uvloop
from hypothesis import HealthCheck, settings
from redis.asyncio import Redis

from fanout.connect import connect
from fanout.embedded import EmbeddedValkey

# Every worker reads all tests, and they start the product some two hundred times: where an image says that nothing
# compiled is kept, all of that is compiled every time, which is a tenth of the whole run.
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
sys.dont_write_bytecode = False

# How long an example takes says something about the machine and nothing about a law.
# Examples are fresh ones in every run, so many short runs find what a long one does.
EXAMPLES = int(os.environ.get("FANOUT_LAW_EXAMPLES", "40"))
settings.register_profile("laws", deadline=None, max_examples=EXAMPLES, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("laws")


# Tests that take long, nearly all of it waiting. A worker that came to one of them last would keep everyone waiting.
LONG = (
    "tests/chaos/test_model.py",
    "tests/checkdevice/",
    "tests/console/test_room.py",
    "tests/console/test_wall.py",
    "tests/docs/test_tutorial.py",
    "tests/prometheus/test_scraped.py",
)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Let every worker begin with its share of the long ones; each is given an equal stretch of the list at first."""
    workers = int(os.environ.get("PYTEST_XDIST_WORKER_COUNT", "1"))
    long = [item for item in items if item.nodeid.startswith(LONG)]
    others = [item for item in items if not item.nodeid.startswith(LONG)]
    ends = [len(others) * number // workers for number in range(workers + 1)]
    shares = ((*long[n::workers], *others[ends[n] : ends[n + 1]]) for n in range(workers))
    items[:] = [item for share in shares for item in share]


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
    """A running server that only this test uses: to kill, to set up otherwise, to give to a process."""
    with EmbeddedValkey() as server:
        yield server
        server.kill()  # nobody misses what it has; in good order it would take a tenth of a second


@pytest.fixture(scope="session")
def _usual_valkey() -> Iterator[EmbeddedValkey]:
    """A server for one test after the other."""
    with EmbeddedValkey() as server:
        yield server


@pytest.fixture
async def redis(request: pytest.FixtureRequest) -> AsyncIterator[Redis]:
    """A client of this test's server: `valkey` if it asks for that too, else the usual one with nothing in it.

    What such a test keeps there is gone before the next one; how the server is set up is not, so who changes that
    asks for `valkey`.
    """
    own = "valkey" in request.fixturenames
    server: EmbeddedValkey = request.getfixturevalue("valkey" if own else "_usual_valkey")
    client = connect(server.url)
    if not own:
        await client.flushall()
        await client.script_flush()
    yield client
    await client.aclose()
