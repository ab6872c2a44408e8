"""``fanout swarm`` as a process."""

from __future__ import annotations

import json
import signal
from pathlib import Path

import pytest
from support.waiting import PATIENCE_S

from loadtest import capacity

from .running import DEVICE_KEY, Traces, ended, error, fanout, process, wait_until

KEY = {"FANOUT_DEVICE_KEY": DEVICE_KEY}
NOBODY = ("--url", "ws://127.0.0.1:1/v1/connect")
FEW = ("--devices", "5", "--connects-per-s", "0")


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_swarm_goes_on_trying_until_it_is_told_to_stop_and_leaves_its_figures(tmp_path: Path, number: int) -> None:
    file = tmp_path / "figures.json"
    words = ("swarm", *NOBODY, *FEW, "--processes", "2", "--give-up", "0", "--json", str(file))
    with process(*words, **KEY) as child:
        wait_until(lambda: file.exists() and json.loads(file.read_text())["refused"].get("0", 0) >= 10, "its tries")
        assert not json.loads(file.read_text())["final"]
        assert ended(child, number) == 0
    found = json.loads(file.read_text())
    assert found["final"]
    assert found["outcome"] == "stopped"
    assert (found["devices"], found["connected"], found["flips"]) == (5, 0, {})


def test_a_swarm_without_a_gateway_gives_up_with_what_it_has_seen(tmp_path: Path) -> None:
    file = tmp_path / "figures.json"
    words = ("swarm", *NOBODY, *FEW, "--until", "connected", "--give-up", "0.5", "--json", str(file))
    with process(*words, **KEY) as child:
        assert child.wait(PATIENCE_S) == 1
    found = json.loads(file.read_text())
    assert found["final"]
    assert "no device has been connected for 0.5 s" in found["outcome"]


def test_a_swarm_that_is_killed_outright_takes_its_processes_with_it(traces: Traces) -> None:
    words = ("swarm", *NOBODY, *FEW, "--processes", "2", "--give-up", "0")
    with process(*words, **KEY, **traces.variables) as child:
        wait_until(lambda: sum("loadtest.member" in line for line in traces.processes.values()) == 2, "its start")
        child.kill()
    wait_until(lambda: not traces.processes, "the end of its processes")


def test_a_target_beyond_the_machine_is_refused_with_the_way_out() -> None:
    assert "use --processes" in error(fanout("swarm", *NOBODY, "--devices", str(2**24), **KEY))
    many = ("--devices", "1000000", "--processes", "512")
    assert "--source" in error(fanout("swarm", "--url", "ws://192.0.2.1/v1/connect", *many, **KEY))
    assert "cannot connect from" in error(fanout("swarm", *NOBODY, "--source", "192.0.2.9", **KEY))
    nowhere = ("--url", "ws://gateway.invalid:8081/v1/connect")
    assert "gateway.invalid has no address" in error(fanout("swarm", *nowhere, *FEW, **KEY))


def test_more_devices_than_there_is_memory_for_are_refused_at_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    small = tmp_path / "meminfo"
    small.write_text("MemTotal:         200000 kB\nMemFree:           10000 kB\nMemAvailable:     100000 kB\n")
    monkeypatch.setattr(capacity, "_MEMORY", small)
    said = error(fanout("swarm", *NOBODY, "--devices", "15000", **KEY))
    assert "15000 devices in 1 processes need" in said
    assert "0.10 GB are available; use --devices" in said


@pytest.mark.parametrize(
    "words",
    [
        ["--url", "nonsense"],
        ["--url", "ws://"],
        ["--url", "http://127.0.0.1:8081/"],
        ["--url", "ws://127.0.0.1:port/"],
        [*NOBODY, "--origin", "nonsense"],
        [*NOBODY, "--origin", "http://[::1"],
        [*NOBODY, "--topics", ""],
        [*NOBODY, "--topics", "a, b"],
        [*NOBODY, "--devices", "0"],
        [*NOBODY, "--connects-per-s", "-1"],
        [*NOBODY, "--processes", "0"],
        [*NOBODY, "--source", "everywhere"],
        [*NOBODY, "--slow-share", "2"],
        [*NOBODY, "--until", "bored"],
        [*NOBODY, "--timeout", "0"],
        [*NOBODY, *("--url", "nonsense")],
    ],
    ids=" ".join,
)
def test_what_cannot_work_is_refused_in_one_line(words: list[str]) -> None:
    assert error(fanout("swarm", *words, **KEY))


def test_without_a_key_there_is_no_swarm() -> None:
    assert "openssl" in error(fanout("swarm", *NOBODY))
