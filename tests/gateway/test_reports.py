"""The ledger against a model that keeps a plain set of who reported what: they agree, whatever happens."""

from __future__ import annotations

import msgspec
from echoing import Echo
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule
from support.stack import activated, bundle, prefetched

from fanout import wire
from fanout.bus.presence import merged_lag
from fanout.bus.publication import Cancelled, Closed, Publication, Variant
from fanout.limits import REPORT_AHEAD_MS_MAX
from gateway.cohorts import Cohort, Cohorts, TooManyCohorts
from gateway.connection import Connection
from gateway.reports import Reports

TOPIC_OF = {"a": "t", "b": "u", "c": "t"}
CONTENTS = ("{}", '{"x":1}')
campaigns = st.sampled_from(sorted(TOPIC_OF))
heard_of = campaigns | st.just("unknown")
topic_sets = st.sets(st.sampled_from("tuv"), min_size=1).map(frozenset)
who = st.integers(0, 99)


class Ledger(RuleBasedStateMachine):
    @initialize()
    def start(self) -> None:
        self.cohorts = Cohorts(12)
        self.reports = Reports(self.cohorts, lambda: self.rev)
        self.here: list[Connection] = []
        self.rev = 100
        self.open: set[str] = set()
        self.prefetch: dict[str, tuple[int, str]] = {}  # campaign: revision, digest
        self.activation: dict[str, int] = {}
        self.armed: dict[str, tuple[int, int]] = {}  # campaign: revision, instant
        self.ready: set[tuple[Connection, str]] = set()
        self.active: set[tuple[Connection, str]] = set()
        self.failed: set[tuple[Connection, str]] = set()
        self.flips: dict[str, int] = {}
        # An evening under way: chance alone would spend most of its steps on getting there.
        for campaign in TOPIC_OF:
            self.prefetches(campaign, CONTENTS[0])
            self.activates(campaign, 0)
        for topics in ("t", "u", "v", "tu", "tuv"):
            self.connect(frozenset(topics), "p", set())

    # --- Devices.

    def find(
        self, topics: frozenset[str], allowed: frozenset[str], attrs: tuple[tuple[str, str], ...]
    ) -> Cohort | None:
        try:
            return self.cohorts.find(wire.Encoding.JSON, topics, allowed, attrs, 0)
        except TooManyCohorts:
            return None

    def topics(self, connection: Connection) -> frozenset[str]:
        assert connection.cohort is not None
        return connection.cohort.topics

    @rule(topics=topic_sets, platform=st.sampled_from("pqrs"), have=st.sets(st.sampled_from(CONTENTS)))
    def connect(self, topics: frozenset[str], platform: str, have: set[str]) -> None:
        connection = Connection(Echo())
        cohort = self.find(topics, topics, (("platform", platform),))
        if cohort is None:
            return
        self.cohorts.join(connection, cohort)
        digests = {bundle(content).sha256 for content in have}
        self.reports.resumed(connection, digests)
        self.here.append(connection)
        for campaign, (_, digest) in self.prefetch.items():
            if TOPIC_OF[campaign] in topics and digest in digests:
                self.ready.add((connection, campaign))

    def pick(self, number: int) -> Connection | None:
        return self.here[number % len(self.here)] if self.here else None

    @rule(number=who)
    def disconnect(self, number: int) -> None:
        if connection := self.pick(number):
            assert connection.cohort is not None
            self.reports.left(connection, connection.cohort)
            self.cohorts.leave(connection)
            self.here.remove(connection)
            self.ready = {entry for entry in self.ready if entry[0] is not connection}
            self.active = {entry for entry in self.active if entry[0] is not connection}
            self.failed = {entry for entry in self.failed if entry[0] is not connection}

    @rule(number=who, topics=topic_sets)
    def move(self, number: int, topics: frozenset[str]) -> None:
        if connection := self.pick(number):
            cohort = connection.cohort
            assert cohort is not None
            to = self.find(topics, cohort.allowed, cohort.attrs)
            if to is None:
                return
            self.reports.left(connection, cohort)
            self.cohorts.leave(connection)
            self.cohorts.join(connection, to)
            self.reports.moved(connection, to)
            for entries in (self.ready, self.active, self.failed):
                entries -= {e for e in entries if e[0] is connection and TOPIC_OF[e[1]] not in topics}

    @rule(number=who, campaign=heard_of, stale=st.booleans())
    def says_ready(self, number: int, campaign: str, stale: bool) -> None:
        if connection := self.pick(number):
            rev = self.prefetch.get(campaign, (0, ""))[0] - stale
            self.reports.reported(connection, wire.Report(campaign, max(0, rev), "ready"))
            if campaign in self.prefetch and not stale and TOPIC_OF[campaign] in self.topics(connection):
                self.ready.add((connection, campaign))

    @rule(
        number=who,
        campaign=campaigns | st.just("unknown"),
        stale=st.booleans(),
        via=st.sampled_from(["cache", "resume"]),
        armed=st.booleans(),
    )
    def says_active(self, number: int, campaign: str, stale: bool, via: wire.Via, armed: bool) -> None:
        if connection := self.pick(number):
            rev = self.spoken_of(connection, campaign, armed and not stale)
            report = wire.Report(campaign, max(0, rev - stale), "active", ms=2**60, via=via)
            self.reports.reported(connection, report)
            if self.counts(connection, campaign, rev, stale):
                if (connection, campaign) not in self.active and via != "resume":
                    self.flips[campaign] = self.flips.get(campaign, 0) + 1
                self.active.add((connection, campaign))

    @rule(
        number=who,
        campaign=heard_of,
        stale=st.booleans(),
        which=st.sampled_from(["prefetch", "activation"]),
        armed=st.booleans(),
    )
    def says_failed(self, number: int, campaign: str, stale: bool, which: str, armed: bool) -> None:
        if connection := self.pick(number):
            rev = self.prefetch.get(campaign, (0, ""))[0]
            if which == "activation":
                rev = self.spoken_of(connection, campaign, armed and not stale)
            self.reports.reported(connection, wire.Report(campaign, max(0, rev - stale), "failed"))
            if self.counts(connection, campaign, rev, stale, self.prefetch.get(campaign, (0, ""))[0]):
                self.failed.add((connection, campaign))

    def spoken_of(self, connection: Connection, campaign: str, armed: bool) -> int:
        """Return the revision of what a device says to have done: what it is armed with, or what has begun.

        The first that speaks of it shows that it has begun, unless that cannot be.
        """
        if not armed or campaign not in self.armed:
            return self.activation.get(campaign, 0)
        rev, at = self.armed[campaign]
        if at <= self.rev + REPORT_AHEAD_MS_MAX and TOPIC_OF[campaign] in self.topics(connection):
            self.begins(campaign)
        return rev

    def counts(self, connection: Connection, campaign: str, rev: int, stale: bool, *others: int) -> bool:
        """Tell whether a report of this revision is to be counted."""
        standing = (self.activation.get(campaign, 0), *others)
        return bool(rev) and not stale and rev in standing and TOPIC_OF[campaign] in self.topics(connection)

    @rule(ms=st.sampled_from([400, 6000]))
    def time_passes(self, ms: int) -> None:
        self.rev += ms

    @rule()
    def sweep(self) -> None:
        self.cohorts.sweep()

    # --- Publications.

    def publish(self, publication: Publication) -> int:
        self.rev += 10
        self.reports.published(msgspec.structs.replace(publication, rev=self.rev))
        self.open.add(publication.campaign)
        return self.rev

    def forget(self, campaign: str, entries: set[tuple[Connection, str]]) -> None:
        entries -= {entry for entry in entries if entry[1] == campaign}

    @rule(campaign=campaigns, content=st.sampled_from(CONTENTS))
    def prefetches(self, campaign: str, content: str) -> None:
        variants = (Variant({}, bundle(content)),)
        rev = self.publish(prefetched(campaign, topic=TOPIC_OF[campaign], variants=variants))
        self.prefetch[campaign] = rev, bundle(content).sha256
        self.forget(campaign, self.ready)
        self.forget(campaign, self.failed)

    @rule(campaign=campaigns, ahead_ms=st.sampled_from([0, 500, 5000]))
    def activates(self, campaign: str, ahead_ms: int) -> None:
        at = self.rev + 10 + ahead_ms
        rev = self.publish(activated(campaign, topic=TOPIC_OF[campaign], at=at))
        self.begins_if_due(campaign)
        self.armed[campaign] = rev, at
        self.begins_if_due(campaign)

    @rule(campaign=campaigns)
    def cancels(self, campaign: str) -> None:
        self.publish(Cancelled(campaign=campaign, topic=TOPIC_OF[campaign]))
        self.begins_if_due(campaign)
        self.armed.pop(campaign, None)

    def begins_if_due(self, campaign: str) -> None:
        if campaign in self.armed and self.armed[campaign][1] <= self.rev:
            self.begins(campaign)

    def begins(self, campaign: str) -> None:
        self.activation[campaign], _ = self.armed.pop(campaign)
        self.forget(campaign, self.active)
        self.forget(campaign, self.failed)
        self.flips[campaign] = 0

    @rule(campaign=campaigns)
    def closes(self, campaign: str) -> None:
        self.publish(Closed(campaign=campaign, topic=TOPIC_OF[campaign]))
        self.open.discard(campaign)
        self.prefetch.pop(campaign, None)
        self.activation.pop(campaign, None)
        self.armed.pop(campaign, None)
        self.forget(campaign, self.ready)
        self.forget(campaign, self.active)
        self.forget(campaign, self.failed)
        self.flips.pop(campaign, None)

    # --- The law.

    @invariant()
    def the_ledger_shows_exactly_what_was_reported(self) -> None:
        if not hasattr(self, "reports"):
            return
        for campaign in self.open:
            self.begins_if_due(campaign)
        gauges = self.reports.gauges(("platform",))
        assert set(gauges) == self.open
        for campaign, gauge in gauges.items():
            listening = [c for c in self.here if TOPIC_OF[campaign] in self.topics(c)]
            assert sum(group.connected for group in gauge.groups) == len(listening)
            assert sum(group.ready for group in gauge.groups) == sum(e[1] == campaign for e in self.ready)
            assert sum(group.active for group in gauge.groups) == sum(e[1] == campaign for e in self.active)
            assert gauge.failed == sum(e[1] == campaign for e in self.failed)
            for group in gauge.groups:
                assert 0 <= group.ready <= group.connected
                assert 0 <= group.active <= group.connected
            assert gauge.prefetch_rev == self.prefetch.get(campaign, (0, ""))[0]
            assert gauge.activate_rev == self.activation.get(campaign, 0)
            assert gauge.newest_rev == self.armed.get(campaign, (gauge.activate_rev, 0))[0]
            assert merged_lag([gauge.flip_lag]).get_total_count() == self.flips.get(campaign, 0)
        for connection in self.here:
            digests = {self.prefetch[campaign][1] for c, campaign in self.ready if c is connection}
            assert self.reports.held(connection) == digests


TestLedger = Ledger.TestCase
TestLedger.settings = settings(max_examples=60, stateful_step_count=40, deadline=None)
