"""Too many of something before a real worker: connections, open files, kinds of devices, log lines."""

from __future__ import annotations

import asyncio
import json
import re
import resource
import sys
import time
from collections import Counter
from contextlib import AsyncExitStack, suppress
from pathlib import Path
from typing import Any

import pytest
from support.rude import answer_to, dialled, rude, upgrade_request
from support.stack import Stack, activated, closed, connecting, receive, stack, token
from support.waiting import PATIENCE_S, until
from support.web import web
from websockets import ClientConnection

from fanout import wire
from gateway.cohorts import Cohorts, TooManyCohorts

LISTEN = "0A"  # /proc/net/tcp


async def served(s: Stack, *devices: ClientConnection) -> None:
    """Hold that these devices hear what is published now."""
    rev = (await s.publisher.publish(activated())).rev
    for device in devices:
        while (await receive(device)).get("rev") != rev:
            pass


async def metric(s: Stack, name: str) -> float:
    """Return what the gateway says of itself, 0 if it says nothing."""
    assert s.gateway is not None
    async with web() as http:
        text = (await http.get(f"{s.gateway.admin_url}/metrics")).text
    return sum(float(value) for value in re.findall(rf"^fanout_gateway_{re.escape(name)} (\S+)$", text, re.M))


async def worker_pid(s: Stack) -> int:
    async def there() -> int:
        return next((int(record.worker.split("-")[-2]) for record in await s.records()), 0)

    return await until(there, "the worker's record")


# --- Connections.


async def test_a_flood_of_handshakes_is_admitted_at_the_rate_and_the_rest_is_told_when_to_come_back() -> None:
    # Fewer than may be on their way in at once: beyond, the oldest is cut off without an answer.
    rate, flood = 20, 150
    async with stack(workers=1, admit_per_s=rate, retry_after_s=10.0) as s, connecting(s.url) as bystander:
        await receive(bystander)
        began = time.monotonic()
        storm = asyncio.gather(*(answer_to(s.url, upgrade_request()) for _ in range(flood)))
        await served(s, bystander)
        heads = await storm
        took_s = time.monotonic() - began
        statuses = Counter(head[9:12] for head in heads)
        assert set(statuses) <= {b"101", b"503"}
        assert 0 < statuses[b"101"] <= rate / 4 + rate * took_s + 1
        waits = {int(w[1]) for head in heads if (w := re.search(rb"Retry-After: (\d+)", head))}
        assert len(waits) > 5, "they would all come back together"
        assert waits <= set(range(5, 16))
        await served(s, bystander)


async def test_slow_and_silent_handshakes_are_ended_and_live_devices_never_notice() -> None:
    async with (
        # The bystander has to come in within it, too.
        stack(workers=1, handshake_timeout_s=3.0) as s,
        connecting(s.url) as bystander,
        AsyncExitStack() as ends,
    ):
        await receive(bystander)
        slow = [await ends.enter_async_context(dialled(s.url)) for _ in range(200)]
        for number, client in enumerate(slow):
            client.writer.write(upgrade_request()[:number])
        await served(s, bystander)
        assert await asyncio.gather(*(client.head() for client in slow)) == [b""] * len(slow)

        async def counted() -> bool:
            return await metric(s, 'handshakes_total{status="timeout"}') == len(slow)

        await until(counted, "the timeouts in the metrics")
        await served(s, bystander)


# --- Open files.


def accepts(pid: int) -> bool:
    """Tell whether a process's event loop waits for connections: whether it watches a listening socket."""
    fds = Path(f"/proc/{pid}/fd")
    inodes = {
        line.split()[9] for line in Path(f"/proc/{pid}/net/tcp").read_text().splitlines() if f" {LISTEN} " in line
    }
    watched: set[str] = set()
    links: dict[str, str] = {}
    for fd in fds.iterdir():
        with suppress(FileNotFoundError):  # closed since it was listed
            links[fd.name] = str(fd.readlink())
            info = Path(f"/proc/{pid}/fdinfo/{fd.name}").read_text()
            watched.update(re.findall(r"^tfd:\s+(\d+)", info, re.M))
    return any(links.get(fd, "").strip("socket:[]") in inodes for fd in watched)


def files(pid: int, limit: int) -> None:
    """Set a process's soft limit on open files."""
    _, hard = resource.prlimit(pid, resource.RLIMIT_NOFILE)
    resource.prlimit(pid, resource.RLIMIT_NOFILE, (limit, hard))


