"""Running Node, where there is one, and asking the JavaScript core."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[2]
SDK = ROOT / "sdk/js"
MODULES = SDK / "node_modules"
# Of people, not of machines.
PATIENCE_S = 90

NODE = shutil.which("node")

NO_NODE = "" if NODE else "Node is not installed: Debian's packages are nodejs and npm"
NO_MODULES = NO_NODE or (
    "" if MODULES.is_dir() else "the SDK's tools are not installed: `make test` gets them where npm is"
)

needs_node = pytest.mark.skipif(bool(NO_NODE), reason=NO_NODE)
needs_modules = pytest.mark.skipif(bool(NO_MODULES), reason=NO_MODULES)


def run(*command: str | Path, cwd: Path = SDK, stdin: str | None = None, **variables: str) -> str:
    """Return what a command wrote, with these variables more; the test fails with all it said if it fails."""
    env = {**os.environ, **variables}
    done = subprocess.run(
        command, cwd=cwd, input=stdin, env=env, capture_output=True, encoding="utf-8", timeout=PATIENCE_S, check=False
    )
    assert done.returncode == 0, f"{command} ended with {done.returncode}:\n{done.stdout}\n{done.stderr}"
    return done.stdout


def asked(*bundle: Path, **questions: Any) -> Any:
    """Return what the JavaScript core answers; its sources, unless a bundle is named."""
    assert NODE is not None
    return json.loads(run(NODE, Path(__file__).parent / "answers.mjs", *bundle, stdin=json.dumps(questions)))


def near(got: Any, expected: Any) -> bool:
    """Tell whether both are the same, but for a rounding of numbers."""
    if isinstance(expected, dict):
        return isinstance(got, dict) and got.keys() == expected.keys() and all(near(got[k], expected[k]) for k in got)
    if isinstance(expected, list):
        return isinstance(got, list) and len(got) == len(expected) and all(map(near, got, expected))
    if isinstance(expected, int | float) and not isinstance(expected, bool):
        return isinstance(got, int | float) and not isinstance(got, bool) and abs(got - expected) <= 0.01
    return type(got) is type(expected) and bool(got == expected)
