"""One picture a size: real and simulated flips, by the second and in all, and how far apart they are."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import accumulate, cycle
from pathlib import Path
from typing import Any, Final

from loadtest.agreement.compare import Comparison, Curve
from loadtest.agreement.experiment import Bounds

# For a projector. They differ in brightness and in kind too, for those who see no colours and for poor projectors.
_REAL: Final = "#e39a2d"
_SIMULATED: Final = "#0b4f9e"
_SIZE_INCHES: Final = (12.8, 8.4)
_DPI: Final = 100
_SIZES_INCHES: Final = (12.8, 5.4)
# Of nights from the smallest on: colour and width of the line.
_SIZES: Final = (("#a9a9a9", 1.5), ("#e39a2d", 2.5), ("#0b4f9e", 3.5))
# Of the curves after the window, s.
_AFTER_S: Final = 3


def draw(
    path: Path,
    title: str,
    engine: str,
    real: Curve,
    simulated: Curve,
    comparison: Comparison,
    devices: int,
    bounds: Bounds,
) -> None:
    """Write the picture.

    Args:
        path: Where to.
        title: Of it all.
        engine: What the real devices are called.
        real: Their curve.
        simulated: The other one.
        comparison: Of the two.
        devices: How many there are.
        bounds: Within which the differences should be.
    """
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot as plt

    seconds = len(comparison.seconds) + _AFTER_S
    with plt.rc_context({"font.size": 14, "axes.spines.top": False, "axes.spines.right": False}):
        canvas, axes = plt.subplot_mosaic(
            [["rate", "total"], ["apart", "apart"]], figsize=_SIZE_INCHES, height_ratios=(1.5, 1)
        )
        _rate(axes["rate"], engine, real, simulated, seconds)
        _total(axes["total"], real, simulated, seconds, devices)
        _apart(axes["apart"], comparison, bounds, seconds)
        canvas.suptitle(title, fontsize=19, fontweight="bold", x=0.02, ha="left")
        handles, labels = axes["rate"].get_legend_handles_labels()
        canvas.legend(handles, labels, loc="lower center", ncols=2, frameon=False, fontsize=15)
        canvas.tight_layout(rect=(0, 0.05, 1, 1.01))
        canvas.savefig(path, dpi=_DPI)
        plt.close(canvas)


def draw_sizes(path: Path, nights: Sequence[tuple[str, Curve, int, float]]) -> None:
    """Write a picture of nights of all sizes: flips a second against each one's mean second.

    Args:
        path: Where to.
        nights: What each is called, its curve, its devices, its window in seconds; the smallest first.
    """
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot as plt

    with plt.rc_context({"font.size": 14, "axes.spines.top": False, "axes.spines.right": False}):
        canvas, axes = plt.subplots(figsize=_SIZES_INCHES)
        for (name, curve, devices, window_s), (colour, width) in zip(nights, cycle(_SIZES), strict=False):
            whole = int(window_s)
            rates = [100 * count * window_s / devices for count in _padded(curve, whole)]
            edges = [100 * second / window_s for second in range(whole + 1)]
            axes.stairs(rates, edges, baseline=None, label=name, color=colour, linewidth=width)
        axes.set(xlim=(0, 100), ylim=(0, None))
        axes.set_xlabel("% of the window")
        axes.xaxis.set_major_formatter(lambda value, _: f"{value:.0f} %")
        axes.yaxis.set_major_formatter(lambda value, _: f"{value:.0f} %")
        axes.set_title("flips a second, % of the mean second", loc="left", fontsize=15)
        axes.grid(axis="y", color="#dddddd")
        canvas.legend(loc="lower center", ncols=3, frameon=False, fontsize=14)
        canvas.tight_layout(rect=(0, 0.07, 1, 1))
        canvas.savefig(path, dpi=_DPI)
        plt.close(canvas)


def _padded(curve: Curve, seconds: int) -> list[int]:
    return (curve.per_s + [0] * seconds)[:seconds]


def _rate(axes: Any, engine: str, real: Curve, simulated: Curve, seconds: int) -> None:
    edges = list(range(seconds + 1))
    axes.stairs(_padded(real, seconds), edges, color=_REAL, fill=True, alpha=0.75, label=f"real devices, by {engine}")
    axes.stairs(_padded(simulated, seconds), edges, color=_SIMULATED, linewidth=2.5, label="the simulator")
    axes.set_title("flips a second", loc="left", fontsize=15)
    axes.set(xlim=(0, seconds), ylim=(0, None))
    axes.set_xlabel("seconds after the instant")
    axes.yaxis.set_major_formatter(lambda value, _: f"{value:,.0f}")
    axes.grid(axis="y", color="#dddddd")


def _total(axes: Any, real: Curve, simulated: Curve, seconds: int, devices: int) -> None:
    for curve, looks in (
        (real, {"color": _REAL, "linewidth": 6}),
        (simulated, {"color": _SIMULATED, "linewidth": 2.5, "linestyle": "--"}),
    ):
        shares = [100 * count / devices for count in accumulate(_padded(curve, seconds), initial=0)]
        axes.plot(range(seconds + 1), shares, **looks)
    axes.set_title("devices that have flipped", loc="left", fontsize=15)
    axes.set(xlim=(0, seconds), ylim=(0, 102))
    axes.set_xlabel("seconds after the instant")
    axes.yaxis.set_major_formatter(lambda value, _: f"{value:.0f} %")
    axes.grid(axis="y", color="#dddddd")


def _apart(axes: Any, comparison: Comparison, bounds: Bounds, seconds: int) -> None:
    bound = 100 * bounds.flips_per_s
    values = [100 * second.apart for second in comparison.seconds]
    colours = ["#c1121f" if abs(value) > bound else "#5a5a5a" for value in values]
    axes.axhspan(-bound, bound, color="#e9f0f8")
    axes.bar([second.number + 0.5 for second in comparison.seconds], values, width=0.9, color=colours)
    axes.axhline(0, color="black", linewidth=1)
    most = max([bound, *map(abs, values)]) * 1.15
    axes.set(xlim=(0, seconds), ylim=(-most, most))
    axes.set_title(
        f"real less simulated, % of the mean second (bound: {bound:g} %)",
        loc="left",
        fontsize=15,
    )
    axes.set_xlabel("seconds after the instant")
    axes.yaxis.set_major_formatter(lambda value, _: f"{value:+.0f} %" if value else "0")
