"""What benchmarks make of what they find: verdicts, the page, the exit status; and one of them for real."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from hypothesis import given
from hypothesis import strategies as st

from fanout.slots import slot_ms
from loadtest.bench.__main__ import main
from loadtest.bench.evenness import drawn, peak_to_mean
from loadtest.bench.figures import Figure, Run, write_report
from loadtest.bench.million import shortcomings

AT = 1_795_000_900_000


def figure(name: str, *, kept: bool = True, seed: int | None = None) -> Figure:
    return Figure(name=name, what=f"what {name} is", unit="ms", value=12.5, budget="<= 10", kept=kept, seed=seed)


# --- Evenness.


@given(st.integers(1, 60), st.integers(1, 50))
def test_as_many_flips_in_every_second_are_even_and_all_in_one_are_as_uneven_as_the_window_is_long(
    window_s: int, each: int
) -> None:
    even = {AT + 1000 * second + 7: each for second in range(window_s)}
    assert peak_to_mean(even, AT, window_s * 1000) == pytest.approx(1)
    assert peak_to_mean({AT + 7: each}, AT, window_s * 1000) == pytest.approx(window_s)


def test_the_slots_of_a_swarm_are_those_its_devices_have() -> None:
    rev, window_ms = AT + 123, 20_000
    slots = Counter(slot_ms(f"device-{number}", rev, window_ms) for number in range(300))
    assert drawn(300, rev, window_ms) == pytest.approx(peak_to_mean(slots, 0, window_ms))
    assert drawn(300, rev, window_ms) > 1


# --- The million's verdict.


def found(**changed: Any) -> dict[str, Any]:
    delivered = {"received": 100, "last_ms": 19_000.0, **changed.pop("delivered", {})}
    return {"devices": 100, "activated": 100, "flipped_twice": 0, "kept": True, "delivered": delivered, **changed}


@pytest.mark.parametrize(
    ("changed", "says"),
    [
        ({"activated": 99}, "99 of 100 devices flipped"),
        ({"flipped_twice": 1}, "1 flipped twice"),
        ({"delivered": {"received": 98}}, "98 of 100 heard the activation"),
        ({"delivered": {"last_ms": 20_400.0}, "kept": False}, "after 20.4 s, the budget is 20 s"),
    ],
)
def test_a_million_that_lacks_anything_that_is_promised_has_failed(changed: dict[str, Any], says: str) -> None:
    assert shortcomings(found()) == []
    (words,) = shortcomings(found(**changed))
    assert says in words


# --- The page, and the exit status.


def test_the_page_says_how_long_it_took_what_was_drawn_and_what_a_ratio_is(tmp_path: Path) -> None:
    figures = [figure("one", seed=17), figure("two", kept=False)]
    made = Run(figures=figures, settings={"devices": 900}, seconds={"first": 12.4, "second": 30.0})
    write_report(tmp_path / "BENCH.md", made)
    page = (tmp_path / "BENCH.md").read_text()
    for said in ("It took 42 s: first 12, second 30.", "Seeds: one 17.", "the median of the rounds' own ratios"):
        assert said in page
    assert "| what one is | ms | 12.5 | - | - | <= 10 | kept |" in page
    assert "| what two is | ms | 12.5 | - | - | <= 10 | **missed** |" in page
    assert made.missed == ["what two is: 12.5 ms, <= 10"]


def test_a_page_of_some_benchmarks_alone_is_refused() -> None:
    done = CliRunner().invoke(main, ["--only", "idle", "--report", "BENCH.md"])
    assert done.exit_code == 2
    assert "leave out --only" in done.output
    assert "'nothing' is not one of" in CliRunner().invoke(main, ["--only", "nothing"]).output


@pytest.mark.timeout(200)
def test_a_benchmark_runs_the_product_leaves_its_figures_and_fails_if_a_budget_is_missed(tmp_path: Path) -> None:
    """A small one, whose figures mean nothing. It asserts itself that welcomes hold what the row says."""
    file = tmp_path / "BENCH.json"
    words = ["--only", "connections", "--devices", "60", "--json", str(file)]
    done = subprocess.run(
        [sys.executable, "-m", "loadtest.bench", *words],
        capture_output=True,
        text=True,
        timeout=180,
        check=False,
        env={name: value for name, value in os.environ.items() if not name.startswith("FANOUT_")},
    )
    assert file.exists(), done.stderr
    document = json.loads(file.read_text())
    figures = {each["name"]: each for each in document["figures"]}
    assert figures.keys() == {"memory", "handshakes"}
    assert min(value for pair in figures["handshakes"]["rounds"] for value in pair) > 0
    missed = [each["what"] for each in figures.values() if not each["kept"]]
    assert done.returncode == (1 if missed else 0), done.stderr
    assert done.stderr.count("missed: ") == len(missed)
    assert document["seconds"].keys() == {"connections"}
