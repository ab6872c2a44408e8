"""Holds every metric's definition to the conventions, and docs/metrics.md to the definitions.

The part between the marks is made from the code: ``python -m tests.test_metrics_page``.
https://prometheus.io/docs/practices/naming/ has the conventions.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Final

import pytest

from fanout.control.metrics import Metrics
from fanout.metering import Definition, Metering
from gateway.metrics import METERING, SupervisorMetrics

PAGE: Final = Path(__file__).resolve().parent.parent / "docs" / "metrics.md"
BEGIN: Final = "<!-- made from the code by: python -m tests.test_metrics_page -->"
END: Final = "<!-- end of what is made -->"

# The only units, besides what is counted; a name ends with its unit.
BASE_UNITS: Final = ("seconds", "bytes", "ratio")
# Nobody has to multiply in a query.
OTHER_UNITS: Final = re.compile(
    r"_(ms|millis|milliseconds|us|micros|ns|minutes|hours|days|kb|mb|kib|mib|kilobytes|megabytes|percent|bits)(_|$)"
)
# What metrics may be split by. A device, an account, a topic, a path or a revision is none: they have no end.
LABELS: Final = frozenset(
    {"campaign", "code", "health", "phase", "reached", "route", "state", "status", "type", "version", "what"}
)
# More series of one metric and process than this want a reason.
SERIES_MAX: Final = 100
PREFIXES: Final = {"gateway": "fanout_gateway_", "control plane": "fanout_control_"}


def gateway() -> list[Definition]:
    return [*METERING.definitions, *SupervisorMetrics("1", 1, 1).metering.definitions]


def control() -> list[Definition]:
    return Metrics().metering.definitions


ALL: Final = [*gateway(), *control()]


def unconventional(defined: Definition) -> list[str]:
    """Return what is wrong with a definition."""
    name, wrong = defined.name, []
    if not re.fullmatch(r"[a-z][a-z0-9]*(_[a-z0-9]+)*", name):
        wrong.append("is not in snake case")
    if not name.startswith(tuple(PREFIXES.values())):
        wrong.append("does not begin with its component")
    if OTHER_UNITS.search(name) or OTHER_UNITS.search(f"_{defined.unit}"):
        wrong.append("has a unit that is no base unit")
    if (defined.kind == "counter") is not name.endswith("_total"):
        wrong.append("ends with _total if and only if it counts")
    if re.search(r"_(count|sum|bucket|created)$", name):
        wrong.append("ends like a series of a histogram")
    stem = name.removesuffix("_total")
    ends = next((unit for unit in BASE_UNITS if stem.endswith(f"_{unit}")), None)
    if ends != (defined.unit if defined.unit in BASE_UNITS else None):
        wrong.append(f"has the unit {defined.unit!r}, which its name does not say")
    if defined.kind == "histogram" and not (
        defined.buckets and list(defined.buckets) == sorted(set(defined.buckets))
    ):
        wrong.append("has buckets out of order")
    if not defined.unit or not re.fullmatch(r"[A-Z0-9][^\n]*[^.]\.", defined.help):
        wrong.append("has no unit, or its help is no sentence")
    if stray := set(defined.labels) - LABELS:
        wrong.append(f"is split by {stray}, which is not in the list")
    series = 1
    for values in defined.labels.values():
        if isinstance(values, str):
            wrong += [] if values else ["has a label that nothing bounds"]
        else:
            series *= len(set(values))
    if not 0 < series <= SERIES_MAX:
        wrong.append(f"has {series} series")
    return wrong


def test_every_metric_keeps_the_conventions() -> None:
    assert {each.name: wrong for each in ALL if (wrong := unconventional(each))} == {}


def test_no_two_metrics_have_one_name() -> None:
    assert len({each.name for each in ALL}) == len(ALL)


def test_what_is_defined_is_what_the_registries_know() -> None:
    """A metric made without a definition would be on no page and under no convention."""
    meterings: list[Metering] = [METERING, SupervisorMetrics("1", 1, 1).metering, Metrics().metering]
    for metering in meterings:
        known = {name for name in metering.registry._names_to_collectors if not name.endswith(("_created", "_info"))}
        names = {each.name for each in metering.definitions}
        series = {name + end for name in names for end in ("", "_total", "_count", "_sum", "_bucket")}
        stems = {name.removesuffix("_total") for name in names}
        assert known <= series | stems
        assert {name for name in names if not name.endswith("_info")} <= known


@pytest.mark.parametrize(
    ("name", "kind", "unit", "labels"),
    [
        ("gateway_sends_total", "counter", "frames", {}),
        ("fanout_gateway_sends", "counter", "frames", {}),
        ("fanout_gateway_sends_total", "gauge", "frames", {}),
        ("fanout_gateway_lag_ms", "gauge", "ms", {}),
        ("fanout_gateway_lag", "gauge", "seconds", {}),
        ("fanout_gateway_lag_seconds", "gauge", "workers", {}),
        ("fanout_gateway_lag_count", "gauge", "lags", {}),
        ("fanout_gateway_Lag_seconds", "gauge", "seconds", {}),
        ("fanout_gateway_lag_seconds", "histogram", "seconds", {}),
        ("fanout_gateway_sends_total", "counter", "frames", {"device": ("a",)}),
        ("fanout_gateway_sends_total", "counter", "frames", {"status": ""}),
        ("fanout_gateway_sends_total", "counter", "frames", {"status": [str(n) for n in range(SERIES_MAX + 1)]}),
    ],
)
def test_what_breaks_a_convention_is_noticed(name: str, kind: str, unit: str, labels: dict[str, str]) -> None:
    assert unconventional(Definition(name, kind, unit, "Help.", labels))


# --- The page.


def labels_of(defined: Definition) -> str:
    words = []
    for name, values in defined.labels.items():
        words.append(f"`{name}`: {values}" if isinstance(values, str) else f"`{name}`: {', '.join(values)}")
    return "; ".join(words)


def row(defined: Definition) -> str:
    text = defined.help
    if defined.buckets:
        text += f" Buckets: {', '.join(f'{bound:g}' for bound in defined.buckets)}."
    if defined.over:
        text += " The largest of the workers'." if defined.over == "livemax" else " The sum over the workers."
    cells = (f"`{defined.name}`", defined.kind, defined.unit, labels_of(defined), text)
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"


def table(title: str, definitions: list[Definition]) -> str:
    head = "| metric | type | unit | labels | what |\n| --- | --- | --- | --- | --- |"
    return f"### {title}\n\n{head}\n" + "\n".join(map(row, definitions))


def made() -> str:
    """Return the part of the page that is made from the code."""
    parts = (
        table("A gateway (`gateway/metrics.py`)", gateway()),
        table("A control plane (`fanout/control/metrics.py`)", control()),
    )
    return "\n\n".join((BEGIN, *parts, END))


def rewritten(page: str) -> str:
    before, _, rest = page.partition(BEGIN)
    return before + made() + rest.partition(END)[2]


def test_the_page_says_what_the_code_says() -> None:
    page = PAGE.read_text("utf-8")
    assert page == rewritten(page), "docs/metrics.md is behind the code: python -m tests.test_metrics_page"


def test_every_metric_the_documents_name_exists() -> None:
    known = {each.name for each in ALL}
    known |= {f"{each.name}_{end}" for each in ALL if each.buckets for end in ("count", "sum", "bucket")}
    for page in sorted(PAGE.parent.glob("*.md")):
        named = set(re.findall(r"\bfanout_(?:gateway|control)_[a-z0-9_]*[a-z0-9]", page.read_text("utf-8")))
        assert named <= known, f"{page.name} names {named - known}"


if __name__ == "__main__":
    PAGE.write_text(rewritten(PAGE.read_text("utf-8")), "utf-8")
