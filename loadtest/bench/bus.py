"""What a fleet's workers ask of one real Valkey, and how far its one thread goes. With a replica to read from, too.

The only benchmark that uses the bus itself: a thousand gateways with devices do not fit into one machine, a thousand
of their readers do.
"""

from __future__ import annotations

import asyncio
import json
import secrets
import statistics
import subprocess
import time
from collections.abc import Sequence
from contextlib import ExitStack
from typing import Any, Final, NamedTuple

from fanout.bus.publication import Cancelled
from fanout.bus.publisher import Publisher
from fanout.connect import Commands, connect
from fanout.embedded import EmbeddedValkey
from loadtest.bench.figures import Figure
from loadtest.bench.processor import cpu_seconds
from loadtest.bench.rig import ask, child
from loadtest.ports import reserved_ports

# A process of Python can play this many workers before it, and not the store, is what is measured.
_EACH: Final = 250
_ONE_BY_ONE: Final = 9
# So many that what one of them takes is told apart from everyday life beside it.
_MANY: Final = 200
# What one client may ask at the same time.
_AT_ONCE: Final = 10
_PATIENCE_S: Final = 90.0
# At the moment itself the store has to have its thread free: half of it for everyday life.
LOAD_MAX: Final = 0.5


async def bus(workers: int, seconds: float) -> list[Figure]:
    """Measure a primary alone, then the same workers reading from a replica of it.

    Args:
        workers: How many gateway workers' readers and presence records.
        seconds: How long everyday life is watched.
    """
    alone, _ = await _measured(workers, seconds, replica=False)
    shared, reading = await _measured(workers, seconds, replica=True)
    return [
        Figure(
            name="bus-worker",
            what=f"the store's thread, for probe and presence of each of {workers:,} workers",
            unit="us per worker and s",
            value=alone.everyday_us,
            budget=f"1,000 workers on half of a core: <= {LOAD_MAX * 1000:.0f}",
            kept=alone.everyday_us <= LOAD_MAX * 1000,
        ),
        Figure(
            name="bus-worker-primary",
            what="the same of the primary, where workers read from a replica",
            unit="us per worker and s",
            value=shared.everyday_us,
            yardstick=alone.everyday_us,
            against="a primary alone",
            ratio=shared.everyday_us / alone.everyday_us,
            budget="no more than alone (<= 1.25)",
            kept=shared.everyday_us <= 1.25 * alone.everyday_us,
        ),
        Figure(
            name="bus-worker-replica",
            what="the same of that replica",
            unit="us per worker and s",
            value=reading,
            budget=f"<= {LOAD_MAX * 1000:.0f}",
            kept=reading <= LOAD_MAX * 1000,
        ),
        Figure(
            name="bus-publish",
            what="the store's thread, for each subscriber of a publication",
            unit="us",
            value=alone.publish_us,
            budget="<= 50",
            kept=alone.publish_us <= 50,
        ),
        Figure(
            name="bus-doorbell",
            what=f"publish call until the last of {workers:,} workers has it (they share this machine)",
            unit="ms",
            value=alone.doorbell_ms,
            yardstick=shared.doorbell_ms,
            against="read from a replica",
            ratio=alone.doorbell_ms / shared.doorbell_ms,
            budget="<= 1,000",
            kept=alone.doorbell_ms <= 1000,
        ),
    ]


class _Found:
    """What one arrangement was measured to take."""

    def __init__(self, everyday_us: float, publish_us: float, doorbell_ms: float) -> None:
        self.everyday_us = everyday_us
        self.publish_us = publish_us
        self.doorbell_ms = doorbell_ms


