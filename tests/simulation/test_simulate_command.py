"""``fanout simulate``: the table, the figures, the picture, and one line for what cannot be."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest
from cli.running import environment, error, fanout, good

from fanout.cli import simulation
from loadtest.simulation.policies import POLICIES

SMALL = ("--devices", "20000", "--set", "devices_per_worker=5000", "--processes", "1", "--set", "horizon_s=120")


def test_all_policies_are_compared_in_a_table_in_json_and_in_a_picture(tmp_path: Path) -> None:
    file, picture = tmp_path / "figures.json", tmp_path / "herd.png"
    said = good(fanout("simulate", *SMALL, "--json", str(file), "--plot", str(picture)))
    assert "20,000 devices on 4 gateway workers, window 45 s, seed 1" in said
    for words in ("99.9 %", "origin, requests/s at the peak", "cost a month, USD", "readiness"):
        assert words in said
    figures = json.loads(file.read_text())
    assert [each["policy"] for each in figures["policies"]] == list(POLICIES)
    assert figures["scenario"]["devices"] == 20_000
    assert all(each["flipped"] + each["never"] == 20_000 for each in figures["policies"])
    assert picture.read_bytes().startswith(b"\x89PNG")


def test_flags_win_over_measured_figures_and_those_over_the_file(tmp_path: Path) -> None:
    file, night, bench = tmp_path / "out.json", tmp_path / "night.yaml", tmp_path / "bench.json"
    night.write_text("window_s: 30\nseed: 3\nsends_per_s: 1000\nadmit_per_s: 500\n")
    bench.write_text('{"settings": {"devices": 15000}, "figures": [{"name": "fan-out", "value": 300}]}')
    ran = fanout("simulate", *SMALL, "--policy", "inline", "--window", "20", "--scenario", str(night),
                 "--calibrate", str(bench), "--json", str(file))  # fmt: skip
    good(ran)
    said = "sends_per_s 50,000: fan-out, sends a second of one worker, bench.json"
    assert f"calibrated: {said}" in ran.stderr
    found = json.loads(file.read_text())
    scenario = found["scenario"]
    assert (scenario["window_s"], scenario["seed"]) == (20, 3)
    assert (scenario["sends_per_s"], scenario["admit_per_s"]) == (50_000, 500)
    assert found["calibrated"] == [said]
    assert [each["policy"] for each in found["policies"]] == ["inline"]


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (("--window", "0.1", "--set", "ahead_s=0", "--set", "sends_per_s=5000"), "5000 a second, until 1."),
        (("--set", "connections_max=1000"), "connections_max is 1000: send workers=20 or more"),
        (("--set", "windows=3"), "windows"),
        (("--plot", "herd.doc"), "ends in .png, .svg or .pdf"),
        (("--plot", "/nowhere/herd.png"), "cannot be written"),
        (("--calibrate", "/nowhere/bench.json"), "make bench"),
        (("--policy", "magic"), "'magic' is not one of"),
    ],
)
def test_what_cannot_be_is_one_line(words: tuple[str, ...], says: str) -> None:
    assert says in error(fanout("simulate", *SMALL, *words))


def test_the_command_names_the_policies_there_are() -> None:
    assert tuple(POLICIES) == simulation.POLICIES


@pytest.mark.parametrize("missing", ["numpy", "matplotlib"])
def test_without_the_extra_it_says_what_to_install(missing: str, tmp_path: Path) -> None:
    """A module that is None there cannot be imported, as if it were not installed."""
    words = ["fanout", "simulate", "--plot", str(tmp_path / "x.png")]
    program = (
        f"import sys; sys.modules[{missing!r}] = None; sys.argv = {words!r}; from fanout.cli import main; main()"
    )
    ran = subprocess.run(
        [sys.executable, "-c", program], env=environment(), capture_output=True, text=True, timeout=60, check=False
    )
    assert ran.returncode == 1
    assert re.fullmatch(rf"Error: {missing} is not installed; .*pip install 'fanout\[loadtest\]'\n", ran.stderr)
