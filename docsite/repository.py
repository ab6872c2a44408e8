"""The files that belong to this repository, whether committed yet or not. Knows nothing of what is in them."""

from __future__ import annotations

import subprocess
from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).parents[1]


def files(root: Path = ROOT) -> list[str]:
    """Return every file that is, or would be, in git, as sorted paths with forward slashes."""
    words = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    listed = subprocess.run(words, cwd=root, check=True, capture_output=True).stdout.decode().split("\0")
    # What was removed and not committed yet is still listed.
    return sorted({path for path in listed if path and (root / path).is_file()})


def folders(paths: list[str]) -> set[str]:
    """Return every folder that holds one of these files."""
    return {parent.as_posix() for path in paths for parent in Path(path).parents if parent.as_posix() != "."}
