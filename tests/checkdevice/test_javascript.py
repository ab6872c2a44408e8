"""The JavaScript SDK keeps every rule that can be seen on the wire."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from sdk.node import NODE, ROOT, needs_modules

# It mostly waits: the scenarios have windows and backoffs of their own. On a busy machine all of it is late.
LATE_MS = "5000"
PATIENCE_S = 110


@pytest.mark.slow
@needs_modules
def test_the_javascript_sdk_keeps_every_rule(tmp_path: Path) -> None:
    file = tmp_path / "verdicts.json"
    assert NODE is not None
    command = [sys.executable, "-m", "fanout.cli", "check-device", "--encoding", "json", "--late-ms", LATE_MS]
    device = [NODE, str(ROOT / "sdk/js/test/check-device.mjs")]
    done = subprocess.run(
        [*command, "--json", str(file), "--", *device],
        cwd=ROOT, capture_output=True, encoding="utf-8", timeout=PATIENCE_S, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    verdicts = json.loads(file.read_text())
    assert (verdicts["broken"], verdicts["not_shown"]) == (0, 0)
    assert verdicts["kept"] == len(verdicts["rules"]) > 40
