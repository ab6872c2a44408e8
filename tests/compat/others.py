"""Processes of another version of the product, from its wheel, beside those of this tree."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from support.stack import KEY, ROOT
from support.waiting import PATIENCE_S
from support.wheel import clean_environment

from fanout import processes


def wheels() -> list[Path]:
    """Return the released wheels there are: those in the folder of FANOUT_RELEASES, or in tests/releases."""
    folder = Path(os.environ.get("FANOUT_RELEASES") or ROOT / "tests/releases")
    found = sorted(folder.glob("fanout-*.whl"))
    assert found or "FANOUT_RELEASES" not in os.environ, f"FANOUT_RELEASES names {folder}, which holds no wheel"
    return found


@contextmanager
def serving(commands: Path, *words: str, folder: Path, store: str, **variables: str) -> Iterator[dict[str, Any]]:
    """Run a server of that version while the context lasts, away from this tree.

    Args:
        commands: The ``bin`` of an environment that has its wheel.
        words: The command, such as ``gateway``, and its options.
        folder: Where it runs, and writes its log.
        store: The store's URL.
    Yields:
        What it says of where it listens.
    """
    log = folder / f"{words[0]}.log"
    with log.open("wb") as stderr:
        child = subprocess.Popen(
            [str(commands / "fanout"), *words, "--port", "0", "--json"],
            env=clean_environment(FANOUT_REDIS_URL=store, FANOUT_DEVICE_KEY=KEY, **variables),
            # Its workers are started as modules, which Python looks for in the current folder first.
            cwd=folder,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=stderr,
            start_new_session=True,
            preexec_fn=processes.preexec,
        )
    try:
        assert child.stdout is not None
        line = child.stdout.readline()
        assert line, log.read_text()
        yield dict(json.loads(line))
    finally:
        processes.stop(child, PATIENCE_S)
        assert child.stdout is not None
        child.stdout.close()


def file_of(commands: Path) -> str:
    """Return where the product's code is in an environment, and its version."""
    asked = "import fanout; print(fanout.__file__, fanout.__version__)"
    words = [str(commands / "python"), "-c", asked]
    return subprocess.run(words, cwd="/", env=clean_environment(), capture_output=True, text=True, check=True).stdout