@pytest.mark.skipif(sys.platform != "linux", reason="changes another process's limits, and reads /proc")
async def test_without_files_accepting_pauses_and_nothing_spins_until_there_are_some_again() -> None:
    # Without files no connection to the store can be had again, so none may be given up because a probe was late.
    patient = {"probe_timeout_s": PATIENCE_S}
    async with stack(workers=1, **patient) as s, connecting(s.url) as bystander, AsyncExitStack() as ends:
        await receive(bystander)
        pid = await worker_pid(s)
        before, _ = resource.prlimit(pid, resource.RLIMIT_NOFILE)
        assert accepts(pid)
        # Below what it has open: not even the file that the event loop keeps in reserve is to be had.
        files(pid, 3)
        await until(lambda: not accepts(pid), "the pause")
        clients = [await ends.enter_async_context(dialled(s.url)) for _ in range(50)]
        for client in clients:
            client.writer.write(upgrade_request())
        for _ in range(3):
            await served(s, bystander)
        assert not accepts(pid), "who waits in the queue wakes nobody"
        files(pid, before)
        for client in clients:
            assert (await client.head()).startswith(b"HTTP/1.1 101 "), "they waited in the queue, and none was lost"
        await served(s, bystander)
        assert s.gateway is not None
        assert "not accepting" in s.gateway.errors
        assert "Traceback" not in s.gateway.errors
        assert await metric(s, "accept_pauses_total") == 1


# --- Kinds of devices.


async def test_attributes_without_end_are_folded_and_everyone_still_hears() -> None:
    most = 20
    async with stack(workers=1, cohorts_max=most) as s, AsyncExitStack() as ends:
        devices = [
            await ends.enter_async_context(connecting(s.url, token(attrs={"region": f"r{number}"})))
            for number in range(4 * most)
        ]
        for device in devices:
            await receive(device)
        await served(s, *devices)

        async def counted() -> bool:
            return (await metric(s, "folded_total"), await metric(s, "connections")) == (3 * most, 4 * most)

        await until(counted, "the folded devices in the metrics")
        assert await metric(s, "cohorts") <= most + 1


async def test_topic_sets_without_end_are_refused_at_the_limit_and_known_ones_still_come_in() -> None:
    most = 10
    async with stack(workers=1, cohorts_max=most) as s, AsyncExitStack() as ends:
        for number in range(2 * most):
            await ends.enter_async_context(rude(s.url, token(topics=["t", f"u{number}"])))
        for number in range(2 * most, 4 * most):
            head = await answer_to(s.url, upgrade_request(token(topics=["t", f"u{number}"])))
            assert head.startswith(b"HTTP/1.1 503 ")
            assert b"Retry-After" in head
        device = await ends.enter_async_context(connecting(s.url, token(topics=["t", "u3"])))
        await receive(device)
        await served(s, device)
        # A device inside makes other sets by leaving topics; at the limit it is sent away, to come back later.
        await device.send(json.dumps({"t": "unsubscribe", "topics": ["u3"]}))
        assert await closed(device) == 1013


def test_ten_thousand_kinds_of_devices_make_no_more_cohorts_than_the_limit() -> None:
    cohorts = Cohorts(100)
    refused = 0
    for number in range(10_000):
        topics = frozenset({"t", f"u{number % 300}"})
        try:
            cohorts.find(wire.Encoding.JSON, topics, topics, (("region", str(number)),), 0)
        except TooManyCohorts:
            refused += 1
        assert len(cohorts) <= 200
    assert refused > 0
    cohorts.sweep()
    assert len(cohorts) == 0


# --- Log lines.


def logged(s: Stack) -> list[dict[str, Any]]:
    assert s.gateway is not None
    whole, _, _ = s.gateway.errors.rpartition("\n")  # the last line may be half written yet
    return [json.loads(line) for line in whole.splitlines() if line.startswith("{")]


@pytest.mark.slow
async def test_ten_thousand_connections_that_fail_alike_write_a_few_lines_and_their_count() -> None:
    many, lines_max = 5_000, 3  # of each kind
    kinds = {
        "handshake refused with 401": upgrade_request(token(key="another key, of thirty-two bytes..")),
        "handshake refused with 404": upgrade_request().replace(b"/v1/", b"/v2/"),
    }
    # Nobody is told to come back later instead, however busy the machine is.
    anyway = {"admit_per_s": 100_000.0, "loop_lag_max_ms": 60_000.0, "handshake_timeout_s": 60.0}
    logs = {"log_lines_max": lines_max, "log_period_s": 3.0}
    async with stack(workers=1, **logs, **anyway) as s, connecting(s.url) as bystander:
        await receive(bystander)
        for request in kinds.values():
            for _ in range(0, many, 100):
                await asyncio.gather(*(answer_to(s.url, request) for _ in range(100)))
            await served(s, bystander)

        def counts() -> Counter[str]:
            found: Counter[str] = Counter()
            for line in logged(s):
                found[line.get("of", line["event"])] += line.get("left_out", 1)
            return found

        await until(lambda: all(counts()[kind] == many for kind in kinds), "the whole count in the log")
        # A few for each period that it took, and one with the count.
        assert len(logged(s)) < many / 10
        assert not any(token()[:20] in line["event"] + line.get("why", "") for line in logged(s))
