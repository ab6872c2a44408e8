"""Holds the table of faults to the tests: what it names is there, and `make chaos` runs it."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).resolve().parents[2]
README: Final = (ROOT / "tests/chaos/README.md").read_text("utf-8")


def named() -> Iterator[tuple[str, str]]:
    """Yield every test file that the table names, and the test in it, "" for all; "…" stands for any letters."""
    for row in README.splitlines():
        if row.startswith("| "):
            for file, test in re.findall(r"`(\w+/test_\w+)(?:::([\w…]+))?`", row):
                yield f"tests/{file}.py", test


def test_every_test_in_the_table_is_there() -> None:
    assert len(list(named())) > 30
    for file, test in named():
        text = (ROOT / file).read_text("utf-8")
        pattern = test.replace("…", r"\w*") + r"\b" if test else "test_"
        assert re.search(f"def {pattern}", text), f"{file}::{test}"


def test_make_chaos_runs_every_file_of_the_table() -> None:
    makefile = (ROOT / "Makefile").read_text("utf-8")
    found = re.search(r"^FAULTS := ((?:.*\\\n)*.*)$", makefile, re.M)
    assert found is not None
    elsewhere = set(found[1].replace("\\\n", " ").split())
    assert elsewhere == {file for file, _ in named() if not file.startswith("tests/chaos/")}