async def _measured(workers: int, seconds: float, *, replica: bool) -> tuple[_Found, float]:
    """Return what the primary is asked, and the replica's everyday life in us per worker and second."""
    with ExitStack() as ends:
        options = {"maxclients": str(workers * 4 + 200)}
        [port] = ends.enter_context(reserved_ports(1))
        primary = ends.enter_context(EmbeddedValkey(options={**options, "port": str(port), "bind": "127.0.0.1"}))
        second = None
        if replica:
            follows = {"replicaof": f"127.0.0.1 {port}"}
            second = ends.enter_context(EmbeddedValkey(options={**options, **follows}))
            await _replicated(second.url)
        read_url = second.url if second else primary.url
        crowd = [
            ends.enter_context(child(["loadtest.bench.bus_crowd", primary.url, read_url, str(each)]))
            for each in _shares(workers)
        ]
        await _all(crowd, workers, "ok", 0)
        async with connect(primary.url) as redis:
            before, read_s = await _look(redis, primary.pid), cpu_seconds(second.pid) if second else 0.0
            await asyncio.sleep(seconds)
            everyday = (await _look(redis, primary.pid)).since(before)
            read_s = cpu_seconds(second.pid) - read_s if second else 0.0
            found = await _published(redis, crowd, workers, primary.pid, everyday)
    return found, read_s / everyday.at_s / workers * 1e6


def _shares(workers: int) -> list[int]:
    return [min(_EACH, workers - first) for first in range(0, workers, _EACH)]


async def _replicated(url: str) -> None:
    deadline_s = time.monotonic() + _PATIENCE_S
    async with connect(url) as redis:
        while (await redis.info("replication")).get("master_link_status") != "up":
            assert time.monotonic() < deadline_s, "the replica does not follow"
            await asyncio.sleep(0.05)


async def _all(crowd: Sequence[subprocess.Popen[str]], workers: int, what: str, rev: int) -> list[dict[str, Any]]:
    """Wait until all workers are that far; return the last answers."""
    deadline_s = time.monotonic() + _PATIENCE_S
    while True:
        answers = [json.loads(await asyncio.to_thread(ask, each, str(rev))) for each in crowd]
        if sum(answer[what] for answer in answers) == workers:
            return answers
        assert time.monotonic() < deadline_s, f"{what}: {answers}"
        await asyncio.sleep(0.2)


class _Look(NamedTuple):
    """A store at an instant, or what it did between two."""

    at_s: float
    cpu_s: float
    commands: int

    def since(self, before: _Look) -> _Look:
        return _Look(self.at_s - before.at_s, self.cpu_s - before.cpu_s, self.commands - before.commands)


async def _look(redis: Commands, pid: int) -> _Look:
    return _Look(time.monotonic(), cpu_seconds(pid), (await redis.info("stats"))["total_commands_processed"])


async def _published(
    redis: Commands, crowd: Sequence[subprocess.Popen[str]], workers: int, pid: int, everyday: _Look
) -> _Found:
    """Publish one by one, for the delay, then many at once, for what they cost beside everyday life."""
    publisher, delays_ms = Publisher(redis), []
    for _ in range(_ONE_BY_ONE):
        called_s = time.monotonic()
        answers = await _all(crowd, workers, "heard", await _publish(publisher))
        delays_ms.append((max(answer["last_s"] for answer in answers) - called_s) * 1000)
    before = await _look(redis, pid)
    for _ in range(_MANY // _AT_ONCE):
        revs = await asyncio.gather(*(_publish(publisher) for _ in range(_AT_ONCE)))
    await _all(crowd, workers, "heard", max(revs))
    spent = (await _look(redis, pid)).since(before)
    # Everyday life goes on meanwhile, but slower, for the workers are busy too: it is counted by its commands.
    publishing_s = max(0.0, spent.cpu_s - spent.commands * everyday.cpu_s / everyday.commands)
    everyday_us = everyday.cpu_s / everyday.at_s / workers * 1e6
    return _Found(everyday_us, publishing_s * 1e6 / workers / _MANY, statistics.median(delays_ms))


async def _publish(publisher: Publisher) -> int:
    receipt = await publisher.publish(Cancelled(campaign="night", topic="night", key=secrets.token_hex(8)))
    return receipt.rev
