"""A store in simulated time: what publish.lua does to the log, and the commands readers and publishers use.

`tests/chaos/test_model.py` holds it against the real script on a real server. Nothing in it waits, so the real
`Reader` and `Publisher` run on it without an event loop; see `at_once`.
"""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from dataclasses import dataclass, field
from typing import Any, TypeVar

import msgspec
from redis.exceptions import ConnectionError

from fanout import keyspace
from fanout.bus.presence import WorkerRecord

T = TypeVar("T")
Answer = list[bytes]
Entry = tuple[bytes, dict[bytes, bytes]]


def at_once(work: Coroutine[Any, Any, T]) -> T:
    """Run a coroutine that has nothing to wait for."""
    try:
        work.send(None)
    except StopIteration as done:
        value: T = done.value
        return value
    work.close()
    raise AssertionError("it waits")


def stream_entry(rev: int, fields: dict[bytes, bytes]) -> Entry:
    """Return an entry of the log as XRANGE does."""
    return b"%d-0" % rev, fields


@dataclass
class Data:
    """What the store holds; copied, it is a replica that hears no more."""

    log: list[tuple[int, dict[bytes, bytes]]] = field(default_factory=list)  # revision, fields
    retained: dict[bytes, bytes] = field(default_factory=dict)
    outcomes: dict[str, str] = field(default_factory=dict)

    def copy(self) -> Data:
        return Data(list(self.log), dict(self.retained), dict(self.outcomes))

    @property
    def head(self) -> int:
        return self.log[-1][0] if self.log else 0


class SimulatedStore:
    """One store.

    Args:
        now_ms: Its clock.

    Attributes:
        data: What it holds.
        past: What it held after each entry since a replica last had everything; a failover goes back to one.
        ring: Told each entry, as the doorbell's subscribers are.
        vouch: Called when a publisher waits for safety; True if a replica has everything by now.
        records: Presence, for publishers that ask gateways instead.
    """

    def __init__(self, now_ms: Callable[[], int]) -> None:
        self.now_ms = now_ms
        self.data = Data()
        self.past: list[Data] = [Data()]
        self.ring: Callable[[bytes], None] = lambda entry: None
        self.vouch: Callable[[], bool] = lambda: True
        self.records: Callable[[], list[WorkerRecord]] = list

    def publish(self, keys: list[str], args: list[Any]) -> Answer:
        """Do what publish.lua does, without campaign records, deadlines and the audit chain: the control plane's."""
        doorbell, key, digest, campaign, body, _, entries_max, *rest = args
        version, _, _, lost, deadline, _, audited, *listed = rest
        assert doorbell == keyspace.DOORBELL
        assert not version
        assert not deadline
        assert not audited
        outcome = keys[2]
        data = self.data
        if outcome in data.outcomes:
            rev, before, first = data.outcomes[outcome].split(" ")
            return [b"repeated", rev.encode(), before.encode(), first.encode()]
        prev = data.head
        if lost:
            for name in data.retained:
                owner, *words = name.decode().split(" ")
                if owner == campaign and int(words[-1]) >= int(lost) and name.decode() not in listed:
                    return [b"newer", words[0].encode()]
        new = max(prev + 1, int(lost) if lost else self.now_ms())
        entry = f"{new} {prev} {key} ".encode() + body
        data.log.append((new, {b"prev": str(prev).encode(), b"key": key.encode(), b"body": body}))
        assert len(data.log) <= entries_max
        for name in [] if lost else listed:
            data.retained.pop(name.encode(), None)
        renamed = f" {lost}" if lost and int(lost) != new else ""
        data.retained[f"{campaign} {new}{renamed}".encode()] = entry
        data.outcomes[outcome] = f"{new} {prev} {digest}"
        self.past.append(data.copy())
        self.ring(entry)
        return [b"done", str(new).encode(), str(prev).encode(), digest.encode()]

    def time(self) -> tuple[int, int]:
        """Return what TIME answers."""
        now_ms = self.now_ms()
        return now_ms // 1000, now_ms % 1000 * 1000

    def replicate(self) -> None:
        """Let the replica have everything up to here."""
        self.past = [self.data.copy()]

    def fail_over(self, entries: int) -> None:
        """Go on with what a replica had that lagged by so many entries, or by as many as it can."""
        self.data = self.past[max(0, len(self.past) - 1 - entries)].copy()
        self.replicate()

    def trim(self, left: int) -> None:
        """Drop the log's oldest entries."""
        self.data.log = self.data.log[max(0, len(self.data.log) - left) :]
        self.replicate()

    def flush(self) -> None:
        """Forget everything."""
        self.data = Data()
        self.replicate()


