"""What tests of processes share: a place to look for what those leave behind."""

from __future__ import annotations

import os
import signal
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from .running import Traces


@pytest.fixture
def traces() -> Iterator[Traces]:
    with tempfile.TemporaryDirectory(prefix="traces-", dir="/tmp") as directory:
        made = Traces(Path(directory))
        yield made
        # After a test that failed; the others have seen to it that there are none.
        for pid in made.processes:
            os.kill(pid, signal.SIGKILL)
