"""A reader at work, with a record of what it told its owner, and a network that can fail around it."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Final

from redis.asyncio import Redis
from support.relay import Link, Relay
from support.waiting import PATIENCE_S, until

from fanout.bus.publication import Publication
from fanout.bus.reader import BusState, Reader
from fanout.connect import connect

# Short, so that failures are noticed soon; the laws hold for any.
PROBE_INTERVAL_S: Final = 0.1
# For the tests in which a store or a subscription falls silent: that is noticed after this long. A machine that is
# held up is as silent, so the others have the patience of tests.
SILENCE_S: Final = 2.0


class Follower:
    """A running reader.

    Args:
        url: Says where the store is, each time it is asked.
        worker: The reader's name.
        primary: Says where it may write, if that is elsewhere.
        silence_s: After how long the store or the subscription counts as silent.

    Attributes:
        seen: Every publication its owner was told, in that order.
        states: Every state it went through.
        connects: How many clients it has asked for.
    """

    def __init__(
        self,
        url: Callable[[], str],
        worker: str,
        primary: Callable[[], str] | None = None,
        silence_s: float = PATIENCE_S,
    ) -> None:
        self._url = url
        self._silence_s = silence_s
        self._waited = 0
        self.seen: list[Publication] = []
        self.states: list[BusState] = []
        self.connects = 0
        self.reader = Reader(
            self._connect,
            worker,
            self.seen.append,
            self.states.append,
            primary=None if primary is None else (lambda: connect(primary(), timeout_s=silence_s)),
            probe_interval_s=PROBE_INTERVAL_S,
            probe_timeout_s=silence_s,
        )

    def _connect(self) -> Redis:
        self.connects += 1
        return connect(self._url(), timeout_s=self._silence_s)

    @property
    def revs(self) -> list[int]:
        return [publication.rev for publication in self.seen]

    async def becomes(self, state: BusState) -> None:
        """Wait for a state: until it is well, or until it has been in trouble since we waited last, however short."""

        def come() -> bool:
            return self.reader.state is state or (state is not BusState.OK and state in self.states[self._waited :])

        await until(come, f"state {state}")
        self._waited = len(self.states)

    async def reaches(self, rev: int) -> None:
        """Wait until everything up to a revision has been read."""
        await until(lambda: self.reader.position == rev, f"position {rev}")


@asynccontextmanager
async def following(
    url: str | Callable[[], str],
    worker: str = "one",
    *,
    ok: bool = True,
    primary: Callable[[], str] | None = None,
    silence_s: float = PATIENCE_S,
) -> AsyncIterator[Follower]:
    """Run a reader, and see that nothing but its cancellation ends it."""
    follower = Follower((lambda: url) if isinstance(url, str) else url, worker, primary, silence_s)
    task = asyncio.create_task(follower.reader.run())
    try:
        if ok:
            await follower.becomes(BusState.OK)
        yield follower
    finally:
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task


class Wire(Relay):
    """A cable to the store, which can lose what is said to subscribers.

    Attributes:
        drops_after: Told what a client says; True drops every connection once that has arrived.
        deaf: True swallows everything the store says on connections that have subscribed, as a half-open
            connection does.
    """

    def __init__(self, store: Path) -> None:
        super().__init__(f"unix://{store}")
        self.drops_after: Callable[[bytes], bool] = lambda said: False
        self.deaf = False
        self._subscribed: set[Link] = set()
        self._muted: set[Link] = set()

    async def __aenter__(self) -> Wire:
        await self.restore()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.end()

    def mute_present(self) -> None:
        """Let what is connected now stay half-open for good; new connections are sound."""
        self._muted |= self.links

    def arrives_there(self, link: Link, said: bytes) -> bool:
        if b"SUBSCRIBE" in said:
            self._subscribed.add(link)
        if self.drops_after(said):
            # In its turn, which is after this has been passed on.
            asyncio.get_running_loop().call_soon(self.drop)
        return True

    def arrives_back(self, link: Link, said: bytes) -> bool:
        return link not in self._subscribed or not (self.deaf or link in self._muted)
