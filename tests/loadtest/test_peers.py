"""Laws of the comparison: every installed server really is joined, reached and ended; the others are named."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from statistics import median
from typing import ClassVar

import pytest
from click.testing import CliRunner
from support.stack import ROOT
from support.waiting import PATIENCE_S, until

from loadtest.peers import brokers
from loadtest.peers.__main__ import KINDS, main
from loadtest.peers.brokers import Mosquitto, Nats, Nchan
from loadtest.peers.crowd import Crowd, Lost, visit
from loadtest.peers.libraries import Stock
from loadtest.peers.peer import MARK, PAYLOAD, Peer
from loadtest.peers.processes import NotStarted, Processes, alive, core
from loadtest.peers.product import Fanout

CORE = min(os.sched_getaffinity(0))


class Ends(Stock):
    """A server that ends at once, saying why."""

    name: ClassVar = "no-such-library"

    @classmethod
    def installed(cls) -> bool:
        return True


@pytest.fixture
def _core_kept() -> Iterator[None]:
    """The command binds its process to a core; here that is the tests'."""
    before = os.sched_getaffinity(0)
    yield
    assert os.sched_getaffinity(0) == before


def installed(kind: type[Peer]) -> type[Peer]:
    """Return an adapter whose server is here; skip the test otherwise."""
    if not kind.installed():
        pytest.skip(f"{kind.name} is not installed: {kind.install}")
    return kind


def command_line(pid: int) -> str:
    return Path(f"/proc/{pid}/cmdline").read_text()


@contextmanager
def endless_run() -> Iterator[subprocess.Popen[bytes]]:
    """Start the command with more rounds than anybody waits for."""
    words = ["--devices", "20", "--rounds", "1000", "--only", "websockets"]
    run = subprocess.Popen(
        [sys.executable, "-m", "loadtest.peers", *words],
        cwd=ROOT,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    try:
        yield run
    finally:
        if run.poll() is None:
            run.kill()
        run.wait()


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.name)
async def test_one_published_message_reaches_every_subscriber_and_no_process_is_left(
    kind: type[Peer], tmp_path: Path
) -> None:
    peer = installed(kind)(CORE, tmp_path, 10)
    crowd = None
    try:
        await peer.start()
        assert peer.version.strip("?")
        crowd = Crowd(peer)
        await crowd.join(0, 3)
        await peer.prepare()
        await crowd.deliver()
        await crowd.join(3, 2)
        for _ in range(3):
            assert await crowd.deliver() > 0
            assert crowd.messages == 5
        pids = peer.processes.pids()
        assert all(alive(pid) for pid in pids)
        assert all(os.sched_getaffinity(pid) == {CORE} for pid in pids)
        assert peer.processes.resident_bytes() > 1_000_000
    finally:
        if crowd is not None:
            crowd.leave()
        await peer.close()
    assert pids
    assert not any(alive(pid) for pid in pids)


@pytest.mark.slow
async def test_the_product_is_weighed_with_its_store_and_control_plane(tmp_path: Path) -> None:
    peer = Fanout(CORE, tmp_path, 10)
    try:
        await peer.start()
        commands = [command_line(pid) for pid in peer.processes.pids()]
    finally:
        await peer.close()
    assert any("\0control\0" in command for command in commands)
    assert any("\0gateway\0" in command for command in commands)
    assert any("valkey" in command or "redis" in command for command in commands)


async def test_a_visit_measures_everything_there_is_to_measure(monkeypatch: pytest.MonkeyPatch) -> None:
    # Made up: a page of a library counts less for this server whenever anybody else on the machine starts to use it.
    weighed = iter([1_000_000, 1_600_000, 1_500_000])
    monkeypatch.setattr(Processes, "resident_bytes", lambda processes: next(weighed))
    measured, version = await visit(Stock, CORE, 50, 2)
    assert version
    assert measured.receivers == 55
    assert measured.bytes_per_connection == 500_000 / 50
    assert len(measured.deliver_ms) == 2
    assert min(measured.deliver_ms) > 0
    assert measured.load_busy > 0


async def test_a_server_that_does_not_start_is_reported_with_what_it_said() -> None:
    with pytest.raises(NotStarted, match="no-such-library"):
        await visit(Ends, CORE, 10, 1)


