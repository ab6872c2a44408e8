"""One picture for a slide: what the origin is asked, and how the fleet flips, for every policy that was compared."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any, Final

from loadtest.simulation.figures import LEAD_S, Figures
from loadtest.simulator import Outcome

# Colours that differ in brightness too, for those who see none and for poor projectors.
_LOOKS: Final = {
    "polling": ("#8a8a8a", ":"),
    "trigger": ("#c1121f", "-"),
    "trigger-jitter": ("#e39a2d", "-"),
    "two-phase-unready": ("#7fb2e5", "--"),
    "two-phase": ("#0b4f9e", "-"),
    "inline": ("#2a9d5c", "-."),
}
_WIDE: Final = ("trigger", "two-phase")
# Below one request a second there is nothing to see on a logarithmic scale.
_FLOOR: Final = 0.7
# What follows the last percentile is told by the table.
_AFTER_S: Final = 120
_SIZE_INCHES: Final = (12.8, 6.4)
_DPI: Final = 100


def draw(outcome: Outcome, path: Path) -> None:
    """Write the picture."""
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot as plt

    axes: Any
    with plt.rc_context({"font.size": 14, "axes.spines.top": False, "axes.spines.right": False}):
        canvas, axes = plt.subplots(1, 2, figsize=_SIZE_INCHES, width_ratios=(1.15, 1))
        _origin(axes[0], outcome)
        _flips(axes[1], outcome)
        asked = outcome.scenario
        title = f"{asked.devices:,} devices, one event, a window of {asked.window_s:g} s"
        canvas.suptitle(title, fontsize=19, fontweight="bold", x=0.02, ha="left")
        handles, labels = axes[1].get_legend_handles_labels()
        canvas.legend(handles, labels, loc="lower center", ncols=3, frameon=False, fontsize=13)
        canvas.tight_layout(rect=(0, 0.11, 1, 1.02))
        canvas.savefig(path, dpi=_DPI)
        plt.close(canvas)


def _look(figures: Figures) -> dict[str, Any]:
    colour, style = _LOOKS[figures.policy]
    return {"color": colour, "linestyle": style, "linewidth": 3 if figures.policy in _WIDE else 2}


def _origin(axes: Any, outcome: Outcome) -> None:
    """Requests a second, on a logarithmic scale: a herd is a thousand times what an origin takes."""
    peak = 1.0
    for each in outcome.policies:
        rates = each.origin_requests_per_s[: LEAD_S + _AFTER_S]
        if not any(rates):
            continue
        rates = rates + [0.0] * (LEAD_S + _AFTER_S - len(rates))
        axes.step([at - LEAD_S for at in range(len(rates))], [max(rate, _FLOOR) for rate in rates], where="post",
                  **_look(each))  # fmt: skip
        peak = max(peak, *rates)
        if each.policy in _WIDE:
            _name_peak(axes, each, rates, above=each.policy == "trigger")
    takes = outcome.scenario.origin_per_s
    axes.axhline(takes, color="black", linewidth=1.2)
    axes.text(-LEAD_S + 2, takes * 1.15, f"the origin takes {takes:,.0f}", fontsize=12)
    axes.set_yscale("log")
    axes.set(xlim=(-LEAD_S, _AFTER_S), ylim=(1, 10 ** (math.ceil(math.log10(max(peak, takes))) + 0.3)))
    axes.set_title("requests a second at the origin", loc="left", fontsize=15)
    axes.set_xlabel("seconds after the instant")
    axes.yaxis.set_major_formatter(lambda value, _: _short(value))
    axes.grid(axis="y", color="#dddddd")


def _name_peak(axes: Any, figures: Figures, rates: list[float], *, above: bool) -> None:
    top = max(rates)
    # A herd has room above it, to the right; a flat line below it, on the left, where nobody else is yet.
    place = (rates.index(top) - LEAD_S, top) if above else (-LEAD_S, rates[0] or top)
    axes.annotate(
        f"peak {_short(top)}/s",
        place,
        xytext=(10, 4) if above else (5, -20),
        textcoords="offset points",
        color=_look(figures)["color"],
        fontweight="bold",
    )


def _flips(axes: Any, outcome: Outcome) -> None:
    for each in outcome.policies:
        reached, shares = 0, [0.0]
        for count in each.flips_per_s[:_AFTER_S]:
            reached += count
            shares.append(100 * reached / max(each.audience, 1))
        shares += [shares[-1]] * (_AFTER_S + 1 - len(shares))
        axes.plot(range(len(shares)), shares, label=each.words, **_look(each))
        if each.policy == "trigger" and each.never:
            words = f"{_short(each.never)} of them never"
            axes.annotate(
                words,
                (_AFTER_S, shares[-1]),
                xytext=(-6, -12),
                textcoords="offset points",
                color=_look(each)["color"],
                fontweight="bold",
                fontsize=13,
                ha="right",
                va="top",
            )
    axes.set(xlim=(0, _AFTER_S), ylim=(0, 102))
    axes.set_title("devices that have flipped", loc="left", fontsize=15)
    axes.set_xlabel("seconds after the instant")
    axes.yaxis.set_major_formatter(lambda value, _: f"{value:.0f} %")
    axes.grid(axis="y", color="#dddddd")


def _short(value: float) -> str:
    """Return a number as a slide says it."""
    for size, letter in ((1e9, " G"), (1e6, " M"), (1e3, " k")):
        if value >= size:
            return f"{value / size:.3g}{letter}"
    return f"{value:.3g}"
