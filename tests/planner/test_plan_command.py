"""``fanout plan``: the plan in words and as JSON, and one line for what cannot be."""

from __future__ import annotations

import json
from pathlib import Path

from cli.running import error, fanout, good


def test_it_says_how_many_workers_and_why_and_writes_the_same_as_json(tmp_path: Path) -> None:
    file = tmp_path / "plan.json"
    said = good(fanout("plan", "--devices", "20000000", "--json", str(file)))
    made = json.loads(file.read_text())
    assert f"{made['workers']:,} workers" in said
    for line in made["lines"]:
        assert line["what"] in said
        assert line["formula"], line["name"]
    assert made["decided_by"] in {line["name"] for line in made["lines"]}
    assert made["measured"]["sources"]["sends_per_s"] == "BENCH.md"


def test_a_plan_that_cannot_be_is_one_line_with_the_number_that_forbids_it(tmp_path: Path) -> None:
    assert "workers is 2" in error(fanout("plan", "--devices", "20000000", "--workers", "2"))
    assert "window_s is 0" in error(fanout("plan", "--devices", "1000", "--window", "0"))
    wrong = tmp_path / "other.json"
    wrong.write_text("{}")
    assert "make bench" in error(fanout("plan", "--devices", "1000", "--calibrate", str(wrong)))