async def test_a_server_that_dies_ends_the_visit_at_once(tmp_path: Path) -> None:
    peer = Stock(CORE, tmp_path, 10)
    try:
        await peer.start()
        crowd = Crowd(peer)
        await crowd.join(0, 3)
        await peer.close()
        with pytest.raises(Lost, match="was cut"):
            await crowd.deliver()
    finally:
        await peer.close()


def test_all_carry_the_bytes_of_an_activation() -> None:
    assert PAYLOAD.count(MARK) == 1
    assert 170 <= len(PAYLOAD) <= 210


@pytest.mark.parametrize("size", [0, 1, 127, 128, 16_383, 16_384])
def test_an_mqtt_packet_tells_its_length(size: int) -> None:
    packet = brokers._mqtt(0x30, b"x" * size)
    assert packet[0] == 0x30
    length, shift, at = 0, 0, 1
    while True:
        length |= (packet[at] & 0x7F) << shift
        shift, at = shift + 7, at + 1
        if not packet[at - 1] & 0x80:
            break
    assert length == size == len(packet) - at


def test_nats_is_answered_when_it_asks_whether_we_are_there(tmp_path: Path) -> None:
    peer = Nats(CORE, tmp_path, 10)
    assert peer.answer(b"PING\r\n") == b"PONG\r\n"
    assert peer.answer(b"MSG peers 1 3\r\nabc\r\n") == b""


@pytest.mark.usefixtures("_core_kept")
@pytest.mark.parametrize("kind", [Nchan, Mosquitto, Nats], ids=lambda kind: kind.name)
def test_what_is_not_installed_is_named_with_how_to_get_it(
    kind: type[Peer], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(brokers, "_PATH", str(tmp_path))  # where programs are searched for
    result = CliRunner().invoke(main, ["--only", kind.name, "--json", str(tmp_path / "out.json")])
    assert result.exit_code == 0, result.output
    assert kind.install in " ".join(result.output.split())
    told = json.loads((tmp_path / "out.json").read_text())
    assert told["peers"] == []
    assert told["skipped"] == [{"name": kind.name, "install": kind.install}]


def test_more_connections_than_files_are_refused_with_the_way_out() -> None:
    result = CliRunner().invoke(main, ["--devices", "900000000"])
    assert result.exit_code == 1
    assert "ulimit -Hn" in result.output


@pytest.mark.slow
def test_the_command_prints_a_table_and_writes_everything(tmp_path: Path) -> None:
    words = ["--devices", "20", "--rounds", "2", "--messages", "2", "--only", "websockets", "--json", "out.json"]
    done = subprocess.run(
        [sys.executable, "-m", "loadtest.peers", *words],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(ROOT), "COLUMNS": "120"},
        capture_output=True,
        text=True,
        timeout=100,
    )
    assert done.returncode == 0, done.stderr
    assert "compression None" in " ".join(done.stdout.split())
    told = json.loads((tmp_path / "out.json").read_text())
    (stock,) = told["peers"]
    assert stock["name"] == "websockets"
    assert len(stock["visits"]) == 2
    assert stock["bytes_per_connection"] == median(each["bytes_per_connection"] for each in stock["visits"])
    assert stock["deliver_to_all_ms"] > 0
    assert told["setting"]["payload_bytes"] == len(PAYLOAD)


@pytest.mark.slow
@pytest.mark.parametrize("told", [signal.SIGTERM, signal.SIGINT])
async def test_a_run_that_is_stopped_ends_its_servers(told: signal.Signals) -> None:
    with endless_run() as run:
        children = Path(f"/proc/{run.pid}/task/{run.pid}/children")
        pids = [int(pid) for pid in await until(lambda: children.read_text().split(), "a server")]
        run.send_signal(told)
        assert await asyncio.to_thread(run.wait, PATIENCE_S) == 1
    await until(lambda: not any(alive(pid) for pid in pids), "the end of its server")


def test_a_core_is_left_again() -> None:
    before = os.sched_getaffinity(0)
    with core(CORE):
        assert os.sched_getaffinity(0) == {CORE}
    assert os.sched_getaffinity(0) == before
