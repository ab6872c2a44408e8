"""Two nights of the same devices beside each other: their curves, how far apart they are, and whether within bounds.

Arithmetic alone: knows nothing of who flipped, real devices or simulated ones.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Final

from msgspec import Struct

from loadtest.agreement.experiment import Bounds

# Shares of the devices whose time is told, by how a table names them.
SHARES: Final[Mapping[str, float]] = {"50 %": 0.5, "99 %": 0.99, "99.9 %": 0.999, "100 %": 1.0}
# A device may be half a millisecond early, times are whole milliseconds, and a gateway hands on the store's clock as
# it knows it, by the half of a round trip on a busy machine. The slots of other ids would be further off: those of
# 200,000 over a minute by some 70 ms.
_EARLY_MS_MAX: Final = 20.0


class Curve(Struct, frozen=True):
    """When devices flipped.

    Attributes:
        flipped: How many did.
        per_s: How many in each second from the instant on; who was earlier counts in the first.
        reached_s: By the names of `SHARES`: seconds after the instant; None: so many never did.
    """

    flipped: int
    per_s: list[int]
    reached_s: dict[str, float | None]


class Second(Struct, frozen=True):
    """One whole second of the window.

    Attributes:
        number: From 0.
        real: Real devices that flipped in it.
        simulated: Simulated ones.
        apart: Their difference, as a share of the mean second.
        behind: Real devices that had not flipped by its end, and simulated ones had.
    """

    number: int
    real: int
    simulated: int
    apart: float
    behind: int


class Verdict(Struct, frozen=True):
    """What became of a bound: what was found, what is allowed, both as people read them."""

    what: str
    found: str
    bound: str
    kept: bool


class Comparison(Struct, frozen=True):
    """Real devices beside simulated ones.

    Attributes:
        seconds: The whole seconds of the window. What is after them, a part of a second and who was late, is not
            judged by the second.
        after: Real devices, and simulated ones, that flipped after those seconds.
        verdicts: On every bound.
    """

    seconds: list[Second]
    after: tuple[int, int]
    verdicts: list[Verdict]

    @property
    def worst(self) -> Second:
        """The second in which both are furthest apart."""
        return max(self.seconds, key=lambda second: abs(second.apart))

    @property
    def kept(self) -> bool:
        return all(verdict.kept for verdict in self.verdicts)


def curve_of(flips: Mapping[int, int], at_ms: int, devices: int) -> Curve:
    """Return the curve of flips.

    Args:
        flips: Unix ms → how many flipped then.
        at_ms: The instant, Unix ms.
        devices: How many there are, flipped or not.
    """
    flipped = sum(flips.values())
    per_s = [0] * (max((max(0, ms - at_ms) // 1000 for ms in flips), default=-1) + 1)
    for ms, count in flips.items():
        per_s[max(0, ms - at_ms) // 1000] += count
    reached: dict[str, float | None] = {}
    for name, share in SHARES.items():
        wanted, so_far = math.ceil(devices * share), 0
        reached[name] = None
        for ms in sorted(flips):
            so_far += flips[ms]
            if so_far >= wanted:
                reached[name] = max(0, ms - at_ms) / 1000
                break
    return Curve(flipped, per_s, reached)


def compare(
    real: Curve, simulated: Curve, devices: int, window_s: float, bounds: Bounds, *, twice: int, early_ms: float
) -> Comparison:
    """Lay two curves over each other.

    Args:
        real: Of real devices.
        simulated: Of as many simulated ones.
        devices: How many that is.
        window_s: What they flip over, 1 or more.
        bounds: How far they may be apart.
        twice: Real devices that flipped twice.
        early_ms: As `earliest_ms` finds it of the real ones.
    """
    whole, mean = int(window_s), devices / window_s
    seconds: list[Second] = []
    behind = 0
    for number in range(whole):
        found, wanted = _at(real.per_s, number), _at(simulated.per_s, number)
        behind += wanted - found
        seconds.append(Second(number, found, wanted, (found - wanted) / mean, behind))
    after = sum(real.per_s[whole:]), sum(simulated.per_s[whole:])
    made = Comparison(seconds, after, [])
    made.verdicts.append(_everyone(real, devices, twice))
    words = f"{early_ms:+.1f} ms at most"
    made.verdicts.append(
        Verdict("nobody flips before its slot", words, f"{_EARLY_MS_MAX:g} ms", early_ms <= _EARLY_MS_MAX)
    )
    made.verdicts.append(_time(real, simulated, bounds.t99))
    made.verdicts.append(_rate(made.worst, bounds.flips_per_s))
    return made


def _at(per_s: list[int], number: int) -> int:
    return per_s[number] if number < len(per_s) else 0


def _everyone(real: Curve, devices: int, twice: int) -> Verdict:
    words = f"{real.flipped:,} flips, {twice:,} devices twice"
    return Verdict("every device flips, once", words, f"{devices:,}, 0", real.flipped == devices and not twice)


def _time(real: Curve, simulated: Curve, bound: float) -> Verdict:
    what, allowed = "time until 99 % have flipped", f"within {bound:.0%}"
    found, wanted = real.reached_s["99 %"], simulated.reached_s["99 %"]
    if found is None or not wanted:
        return Verdict(what, "never", allowed, kept=False)
    apart = found / wanted - 1
    return Verdict(what, f"{found:.2f} s against {wanted:.2f} s, {apart:+.2%}", allowed, abs(apart) <= bound)


def _rate(worst: Second, bound: float) -> Verdict:
    found = f"{worst.apart:+.2%} in second {worst.number + 1}, {worst.real:,} against {worst.simulated:,}"
    what = "flips in each whole second, of the mean second"
    return Verdict(what, found, f"within {bound:.0%}", abs(worst.apart) <= bound)


def earliest_ms(flips: Mapping[int, int], slots_ms: list[int]) -> float:
    """Return by how much the devices as a crowd are ahead of their slots, at most; negative: never.

    Nobody flips before its slot. So the first flip is not before the first slot, the second not before the second,
    and so on: where that does not hold, these are the slots of other devices.

    Args:
        flips: Ms after the instant → how many flipped then.
        slots_ms: Of every device, ms after the instant, sorted.
    """
    most, at = -math.inf, 0
    for ms in sorted(flips):
        upto = min(at + flips[ms], len(slots_ms))
        if upto > at:
            most = max(most, slots_ms[upto - 1] - ms)
        at = upto
    return most
