"""What devices did, within a process and over all of them: counts, what became of each publication, timings.

Every device of a process writes into its `Ledger`; what a ledger hands on are histograms since the last report, and
counts since the start, so a report that is lost costs a few timings and no count. `Gathered` adds them up. Knows
nothing of locust, and nothing of sockets.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from typing import Any, Final

from hdrh.histogram import HdrHistogram
from msgspec import Struct, field

from loadtest import tally

# Milliseconds each. connect: from opening a socket to its welcome. ready: from a prefetch's instant until the device
# holds the bundle. delivery: from a publication's instant to its receipt (of activations, cancels and closes;
# prefetches are paced, so apart). flip_error: a flip against the device's own slot. catchup: from losing a socket to
# the next welcome. fetch: a bundle from the origin. lag: how late this process's own timers ran; no other figure is
# better than it.
TIMINGS: Final = ("connect", "ready", "delivery", "prefetch_delivery", "flip_error", "catchup", "fetch", "lag")
PERCENTILES: Final = {"p50": 50.0, "p90": 90.0, "p99": 99.0, "p999": 99.9, "p9999": 99.99}
# What simply adds up; `Report.counts` has them by these names.
COUNTS: Final = (
    *("devices", "connected", "welcomed", "ready", "activated", "twice", "lost", "returned", "closed"),
    *("refused", "fetches", "errors"),
)
_DERIVED: Final = ("flips", "missing", "ready_share")
FIGURES: Final = (
    *COUNTS,
    *_DERIVED,
    *(f"{timing}.{name}" for timing in TIMINGS for name in ("count", *PERCENTILES, "max")),
)


class Rev(Struct):
    """What became of one publication.

    Attributes:
        kind: activate, prefetch, cancel or close; "" until somebody received it outside of a welcome.
        received: Devices that got it as it was published.
        flipped: Flips it caused.
    """

    kind: str = ""
    received: int = 0
    flipped: int = 0

    def add(self, other: Rev) -> None:
        """Add what other devices did."""
        self.kind = self.kind or other.kind
        self.received += other.received
        self.flipped += other.flipped


class Report(Struct):
    """What one process hands on.

    Attributes:
        run: Which test it belongs to; others are none of ours.
        counts: Since the start, by the names of `COUNTS`.
        reasons: Why sockets were lost or refused → how often, since the start.
        revs: By revision, since the start.
        histograms: Encoded, since the last report; without those in which nothing happened.
    """

    run: float = 0.0
    counts: dict[str, int] = field(default_factory=dict)
    reasons: dict[str, int] = field(default_factory=dict)
    revs: dict[int, Rev] = field(default_factory=dict)
    histograms: dict[str, str] = field(default_factory=dict)


class Ledger:
    """What the devices of this process did.

    Attributes:
        counts: By the names of `COUNTS`.
        reasons: Why sockets were lost or refused.
        revs: By revision.
        parts: Counts of processes that this one has started, the newest of each.
    """

    def __init__(self) -> None:
        self.clear(0.0)

    def clear(self, run: float) -> None:
        """Forget everything; a new test begins."""
        self.run = run
        self.counts: Counter[str] = Counter()
        self.reasons: Counter[str] = Counter()
        self.revs: dict[int, Rev] = {}
        self.parts: dict[str, Report] = {}
        self._timings: dict[str, Counter[int]] = {name: Counter() for name in TIMINGS}

    def time(self, name: str, ms: float) -> None:
        """Note a duration."""
        self._timings[name][tally.units(ms)] += 1

    def time_many(self, name: str, encoded: str) -> list[tuple[float, int]]:
        """Note a histogram of another process; return its durations, ms, and how often each occurred."""
        found: list[tuple[float, int]] = []
        made = HdrHistogram.decode(encoded)
        # The library's own iterator takes 30 ms for this, and no device has its turn meanwhile.
        for index, times in enumerate(made.counts):
            if times:
                value = made.get_value_from_index(index)
                self._timings[name][value] += times
                found.append((value * tally.UNIT_MS, times))
        return found

    def rev(self, rev: int) -> Rev:
        """Return what became of this publication so far, to be changed."""
        return self.revs.setdefault(rev, Rev())

    def take(self) -> Report:
        """Return what happened; the timings are handed out once."""
        made = Report(run=self.run, counts=dict(self.counts), reasons=dict(self.reasons))
        made.revs = {rev: Rev(each.kind, each.received, each.flipped) for rev, each in self.revs.items()}
        for part in self.parts.values():
            _add(made, part)
        for name, counted in self._timings.items():
            if counted:
                made.histograms[name] = tally.encoded(counted)
                self._timings[name] = Counter()
        return made


def _add(total: Report, part: Report) -> None:
    """Add counts, not histograms."""
    for name, count in part.counts.items():
        total.counts[name] = total.counts.get(name, 0) + count
    for reason, count in part.reasons.items():
        total.reasons[reason] = total.reasons.get(reason, 0) + count
    for rev, each in part.revs.items():
        total.revs.setdefault(rev, Rev()).add(each)


class Gathered:
    """The reports of all processes, added up.

    Attributes:
        run: The test whose reports count.
        latest: By process.
        gone: Processes that are not there any more; their devices are missing.
        pressed: Revisions of the activations that the night pressed.
    """

    def __init__(self) -> None:
        self.clear(0.0)

    def clear(self, run: float) -> None:
        """Forget everything; a new test begins."""
        self.run = run
        self.latest: dict[str, Report] = {}
        self.gone: set[str] = set()
        self.pressed: list[int] = []
        self.histograms: dict[str, HdrHistogram] = {name: tally.histogram() for name in TIMINGS}

    def add(self, process: str, report: Report) -> None:
        """Take in a report."""
        if report.run != self.run:
            return
        for name, encoded in report.histograms.items():
            self.histograms[name].decode_and_add(encoded.encode())
        self.latest[process] = report

    def total(self) -> Report:
        """Return the counts of all processes; whoever is gone has no connections any more."""
        total = Report(run=self.run)
        for process, report in self.latest.items():
            _add(total, report)
            if process in self.gone:
                total.counts["connected"] -= report.counts.get("connected", 0)
        return total

    @property
    def missing(self) -> int:
        """Devices of processes that are gone."""
        return sum(report.counts.get("devices", 0) for name, report in self.latest.items() if name in self.gone)

    def figures(self) -> dict[str, float]:
        """Return all that was measured, by the names of `FIGURES`; durations in milliseconds."""
        total = self.total()
        found: dict[str, float] = {name: total.counts.get(name, 0) for name in COUNTS}
        found["missing"] = self.missing
        found["ready_share"] = found["ready"] / found["devices"] if found["devices"] else 0.0
        found["flips"] = self._flips(total.revs)
        for timing, values in self.percentiles().items():
            found.update({f"{timing}.{name}": value for name, value in values.items()})
        return found

    def _flips(self, revs: dict[int, Rev]) -> int:
        """Return how many devices flipped for the activation that fewest did; of none pressed, for the newest."""
        pressed = self.pressed or [rev for rev, each in sorted(revs.items()) if each.flipped][-1:]
        return min((revs.get(rev, Rev()).flipped for rev in pressed), default=0)

    def percentiles(self) -> dict[str, dict[str, float]]:
        """Return count, percentiles and maximum of every timing of which there is one."""
        return {name: values for name, made in self.histograms.items() if (values := percentiles(made))}


def percentiles(made: HdrHistogram) -> dict[str, float]:
    """Return the count, the percentiles and the maximum, ms; empty if nothing was recorded."""
    count = made.get_total_count()
    if not count:
        return {}
    found = {name: made.get_value_at_percentile(percent) for name, percent in PERCENTILES.items()}
    timed: Iterable[tuple[str, Any]] = {**found, "max": made.get_max_value()}.items()
    return {"count": count, **{name: round(value * tally.UNIT_MS, 1) for name, value in timed}}
