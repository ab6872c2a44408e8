"""The results as a page of Markdown with pictures, and as a table on a terminal."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from pathlib import Path

from rich.table import Table

from loadtest.agreement.plot import draw, draw_sizes
from loadtest.agreement.result import Document, Fleet, Result

_HEAD = """# Agreement

`make agreement` writes this page: one experiment ([experiment.yaml](../loadtest/agreement/experiment.yaml)) by real
devices on real sockets, at each size by the engine that can hold it, and by the [simulator](simulator.md) again; and
by the simulator alone for a fleet that no machine holds.

```
make agreement                                        # all of it; some seven minutes, and a quiet machine
make agreement ARGS="--sizes 2000 --report small.md"  # another size, elsewhere
make agreement ARGS="--json agreement.json"           # every figure
```

The simulator gets the real devices' ids, the revision of the real press and its instant, so every simulated device
has the slot of the real one; and what is measured of the machine before the night, and of the gateway until the
broadcast is over. It gets nothing of the flips. A missed bound is exit status 1; a size that this machine cannot hold
is refused with the number that forbids it, status 2.

Seconds are counted from the instant. A second is judged if it lies whole within the window; what flips after the last
whole one is told apart, and is part of the times until so many have flipped. A difference of a second is a share of
the mean second: devices by window.
"""


def write(document: Document, path: Path) -> None:
    """Write the page, and the pictures into a directory of its name beside it."""
    pictures = path.with_suffix("")
    pictures.mkdir(parents=True, exist_ok=True)
    about = document.about
    lines = [
        _HEAD,
        f"On {about['cores']} {about['machine']} cores that everything shares, {about['system']}, Python "
        f"{about['python']}, commit {about['commit']}: **{_verdict(document.kept)}**.\n",
    ]
    lines += _table(("devices", "real ones by", "bound", "found", "allowed", ""), _verdicts(document.results))
    for result in document.results:
        name = f"{result.measured.engine}-{result.measured.devices}.png"
        _draw(result, pictures / name)
        lines += _section(result, f"{pictures.name}/{name}")
    if document.fleet is not None:
        lines += _sizes(document, document.fleet, pictures)
    path.write_text("\n".join(lines) + "\n", "utf-8")


def _verdicts(results: Iterable[Result]) -> list[tuple[str, ...]]:
    return [
        (f"{each.measured.devices:,}", each.measured.engine, v.what, v.found, v.bound, _verdict(v.kept))
        for each in results
        for v in each.comparison.verdicts
    ]


def _verdict(kept: bool) -> str:
    return "kept" if kept else "MISSED"


def _title(result: Result) -> str:
    measured = result.measured
    return f"{measured.devices:,} devices by {measured.engine} and by the simulator, over {measured.window_s:g} s"


def _draw(result: Result, path: Path) -> None:
    measured = result.measured
    draw(
        path,
        _title(result),
        measured.engine,
        result.real,
        result.simulated.curve,
        result.comparison,
        measured.devices,
        result.engine.bounds,
    )


def _section(result: Result, picture: str) -> list[str]:
    measured = result.measured
    phases = ", ".join(f"{name} after {seconds:g} s" for name, seconds in measured.seconds.items())
    lines = [
        f"\n## {_title(result)}\n",
        f"![Flips a second and in all, real and simulated, and their difference]({picture})\n",
        f"Everyone was {phases}, each from the phase before. Gateway workers: {len(measured.connections)}.\n",
    ]
    lines += _table(("", "real", "simulated", "apart"), _figures(result))
    lines += ["\n### Why they differ\n", *(f"- {words}" for words in result.why)]
    lines += ["\n### What was put into the simulator\n"]
    put_in = [(f"`{name}`", value, source) for name, value, source in result.simulated.put_in]
    return lines + _table(("field", "value", "from"), put_in)


def _sizes(document: Document, fleet: Fleet, pictures: Path) -> list[str]:
    """Return the section that lays all sizes over each other, each against its own mean second and window."""
    nights = [
        (
            f"{each.measured.devices:,} by {each.measured.engine}",
            each.real,
            each.measured.devices,
            each.engine.window_s,
        )
        for each in document.results
    ]
    nights.append((f"{fleet.devices:,} simulated", fleet.curve, fleet.devices, fleet.window_s))
    draw_sizes(pictures / "sizes.png", nights)
    rows = []
    for name, curve, devices, window_s in nights:
        mean = devices / window_s
        shares = ["never" if at is None else f"{at / window_s:.1%}" for at in curve.reached_s.values()]
        spread = f"{1 / math.sqrt(mean):.2%}"
        rows.append((name, f"{window_s:g}", *shares, f"{max(curve.per_s, default=0) / mean:.3f}", spread))
    heads = ("devices", "window, s", *curve.reached_s, "busiest second", "expected spread of a second")
    return [
        "\n## All sizes\n",
        f"The last night again for {fleet.devices:,} devices, by the simulator alone: as many a worker, at the same "
        "rate. Times are shares of the window, the busiest second is against the mean one, and the spread is one "
        "standard deviation of the slots' chance: the larger the fleet, the flatter the line.\n",
        f"![Flips a second against the mean second, all sizes]({pictures.name}/sizes.png)\n",
        *_table(heads, rows),
    ]


def _figures(result: Result) -> list[tuple[str, ...]]:
    measured, again, ended = result.measured, result.simulated, result.measured.ended
    rows: list[tuple[str, ...]] = [
        ("devices that flipped", f"{result.real.flipped:,}", f"{again.curve.flipped:,}", "")
    ]
    for name, found in result.real.reached_s.items():
        wanted = again.curve.reached_s[name]
        apart = f"{found - wanted:+.3f} s, {found / wanted - 1:+.2%}" if found is not None and wanted else ""
        rows.append((f"{name} have flipped, s", _seconds(found), _seconds(wanted), apart))
    after = result.comparison.after
    rows.append((f"flips after second {int(measured.window_s)}", f"{after[0]:,}", f"{after[1]:,}", ""))
    worst = result.comparison.worst
    rows.append(
        (f"flips in second {worst.number + 1}, the worst", f"{worst.real:,}", f"{worst.simulated:,}",
         f"{worst.apart:+.2%}")
    )  # fmt: skip
    for name, words in (("p50", "50 %"), ("p90", "90 %"), ("p99", "99 %"), ("p999", "99.9 %"), ("max", "most")):
        rows.append((f"flip off its slot, {words}, ms", *_both(name, ended.flip_error_ms, again.flip_error_ms), ""))
    rows.append(("received as it was published", f"{ended.received:,}", f"{measured.devices:,}", ""))
    last = f"{ended.last_received_ms:,.0f}", f"{again.last_received_ms:,.0f}"
    rows.append(("press until the last has it, ms", *last, "(sent)"))
    return rows


def _both(name: str, *values: Mapping[str, float]) -> tuple[str, ...]:
    return tuple(f"{each[name]:.4g}" if each else "-" for each in values)


def _seconds(value: float | None) -> str:
    return "never" if value is None else f"{value:.3f}"


def _table(heads: tuple[str, ...], rows: Iterable[tuple[str, ...]]) -> list[str]:
    lines = [heads, tuple("---" for _ in heads), *rows]
    return [f"| {' | '.join(row)} |" for row in lines] + [""]


def shown(results: list[Result]) -> Table:
    """Return the verdicts for a terminal."""
    made = Table("devices", "by", "bound", "found", "allowed", "", title="agreement")
    for row in _verdicts(results):
        made.add_row(*row[:-1], row[-1] if row[-1] == "kept" else f"[bold red]{row[-1]}[/]")
    return made
