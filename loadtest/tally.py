"""What a swarm has seen: counts, what became of each publication, and timings; within a process and over many.

A process counts timings in plain dicts, tenths of a millisecond → how often, which costs a lookup an event. When
it reports, they become HdrHistograms that hold what happened since the last report; whoever collects the
reports adds those up (`Merged`). Knows nothing of sockets or processes.
"""

from __future__ import annotations

from collections import Counter
from typing import Any, Final

from hdrh.histogram import HdrHistogram
from msgspec import Struct, field

# Histograms count tenths of a millisecond, to 3 digits, up to an hour.
UNIT_MS: Final = 0.1
_LONGEST: Final = 36_000_000
_DIGITS: Final = 3

# connect: from opening a socket to its welcome. delivery: from the publication's instant to its receipt, of
# activations, cancels and closes; prefetches are paced, so apart. flip_error: a flip against its own slot.
# lag: how late the swarm's own timers ran, without which no other figure can be judged.
TIMINGS: Final = ("connect", "delivery", "prefetch_delivery", "flip_error", "lag")
PERCENTILES: Final = {"p50": 50.0, "p90": 90.0, "p99": 99.0, "p999": 99.9}

# Numbers that simply add up over processes.
_COUNTS: Final = (
    *("devices", "connected", "welcomed", "ready", "activated"),
    *("flipped_twice", "left", "origin_requests"),
)


class Publication(Struct):
    """What became of one publication.

    Attributes:
        kind: activate, prefetch, cancel or close.
        received: Devices that got it as it was published (not in a welcome, because they came later).
        first_ms: Unix ms of the first receipt, ``last_ms`` of the last.
    """

    kind: str
    received: int = 0
    first_ms: float = float("inf")
    last_ms: float = 0.0

    def add(self, other: Publication) -> None:
        """Add what other devices received."""
        self.received += other.received
        self.first_ms = min(self.first_ms, other.first_ms)
        self.last_ms = max(self.last_ms, other.last_ms)


class Tally(Struct):
    """Counts of one process, or of all of them.

    Attributes:
        welcomed: Handshakes that ended in a welcome.
        slow: Devices that stopped reading: ``stopped``, then ``closed`` (4000), ``cut`` (without that code) or
            ``reading`` (still connected when they read again), then ``back``.
        refused: HTTP status of refused handshakes (0: no connection) → how often.
        closes: Close code → how often (0: without one, which is how devices leave, too).
        left: Devices that dropped their socket because the churn picked them.
        origin_requests: Bundle fetches sent.
        publications: By revision.
        flips: Unix ms → devices that flipped then.
        flipped_for: Revision → flips it caused.
        shown: Revision → devices whose last flip was for it.
    """

    devices: int = 0
    connected: int = 0
    welcomed: int = 0
    ready: int = 0
    activated: int = 0
    flipped_twice: int = 0
    left: int = 0
    origin_requests: int = 0
    # Counters; one that has been sent and read again is a plain dict.
    slow: dict[str, int] = field(default_factory=Counter)
    refused: dict[int, int] = field(default_factory=Counter)
    closes: dict[int, int] = field(default_factory=Counter)
    publications: dict[int, Publication] = field(default_factory=dict)
    flips: dict[int, int] = field(default_factory=Counter)
    flipped_for: dict[int, int] = field(default_factory=Counter)
    shown: dict[int, int] = field(default_factory=Counter)

    def show(self, before: int, rev: int) -> None:
        """Count a flip of a device whose last one was for another revision, 0: for none."""
        self.flipped_for[rev] += 1
        self.shown[rev] += 1
        if before:
            self.shown[before] -= 1
            if not self.shown[before]:
                del self.shown[before]

    def add(self, other: Tally) -> None:
        """Add what another process counted."""
        for name in _COUNTS:
            setattr(self, name, getattr(self, name) + getattr(other, name))
        for name in ("slow", "refused", "closes", "flips", "flipped_for", "shown"):
            getattr(self, name).update(getattr(other, name))
        for rev, publication in other.publications.items():
            self.publications.setdefault(rev, Publication(publication.kind)).add(publication)


