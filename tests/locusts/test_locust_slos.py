"""SLOs: what a line may say, and what keeps it."""

from __future__ import annotations

from pathlib import Path

import pytest

from fanout.errors import InvalidInput
from loadtest.locusts.ledger import FIGURES
from loadtest.locusts.slos import NIGHT, check_names, judge, parse, read_file


def kept(text: str, **figures: float) -> list[bool]:
    return [
        each.kept for each in judge(parse(text), {name.replace("__", "."): value for name, value in figures.items()})
    ]


@pytest.mark.parametrize(
    ("text", "verdict"),
    [
        ("connect.p99 <= 1000", True),
        ("connect.p99 <= 999.9", False),
        ("connect.p99<1000", False),
        ("connect.p99 >= 1000", True),
        ("connect.p99 > 1000", False),
        ("flips = devices", True),
        ("flips = 4", False),
        ("flips < devices", False),
    ],
)
def test_a_line_is_kept_or_broken_at_its_very_edge(text: str, verdict: bool) -> None:
    assert kept(text, connect__p99=1000.0, flips=5, devices=5) == [verdict]


def test_what_was_never_measured_keeps_nothing() -> None:
    assert kept("connect.p99 <= 1000; flips = devices", devices=0) == [False, False]
    assert kept("connect.p99 >= 0") == [False]


def test_the_product_s_own_set_is_there_by_name_and_names_figures_that_exist(tmp_path: Path) -> None:
    assert [str(each) for each in parse("night")] == list(NIGHT)
    check_names(parse("night"), FIGURES)
    file = tmp_path / "slos.json"
    file.write_text('["night", "catchup.p9999 <= 60000"]')
    assert read_file(file) == parse("night; catchup.p9999<=60000")


@pytest.mark.parametrize(
    "text", ["fast", "connect.p99", "connect.p99 <=", "connect.p99 == 1", "connect.p99 <= 1.2.3", "p99 <= -1"]
)
def test_a_line_that_says_nothing_is_refused(text: str) -> None:
    with pytest.raises(InvalidInput, match="is no SLO"):
        parse(text)


def test_a_figure_that_does_not_exist_is_refused_before_the_night() -> None:
    with pytest.raises(InvalidInput, match=r"conect\.p99"):
        check_names(parse("conect.p99 <= 1000"), FIGURES)
    with pytest.raises(InvalidInput, match="divices"):
        check_names(parse("flips = divices"), FIGURES)


@pytest.mark.parametrize("content", ["{}", "[1]", "not json", '["fast"]'])
def test_a_file_that_holds_no_lines_is_refused(tmp_path: Path, content: str) -> None:
    file = tmp_path / "slos.json"
    file.write_text(content)
    with pytest.raises(InvalidInput):
        read_file(file)
    with pytest.raises(InvalidInput):
        read_file(tmp_path / "nowhere.json")
