"""``fanout swarm`` as a process."""

from __future__ import annotations

import json
import signal
from pathlib import Path

import pytest

from .running import DEVICE_KEY, ended, error, fanout, process, wait_until

KEY = {"FANOUT_DEVICE_KEY": DEVICE_KEY}
NOBODY = ("--url", "ws://127.0.0.1:1/v1/connect")


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_swarm_goes_on_trying_until_it_is_told_to_stop_and_leaves_its_tally(tmp_path: Path, number: int) -> None:
    file = tmp_path / "tally.json"
    with process("swarm", *NOBODY, "--devices", "5", "--ramp", "0", "--json", str(file), **KEY) as child:
        wait_until(lambda: file.exists() and json.loads(file.read_text())["refused"].get("0", 0) >= 10, "its tries")
        assert not json.loads(file.read_text())["final"]
        assert ended(child, number) == 0
    found = json.loads(file.read_text())
    assert found["final"]
    assert (found["devices"], found["connected"], found["flips"]) == (5, 0, {})


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
        [*NOBODY, "--ramp", "-1"],
    ],
    ids=" ".join,
)
def test_what_cannot_work_is_refused_in_one_line(words: list[str]) -> None:
    assert error(fanout("swarm", *words, **KEY))


def test_without_a_key_there_is_no_swarm() -> None:
    assert "openssl" in error(fanout("swarm", *NOBODY))
