"""The child process of the bus benchmark: what hundreds of gateway workers ask of the store, and no devices.

Each of them is the gateway's own reader with its probes, and its presence record every second. A line on standard
input asks how far they are; the answer is a line of JSON.
"""

from __future__ import annotations

import asyncio
import json
import secrets
import sys
import time
from collections.abc import Sequence

import structlog
import uvloop

from fanout.bus import presence
from fanout.bus.publication import Publication
from fanout.bus.reader import BusState, Reader
from fanout.bus.tasks import cancelled
from fanout.connect import connect

# A fleet's record: these groups and one campaign are what a worker of a night has to say.
_GROUPS = [
    presence.Group({"platform": platform, "region": region}, 5_000, 4_990, 4_000)
    for platform in ("tv", "phone", "web")
    for region in ("jp", "eu", "us", "br")
]


class _Member:
    """One worker, as the store sees it."""

    def __init__(self, url: str, read_url: str) -> None:
        self.name = f"crowd-{secrets.token_hex(8)}"
        self.heard: dict[int, float] = {}  # when each revision came, on the machine's monotonic clock
        self._redis = connect(url)
        self.reader = Reader(lambda: connect(read_url), self.name, self._hear, primary=lambda: connect(url))

    def _hear(self, publication: Publication) -> None:
        self.heard[publication.rev] = time.monotonic()

    async def announce(self) -> None:
        while not cancelled():
            await asyncio.sleep(1.0)
            record = presence.WorkerRecord(
                worker=self.name,
                started_ms=0,
                now_ms=self.reader.now_ms(),
                health="ok",
                bus_rev=self.reader.position,
                connections=60_000,
                groups=_GROUPS,
                campaigns={
                    "night": presence.CampaignGauge(1, 2, _GROUPS, flip_lag=presence.lag_histogram().encode())
                },
            )
            await presence.write(self._redis, record)


async def main(url: str, read_url: str, readers: int) -> None:
    """Follow the log until standard input closes."""
    members = [_Member(url, read_url) for _ in range(readers)]
    tasks: list[asyncio.Task[None]] = []
    for member in members:
        tasks += [asyncio.create_task(member.reader.run()), asyncio.create_task(member.announce())]
        if len(tasks) % 50 == 0:
            await asyncio.sleep(0.1)  # they do not start in one instant in a fleet either
    lines = asyncio.StreamReader()
    await asyncio.get_running_loop().connect_read_pipe(lambda: asyncio.StreamReaderProtocol(lines), sys.stdin)
    while line := await lines.readline():
        sys.stdout.write(json.dumps(_answer(members, int(line))) + "\n")
        sys.stdout.flush()
    for task in tasks:
        task.cancel()
    await asyncio.wait(tasks)


def _answer(members: Sequence[_Member], rev: int) -> dict[str, float | int]:
    """Return how many are well, and of a revision, how many have heard it and when the first and the last did."""
    heard = [member.heard[rev] for member in members if rev in member.heard]
    return {
        "ok": sum(member.reader.state is BusState.OK for member in members),
        "heard": len(heard),
        "first_s": min(heard, default=0.0),
        "last_s": max(heard, default=0.0),
    }


if __name__ == "__main__":
    structlog.configure(logger_factory=structlog.PrintLoggerFactory(sys.stderr))  # standard output is for answers
    uvloop.run(main(sys.argv[1], sys.argv[2], int(sys.argv[3])))
