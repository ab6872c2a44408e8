"""Who is connected, by what they share. A cohort is the unit of fan-out: one frame serves all its members.

Members sit in a plain list, each knowing its own place: adding, removing (the last one moves into the gap),
copying for a broadcast and walking by slices are all as cheap as Python has them.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Final

from fanout.wire import Encoding
from gateway import metrics

if TYPE_CHECKING:
    from gateway.connection import Connection

Attrs = tuple[tuple[str, str], ...]
# Attributes that would make yet another cohort beyond the limit are replaced by this.
FOLDED: Final[Attrs] = ()


class Cohort:
    """Connections that share encoding, topics and attributes.

    Attributes:
        topics: What its members listen to.
        allowed: What their tokens allow them to listen to; the same, unless they unsubscribed.
        rev: Newest revision whose broadcast to this cohort is complete; beacons carry it.
        cursor: Where in `members` the beacon wheel stands.
        debt: Fraction of a member the wheel still owes.
    """

    __slots__ = ("allowed", "attrs", "attrs_map", "cursor", "debt", "encoding", "members", "rev", "topics")

    def __init__(self, encoding: Encoding, topics: frozenset[str], allowed: frozenset[str], attrs: Attrs) -> None:
        self.encoding = encoding
        self.topics = topics
        self.allowed = allowed
        self.attrs = attrs
        self.attrs_map = dict(attrs)
        self.members: list[Connection] = []
        self.rev = 0
        self.cursor = 0
        self.debt = 0.0

    def add(self, connection: Connection) -> None:
        connection.index = len(self.members)
        self.members.append(connection)

    def remove(self, connection: Connection) -> None:
        last = self.members.pop()
        if last is not connection:
            self.members[connection.index] = last
            last.index = connection.index


class TooManyCohorts(Exception):
    """Another set of topics would make more cohorts than a worker keeps."""


class Cohorts:
    """All cohorts of one worker.

    Args:
        cohorts_max: Beyond it, new combinations of attributes are folded into one cohort without any. Sets of
            topics cannot be folded: at twice as many, another one is refused.

    Attributes:
        connections: Members of all cohorts.
    """

    def __init__(self, cohorts_max: int) -> None:
        self._cohorts: dict[tuple[Encoding, frozenset[str], frozenset[str], Attrs], Cohort] = {}
        self._cohorts_max = cohorts_max
        self.connections = 0

    def __iter__(self) -> Iterator[Cohort]:
        return iter(self._cohorts.values())

    def __len__(self) -> int:
        return len(self._cohorts)

    @property
    def crowded(self) -> bool:
        """True while attributes are folded away: then cohorts without members should go soon."""
        return len(self._cohorts) >= self._cohorts_max

    def find(
        self, encoding: Encoding, topics: frozenset[str], allowed: frozenset[str], attrs: Attrs, rev: int
    ) -> Cohort:
        """Return the cohort for this combination, making it if needed; ``rev`` is where a new one starts.

        Raises:
            TooManyCohorts: There is none, and no room for another.
        """
        cohort = self._cohorts.get((encoding, topics, allowed, attrs))
        if cohort is None:
            if self.crowded and attrs != FOLDED:
                found = self.find(encoding, topics, allowed, FOLDED, rev)
                metrics.FOLDED.inc()
                return found
            if len(self._cohorts) >= 2 * self._cohorts_max:
                raise TooManyCohorts
            cohort = self._cohorts[encoding, topics, allowed, attrs] = Cohort(encoding, topics, allowed, attrs)
        if not cohort.members:
            cohort.rev = max(cohort.rev, rev)  # no broadcast reached it while it was empty
        return cohort

    def join(self, connection: Connection, cohort: Cohort) -> None:
        """Count a connection in; broadcasts reach it from now on."""
        connection.cohort = cohort
        cohort.add(connection)
        self.connections += 1

    def leave(self, connection: Connection) -> None:
        """Count a connection out; broadcasts reach it no more."""
        assert connection.cohort is not None
        connection.cohort.remove(connection)
        connection.cohort = None
        self.connections -= 1

    def listening(self, topic: str) -> list[Cohort]:
        """Return the cohorts that listen to a topic and have members."""
        return [cohort for cohort in self if topic in cohort.topics and cohort.members]

    def sweep(self) -> None:
        """Forget cohorts without members."""
        for key, cohort in list(self._cohorts.items()):
            if not cohort.members:
                del self._cohorts[key]
