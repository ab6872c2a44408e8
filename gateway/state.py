"""What a connecting or syncing device is told, encoded once per cohort kind and revision.

Reads the retained state that the bus reader keeps; owns nothing but the cache of encoded messages.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Final, TypeVar, cast

import msgspec

from fanout.bus.publication import Prefetched, Publication, message_for, variant_for
from fanout.wire import Encoding, ReconnectPolicy, StateMessage, Welcome, encode
from gateway.broadcaster import frame
from gateway.cohorts import Cohort

# Frames of some dozen campaigns, variants and both encodings; emptied when it is full.
_CACHE_MAX: Final = 4_096
# What was told lately: a fleet that comes back at once has seen the same and holds the same. Emptied when full;
# an entry is at most a few KB, as long as what a device says it holds.
_TOLD_MAX: Final = 1_024

K = TypeVar("K")
V = TypeVar("V")


class Snapshots:
    """Answers "what stands?" for any cohort.

    Args:
        retained: The reader's, by campaign.
        beacon_s: Seconds between beacons, for the welcome.
        reconnect: The backoff policy, for the welcome.
    """

    def __init__(
        self, retained: Mapping[str, list[Publication]], beacon_s: float, reconnect: ReconnectPolicy
    ) -> None:
        self._retained = retained
        self._beacon_s = beacon_s
        self._reconnect = reconnect
        self._encoded: dict[tuple[int, Encoding, int | None, bool], bytes | None] = {}
        self._told: dict[tuple[Cohort, int, tuple[str, ...]], list[StateMessage]] = {}
        self._newest: dict[frozenset[str], int] = {}

    def changed(self) -> None:
        """Forget what was told: the retained state is another one."""
        self._told.clear()
        self._newest.clear()

    def newest(self, topics: frozenset[str]) -> int:
        """Return the newest revision that stands for these topics, 0 if nothing does."""
        newest = self._newest.get(topics)
        if newest is None:
            revs = (kept[-1].rev for kept in self._retained.values() if kept and kept[-1].topic in topics)
            newest = _remember(self._newest, topics, max(revs, default=0))
        return newest

    def state(self, cohort: Cohort, topics: frozenset[str], since: int, have: Collection[str]) -> list[bytes]:
        """Return the encoded messages a device of this cohort needs, by revision.

        Args:
            cohort: Gives attributes and encoding.
            topics: Which ones to tell about.
            since: Newest revision the device has seen.
            have: Digests it holds. A prefetch is left out only when its bundle is among them: it may have
                been overtaken by a newer activation and then lost.
        """
        found = [
            (publication.rev, data)
            for kept in self._retained.values()
            for publication in kept
            if publication.topic in topics and (data := self._message(publication, cohort, since, have)) is not None
        ]
        return [data for _, data in sorted(found)]

    def _message(self, publication: Publication, cohort: Cohort, since: int, have: Collection[str]) -> bytes | None:
        variants = getattr(publication, "variants", ())
        variant = variant_for(variants, cohort.attrs_map)
        if isinstance(publication, Prefetched):
            if variant is None:
                return None
            held = publication.variants[variant].bundle.sha256 in have
            if held and publication.rev <= since:
                return None
            return self._encode(publication, cohort.encoding, variant, inline=not held)
        return self._encode(publication, cohort.encoding, variant, inline=False) if publication.rev > since else None

    def _encode(
        self, publication: Publication, encoding: Encoding, variant: int | None, *, inline: bool
    ) -> bytes | None:
        key = (publication.rev, encoding, variant, inline)
        if key not in self._encoded:
            if len(self._encoded) >= _CACHE_MAX:
                self._encoded.clear()
            message = message_for(publication, variant, inline=inline)
            self._encoded[key] = None if message is None else encode(message, encoding)
        return self._encoded[key]

    def welcome(self, cohort: Cohort, session: str, now_ms: int, since: int, have: tuple[str, ...]) -> bytes:
        """Return the welcome's frame, with the state in it."""
        key = (cohort, since, have)
        state = self._told.get(key)
        if state is None:
            raw = [msgspec.Raw(data) for data in self.state(cohort, cohort.topics, since, have)]
            # The messages are spliced in as they were encoded once; on the wire there is no difference.
            state = _remember(self._told, key, cast("list[StateMessage]", raw))
        message = Welcome(session, now_ms, self._beacon_s, self._reconnect, state)
        return frame(encode(message, cohort.encoding), cohort.encoding)


def _remember(memory: dict[K, V], key: K, value: V) -> V:
    if len(memory) >= _TOLD_MAX:
        memory.clear()
    memory[key] = value
    return value
