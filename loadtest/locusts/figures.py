"""A run's figures as people and machines read them: a JSON document, CSV, a table. Knows no locust and no page."""

from __future__ import annotations

import csv
import io
import json
from pathlib import Path
from typing import Any, Final

import msgspec
from rich.console import Console
from rich.table import Table

from loadtest.locusts.ledger import COUNTS, PERCENTILES, Gathered
from loadtest.locusts.slos import Verdict

COLUMNS: Final = ("count", *PERCENTILES, "max")
HEADINGS: Final = ("count", "50 %", "90 %", "99 %", "99.9 %", "99.99 %", "max")
NAMES: Final = {
    "connect": "connect → welcome",
    "ready": "prefetch → ready",
    "delivery": "publication → receipt",
    "prefetch_delivery": "prefetch → receipt",
    "flip_error": "flip against its slot",
    "catchup": "lost → welcome again",
    "fetch": "bundle from the origin",
    "lag": "this test's own lag",
}


def document(gathered: Gathered, verdicts: list[Verdict], **more: Any) -> dict[str, Any]:
    """Return everything that was measured, as JSON has it.

    Args:
        gathered: The reports.
        verdicts: What became of the SLOs.
        more: Of the test itself: its shape, its phase, its workers.
    """
    figures, total = gathered.figures(), gathered.total()
    return {
        **more,
        **{name: figures[name] for name in (*COUNTS, "flips", "missing", "ready_share")},
        "reasons": dict(sorted(total.reasons.items())),
        "publications": [
            {"rev": rev, **msgspec.to_builtins(each)} for rev, each in sorted(total.revs.items()) if rev
        ],
        "timings_ms": gathered.percentiles(),
        "histograms": {
            name: made.encode().decode() for name, made in gathered.histograms.items() if made.get_total_count()
        },
        "slos": msgspec.to_builtins(verdicts),
    }


def write(path: Path, found: dict[str, Any]) -> None:
    """Replace the file in one step, so that a reader never sees half of it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    draft = path.with_suffix(path.suffix + ".part")
    draft.write_text(json.dumps(found), "utf-8")
    draft.replace(path)


def as_csv(gathered: Gathered) -> str:
    """Return a line a timing, and then a line a count."""
    made = io.StringIO()
    lines = csv.writer(made, lineterminator="\n")
    lines.writerow(("timing", *(each if each == "count" else f"{each}_ms" for each in COLUMNS)))
    for name, values in gathered.percentiles().items():
        lines.writerow((name, *(f"{values[each]:g}" for each in COLUMNS)))
    figures = gathered.figures()
    for name in (*COUNTS, "flips", "missing", "ready_share"):
        lines.writerow((name, f"{figures[name]:.10g}"))
    return made.getvalue()


def show(console: Console, gathered: Gathered, verdicts: list[Verdict], words: str) -> None:
    """Print the figures, and then what became of the SLOs."""
    timings = Table("ms", *HEADINGS, title=words)
    for name, values in gathered.percentiles().items():
        timings.add_row(NAMES[name], f"{values['count']:,}", *(f"{values[each]:,g}" for each in COLUMNS[1:]))
    console.print(timings)
    figures, total = gathered.figures(), gathered.total()
    counts = ", ".join(f"{figures[name]:,g} {name}" for name in (*COUNTS, "flips", "missing") if figures[name])
    console.print(counts or "nothing happened", markup=False, highlight=False)
    for reason, times in sorted(total.reasons.items()):
        console.print(f"{times:,} times {reason}", markup=False, highlight=False)
    if verdicts:
        judged = Table("SLO", "measured", "", title="SLOs")
        for each in verdicts:
            measured = "nothing" if each.measured is None else f"{each.measured:,.6g}"
            judged.add_row(each.slo, measured, "kept" if each.kept else "[bold red]BROKEN")
        console.print(judged)
