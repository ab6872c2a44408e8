"""What a device may say once it is in, and what comes of it: reports, questions, topics."""

from __future__ import annotations

from collections.abc import Callable, Collection

from fanout import wire
from gateway.broadcaster import frame, message_frame
from gateway.cohorts import Cohort, Cohorts, TooManyCohorts
from gateway.connection import Connection
from gateway.reports import Reports
from gateway.state import Snapshots


class Messages:
    """Acts on the messages of one worker's devices.

    Args:
        cohorts: Who is connected.
        reports: Where what they report is counted.
        snapshots: What stands.
        now_ms: The store's clock, for beacons.
    """

    def __init__(self, cohorts: Cohorts, reports: Reports, snapshots: Snapshots, now_ms: Callable[[], int]) -> None:
        self._cohorts = cohorts
        self._reports = reports
        self._snapshots = snapshots
        self._now_ms = now_ms

    def act(self, connection: Connection, message: wire.FromDevice) -> None:
        """Do what a message asks for; that may close the connection."""
        assert connection.cohort is not None
        match message:
            case wire.Report():
                self._reports.reported(connection, message)
            case wire.Sync():
                held = self._reports.held(connection)
                self._tell(connection, connection.cohort.topics, message.since, held)
            case wire.Subscribe():
                self._subscribe(connection, connection.cohort, frozenset(message.topics))
            case wire.Unsubscribe():
                topics = connection.cohort.topics - frozenset(message.topics)
                self._move(connection, connection.cohort, topics)

    def _subscribe(self, connection: Connection, cohort: Cohort, topics: frozenset[str]) -> None:
        if forbidden := sorted(topics - cohort.allowed):
            connection.close(wire.CloseCode.TOPIC_FORBIDDEN, f"your token does not allow topic {forbidden[0]}")
            return
        new = topics - cohort.topics
        if self._move(connection, cohort, cohort.topics | topics):
            self._tell(connection, new, 0, ())

    def _move(self, connection: Connection, cohort: Cohort, topics: frozenset[str]) -> bool:
        """Put a connection into the cohort that listens to these topics instead; if there can be none, close it."""
        newest = self._snapshots.newest(topics)
        try:
            to = self._cohorts.find(cohort.encoding, topics, cohort.allowed, cohort.attrs, newest)
        except TooManyCohorts:
            connection.close(wire.CloseCode.TRY_AGAIN_LATER, "devices listen to too many different sets of topics")
            return False
        self._reports.left(connection, cohort)
        self._cohorts.leave(connection)
        self._cohorts.join(connection, to)
        self._reports.moved(connection, to)
        return True

    def _tell(self, connection: Connection, topics: frozenset[str], since: int, have: Collection[str]) -> None:
        """Write what stands for these topics and is newer than ``since``, then a beacon that says so."""
        cohort = connection.cohort
        assert cohort is not None
        for data in self._snapshots.state(cohort, topics, since, have):
            connection.write(frame(data, cohort.encoding))
        beacon = wire.Beacon(self._now_ms(), cohort.rev)
        connection.write(message_frame(beacon, cohort.encoding))
