"""The wheel: every tick visits a slice of every cohort, so that beacons never go out all at once.

A visit sends the beacon, and looks whether the token has ended, the device has answered, and the connection
has lived long enough. One whole turn takes ``beacon_s``.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from websockets.frames import Frame, Opcode

from fanout.wire import Beacon, CloseCode, Encoding, Reconnect
from gateway import metrics
from gateway.broadcaster import message_frame
from gateway.cohorts import Cohort, Cohorts
from gateway.config import GatewayConfig
from gateway.connection import Connection

TICK_S: Final = 0.25
_PING: Final = Frame(Opcode.PING, b"").serialize(mask=False)


class Wheel:
    """Visits the connections of one worker.

    Args:
        cohorts: Who is connected.
        config: Periods and limits.
        now_ms: The store's clock, for beacons.
    """

    def __init__(self, cohorts: Cohorts, config: GatewayConfig, now_ms: Callable[[], int]) -> None:
        self._cohorts = cohorts
        self._config = config
        self._now_ms = now_ms
        self._reconnect = {
            encoding: message_frame(Reconnect(config.lifetime_spread_ms), encoding) for encoding in Encoding
        }

    def tick(self, clock_s: int, *, frozen: bool) -> None:
        """Visit the next slice of every cohort.

        Args:
            clock_s: The worker's coarse clock.
            frozen: True near a campaign's instant: nobody is moved then.
        """
        now_ms = self._now_ms()
        for cohort in self._cohorts:
            if not cohort.members:
                continue
            cohort.debt += len(cohort.members) * TICK_S / self._config.beacon_s
            count = min(int(cohort.debt), len(cohort.members))
            cohort.debt -= count
            if count:
                beacon = message_frame(Beacon(now_ms, cohort.rev), cohort.encoding)
                metrics.BEACONS.inc(amount=count)
                for connection in self._next(cohort, count):
                    self._visit(connection, cohort, beacon, clock_s, frozen)

    def _next(self, cohort: Cohort, count: int) -> list[Connection]:
        """Return the next members under the cursor. One that moved meanwhile may be visited early or late."""
        members, start = cohort.members, cohort.cursor
        if start >= len(members):
            start = 0
        chosen = members[start : start + count]
        if len(chosen) < count:
            chosen += members[: min(count - len(chosen), start)]
        cohort.cursor = start + count if start + count < len(members) else start + count - len(members)
        return chosen

    def _visit(self, connection: Connection, cohort: Cohort, beacon: bytes, clock_s: int, frozen: bool) -> None:
        silent_s = clock_s - connection.seen_s
        if clock_s >= connection.expires_s:
            connection.close(CloseCode.TOKEN_EXPIRED, "your token has expired; get a new one")
        elif silent_s >= 2 * self._config.ping_s + self._config.beacon_s:
            connection.close(CloseCode.UNRESPONSIVE, "you have not answered pings")
        else:
            connection.write(beacon)
            if silent_s >= self._config.ping_s:
                connection.write(_PING)
            if clock_s >= connection.moves_s:
                self._move(connection, cohort, clock_s, frozen)

    def _move(self, connection: Connection, cohort: Cohort, clock_s: int, frozen: bool) -> None:
        if frozen:
            metrics.POSTPONED.labels("lifetime").inc()
            return
        connection.write(self._reconnect[cohort.encoding])
        # Said once; a device that stays is asked again after another lifetime.
        connection.moves_s = clock_s + int(self._config.lifetime_s)
