"""Why real and simulated devices differ where they do: sentences, each with the figures it is computed from. Pure."""

from __future__ import annotations

import math
from collections.abc import Mapping
from itertools import pairwise

from fanout.slots import slot_ms
from loadtest.agreement.compare import Comparison, Curve
from loadtest.agreement.night import Measured
from loadtest.agreement.simulated import Simulated


def slots_of(measured: Measured) -> list[int]:
    """Return the slots of all devices, ms after the instant, sorted: by the function that devices themselves use."""
    window_ms = round(measured.window_s * 1000)
    return sorted(slot_ms(f"{measured.prefix}{n}", measured.rev, window_ms) for n in range(measured.devices))


def why(
    measured: Measured,
    simulated: Simulated,
    comparison: Comparison,
    slots: list[int],
    others: Curve,
) -> list[str]:
    """Return the explanation.

    Args:
        measured: The real night.
        simulated: The simulator's.
        comparison: Of the two.
        slots: Of the real devices.
        others: The simulator's curve of as many devices with other ids.
    """
    return [
        _chance(measured, simulated, slots, others),
        _late(measured, comparison, slots),
        _worst(measured, comparison),
        _timers(measured, simulated),
        _broadcast(measured, simulated),
    ]


def late_ms(flips: Mapping[int, int], at_ms: int, slots: list[int]) -> float:
    """Return by how much flips are later than slots in the mean; 0 without flips."""
    count = sum(flips.values())
    if not count or not slots:
        return 0.0
    return sum((ms - at_ms) * times for ms, times in flips.items()) / count - sum(slots) / len(slots)


def _chance(measured: Measured, simulated: Simulated, slots: list[int], others: Curve) -> str:
    whole, mean = int(measured.window_s), measured.devices / measured.window_s
    counted = [0] * (whole + 1)
    for slot in slots:
        counted[min(slot // 1000, whole)] += 1
    theirs = simulated.curve.per_s + [0] * (whole + 1)
    strangers = others.per_s + [0] * (whole + 1)
    moved = sum(abs(counted[at] - theirs[at]) for at in range(whole)) // 2
    worst = max(abs(strangers[at] - theirs[at]) for at in range(whole)) / mean
    return (
        f"**Chance: none.** Ids and revision are the same, so the slots are. By `fanout.slots`, {moved:,} of "
        f"{measured.devices:,} devices belong in another second than the simulator's. As many devices with other ids "
        f"would be up to {worst:.1%} apart from these in a second, in the simulator itself (one standard deviation "
        f"of a second's {mean:,.0f} flips is {1 / math.sqrt(mean):.1%})."
    )


def _late(measured: Measured, comparison: Comparison, slots: list[int]) -> str:
    late = late_ms(measured.ended.flips, measured.at_ms, slots)
    mean = measured.devices / measured.window_s
    first, (real, simulated) = comparison.seconds[0], comparison.after
    side, words = ("after", "behind") if late >= 0 else ("before", "ahead")
    return (
        f"**Lateness.** In the mean a real flip is {abs(late):.1f} ms {side} its slot, by this machine's clock. At "
        f"{mean:,.0f} flips a second that is {abs(late) / 1000 * mean:,.1f} devices {words} at any moment, which the "
        f"first second and what is after the last one have to show. Found: {first.behind:+,} behind after the first "
        f"second ({first.apart:+.1%}), {real - simulated:+,} against the simulator after second "
        f"{len(comparison.seconds)}. In between as many come late out of a second as into it, and the rates agree."
    )


def _worst(measured: Measured, comparison: Comparison) -> str:
    mean_per_ms = measured.devices / measured.window_s / 1000
    worst = comparison.worst
    before = comparison.seconds[worst.number - 1].behind if worst.number else 0
    rest = [abs(second.apart) for second in comparison.seconds if second.number != worst.number]
    steps = [abs(b.behind - a.behind) for a, b in pairwise(comparison.seconds)]
    return (
        f"**The worst second**, number {worst.number + 1}, is {worst.apart:+.2%} apart: it began with {before:,} "
        f"devices behind and ended with {worst.behind:,}, which is {before / mean_per_ms:.0f} and "
        f"{worst.behind / mean_per_ms:.0f} ms of flips. All others are within {max(rest, default=0):.2%}, and the "
        f"number behind changes by {sum(steps) / max(1, len(steps)):.1f} devices from one second to the next in the "
        "mean."
    )


def _timers(measured: Measured, simulated: Simulated) -> str:
    ended = measured.ended
    return (
        f"**Timers and clocks.** A real flip is {_told(ended.flip_error_ms)} ms off its own slot (50 % / 99 % / "
        f"max), a simulated one {_told(simulated.flip_error_ms)} ms: the simulator is told of loopback's way "
        f"({measured.loopback.median_ms:g} ms), and of no busy machine. The engine's own timers ran "
        f"{_told(ended.lag_ms)} ms late. The rest is the devices' clocks: each is late by the quickest of its "
        f"samples, of which it had {measured.clock_samples} at least. The first comes with the welcome, and that was "
        f"read {_told(ended.connect_ms)} ms after the device began to connect."
    )


def _broadcast(measured: Measured, simulated: Simulated) -> str:
    heard_s, margin_s = measured.ended.last_received_ms / 1000, measured.ahead_s
    words = "so the broadcast has no part in the curve" if heard_s < margin_s else "so the broadcast shapes the curve"
    return (
        f"**The broadcast.** {measured.ended.received:,} devices received it as it was published, the last one "
        f"{heard_s:.2f} s after the press; simulated with the gateway's own rate, written to the last after "
        f"{simulated.last_received_ms / 1000:.2f} s. What is between is the device's reading. The instant was "
        f"{margin_s:g} s after the press, {words}."
    )


def _told(values: Mapping[str, float]) -> str:
    if not values:
        return "nothing measured"
    return " / ".join(f"{values[name]:.4g}" for name in ("p50", "p99", "max"))
