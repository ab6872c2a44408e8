"""One worker's sockets: what happens when a connection opens, asks, speaks and leaves.

This is the `Owner` of every connection; it holds the parts together and decides nothing they can decide.
"""

from __future__ import annotations

import asyncio
import math
import random
import time
from collections.abc import Callable
from http import HTTPStatus
from typing import Any, Final

import msgspec
import structlog
from websockets.http11 import Request, Response

from fanout import tracing, wire
from fanout.bus.publication import Activated, Closed, Prefetched, Publication
from fanout.bus.reader import BusState, Reader
from gateway import metrics
from gateway.admission import Admission
from gateway.allowance import Allowance
from gateway.broadcaster import Broadcaster
from gateway.cohorts import Cohort, Cohorts, TooManyCohorts
from gateway.config import GatewayConfig
from gateway.connection import Answer, Connection, Handshake
from gateway.handshake import Admitted, FrontDoor, malformed, refusal
from gateway.keepalive import TICK_S, Wheel
from gateway.messages import Messages
from gateway.precedents import Upgradable
from gateway.reception import Reception
from gateway.reports import Reports
from gateway.state import Snapshots
from gateway.tokens import TokenVerifier

log = structlog.get_logger(__name__)

# Closes that an operator should hear of: the peer is broken, hostile or stuck. The others are everyday life.
_FAULTS: Final = frozenset(
    {
        wire.CloseCode.PROTOCOL_ERROR,
        wire.CloseCode.UNSUPPORTED_DATA,
        wire.CloseCode.INVALID_DATA,
        wire.CloseCode.POLICY,
        wire.CloseCode.TOO_BIG,
        wire.CloseCode.TRY_AGAIN_LATER,
        wire.CloseCode.SLOW_CONSUMER,
        wire.CloseCode.TOPIC_FORBIDDEN,
    }
)
# What is read later than this is history, told anew at a start or after a failover: no part of its trace any more.
_TRACED_MS: Final = 60_000
# Coarse clock values are shared by all connections that get the same one, which saves 32 bytes each.
_COARSE_S: Final = 8


def _traced(publication: Publication, lag_ms: int) -> Publication:
    """Add a publication's way here to its trace; return it without the trace if that is history."""
    if not publication.trace:
        return publication
    if lag_ms > _TRACED_MS:
        return msgspec.structs.replace(publication, trace=msgspec.UNSET)
    about: tracing.Attributes = {
        "fanout.campaign": publication.campaign,
        "fanout.rev": publication.rev,
        "fanout.bus_lag_ms": lag_ms,
    }
    tracing.record("receive", tracing.CONSUMER, publication.trace, lag_ms / 1000, about)
    return publication


