"""What came of a flight, as its record shows it: how many flipped, how soon, who stayed behind and why. Pure."""

from __future__ import annotations

from typing import Final

from msgspec import Struct

from fanout.store.flights import Flight

_SHARES: Final = (0.5, 0.99, 1.0)


class Stragglers(Struct, frozen=True):
    """Devices that the activation was for and that have not flipped, by what is known of them.

    Attributes:
        failed: They said that they could not.
        not_ready: They do not hold the bundle.
        silent: They hold it, and have said nothing; most are gone without anybody having noticed yet.
        total: All of them.
    """

    failed: int
    not_ready: int
    silent: int
    total: int


class Outcome(Struct, frozen=True, kw_only=True):
    """What came of a flight, as of its newest sample.

    Attributes:
        flipped: Devices that have.
        expected: Devices it was for: of those connected then, or, before the first sample, as forecast.
        t50_s, t99_s, t100_s: Seconds after the instant at which so many percent had flipped, to about a second; None
            if that was not seen.
        stragglers: Who has not.
    """

    flipped: int
    expected: int
    t50_s: float | None
    t99_s: float | None
    t100_s: float | None
    stragglers: Stragglers


def outcome(flight: Flight) -> Outcome:
    """Return what came of it; the times need its samples."""
    expected, flipped, failed, not_ready = _counts(flight)
    behind = max(0, expected - flipped)
    failed = min(behind, failed)
    not_ready = min(behind - failed, not_ready)
    t50_s, t99_s, t100_s = (_reached_s(flight, expected * share) for share in _SHARES)
    return Outcome(
        flipped=flipped,
        expected=expected,
        t50_s=t50_s,
        t99_s=t99_s,
        t100_s=t100_s,
        stragglers=Stragglers(failed, not_ready, behind - failed - not_ready, behind),
    )


def _counts(flight: Flight) -> tuple[int, int, int, int]:
    """Return how many were expected, have flipped, have failed and are not ready."""
    newest = flight.newest
    if newest is None:
        return flight.forecast.devices, 0, 0, flight.forecast.unready
    total = newest.total
    return newest.expected, total.active, newest.failed, round((total.connected - total.ready) * flight.share)


def _reached_s(flight: Flight, wanted: float) -> float | None:
    """Between two samples flips are taken as even."""
    before_s, before = 0.0, 0
    for sample in flight.samples:
        if wanted > 0 and sample.active >= wanted:
            grown = sample.active - before
            part = (wanted - before) / grown if grown else 1.0
            return round(max(0.0, before_s + (sample.second - before_s) * part), 3)
        before_s, before = float(sample.second), sample.active
    return None
