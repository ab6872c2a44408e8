"""A reader at work, with a record of what it told its owner, and a network that can fail around it."""

from __future__ import annotations

import asyncio
import contextlib
import tempfile
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Final

from redis.asyncio import Redis
from support.waiting import until

from fanout.bus.publication import Publication
from fanout.bus.reader import BusState, Reader
from fanout.connect import connect

# Short, so that failures are noticed soon; the laws hold for any.
PROBE_INTERVAL_S: Final = 0.1
PROBE_TIMEOUT_S: Final = 0.5


class Follower:
    """A running reader.

    Args:
        url: Says where the store is, each time it is asked.
        worker: The reader's name.

    Attributes:
        seen: Every publication its owner was told, in that order.
        states: Every state it went through.
        connects: How many clients it has asked for.
    """

    def __init__(self, url: Callable[[], str], worker: str) -> None:
        self._url = url
        self.seen: list[Publication] = []
        self.states: list[BusState] = []
        self.connects = 0
        self.reader = Reader(
            self._connect,
            worker,
            self.seen.append,
            self.states.append,
            probe_interval_s=PROBE_INTERVAL_S,
            probe_timeout_s=PROBE_TIMEOUT_S,
        )

    def _connect(self) -> Redis:
        self.connects += 1
        return connect(self._url(), timeout_s=PROBE_TIMEOUT_S)

    @property
    def revs(self) -> list[int]:
        return [publication.rev for publication in self.seen]

    async def becomes(self, state: BusState) -> None:
        """Wait for a state."""
        await until(lambda: self.reader.state is state, f"state {state}")

    async def reaches(self, rev: int) -> None:
        """Wait until everything up to a revision has been read."""
        await until(lambda: self.reader.position == rev, f"position {rev}")


@asynccontextmanager
async def following(url: str | Callable[[], str], worker: str = "one", *, ok: bool = True) -> AsyncIterator[Follower]:
    """Run a reader, and see that nothing but its cancellation ends it."""
    follower = Follower((lambda: url) if isinstance(url, str) else url, worker)
    task = asyncio.create_task(follower.reader.run())
    try:
        if ok:
            await follower.becomes(BusState.OK)
        yield follower
    finally:
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task


class Wire:
    """A cable to the store: it can be cut, and it can lose what is said to subscribers.

    Attributes:
        cut: True refuses every new connection.
        drops_after: Told what a client says; True drops every connection once that has arrived.
        deaf: True swallows everything the store says on connections that have subscribed, as a half-open
            connection does.
        swallowed: How many bytes were swallowed.
        url: Of this end.
    """

    def __init__(self, store: Path) -> None:
        self._store = store
        self._tasks: set[asyncio.Task[None]] = set()
        self._writers: set[asyncio.StreamWriter] = set()
        self._scratch = tempfile.TemporaryDirectory(prefix="fanout-wire-")
        self._path = Path(self._scratch.name) / "s"
        self.cut = False
        self.drops_after: Callable[[bytes], bool] = lambda said: False
        self.deaf = False
        self.swallowed = 0
        self._muted: set[asyncio.StreamWriter] = set()
        self.url = f"unix://{self._path}"

    async def __aenter__(self) -> Wire:
        self._server = await asyncio.start_unix_server(self._carry, path=self._path)
        return self

    async def __aexit__(self, *_: object) -> None:
        self._server.close()
        self.drop()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        self._scratch.cleanup()

    def mute_present(self) -> None:
        """Let what is connected now stay half-open for good; new connections are sound."""
        self._muted |= self._writers

    def drop(self) -> None:
        """End every connection."""
        for writer in self._writers:
            writer.close()

    async def _carry(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        self._writers.add(writer)
        try:
            if not self.cut:
                await self._exchange(reader, writer)
        except OSError:
            pass
        finally:
            writer.close()
            self._writers.discard(writer)
            self._tasks.discard(task)

    async def _exchange(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        from_store, to_store = await asyncio.open_unix_connection(self._store)
        self._writers.add(to_store)
        subscribed = False

        async def outwards() -> None:
            nonlocal subscribed
            while data := await reader.read(65536):
                subscribed = subscribed or b"SUBSCRIBE" in data
                to_store.write(data)
                if self.drops_after(data):
                    await to_store.drain()
                    self.drop()
            to_store.close()

        async def inwards() -> None:
            while data := await from_store.read(65536):
                if subscribed and (self.deaf or writer in self._muted):
                    self.swallowed += len(data)
                else:
                    writer.write(data)
            writer.close()

        try:
            await asyncio.gather(outwards(), inwards())
        finally:
            to_store.close()
            self._writers.discard(to_store)