class Server:
    """The device-facing half of a worker.

    Args:
        config: The gateway's settings.
        verifier: Checks tokens.
        reader: The worker's bus reader; its publications go to `publish`.
        sockets_max: How many the process can have, whatever stage they are in.
        soon: Calls something after what comes in meanwhile: the loop's ``call_soon``.
    """

    def __init__(
        self,
        config: GatewayConfig,
        verifier: TokenVerifier,
        reader: Reader,
        sockets_max: int,
        soon: Callable[[Callable[[], None]], Any],
    ) -> None:
        self.config = config
        self.message_bytes_max = config.message_bytes_max
        self.handshake_bytes_max = config.handshake_bytes_max
        self.write_buffer_bytes_max = config.write_buffer_bytes_max
        self._rng = random.Random()
        self._reader = reader
        self._door = FrontDoor(config, verifier)
        self._admission = Admission(config, self._rng)
        self._reception: Reception[Admitted | Response] = Reception(
            self._door.recognise, self._judge, self._answer, soon, config.handshake_bytes_max
        )
        self.cohorts = Cohorts(config.cohorts_max)
        self.reports = Reports(self.cohorts, reader.now_ms)
        self.broadcaster = Broadcaster(self.cohorts, config, reader.now_ms, self._superseded)
        self._wheel = Wheel(self.cohorts, config, reader.now_ms)
        self._snapshots = Snapshots(
            reader.retained,
            config.beacon_s,
            wire.ReconnectPolicy(config.backoff_base_ms, config.backoff_cap_ms),
        )
        self._messages = Messages(self.cohorts, self.reports, self._snapshots, reader.now_ms)
        self._opening: dict[Connection, float] = {}  # until when its handshake must be done
        # More could not be admitted before their time is up. The oldest gives way: an honest one is quick.
        self._opening_max = math.ceil(config.admit_per_s * config.handshake_timeout_s)
        self._leaving: dict[Connection, float] = {}  # until when it must have hung up
        self._sockets_max = sockets_max
        self._allowance: Allowance[Connection] = Allowance(config.messages_burst, config.messages_per_s)
        self._shared: dict[int, int] = {}
        self._started_s = time.monotonic()
        self._clock_s = 0
        self._session = self._rng.getrandbits(32)
        self.opened_ever = 0
        self.loop_lag_ms = 0.0
        self.draining = False  # then nobody is let in any more

    # --- From the bus.

    def publish(self, publication: Publication) -> None:
        """Take a publication from the log: count anew, and broadcast it."""
        lag_ms = max(0, self._reader.now_ms() - publication.rev)
        # What stood already when this worker began is old, and not late.
        if self._reader.state is not BusState.STARTING:
            metrics.BUS_LAG_SECONDS.observe(lag_ms / 1000)
        self._snapshots.changed()
        self.reports.published(publication)
        self.broadcaster.submit(_traced(publication, lag_ms))

    def _superseded(self, prefetch: Prefetched) -> bool:
        kept = self._reader.retained.get(prefetch.campaign, [])
        return any(p.rev > prefetch.rev and isinstance(p, Prefetched | Closed) for p in kept)

    @property
    def frozen(self) -> bool:
        """True from shortly before an activation's instant until its window is over."""
        now_ms = self._reader.now_ms()
        lead_ms, tail_ms = self.config.freeze_lead_s * 1000, self.config.freeze_tail_s * 1000
        return any(
            isinstance(p, Activated) and p.at - lead_ms <= now_ms <= p.at + p.window_ms + tail_ms
            for kept in self._reader.retained.values()
            for p in kept
        )

    def shed(self, count: int) -> None:
        """Have so many devices, chosen at random, told to reconnect when the wheel next comes by them."""
        members = [connection for cohort in self.cohorts for connection in cohort.members]
        for connection in self._rng.sample(members, min(count, len(members))):
            connection.moves_s = 0

    # --- What a connection tells its owner.

    def handshake(self) -> Handshake:
        return self._door.handshake()

    def opened(self, connection: Connection) -> None:
        self._opening[connection] = time.monotonic() + self.config.handshake_timeout_s
        room = self._sockets_max - self.cohorts.connections - len(self._leaving)
        if len(self._opening) > min(self._opening_max, room):
            oldest = next(iter(self._opening))
            del self._opening[oldest]
            metrics.HANDSHAKES.inc("crowded")
            self._turn_away(oldest)

    def asked(self, connection: Connection, data: bytes) -> None:
        self._reception.add(connection, data)

    def answer_now(self, connection: Connection) -> None:
        self._reception.answer_now(connection)

    def requested(self, connection: Connection, request: Request, head: bytes) -> Answer:
        return self._answer(connection, self._judge(request, head))

    def _judge(self, request: Request | Upgradable, head: bytes = b"") -> Admitted | Response:
        """Return whom a request lets in, or why not. It uses up one admission."""
        return self._door.check_path(request) or self._full() or self._door.admit(request, head)

    def _answer(self, connection: Connection, decision: Admitted | Response) -> Answer:
        """Count a device in that was admitted; return what it is told."""
        if isinstance(decision, Admitted):
            cohort = self._cohort_of(decision)
            if cohort is not None:
                metrics.HANDSHAKES.inc("101")
                return Answer(decision.response + self._welcome(connection, decision, cohort), upgraded=True)
            decision = self._later("devices of too many different kinds are connected")
        status = decision.status_code
        metrics.HANDSHAKES.inc(str(status))
        log.warning(f"handshake refused with {status}", status=status, why=decision.body.decode().strip())
        return Answer(decision.serialize(), upgraded=False)

    def _turn_away(self, connection: Connection) -> None:
        """End a socket without a word, whatever it has asked."""
        self._reception.forget(connection)
        connection.abort()

    def _full(self) -> Response | None:
        why = (
            "this gateway is leaving"
            if self.draining
            else self._admission.refuses(time.monotonic(), self.cohorts.connections, self.loop_lag_ms)
        )
        return None if why is None else self._later(why)

    def _later(self, why: str) -> Response:
        return refusal(
            HTTPStatus.SERVICE_UNAVAILABLE,
            f"come back later: {why}",
            {"Retry-After": str(self._admission.retry_after_s())},
        )

    def _cohort_of(self, device: Admitted) -> Cohort | None:
        """Return where a device belongs, None if there are too many cohorts already."""
        topics, attrs = device.identity.topics, device.identity.attrs
        try:
            return self.cohorts.find(device.encoding, topics, topics, attrs, self._snapshots.newest(topics))
        except TooManyCohorts:
            return None

    def _welcome(self, connection: Connection, device: Admitted, cohort: Cohort) -> bytes:
        """Count a device in; return its welcome, which is to be written before anything else."""
        until_s = self._opening.pop(connection, None)
        self.opened_ever += 1
        self.cohorts.join(connection, cohort)
        connection.seen_s = self._clock_s
        lifetime_s = self.config.lifetime_s * self._rng.uniform(0.9, 1.1)
        connection.moves_s = self._coarse(self._clock_s + lifetime_s)
        connection.expires_s = self._coarse(self._clock_s + device.identity.expires_s - time.time())
        self.reports.resumed(connection, device.have)
        self._session = (self._session + 1) & 0xFFFFFFFF
        if until_s is not None:
            metrics.HANDSHAKE_SECONDS.observe(time.monotonic() - until_s + self.config.handshake_timeout_s)
        return self._snapshots.welcome(
            cohort, f"{self._session:08x}", self._reader.now_ms(), device.since, device.have
        )

    def _coarse(self, clock_s: float) -> int:
        value = int(clock_s) // _COARSE_S * _COARSE_S
        return self._shared.setdefault(value, value)

    def malformed(self, data: bytes) -> bytes:
        metrics.HANDSHAKES.inc("malformed")
        return malformed(data)

    def alive(self, connection: Connection) -> None:
        self._may_speak(connection)

    def _may_speak(self, connection: Connection) -> bool:
        """Note that a device was heard; close it and return False if it says too much."""
        connection.seen_s = self._clock_s
        if self._allowance.spend(connection):
            return True
        rate = f"{self.config.messages_burst} frames at once, then {self.config.messages_per_s:g} a second"
        connection.close(wire.CloseCode.POLICY, f"you say too much; the limit is {rate}")
        return False

    def message(self, connection: Connection, data: bytes, *, text: bool) -> None:
        cohort = connection.cohort
        assert cohort is not None, "a connection that has left its cohort takes no messages"
        if not self._may_speak(connection):
            return
        if text is (cohort.encoding is wire.Encoding.MSGPACK):
            connection.close(
                wire.CloseCode.UNSUPPORTED_DATA,
                f"{cohort.encoding.subprotocol} uses {'binary' if text else 'text'} frames",
            )
            return
        try:
            message = wire.decode_from_device(data, cohort.encoding)
        except wire.WireError as exc:
            connection.close(wire.CloseCode.INVALID_DATA, str(exc))
            return
        metrics.MESSAGES.inc("unknown" if message is None else wire.tag_of(message))
        if message is not None:
            self._messages.act(connection, message)

    def closing(self, connection: Connection, code: int) -> None:
        self._opening.pop(connection, None)
        self._leaving[connection] = time.monotonic() + self.config.close_timeout_s
        self._uncount(connection)
        if code:
            metrics.CLOSES.labels(str(int(code))).inc()
        if code in _FAULTS:
            log.warning(f"connection closed with {int(code)}", code=int(code))

    def lost(self, connection: Connection) -> None:
        self._opening.pop(connection, None)
        self._reception.forget(connection)
        self._leaving.pop(connection, None)
        self._uncount(connection)

    def _uncount(self, connection: Connection) -> None:
        if connection.cohort is not None:
            self.reports.left(connection, connection.cohort)
            self.cohorts.leave(connection)
            self._allowance.forget(connection)

    # --- The tick.

    async def run(self) -> None:
        """Do what takes time: beacons, lifetimes, deadlines. Until cancelled."""
        next_s = time.monotonic()
        while True:
            next_s = max(next_s + TICK_S, time.monotonic())
            await asyncio.sleep(next_s - time.monotonic())
            self.loop_lag_ms = max(0.0, (time.monotonic() - next_s) * 1000)
            metrics.LOOP_LAG_SECONDS.observe(self.loop_lag_ms / 1000)
            self._tick()

    def _tick(self) -> None:
        now = time.monotonic()
        before_s, self._clock_s = self._clock_s, int(now - self._started_s)
        if self._clock_s > before_s:
            self._allowance.refill(self._clock_s - before_s)
        if self.loop_lag_ms > self.config.loop_lag_max_ms:
            metrics.POSTPONED.labels("beacons").inc()
        else:
            self._wheel.tick(self._clock_s, frozen=self.frozen)
        late = [c for c, until in self._opening.items() if until <= now]
        metrics.HANDSHAKES.inc("timeout", len(late))
        for connection in late + [c for c, until in self._leaving.items() if until <= now]:
            self._turn_away(connection)
        if self._clock_s % 60 == 0 or self.cohorts.crowded:
            self.cohorts.sweep()
        if self._clock_s % 60 == 0:
            self._shared = {value: value for value in self._shared if value > self._clock_s}
