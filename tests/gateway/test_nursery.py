"""Workers are forked off a process that has imported everything: what that saves, and how they all end."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path

import pytest
import websockets
from support.stack import ROOT, Stack, connecting, receive, stack
from support.waiting import PATIENCE_S, until

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")


def status(pid: int, field: str) -> str:
    """Return a field of what the kernel says of a process; empty if there is none."""
    try:
        lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    except (FileNotFoundError, ProcessLookupError):
        return ""
    return next((line.split(None, 1)[1] for line in lines if line.startswith(f"{field}:")), "")


def memory(pid: int) -> dict[str, int]:
    """Return the kilobytes of each kind that a process takes."""
    lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()[1:]
    return {name: int(rest.split()[0]) for name, _, rest in (line.partition(":") for line in lines)}


async def workers(s: Stack) -> list[int]:
    """Return the processes that have written a record and still run."""
    pids = [int(record.worker.split("-")[-2]) for record in await s.records()]
    return [pid for pid in pids if runs(pid)]


def runs(pid: int) -> bool:
    return status(pid, "State")[:1] not in ("", "Z")


async def all_of(s: Stack, count: int) -> tuple[int, list[int]]:
    """Return the nursery and so many workers of it, once they are there."""

    async def there() -> list[int]:
        found = await workers(s)
        return found if len(found) == count else []

    pids = await until(there, f"{count} workers")
    (parent,) = {int(status(pid, "PPid")) for pid in pids}
    return parent, pids


async def gone(pids: Iterable[int]) -> None:
    await until(lambda: not any(runs(pid) for pid in pids), "the end of them all")


async def serves(s: Stack) -> bool:
    try:
        async with connecting(s.url) as device:
            return (await receive(device))["t"] == "welcome"
    except (OSError, websockets.InvalidHandshake, websockets.ConnectionClosed):
        return False


async def test_workers_share_what_they_have_imported() -> None:
    async with stack(workers=2) as s:
        _, pids = await all_of(s, 2)
        for pid in pids:
            taken = memory(pid)
            assert taken["Private_Dirty"] < taken["Rss"] / 2


def test_a_worker_imports_nothing_that_only_people_or_the_supervisor_need() -> None:
    unneeded = {"click", "httpx", "starlette", "uvicorn", "yaml", "gateway.supervisor", "gateway.admin"}
    code = f"import sys, gateway.nursery, gateway.worker; print(*({unneeded!r} & set(sys.modules)))"
    told = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert told.stdout.split() == []


def test_a_supervisor_loads_nothing_that_only_its_workers_need() -> None:
    unneeded = {"cryptography", "jwt", "redis", "websockets", "gateway.worker", "gateway.server"}
    code = f"import sys, gateway.supervisor; print(*({unneeded!r} & set(sys.modules)))"
    told = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert told.stdout.split() == []


async def test_what_a_worker_died_of_is_logged() -> None:
    async with stack(workers=1) as s:
        _, (pid,) = await all_of(s, 1)
        os.kill(pid, signal.SIGKILL)
        assert s.gateway is not None
        errors = s.gateway
        await until(lambda: '"exit_code": -9' in errors.errors, "the reason")


async def test_who_signals_everyone_does_not_end_the_nursery_before_its_workers() -> None:
    async with stack(workers=2) as s:
        nursery, before = await all_of(s, 2)
        os.kill(nursery, signal.SIGTERM)
        os.kill(before[0], signal.SIGKILL)

        async def replaced() -> bool:
            now = await workers(s)
            return len(now) == 2 and before[0] not in now

        await until(replaced, "a new worker from the same nursery")
        assert (await all_of(s, 2))[0] == nursery
        assert s.gateway is not None
        s.gateway.stop()
        assert s.gateway.process.returncode == 0
        await gone([nursery, *before])


async def test_a_nursery_that_is_killed_takes_its_workers_along_and_is_replaced() -> None:
    async with stack(workers=2) as s:
        nursery, before = await all_of(s, 2)
        os.kill(nursery, signal.SIGKILL)
        await gone(before)
        await until(lambda: serves(s), "the next workers")
        assert (await all_of(s, 2))[0] != nursery


async def test_nobody_outlives_a_supervisor_that_is_killed() -> None:
    # Who leaves takes its record away, but does not wait for a store that is silent for longer than this.
    async with stack(workers=2, probe_timeout_s=PATIENCE_S) as s:
        nursery, pids = await all_of(s, 2)
        assert s.gateway is not None
        s.gateway.process.kill()
        await gone([nursery, *pids])
        assert await s.records() == [], "they drained first"
