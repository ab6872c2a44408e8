"""What one size comes to, put together: the real night, the simulated one, the comparison, the explanation."""

from __future__ import annotations

from typing import Any

from msgspec import Struct, structs

from loadtest.agreement.compare import Comparison, Curve, compare, curve_of, earliest_ms
from loadtest.agreement.experiment import Engine
from loadtest.agreement.explain import slots_of, why
from loadtest.agreement.night import Measured
from loadtest.agreement.simulated import Simulated, others, simulated


class Result(Struct, frozen=True, kw_only=True):
    """One size.

    Attributes:
        engine: The night as it was asked for.
        measured: The real night, its flips left out: they are in ``real``.
        why: The explanation, a sentence or two each.
    """

    engine: Engine
    measured: Measured
    real: Curve
    simulated: Simulated
    comparison: Comparison
    why: list[str]


class Fleet(Struct, frozen=True):
    """A fleet that was simulated alone, in the night of the last size."""

    devices: int
    window_s: float
    curve: Curve


class Document(Struct, frozen=True):
    """All sizes.

    Attributes:
        about: The machine, versions, commit.
        kept: Whether every bound is.
        fleet: None: none was asked for.
    """

    about: dict[str, Any]
    kept: bool
    results: list[Result]
    fleet: Fleet | None


def result_of(engine: Engine, measured: Measured) -> Result:
    """Simulate a real night again, and compare."""
    again = simulated(measured)
    real = curve_of(measured.ended.flips, measured.at_ms, measured.devices)
    slots = slots_of(measured)
    after = {ms - measured.at_ms: count for ms, count in measured.ended.flips.items()}
    comparison = compare(
        real,
        again.curve,
        measured.devices,
        measured.window_s,
        engine.bounds,
        twice=measured.ended.twice,
        early_ms=earliest_ms(after, slots),
    )
    # Any other prefix makes other ids.
    explained = why(measured, again, comparison, slots, others(measured, f"other-{measured.prefix}"))
    return Result(
        engine=engine,
        measured=structs.replace(measured, ended=structs.replace(measured.ended, flips={})),
        real=real,
        simulated=again,
        comparison=comparison,
        why=explained,
    )
