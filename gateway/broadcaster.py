"""One publication to every cohort: encoded once per cohort kind, written in slices.

All receivers are fixed in the moment a publication arrives; whoever connects later is told by the state in
its welcome. Activations, cancels and closes are critical and go in order, as fast as the kernel takes them.
Prefetches wait for them at every slice, and those that carry their bundle are spread over their window.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from websockets.frames import Frame, Opcode

from fanout import tracing
from fanout.bus.publication import Prefetched, Publication, message_for, variant_for
from fanout.wire import Encoding, ToDevice, encode
from gateway import metrics
from gateway.cohorts import Cohort, Cohorts
from gateway.config import GatewayConfig
from gateway.connection import Connection
from gateway.pacing import spread

# A broadcast to fewer is over in a slice or two: how long it took says nothing of how long a large one takes.
_TELLING_SENDS: Final = 1_000


def frame(payload: bytes, encoding: Encoding) -> bytes:
    """Return one whole server frame: unmasked, no extensions, so that every device can share it."""
    opcode = Opcode.BINARY if encoding is Encoding.MSGPACK else Opcode.TEXT
    return Frame(opcode, payload).serialize(mask=False)


def message_frame(message: ToDevice, encoding: Encoding) -> bytes:
    """Return the frame of one message."""
    return frame(encode(message, encoding), encoding)


@dataclass(frozen=True, slots=True)
class _Batch:
    """The members of one cohort, as they were when the publication came, and what they get."""

    cohort: Cohort
    frame: bytes
    members: list[Connection]


class Broadcaster:
    """Sends publications to the connections of one worker.

    Args:
        cohorts: Who is connected.
        config: Slice and rate.
        now_ms: The store's clock.
        superseded: Tells whether a prefetch no longer stands, so that its pacing may end.
    """

    def __init__(
        self,
        cohorts: Cohorts,
        config: GatewayConfig,
        now_ms: Callable[[], int],
        superseded: Callable[[Prefetched], bool],
    ) -> None:
        self._cohorts = cohorts
        self._config = config
        self._now_ms = now_ms
        self._superseded = superseded
        self._critical: asyncio.Queue[tuple[Publication, list[_Batch]]] = asyncio.Queue()
        self._idle = asyncio.Event()  # set while nothing critical is waiting or being written
        self._idle.set()
        self._pacing: set[asyncio.Task[None]] = set()
        self.sent = 0  # frames, ever
        self.per_s = 0.0  # devices a second, in the newest broadcast that was large enough to tell

    def submit(self, publication: Publication) -> None:
        """Take a publication for everyone who is connected now."""
        batches = self._batches(publication)
        if isinstance(publication, Prefetched):
            task = asyncio.create_task(self._prefetch(publication, batches))
            self._pacing.add(task)
            task.add_done_callback(self._pacing.discard)
        else:
            self._idle.clear()
            self._critical.put_nowait((publication, batches))

    async def run(self) -> None:
        """Write critical publications, in order, until cancelled."""
        while True:
            publication, batches = await self._critical.get()
            started, sent_before = time.monotonic(), self.sent
            await self._write(batches)
            took_s, sent = time.monotonic() - started, self.sent - sent_before
            metrics.BROADCAST_SECONDS.observe(took_s)
            if sent >= _TELLING_SENDS:
                self.per_s = sent / max(took_s, 1e-6)
            self._complete(publication, batches, took_s, sent)
            if self._critical.empty():
                self._idle.set()

    def _batches(self, publication: Publication) -> list[_Batch]:
        frames: dict[tuple[Encoding, int | None], bytes | None] = {}
        batches: list[_Batch] = []
        for cohort in self._cohorts.listening(publication.topic):
            variants = getattr(publication, "variants", ())
            kind = (cohort.encoding, variant_for(variants, cohort.attrs_map))
            if kind not in frames:
                message = message_for(publication, kind[1])
                frames[kind] = None if message is None else message_frame(message, cohort.encoding)
            data = frames[kind]
            if data is not None:
                batches.append(_Batch(cohort, data, list(cohort.members)))
        return batches

    async def _write(self, batches: list[_Batch]) -> None:
        """Write to everyone, slice by slice; a slice takes in as many small cohorts as fit."""
        slice_sends, rate = self._config.slice_sends, self._config.sends_per_s_max
        left = slice_sends
        for batch in batches:
            start = 0
            while start < len(batch.members):
                self._write_slice(batch.frame, batch.members[start : start + left])
                start += left
                # What the last slice of this cohort did not use is the next one's.
                left = max(0, start - len(batch.members))
                if not left:
                    await asyncio.sleep(slice_sends / rate if rate else 0)
                    left = slice_sends

    def _write_slice(self, data: bytes, members: list[Connection]) -> int:
        sent = 0
        for connection in members:
            # A connection that is closing has left its cohort; one that is gone has no transport either.
            if connection.cohort is not None:
                connection.transport.write(data)  # type: ignore[union-attr]
                sent += 1
        self.sent += sent
        metrics.SENDS.inc(amount=sent)
        return sent

    async def _prefetch(self, publication: Prefetched, batches: list[_Batch]) -> None:
        """Spread a prefetch: over its window if it carries its bundle, else as fast as slices go."""
        inline = any(variant.bundle.inline is not None for variant in publication.variants)
        started = time.monotonic()
        ends_ms = publication.from_ms + publication.window_ms
        wait_s = max(0.0, (publication.from_ms - self._now_ms()) / 1000)
        await asyncio.sleep(wait_s)
        receivers = [(batch.frame, member) for batch in batches for member in batch.members]
        done = sent = 0
        while done < len(receivers) and not self._superseded(publication):
            await self._idle.wait()
            over_s = max(0.0, (ends_ms - self._now_ms()) / 1000) if inline else 0.0
            rest = receivers[done:]

            def one(index: int, rest: list[tuple[bytes, Connection]] = rest) -> None:
                nonlocal done, sent
                sent += self._write_slice(rest[index][0], [rest[index][1]])
                done += 1

            await spread(
                len(rest),
                over_s,
                one,
                slice_max=self._config.slice_sends,
                go_on=lambda: self._idle.is_set() and not self._superseded(publication),
            )
        self._complete(publication, batches, time.monotonic() - started, sent)

    def _complete(self, publication: Publication, batches: list[_Batch], took_s: float, sends: int) -> None:
        for batch in batches:
            batch.cohort.rev = max(batch.cohort.rev, publication.rev)
        if publication.trace:
            about: tracing.Attributes = {
                "fanout.campaign": publication.campaign,
                "fanout.rev": publication.rev,
                "fanout.cohorts": len(batches),
                "fanout.sends": sends,
            }
            tracing.record("broadcast", tracing.INTERNAL, publication.trace, took_s, about)
