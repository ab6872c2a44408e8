"""A walk on a terminal: what runs, then a table of what was found. Decides nothing."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Sequence
from types import TracebackType

from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, SpinnerColumn, TextColumn
from rich.table import Table

from fanout.conformance.scenarios.registry import Scenario
from fanout.conformance.verdicts import Verdict

_PLAIN_WIDTH = 160
_COLOURS = {"kept": "green", "broken": "bold red", "not shown": "yellow"}


class Watching:
    """Progress, on the standard error; use it as a context manager, and call it with what happens.

    Args:
        total: Scenarios of the walk.
    """

    def __init__(self, total: int) -> None:
        self._progress = Progress(
            SpinnerColumn(),
            MofNCompleteColumn(),
            BarColumn(),
            TextColumn("{task.description}"),
            console=Console(stderr=True),
        )
        self._task = self._progress.add_task("waiting for the device", total=total)
        self._running: dict[str, None] = {}

    def __enter__(self) -> Watching:
        self._progress.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._progress.stop()

    def __call__(self, scenario: Scenario, verdict: Verdict | None) -> None:
        if verdict is None:
            self._running[scenario.id] = None
        else:
            self._running.pop(scenario.id, None)
            self._progress.advance(self._task)
            if verdict.verdict != "kept":
                colour = _COLOURS[verdict.verdict]
                self._progress.print(f"[{colour}]{verdict.verdict}[/] {verdict.id}: {escape(verdict.seen)}")
        self._progress.update(self._task, description=" ".join(self._running))


def _console() -> Console:
    # A file or a pipe has no width of its own, and rows are not to be broken there more than needed.
    return Console() if sys.stdout.isatty() else Console(width=_PLAIN_WIDTH)


def show_scenarios(scenarios: Sequence[Scenario]) -> None:
    """Print what there is."""
    table = Table("scenario", "rules", "what must be seen", box=None, pad_edge=False)
    for each in scenarios:
        table.add_row(each.id, " ".join(each.rules), escape(each.expected))
    _console().print(table)


def show(verdicts: Iterable[Verdict]) -> None:
    """Print what was found."""
    table = Table("scenario", "rules", "verdict", "seen", "s", box=None, pad_edge=False)
    for v in verdicts:
        seen = f"{v.seen}\nexpected: {v.expected}" if v.verdict == "broken" else v.seen
        verdict = f"[{_COLOURS[v.verdict]}]{v.verdict}[/]"
        table.add_row(v.id, " ".join(v.rules), verdict, escape(seen), f"{v.took_s:.1f}")
    _console().print(table)
