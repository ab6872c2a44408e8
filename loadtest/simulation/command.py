"""``fanout simulate``: reads a scenario, shows how far the run is, and tells the figures as table, JSON, picture."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import msgspec
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.table import Table

from fanout.errors import InvalidInput
from loadtest.simulation.figures import Figures
from loadtest.simulation.policies import POLICIES
from loadtest.simulation.reading import read_bench, read_file, read_words, scenario_of
from loadtest.simulator import Outcome, check, simulate

# Room for all policies side by side.
_WIDTH_MIN: Final = 120


def run_simulation(
    *,
    asked: Mapping[str, Any],
    policies: Sequence[str],
    scenario_file: Path | None,
    words: Sequence[str],
    bench_file: Path | None,
    plot_file: Path | None,
    json_file: Path | None,
    processes: int,
) -> None:
    """Simulate and tell.

    Args:
        asked: Fields of the scenario that have flags of their own; None where none was given.
        policies: Names; empty is all.
        scenario_file: YAML.
        words: ``field=value``.
        bench_file: Measured figures; they win over the file, and what is asked for in words over them.
        plot_file: Where the picture goes.
        json_file: Where the figures go.
        processes: 0 is one a core.
    Raises:
        InvalidInput: No fleet could do that.
    """
    if plot_file is not None:
        _check_picture(plot_file)
    measured, said = read_bench(bench_file) if bench_file else ({}, [])
    given = {name: value for name, value in asked.items() if value is not None}
    scenario = scenario_of(read_file(scenario_file) if scenario_file else {}, measured, given, read_words(words))
    chosen = policies or tuple(POLICIES)
    check(scenario, chosen)
    console = Console(stderr=True)
    for line in said:
        console.print(f"calibrated: {line}", highlight=False)
    with _bar(console) as bar:
        task = bar.add_task(f"{scenario.devices:,} devices", total=None)
        outcome = simulate(
            scenario,
            chosen,
            processes=processes,
            tell=lambda done, total: bar.update(task, completed=done, total=total),
        )
    if json_file is not None:
        json_file.write_text(json.dumps({"calibrated": said, **msgspec.to_builtins(outcome)}, indent=1) + "\n")
    if plot_file is not None:
        from loadtest.simulation.plot import draw

        draw(outcome, plot_file)
    out = Console()
    # Wide enough for the words even where nobody says how wide the terminal is.
    Console(width=max(out.width, _WIDTH_MIN)).print(table(outcome), f"\n{remark(outcome)}", highlight=False)


def _check_picture(path: Path) -> None:
    """Refuse a kind of picture nobody can draw now, not when the work is done."""
    from matplotlib.backend_bases import FigureCanvasBase

    kinds = FigureCanvasBase.get_supported_filetypes()
    if path.suffix.lstrip(".") not in kinds:
        raise InvalidInput(f"--plot is {str(path)!r}; send a name that ends in .png, .svg or .pdf")


def _bar(console: Console) -> Progress:
    return Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("chunks"),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
        console=console,
        transient=True,
    )


def table(outcome: Outcome) -> Table:
    """Return the comparison: a policy a column, what it comes to a row."""
    made = Table(title=_title(outcome), box=SIMPLE_HEAD)
    made.add_column("", no_wrap=True)
    for each in outcome.policies:
        made.add_column(each.words, justify="right")
    for words, tell in _ROWS:
        made.add_row(words, *(tell(each) for each in outcome.policies))
    return made


def remark(outcome: Outcome) -> str:
    """Return what the table's words mean."""
    held = [f"{each.words}: pressed {each.held_s:g} s later" for each in outcome.policies if each.held_s]
    parts = [
        "Times are seconds after the instant; 'never' is within "
        f"{outcome.scenario.horizon_s:g} s of it. Pressed {outcome.scenario.ahead_s:g} s ahead, the broadcast needs "
        f"a window of {outcome.window_s_min:g} s or more. Costs are rough (docs/simulator.md)."
    ]
    return " ".join([*parts, *(f"{each}." for each in held)])


def _title(outcome: Outcome) -> str:
    asked = outcome.scenario
    return (
        f"{asked.devices:,} devices on {outcome.workers:,} gateway workers, window {asked.window_s:g} s, "
        f"seed {asked.seed}"
    )


def _time(value: float | None) -> str:
    return "never" if value is None else f"{value:,.2f}"


def _count(value: float) -> str:
    return f"{value:,.0f}"


def _bytes(value: float) -> str:
    for size, unit in ((1e12, "TB"), (1e9, "GB"), (1e6, "MB")):
        if value >= size:
            return f"{value / size:,.2f} {unit}"
    return f"{value:,.0f} B"


_ROWS: Final[Sequence[tuple[str, Callable[[Figures], str]]]] = (
    ("50 % have flipped, s", lambda each: _time(each.t50_s)),
    ("99 %", lambda each: _time(each.t99_s)),
    ("99.9 %", lambda each: _time(each.t999_s)),
    ("100 %", lambda each: _time(each.t100_s)),
    ("never flip", lambda each: _count(each.never)),
    ("flips in the busiest second", lambda each: _count(each.flips_per_s_peak)),
    (
        "  against the mean second",
        lambda each: "-" if each.flip_rate_peak_to_mean is None else f"{each.flip_rate_peak_to_mean:.2f}",
    ),
    ("origin, requests/s at the peak", lambda each: _count(each.origin_requests_per_s_peak)),
    ("  prefetch before, at its peak", lambda each: _count(each.prefetch_requests_per_s_peak)),
    ("  requests after the press", lambda each: _count(each.origin_requests)),
    ("  refused of them", lambda each: _count(each.origin_refused)),
    ("gateways, sends/s at the peak", lambda each: _count(each.gateway_sends_per_s_peak)),
    ("  handshakes/s at the peak", lambda each: _count(each.handshakes_per_s_peak)),
    ("  handshakes refused", lambda each: _count(each.handshakes_refused)),
    ("from the origin", lambda each: _bytes(each.origin_egress_bytes)),
    ("from the CDN", lambda each: _bytes(each.cdn_egress_bytes)),
    ("from the gateways", lambda each: _bytes(each.gateway_egress_bytes)),
    ("gateway workers needed", lambda each: _count(each.workers_needed)),
    ("cost a month, USD", lambda each: _count(each.cost_per_month.total_usd)),
)
