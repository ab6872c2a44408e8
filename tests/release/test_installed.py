"""The wheel, installed into an environment of its own and run away from the source tree, is the product."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import pytest
from cli.running import Traces
from support.stack import ROOT
from support.waiting import PATIENCE_S
from support.wheel import clean_environment

import fanout

from .figures import DEVICES, judge


def run(installed: Path, *words: str, cwd: Path, **variables: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [str(installed / words[0]), *words[1:]],
        cwd=cwd,
        env=clean_environment(**variables),
        capture_output=True,
        text=True,
        timeout=2 * PATIENCE_S,
    )


@pytest.mark.slow
def test_what_is_installed_is_the_wheel(installed: Path, tmp_path: Path) -> None:
    """Or every test here would test the source tree."""
    asked = "import fanout, gateway, loadtest, importlib.metadata as m; "
    asked += "print(fanout.__file__, gateway.__file__, loadtest.__file__, m.version('fanout'))"
    said = run(installed, "python", "-c", asked, cwd=tmp_path)
    assert said.returncode == 0, said.stderr
    *files, version = said.stdout.split()
    assert all(Path(file).is_relative_to(installed.parent) for file in files), files
    assert not any(Path(file).is_relative_to(ROOT) for file in files), files
    assert version == fanout.__version__
    said = run(installed, "fanout", "--version", cwd=tmp_path)
    assert said.stdout == f"fanout, version {fanout.__version__}\n"


@pytest.mark.slow
def test_every_device_connects_prefetches_and_activates(installed: Path, tmp_path: Path, traces: Traces) -> None:
    file = tmp_path / "out.json"
    words = ("demo", "--headless", "--devices", str(DEVICES), "--prefetch-window", "2", "--activate-window", "2")
    # What a developer's shell may hold must not get in the way.
    odd = {"FANOUT_DEVICE_KEY": "short", "FANOUT_DEVICE_KEY_FILE": "/nowhere", "FANOUT_REDIS_URL": "redis://nowhere"}
    said = run(installed, "fanout", *words, "--json", str(file), cwd=tmp_path, **odd, **traces.variables)
    assert said.returncode == 0, said.stdout + said.stderr
    judge(json.loads(file.read_text()))
    assert {path.name for path in tmp_path.iterdir()} == {"out.json"}, "it leaves nothing where it is run"
    traces.assert_none()
