"""Is this device connected, may it trust what it has armed, and when does it open its next socket? Pure.

Silence has two stages. After one grace (GRACE_BEACONS beacon periods without any message) the device is in
*doubt*: a cancel may have passed it by, so nothing armed fires, and it asks with a `sync`. After two, it
takes the socket for dead and opens another, after a backoff: those who heard the same broadcast last, on a host that
died right after it, must not come to its neighbours in the same millisecond. The doubt ends with a beacon or a
welcome.

A device whose own time is not to be trusted (a TV that slept: its timers stood still, and the silence is longer
than it looks) is in doubt at once, and takes the socket for dead if the sync is not answered soon.
"""

from __future__ import annotations

import random
from typing import Final

from fanout import wire
from fanout.slots import backoff_ms

# Until a welcome says otherwise. What users of such clients are used to: half a second to twenty.
DEFAULT_RECONNECT: Final = wire.ReconnectPolicy(base_ms=500, cap_ms=20_000)
# The server says that the device itself is broken: it waits as long as it may.
BROKEN_CODES: Final = frozenset({1002, 1003, 1007, 1008, 1009})
BROKEN_STATUSES: Final = frozenset({400, 403, 404, 405, 426})
# For a sync's answer on a bad network. A socket that did not survive the device's sleep is replaced after it.
ANSWER_MS: Final = 5_000
# Failures in a row after which the span is the longest under any policy.
_LONGEST: Final = 32


class Liveness:
    """Connection, silence and backoff of one device; instants are monotonic ms."""

    __slots__ = (
        "attempt",
        "connected",
        "doubt",
        "grace_ms",
        "heard_ms",
        "policy",
        "reopen_ms",
        "syncing",
        "welcomed_ms",
    )

    def __init__(self, policy: wire.ReconnectPolicy) -> None:
        self.policy = policy
        self.connected = False  # a socket was welcomed and not lost since
        self.welcomed_ms = 0.0  # when
        self.heard_ms = 0.0  # when the last message came
        self.grace_ms = 0.0  # silence that is still no reason for doubt; 0 before the first welcome
        self.doubt = False  # the silence was too long: resync before anything fires
        self.syncing = False  # a sync was sent, its beacon is still to come
        self.reopen_ms: float | None = None  # when to open the next socket beside this one
        self.attempt = 0  # connections in a row that failed or did not last

    def next_ms(self) -> float | None:
        """Return when `tick` has something to do."""
        quiet = self._quiet_ms()
        if quiet is None or self.reopen_ms is None:
            return self.reopen_ms if quiet is None else quiet
        return min(quiet, self.reopen_ms)

    def _quiet_ms(self) -> float | None:
        if not (self.connected and self.grace_ms):
            return None
        if not self.doubt:
            return self.heard_ms + self.grace_ms
        return self.heard_ms + 2 * self.grace_ms if self.reopen_ms is None else None

    def hear(self, mono_ms: float) -> bool:
        """Note that a message came; True if it ended a silence that was too long and not noticed yet."""
        began = self._too_long(mono_ms)
        self.heard_ms = mono_ms
        return began

    def tick(self, mono_ms: float, rng: random.Random) -> tuple[bool, bool]:
        """Return whether to ask with a sync now, and whether to open a new socket now."""
        ask = self._too_long(mono_ms) and self.connected
        quiet = self._quiet_ms()
        dead = self.doubt and quiet is not None and quiet <= mono_ms
        if dead:
            self.heard_ms = mono_ms  # in doubt this only times the next attempt
            self.reopen_ms = self.retry_ms(mono_ms, rng, None, None, None)
        reopen = self.reopen_ms is not None and self.reopen_ms <= mono_ms
        if reopen:
            self.reopen_ms = None
        return ask and not reopen, reopen

    def _too_long(self, mono_ms: float) -> bool:
        if self.doubt or not self.grace_ms or mono_ms < self.heard_ms + self.grace_ms:
            return False
        self.doubt = True
        return True

    def distrust(self, mono_ms: float) -> bool:
        """Note that time has jumped (of no matter before the first welcome); True if there is a socket to ask on."""
        if not self.grace_ms:
            return False
        self.doubt = True
        self.heard_ms = mono_ms - 2 * self.grace_ms + ANSWER_MS  # so that the silence is over in ANSWER_MS
        return self.connected

    def welcome(self, message: wire.Welcome, mono_ms: float) -> None:
        """Note that a socket was welcomed."""
        if message.reconnect != self.policy:
            self.policy = message.reconnect
        self.grace_ms = wire.GRACE_BEACONS * message.beacon_s * 1000
        self.connected, self.welcomed_ms = True, mono_ms
        self.syncing, self.reopen_ms = False, None

    def move(self, within_ms: int, mono_ms: float, rng: random.Random) -> None:
        """Plan to reconnect at a random instant within so many milliseconds."""
        self._forgive(mono_ms)
        at = mono_ms + rng.random() * within_ms
        self.reopen_ms = at if self.reopen_ms is None else min(at, self.reopen_ms)

    def lose(self, mono_ms: float) -> None:
        """Note that no socket is left."""
        self._forgive(mono_ms)
        self.connected = self.syncing = False
        self.reopen_ms = None

    def _forgive(self, mono_ms: float) -> None:
        # A connection that outlived the longest backoff was a good one; a server that welcomes and then
        # closes at once must not be asked ever faster.
        if self.connected and mono_ms - self.welcomed_ms >= self.policy.cap_ms:
            self.attempt = 0

    def retry_ms(
        self,
        mono_ms: float,
        rng: random.Random,
        code: int | None,
        status: int | None,
        retry_after_ms: int | None,
    ) -> float | None:
        """Return when to try again after a failure, None for never.

        Args:
            mono_ms: Now.
            rng: Source of jitter.
            code: WebSocket close code, if one came.
            status: HTTP status, if the handshake was refused.
            retry_after_ms: The refusal's Retry-After; the jitter comes on top of it.
        """
        if code is not None and not wire.may_return(code):
            return None
        broken = code in BROKEN_CODES or status in BROKEN_STATUSES
        jitter_ms = backoff_ms(_LONGEST if broken else self.attempt, self.policy.base_ms, self.policy.cap_ms, rng)
        self.attempt += 1
        return mono_ms + (retry_after_ms or 0) + jitter_ms
