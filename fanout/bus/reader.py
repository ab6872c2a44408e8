"""Reading the bus: every publication once, in order, whatever happens to the subscription.

The stream is the truth and pub/sub only the doorbell. Each entry names its predecessor, so a reader knows by
itself when it has missed something: it reads the stream from its place; where the chain does not join up
(trimmed, flushed, a failover to a replica that lagged) it reloads the retained state, and puts back what it
holds and the store has lost.

A client library that reconnects in silence is the enemy here. So every ``subscribe`` acknowledgement means
"read the stream", and a probe, published by the reader to itself, proves that the subscription still hears.
The probe carries the log's newest revision, so a store that lost its data says so before anyone publishes.
"""

from __future__ import annotations

import asyncio
import enum
import random
import time
from collections import deque
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from importlib.resources import files
from typing import Final

import structlog
from redis.exceptions import NoPermissionError

from fanout import keyspace, limits
from fanout.bus.clock import StoreClock
from fanout.bus.entry import Stored, StreamEntry, from_doorbell, from_stream, read_retained, rev_of
from fanout.bus.publication import Closed, NotAPublication, Publication
from fanout.bus.publisher import Publisher, PutBack
from fanout.bus.retained import lost, needed, struck
from fanout.bus.tasks import cancelled, until_ended
from fanout.connect import STORE_ERRORS, Commands
from fanout.slots import backoff_ms

log = structlog.get_logger(__name__)

PROBE_INTERVAL_S: Final = 1.0
# A probe that is not back after this long means a deaf subscription, if the store answers otherwise. No longer than
# the interval, so that a silence is noticed within two of them.
PROBE_TIMEOUT_S: Final = 1.0
_RETRY_BASE_MS: Final = 50
_RETRY_CAP_MS: Final = 2_000
# Revisions remembered to tell a duplicate from an entry of a history we do not know.
_KNOWN_MAX: Final = 4_096
# Entries read at once: a prefetch with all its content is 256 KB, so 25 MB at most.
_READ_MAX: Final = 100
_PROBE: Final = files("fanout.bus").joinpath("probe.lua").read_text()


class BusState(enum.StrEnum):
    """How far a reader can be trusted, in the words of ``/readyz``."""

    STARTING = "starting"  # not synced yet: unready
    OK = "ok"
    DEGRADED = "degraded"  # the store cannot be reached: everyone is in that boat, keep serving
    DEAF = "deaf"  # the store answers, the subscription does not: unready


class _Deaf(Exception):
    """Our own probe did not come back."""


