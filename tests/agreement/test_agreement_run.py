"""``make agreement`` as a process: a few dozen real devices by each engine, and the report; what it refuses."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from cli.running import Traces, environment
from support.waiting import PATIENCE_S

from fanout.errors import InvalidInput
from loadtest.agreement.experiment import FILE, read
from loadtest.agreement.night import workers_for

DEVICES = {"locust": 50, "swarm": 300}
# A busy machine may miss any bound; these are for the words of the report, not for the machine.
EXPERIMENT: dict[str, Any] = {
    "sizes": list(DEVICES.values()),
    "fleet": 1_000,
    "engines": {
        name: {
            "devices_max": devices,
            "workers": 1,
            "connects_per_s": 300,
            "beacon_s": 600,
            "prefetch_window_s": 0,
            "ahead_s": 1,
            "window_s": 3,
            "bounds": {"t99": 1, "flips_per_s": 1},
        }
        for name, devices in DEVICES.items()
    },
}


@pytest.fixture
def traces() -> Iterator[Traces]:
    with tempfile.TemporaryDirectory(prefix="traces-", dir="/tmp") as directory:
        made = Traces(Path(directory))
        yield made
        for pid in made.processes:
            os.kill(pid, signal.SIGKILL)


def run(experiment: Path, *words: str, **variables: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "loadtest.agreement", "--experiment", str(experiment), *words],
        env=environment(**variables),
        capture_output=True,
        text=True,
        check=False,
        timeout=4 * PATIENCE_S,
    )


@pytest.mark.slow
def test_two_sizes_by_their_engines_and_by_the_simulator_become_a_report(tmp_path: Path, traces: Traces) -> None:
    page, figures, kept = tmp_path / "page.md", tmp_path / "figures.json", tmp_path / "kept"
    experiment = tmp_path / "experiment.yaml"
    experiment.write_text(json.dumps(EXPERIMENT), "utf-8")  # JSON is YAML
    done = run(experiment, "--report", str(page), "--json", str(figures), "--keep", str(kept), **traces.variables)
    assert figures.exists(), done.stderr
    traces.assert_none()
    found = json.loads(figures.read_text("utf-8"))
    # Late it may be, and is told; nobody is missing, twice there, or another device than the simulated one.
    assert done.returncode == (0 if found["kept"] else 1)
    assert found["fleet"]["curve"]["flipped"] == found["fleet"]["devices"] == 1_000
    assert "| 1,000 simulated |" in page.read_text("utf-8")
    for result, (name, devices) in zip(found["results"], DEVICES.items(), strict=True):
        assert (result["measured"]["engine"], result["real"]["flipped"]) == (name, devices)
        assert result["simulated"]["curve"]["flipped"] == devices
        assert result["measured"]["ended"]["received"] == devices
        assert sum(result["measured"]["connections"]) == devices
        assert [v["kept"] for v in result["comparison"]["verdicts"][:2]] == [True, True]
        assert len(result["comparison"]["seconds"]) == 3
        flips = json.loads((kept / f"{name}-{devices}.json").read_text("utf-8"))["flips"]
        assert sum(flips.values()) == devices
        picture = page.with_suffix("") / f"{name}-{devices}.png"
        assert picture.read_bytes().startswith(b"\x89PNG")
        text = page.read_text("utf-8")
        assert f"## {devices} devices by {name} and by the simulator, over 3 s" in text
        assert f"(page/{name}-{devices}.png)" in text
        assert f"| `rev` | {result['measured']['rev']} |" in text
        assert "**Chance: none.**" in text


def test_a_size_the_machine_cannot_hold_is_refused_with_the_number_that_forbids_it() -> None:
    _, engine = read(FILE).engine_for(2**24)
    with pytest.raises(InvalidInput, match=r"16,777,216 devices by swarm do not fit .* do: .* is .*For more: "):
        workers_for("swarm", engine, 2**24)
