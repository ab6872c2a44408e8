"""What devices told us, as gauges: per campaign, which connections are ready and which are active.

A connection keeps three bitmasks; each open campaign owns one bit in each. Here are the counts by cohort, so
that a disconnect takes away exactly what the connection had added. What the bits mean is always the newest
prefetch and the newest activation that has begun: then its bit is cleared on every connection. Until an armed
activation begins, what is counted is whom the one before it has reached, for a cancel leaves that one standing.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

from hdrh.histogram import HdrHistogram

from fanout.bus.presence import LAG_MS_MAX, CampaignGauge, Group, lag_histogram
from fanout.bus.publication import Activated, Closed, Prefetched, Publication, variant_for
from fanout.limits import REPORT_AHEAD_MS_MAX
from fanout.wire import Report
from gateway import metrics
from gateway.cohorts import Cohort, Cohorts
from gateway.connection import Connection


class Track:
    """One open campaign in this worker.

    Attributes:
        bit: Its place in the connections' masks, as a mask with one bit set.
        ready: How many members of each cohort hold the newest prefetch's bundle.
        active: How many members of each cohort have acted on the newest activation that has begun.
        activate_rev: Of that activation, 0 before the first.
        armed: A newer one, which has not begun.
        failed: Connections that have reported a failure since the newest activation or prefetch.
    """

    __slots__ = ("activate_rev", "active", "armed", "bit", "failed", "flip_lag", "prefetch", "ready", "topic")

    def __init__(self, topic: str, bit: int) -> None:
        self.topic = topic
        self.bit = bit
        self.prefetch: Prefetched | None = None
        self.activate_rev = 0
        self.armed: Activated | None = None
        self.ready: dict[Cohort, int] = {}
        self.active: dict[Cohort, int] = {}
        self.failed = 0
        self.flip_lag: HdrHistogram = lag_histogram()

    def digest_for(self, cohort: Cohort) -> str | None:
        """Return the digest of the bundle this cohort should hold."""
        if self.prefetch is None:
            return None
        variant = variant_for(self.prefetch.variants, cohort.attrs_map)
        return None if variant is None else self.prefetch.variants[variant].bundle.sha256


class Reports:
    """The ledger of one worker.

    Args:
        cohorts: Whose members are counted.
        now_ms: The store's clock, which instants are on.
    """

    def __init__(self, cohorts: Cohorts, now_ms: Callable[[], int]) -> None:
        self._cohorts = cohorts
        self._now_ms = now_ms
        self._tracks: dict[str, Track] = {}

    def published(self, publication: Publication) -> None:
        """Start counting anew what this publication asks for."""
        if isinstance(publication, Closed):
            if track := self._tracks.pop(publication.campaign, None):
                self._clear(track, ready=True, active=True)
            return
        track = self._tracks.get(publication.campaign)
        if track is None:
            track = self._tracks[publication.campaign] = Track(publication.topic, self._free_bit())
        if isinstance(publication, Prefetched):
            self._clear(track, ready=True, active=False)
            track.prefetch = publication
        else:
            # What had begun by then stands, and what had not is struck or superseded (`fanout.arming`).
            self._begin_due(track, publication.rev)
            track.armed = publication if isinstance(publication, Activated) else None
            self._begin_due(track, self._now_ms())

    def _begin_due(self, track: Track, now_ms: int) -> None:
        """Count the armed activation if its instant has come."""
        if track.armed is not None and track.armed.at <= now_ms:
            self._begin(track, track.armed.rev)

    def _begin(self, track: Track, rev: int) -> None:
        """Count an activation from now on, and the one before it no more."""
        self._clear(track, ready=False, active=True)
        track.activate_rev, track.armed = rev, None
        # Not another one: histograms refer to themselves, and would lie about until the next collection.
        track.flip_lag.reset()

    def _free_bit(self) -> int:
        used = sum(track.bit for track in self._tracks.values())
        bit = 1
        while used & bit:
            bit <<= 1
        return bit

    def _clear(self, track: Track, *, ready: bool, active: bool) -> None:
        """Take these bits, and those of failures, off everyone."""
        keep = ~track.bit
        track.failed = 0
        for cohort in self._cohorts.listening(track.topic):
            for connection in cohort.members:
                connection.failed &= keep
                if ready:
                    connection.ready &= keep
                if active:
                    connection.active &= keep
        if ready:
            track.ready.clear()
        if active:
            track.active.clear()

    def reported(self, connection: Connection, report: Report) -> None:
        """Count one device's report, once per connection and revision."""
        track = self._tracks.get(report.campaign)
        cohort = connection.cohort
        # A report about another topic's campaign would set a bit that nothing ever clears.
        if track is None or cohort is None or track.topic not in cohort.topics or not report.rev:
            metrics.STALE_REPORTS.inc()
            return
        if track.armed is not None and report.rev == track.armed.rev:
            # Devices speak of it from their slot on, and whose clock is ahead of ours is the first.
            self._begin_due(track, self._now_ms() + REPORT_AHEAD_MS_MAX)
        if report.kind == "active" and report.rev == track.activate_rev:
            if not connection.active & track.bit:
                connection.active |= track.bit
                track.active[cohort] = track.active.get(cohort, 0) + 1
                if report.via != "resume":
                    lag_ms = min(max(report.ms, 1), LAG_MS_MAX)
                    track.flip_lag.record_value(lag_ms)
                    metrics.FLIP_LAG_SECONDS.observe(lag_ms / 1000)
        elif track.prefetch is not None and report.kind == "ready" and report.rev == track.prefetch.rev:
            self._ready(connection, cohort, track)
        elif report.kind == "failed" and report.rev in (track.activate_rev, _rev(track.prefetch)):
            if not connection.failed & track.bit:
                connection.failed |= track.bit
                track.failed += 1
        else:
            metrics.STALE_REPORTS.inc()

    def resumed(self, connection: Connection, have: Iterable[str]) -> None:
        """Count a new connection ready for every campaign whose bundle it says it has."""
        digests, cohort = frozenset(have), connection.cohort
        if not digests or cohort is None:
            return
        for track in self._tracks.values():
            if track.topic in cohort.topics and track.digest_for(cohort) in digests:
                self._ready(connection, cohort, track)

    def _ready(self, connection: Connection, cohort: Cohort, track: Track) -> None:
        if not connection.ready & track.bit:
            connection.ready |= track.bit
            track.ready[cohort] = track.ready.get(cohort, 0) + 1

    def held(self, connection: Connection) -> set[str]:
        """Return the digests of the bundles this connection is counted ready for."""
        cohort = connection.cohort
        if cohort is None or not connection.ready:
            return set()
        digests = (t.digest_for(cohort) for t in self._tracks.values() if connection.ready & t.bit)
        return {digest for digest in digests if digest is not None}

    def left(self, connection: Connection, cohort: Cohort) -> None:
        """Take away what this connection had added to the counts; its masks stay."""
        if not (connection.ready or connection.active or connection.failed):
            return
        for track in self._tracks.values():
            if connection.ready & track.bit:
                track.ready[cohort] -= 1
            if connection.active & track.bit:
                track.active[cohort] -= 1
            if connection.failed & track.bit:
                track.failed -= 1

    def moved(self, connection: Connection, cohort: Cohort) -> None:
        """Count the connection in its new cohort, for the campaigns that cohort listens to."""
        for track in self._tracks.values():
            if track.topic not in cohort.topics:
                connection.ready &= ~track.bit
                connection.active &= ~track.bit
                connection.failed &= ~track.bit
                continue
            if connection.ready & track.bit:
                track.ready[cohort] = track.ready.get(cohort, 0) + 1
            if connection.active & track.bit:
                track.active[cohort] = track.active.get(cohort, 0) + 1
            if connection.failed & track.bit:
                track.failed += 1

    def gauges(self, attr_names: tuple[str, ...]) -> dict[str, CampaignGauge]:
        """Return every campaign's figures, grouped by these attributes."""
        now_ms = self._now_ms()
        for track in self._tracks.values():
            self._begin_due(track, now_ms)
        return {
            campaign: CampaignGauge(
                prefetch_rev=_rev(track.prefetch),
                activate_rev=track.activate_rev,
                groups=self._groups(track, attr_names),
                newest_rev=track.armed.rev if track.armed is not None else track.activate_rev,
                failed=track.failed,
                flip_lag=_text(track.flip_lag.encode()) if track.flip_lag.get_total_count() else "",
            )
            for campaign, track in self._tracks.items()
        }

    def _groups(self, track: Track, attr_names: tuple[str, ...]) -> list[Group]:
        listening = self._cohorts.listening(track.topic)
        track.ready = {cohort: n for cohort, n in track.ready.items() if n}
        track.active = {cohort: n for cohort, n in track.active.items() if n}
        return grouped(
            listening,
            attr_names,
            lambda cohort: (len(cohort.members), track.ready.get(cohort, 0), track.active.get(cohort, 0)),
        )


def grouped(
    cohorts: Iterable[Cohort], attr_names: tuple[str, ...], counts: Callable[[Cohort], tuple[int, int, int]]
) -> list[Group]:
    """Return the cohorts' (connected, ready, active) summed by the values of these attributes."""
    sums: dict[tuple[str, ...], tuple[int, int, int]] = {}
    for cohort in cohorts:
        key = tuple(cohort.attrs_map.get(name, "other") for name in attr_names)
        before, more = sums.get(key, (0, 0, 0)), counts(cohort)
        sums[key] = (before[0] + more[0], before[1] + more[1], before[2] + more[2])
    return [Group(dict(zip(attr_names, key, strict=True)), *total) for key, total in sums.items()]


def _rev(publication: Prefetched | None) -> int:
    return 0 if publication is None else publication.rev


def _text(encoded: bytes | str) -> str:
    return encoded if isinstance(encoded, str) else encoded.decode("ascii")