class _Pipeline:
    """Commands that are sent together: a reader's for a reload, a publisher's for its history."""

    def __init__(self, store: SimulatedStore, reach: Callable[[], Data]) -> None:
        self._store = store
        self._reach = reach
        self._asked: list[Callable[[Data], Any]] = []

    async def __aenter__(self) -> _Pipeline:
        return self

    async def __aexit__(self, *_: object) -> None:
        """Nothing to leave."""

    def _ask(self, answer: Callable[[Data], Any]) -> _Pipeline:
        self._asked.append(answer)
        return self

    def time(self) -> _Pipeline:
        return self._ask(lambda data: self._store.time())

    def xrevrange(self, name: str, *, count: int) -> _Pipeline:
        return self._ask(lambda data: [stream_entry(*one) for one in data.log[: -count - 1 : -1]])

    def hkeys(self, name: str) -> _Pipeline:
        return self._ask(lambda data: list(data.retained))

    def hgetall(self, name: str) -> _Pipeline:
        return self._ask(lambda data: dict(data.retained))

    async def execute(self) -> list[Any]:
        data = self._reach()
        return [answer(data) for answer in self._asked]


class Client:
    """A client's connection.

    Attributes:
        patience: Commands until the connection breaks; None: it holds.
    """

    def __init__(self, store: SimulatedStore) -> None:
        self._store = store
        self._said = ""  # what was sent on the raw connection
        self.patience: int | None = None
        self.connection_pool = None  # of one server, not of Sentinels

    def _reach(self) -> Data:
        if self.patience is not None:
            self.patience -= 1
            if self.patience < 0:
                raise ConnectionError("the simulated connection is lost")
        return self._store.data

    # --- What readers say.

    async def xrange(self, name: str, *, min: str, count: int) -> list[Entry]:
        low = int(min.split("-")[0])
        return [stream_entry(rev, fields) for rev, fields in self._reach().log if rev >= low][:count]

    def pipeline(self, *, transaction: bool) -> _Pipeline:
        return _Pipeline(self._store, self._reach)

    # --- What publishers say.

    def register_script(self, text: str) -> Callable[..., Coroutine[Any, Any, Answer]]:
        assert "XADD" in text

        async def publish(*, keys: list[str], args: list[Any], client: object = None) -> Answer:
            self._reach()
            return self._store.publish(keys, args)

        return publish

    async def time(self) -> tuple[int, int]:
        self._reach()
        return self._store.time()

    async def hmget(self, name: str, names: list[bytes]) -> list[bytes | None]:
        return [self._reach().retained.get(one) for one in names]

    async def zrange(self, name: str, start: int, end: int) -> list[bytes]:
        self._reach()
        return [record.worker.encode() for record in self._store.records()]

    async def mget(self, names: list[str]) -> list[bytes]:
        self._reach()
        return [msgspec.msgpack.encode(record) for record in self._store.records()]

    def client(self) -> Client:
        return self

    @property
    def connection(self) -> Client:
        return self

    async def aclose(self) -> None:
        """Nothing to close."""

    async def send_command(self, *words: str | int) -> None:
        self._said = str(words[0])

    async def read_response(self, timeout: float = 0) -> list[Any]:
        self._reach()
        if self._said == "ROLE":
            return [b"master", 0, []]
        return [int(self._said == "WAITAOF" and self._store.vouch()), 0]