class Reader:
    """Follows the log for one worker.

    Args:
        connect: Makes a fresh client; every subscription gets one of its own.
        worker: Names the probe channel; unique among readers.
        on_publication: Called with each publication once, in the order of revisions. Must not block or raise.
        on_state: Called when `state` changes.
        primary: Makes a client that may write, where ``connect`` leads to a replica; None: ``connect`` does.
            Probes are sent there and heard here, so a replica that has lost its primary is as deaf as it is.
        probe_interval_s: Seconds between probes.
        probe_timeout_s: Seconds after which a missing probe counts.

    Attributes:
        position: Revision of the newest entry applied, 0 before the first sync.
        retained: What stands, by campaign, in order of revision.
        clock: The store's clock.
        heard_s: When our own probe was last heard, monotonic seconds; before the first, when we began.
        gaps: How often entries were missed and read from the stream.
        reloads: How often the chain was broken and the retained state was loaded.
        put_back: How many entries were restored to the store.
    """

    def __init__(
        self,
        connect: Callable[[], Commands],
        worker: str,
        on_publication: Callable[[Publication], None],
        on_state: Callable[[BusState], None] = lambda state: None,
        *,
        primary: Callable[[], Commands] | None = None,
        probe_interval_s: float = PROBE_INTERVAL_S,
        probe_timeout_s: float = PROBE_TIMEOUT_S,
    ) -> None:
        self._connect = connect
        self._primary = primary
        self._channel = keyspace.probe(worker)
        self._on_publication = on_publication
        self._on_state = on_state
        self._probe_interval_s = probe_interval_s
        self._probe_timeout_s = probe_timeout_s
        self._known: deque[int] = deque(maxlen=_KNOWN_MAX)
        self._synced = False  # True from the first full read of the log on
        self._reading = False  # True while the stream is being read, when probes have to wait
        self._deaf = 0  # sessions in a row that ended because a probe did not come back
        self._heard = 0  # number of the newest probe that came back
        self._ring = asyncio.Event()  # set when a probe comes back
        self._rng = random.Random()
        self.state = BusState.STARTING
        self.position = 0
        self.retained: dict[str, list[Publication]] = {}
        self.clock = StoreClock(time.time() * 1000 - time.monotonic() * 1000)
        self.heard_s = time.monotonic()
        self.gaps = 0
        self.reloads = 0
        self.put_back = 0

    def now_ms(self) -> int:
        """Return the store's clock, Unix ms."""
        return self.clock.now_ms(time.monotonic() * 1000)

    async def run(self) -> None:
        """Follow the log until cancelled."""
        failures = 0
        while True:
            started = time.monotonic()
            try:
                await until_ended(self._session())
            except* (_Deaf, NoPermissionError):
                log.warning("subscription is deaf; rebuilding it", position=self.position)
                self._heard_nothing()
            except* STORE_ERRORS as group:
                log.warning("store unreachable", error=str(group.exceptions[0]), position=self.position)
                await self._without_store()
            failures = 0 if time.monotonic() - started > 10 * self._probe_interval_s else failures + 1
            await asyncio.sleep(backoff_ms(failures, _RETRY_BASE_MS, _RETRY_CAP_MS, self._rng) / 1000)

    def _heard_nothing(self) -> None:
        """Others hear what we do not. Once may be a connection that was just replaced, and a new one cures that."""
        self._deaf += 1
        if self._deaf > 1:
            self._become(BusState.DEAF)

    async def _without_store(self) -> None:
        """Judge what it means that the store cannot be reached."""
        if not self._synced:
            return
        if self._primary is not None and await _answers(self._primary):
            self._heard_nothing()  # it is our replica alone; or both were stopped, and have just come back
            return
        self._deaf = 0
        self._become(BusState.DEGRADED)

    async def _session(self) -> None:
        """Live with one subscription until it fails. Raises a group of _Deaf or the client's errors."""
        async with AsyncExitStack() as ends:
            commands = await ends.enter_async_context(_fresh(self._connect))
            subscriber = await ends.enter_async_context(_fresh(self._connect))
            primary = await ends.enter_async_context(_fresh(self._primary)) if self._primary else commands
            pubsub = subscriber.pubsub()
            try:
                await pubsub.subscribe(keyspace.DOORBELL, self._channel)
                async with asyncio.TaskGroup() as tasks:
                    tasks.create_task(self._listen(pubsub, commands))
                    tasks.create_task(self._probe(primary))
            finally:
                await pubsub.aclose()

    async def _listen(self, pubsub: Commands, commands: Commands) -> None:
        while not cancelled():
            message = await pubsub.get_message(timeout=self._probe_interval_s)
            if message is None:
                continue
            channel = message["channel"].decode()
            if message["type"] == "subscribe":
                # Also after a reconnect that the library made by itself: something may have been missed.
                if channel == keyspace.DOORBELL:
                    await self._catch_up(commands)
            elif channel == self._channel:
                await self._probed(message["data"], commands)
            else:
                await self._rung(message["data"], commands)

    async def _probe(self, commands: Commands) -> None:
        script = commands.register_script(_PROBE)
        number = self._heard
        while not cancelled():
            number += 1
            self._ring.clear()
            sent = time.monotonic()
            async with asyncio.timeout(self._probe_timeout_s):
                answer = await script(keys=[keyspace.LOG], args=[self._channel, number])
            self._sample_clock(sent, answer)
            try:
                async with asyncio.timeout(self._probe_timeout_s):
                    while self._heard < number:
                        await self._ring.wait()
                        self._ring.clear()
            except TimeoutError:
                if self._reading:
                    continue  # behind, not deaf
                raise _Deaf from None
            self._deaf = 0
            self._become(BusState.OK)
            # From one sending to the next, however long the answer took.
            next_s = sent + self._probe_interval_s * (0.9 + 0.1 * self._rng.random())
            await asyncio.sleep(max(0.0, next_s - time.monotonic()))

    def _sample_clock(self, sent_s: float, answer: tuple[bytes | int, bytes | int]) -> None:
        store_ms = int(answer[0]) * 1000 + int(answer[1]) / 1000
        self.clock.sample(sent_s * 1000, time.monotonic() * 1000, store_ms)

    async def _probed(self, data: bytes, commands: Commands) -> None:
        """Take note of our own probe; the acknowledgement, and so the first reading, came before it."""
        try:
            number, head = (int(word) for word in data.split())
        except ValueError:
            log.warning("unreadable probe", data=data[:60])
            return
        if head != self.position:
            await self._catch_up(commands)
        self._heard = number
        self.heard_s = time.monotonic()
        self._ring.set()

    async def _rung(self, entry: bytes, commands: Commands) -> None:
        """Apply what the doorbell brought, if it continues the chain."""
        try:
            publication = from_doorbell(entry)
        except NotAPublication as exc:
            # A newer publisher's kind: skip the content, but keep the chain by reading the stream.
            log.warning("unreadable publication", error=str(exc))
            await self._catch_up(commands)
            return
        if publication.prev == self.position:
            self._apply(publication)
        elif publication.rev not in self._known:
            await self._catch_up(commands)

    async def _catch_up(self, commands: Commands) -> None:
        """Read the stream from our place; reload the retained state where the chain does not join up."""
        self._reading = True
        try:
            position, missed = self.position, list[StreamEntry]()
            while self._synced:
                # From our own entry on: if the log still has it, whatever follows it there joins up.
                entries: list[StreamEntry] = await commands.xrange(keyspace.LOG, min=f"{position}-0", count=_READ_MAX)
                if not (_joins(entries[0], position) if entries else position == 0):
                    break
                more = [entry for entry in entries if rev_of(entry[0]) > position]
                if not more:
                    self._apply_all(missed)
                    return
                missed += more
                position = rev_of(missed[-1][0])
            await self._reload(commands)
            self._synced = True
        finally:
            self._reading = False

    def _apply_all(self, entries: list[StreamEntry]) -> None:
        """Take the next entries of the log, all there are."""
        self.gaps += bool(entries)
        news: list[Publication] = []
        for stream_id, fields in entries:
            self._seen(rev_of(stream_id))
            try:
                news.append(from_stream(stream_id, fields))
            except NotAPublication as exc:
                log.warning("unreadable publication", error=str(exc))
        self._take_all(news)

    def _seen(self, rev: int) -> None:
        self._known.append(rev)
        self.position = rev

    def _apply(self, publication: Publication) -> None:
        """Take the next publication of the log."""
        self._seen(publication.rev)
        self._take(publication)

    def _take_all(self, news: list[Publication]) -> None:
        """Take what came together, by revision: nobody is told to act on what is struck by what came with it."""
        over = struck(news)
        for publication in news:
            self._take(publication, tell=publication.rev not in over)

    def _take(self, publication: Publication, *, tell: bool = True) -> None:
        """Remember what stands, tell the owner."""
        if any(held.rev == publication.rev for held in self.retained.get(publication.campaign, ())):
            return  # what we put back ourselves comes round again
        self._retain(publication)
        if tell:
            self._on_publication(publication)

    def _retain(self, publication: Publication) -> None:
        # One that was put back under a later revision takes its own place.
        held = [p for p in self.retained.get(publication.campaign, []) if p.key != publication.key]
        # As of its publication, not as of now: what was to begin after that may be struck by what is read next.
        self.retained[publication.campaign] = needed([*held, publication], publication.rev)
        oldest = self.now_ms() - limits.CLOSED_RETENTION_S * 1000
        for campaign, kept in list(self.retained.items()):
            if isinstance(kept[-1], Closed) and kept[-1].rev < oldest:
                del self.retained[campaign]

    async def _reload(self, commands: Commands) -> None:
        """Take the store's retained state for the truth, except where it has lost what we hold: that is put back.

        Our position moves last, so that a reload which fails half way is done again; and nothing is taken before,
        for what comes back under a later revision must not look newer than what has not come back yet.
        """
        head, stored = await self._look(commands)
        if self._synced:
            self.reloads += 1
            log.warning("chain broken; reloading the retained state", position=self.position, head=head)
        while not await self._put_back(stored):
            # Where this is a replica, what the primary has that is newer may still be on its way here.
            await asyncio.sleep(_RETRY_BASE_MS / 1000)
            head, stored = await self._look(commands)
        found = sorted((s.publication for s in stored if s.publication is not None), key=lambda p: p.rev)
        self._take_all([p for p in found if p.rev > _newest(self.retained.get(p.campaign, []))])
        self._known.clear()
        self._known.extend(p.rev for p in found)
        self._seen(head)

    async def _look(self, commands: Commands) -> tuple[int, list[Stored]]:
        """Return the log's newest revision and what is retained, of one moment."""
        sent = time.monotonic()
        async with commands.pipeline(transaction=True) as pipe:
            pipe.time()
            pipe.xrevrange(keyspace.LOG, count=1)
            pipe.hgetall(keyspace.RETAINED)
            clock, newest, fields = await pipe.execute()
        self._sample_clock(sent, clock)
        stored, unreadable = read_retained(fields)
        if unreadable:
            log.warning("unreadable retained publications", errors=unreadable[:3], count=len(unreadable))
        return rev_of(newest[0][0]) if newest else 0, stored

    async def _put_back(self, stored: list[Stored]) -> bool:
        """Put back what the store has lost; False if it changed since it was looked at, so that it must be again."""
        by_campaign: dict[str, list[Stored]] = {campaign: [] for campaign in self.retained}
        for field in stored:
            by_campaign.setdefault(field.campaign, []).append(field)
        now_ms = self.now_ms()
        gone = [one for campaign, held in self.retained.items() for one in lost(held, by_campaign[campaign], now_ms)]
        if not gone:
            return True
        async with _fresh(self._primary or self._connect) as primary:
            publisher = Publisher(primary)
            # In the order of all, so that no more of them than must go under a later revision.
            for one in sorted(gone, key=lambda one: one.publication.rev):
                done = await publisher.put_back(one)
                if done is PutBack.NEWER:
                    return False
                self.put_back += done is PutBack.DONE
        return True

    def _become(self, state: BusState) -> None:
        if state is not self.state:
            log.info("bus state", was=self.state.value, now=state.value)
            self.state = state
            self._on_state(state)


def _joins(entry: StreamEntry, position: int) -> bool:
    """Tell whether a stream that begins with this entry goes on from our position without a gap."""
    stream_id, fields = entry
    return rev_of(stream_id) == position or fields.get(b"prev") == str(position).encode()


def _newest(publications: list[Publication]) -> int:
    return max((p.rev for p in publications), default=0)


@asynccontextmanager
async def _fresh(connect: Callable[[], Commands]) -> AsyncIterator[Commands]:
    client = connect()
    try:
        yield client
    finally:
        await client.aclose()


async def _answers(connect: Callable[[], Commands]) -> bool:
    """Tell whether a store answers."""
    async with _fresh(connect) as commands:
        try:
            await commands.ping()
        except STORE_ERRORS:
            return False
    return True