class Report(Struct):
    """What a process tells about itself.

    Attributes:
        tally: Everything since the start, but its flips: those since the last report.
        histograms: Encoded, since the last report; without those in which nothing happened.
        rss_bytes: Its resident memory.
        base_bytes: The same before it made its devices.
        cpu_s: Processor time it has used.
        final: It has stopped, and there is no more to tell.
    """

    tally: Tally
    histograms: dict[str, str]
    rss_bytes: int = 0
    base_bytes: int = 0
    cpu_s: float = 0.0
    final: bool = False


class Timings:
    """The timings of one process since the last report; attributes are those of `TIMINGS`."""

    __slots__ = TIMINGS

    connect: Counter[int]
    delivery: Counter[int]
    prefetch_delivery: Counter[int]
    flip_error: Counter[int]
    lag: Counter[int]

    def __init__(self) -> None:
        self.clear()

    def clear(self) -> None:
        """Forget everything."""
        for name in TIMINGS:
            setattr(self, name, Counter())

    def take(self) -> dict[str, str]:
        """Return what happened, as encoded histograms, and forget it."""
        taken = {name: encoded(counts) for name in TIMINGS if (counts := getattr(self, name))}
        self.clear()
        return taken


def units(ms: float) -> int:
    """Return a duration as histograms count it; a negative one, which two clocks may give, is none."""
    return int(ms * 10) if ms > 0 else 0


def histogram() -> HdrHistogram:
    """Return an empty histogram."""
    return HdrHistogram(1, _LONGEST, _DIGITS)


# One for all: each refers to itself, and a swarm's process, which never collects such things, would keep them.
_scratch: Final = histogram()


def encoded(counts: Counter[int]) -> str:
    """Return counted values as an encoded histogram."""
    made = _scratch
    made.reset()
    for value, times in counts.items():
        made.record_value(min(value, _LONGEST), times)
    return bytes(made.encode()).decode()


def percentiles(made: HdrHistogram) -> dict[str, float]:
    """Return percentiles and the maximum in milliseconds; empty if nothing was recorded."""
    if not made.get_total_count():
        return {}
    found = {name: made.get_value_at_percentile(percent) for name, percent in PERCENTILES.items()}
    return {name: round(value * UNIT_MS, 1) for name, value in {**found, "max": made.get_max_value()}.items()}


class Merged:
    """The reports of all processes, added up."""

    def __init__(self) -> None:
        self._latest: dict[int, Report] = {}
        self.flips: Counter[int] = Counter()
        self.histograms = {name: histogram() for name in TIMINGS}

    def add(self, process: int, report: Report) -> None:
        """Take in a report."""
        self.flips.update(report.tally.flips)
        for name, data in report.histograms.items():
            self.histograms[name].decode_and_add(data.encode())
        self._latest[process] = report

    def tally(self) -> Tally:
        """Return the counts of all processes, those that have died included, without the flips."""
        total = Tally()
        for report in self._latest.values():
            total.add(report.tally)
        total.flips.clear()
        return total

    def summary(self) -> dict[str, Any]:
        """Return the figures, JSON-ready."""
        tally, reports = self.tally(), self._latest.values()
        own_bytes = sum(report.rss_bytes - report.base_bytes for report in reports)
        return {
            **{name: getattr(tally, name) for name in _COUNTS},
            **{f"{name}_ms": percentiles(self.histograms[name]) for name in TIMINGS},
            "slow": dict(tally.slow),
            "refused": {str(status): count for status, count in sorted(tally.refused.items())},
            "closes": {str(code): count for code, count in sorted(tally.closes.items())},
            "flipped_for": {str(rev): count for rev, count in sorted(tally.flipped_for.items())},
            "shown": {str(rev): count for rev, count in sorted(tally.shown.items())},
            "publications": [_told(rev, tally.publications[rev]) for rev in sorted(tally.publications)],
            "rss_bytes": sum(report.rss_bytes for report in reports),
            "bytes_per_device": round(own_bytes / tally.devices) if tally.devices else 0,
            "cpu_s": round(sum(report.cpu_s for report in reports), 2),
        }


def _told(rev: int, publication: Publication) -> dict[str, Any]:
    """Return a publication's line: a revision is the instant of its publication, Unix ms."""
    return {
        "rev": rev,
        "kind": publication.kind,
        "received": publication.received,
        "first_ms": round(publication.first_ms - rev, 1),
        "last_ms": round(publication.last_ms - rev, 1),
    }
