"""Publishing: one Lua call appends and rings the doorbell, then something must vouch for it.

Owns the answer "accepted". Knows nothing of campaigns' phases: whoever publishes hands over the record to be
written in the same step.
"""

from __future__ import annotations

import asyncio
import enum
import hashlib
import random
import time
from dataclasses import dataclass
from importlib.resources import files
from typing import Any, Final

import msgspec
from redis.exceptions import ConnectionError, RedisError, ResponseError, TimeoutError

from fanout import keyspace, limits, tracing
from fanout.bus import presence
from fanout.bus.entry import from_doorbell
from fanout.bus.publication import NotAPublication, Publication, pack
from fanout.bus.retained import Lost, needed
from fanout.bus.tasks import cancelled
from fanout.connect import Commands, has_sentinels, store_errors
from fanout.errors import ChainMoved, OutcomeUnknown, TooLate, VersionConflict

_POLL_S: Final = 0.05
_SCRIPT: Final = files("fanout.bus").joinpath("publish.lua").read_text()


@dataclass(frozen=True, slots=True)
class Receipt:
    """What the log did with a publication.

    Attributes:
        rev: Its revision.
        prev: The revision before it in the log.
        digest: What was asked under this key the first time, "" if only a gateway remembered the entry.
        repeated: True if the key was known, and nothing was published again.
    """

    rev: int
    prev: int
    digest: str
    repeated: bool


@dataclass(frozen=True, slots=True)
class Record:
    """The campaign record that changes in the same step.

    Attributes:
        version: The version the change is based on.
        doc: The new record, msgpack.
        rev_field: Field of the record's hash that takes the new revision, "" for none.
        deadline_ms: The change rests on an instant that has not come: refuse it from then on; None for none.
        audit_after: Hash of the audit chain's last entry as it was read.
        audit_line: The entry that tells of the change, sealed after that one.
    """

    version: int
    doc: bytes
    rev_field: str = ""
    deadline_ms: int | None = None
    audit_after: str = ""
    audit_line: bytes = b""


def receipt_of(outcome: bytes | None) -> Receipt | None:
    """Return what was published under the key whose outcome the store holds, None if nothing was."""
    if outcome is None:
        return None
    rev, prev, digest = outcome.decode().split(" ")
    return Receipt(int(rev), int(prev), digest, repeated=True)


def unix_ms(seconds: int | str, micros: int | str) -> int:
    """Return the store's answer to TIME as Unix ms."""
    return int(seconds) * 1000 + int(micros) // 1000


class PutBack(enum.Enum):
    """What became of an entry that was to be put back, in the script's words."""

    DONE = b"done"
    KNOWN = b"repeated"  # somebody else has done it, or it was never lost
    NEWER = b"newer"  # something newer may be in its way: look again


class Publisher:
    """Puts publications into the log.

    Args:
        redis: Client of the primary.
        safe_timeout_s: How long to wait for someone to vouch for a publication, seconds.
    """

    def __init__(self, redis: Commands, *, safe_timeout_s: float = limits.SAFE_TIMEOUT_S) -> None:
        self._redis = redis
        self._script = redis.register_script(_SCRIPT)
        self._safe_timeout_s = safe_timeout_s

    async def now_ms(self) -> int:
        """Return the store's clock, Unix ms. Raises StoreUnavailable."""
        with store_errors():
            return unix_ms(*await self._redis.time())

    async def publish(self, publication: Publication, *, digest: str = "", record: Record | None = None) -> Receipt:
        """Append, retain and ring, once for this publication's key.

        Args:
            publication: With its idempotency key; revision and predecessor are the log's to give.
            digest: What is being asked, so that another request under the same key can be told.
            record: A campaign record to write in the same step.
        Returns:
            The receipt, once a replica, the disk or a gateway has vouched for the entry.
        Raises:
            StoreUnavailable: The store did not answer; nothing was changed.
            VersionConflict: The record changed since it was read; nothing was changed.
            ChainMoved: Something else was written into the audit chain meanwhile; nothing was changed.
            TooLate: The record's deadline has passed; nothing was changed.
            OutcomeUnknown: Sent, but nothing vouched for it in time; retry with the same key.
        """
        assert publication.key, "a publication needs an idempotency key"
        digest = digest or hashlib.sha256(pack(publication)).hexdigest()
        about = {"fanout.campaign": publication.campaign, "messaging.system": "redis"}
        with tracing.span("publish", tracing.PRODUCER, about) as span:
            if span.traceparent:
                publication = msgspec.structs.replace(publication, trace=span.traceparent)
            receipt = await self._publish(publication, digest, record)
            span.set({"fanout.rev": receipt.rev, "fanout.repeated": receipt.repeated})
        return receipt

    async def _publish(self, publication: Publication, digest: str, record: Record | None) -> Receipt:
        connection = self._redis.client()
        try:
            with store_errors(), tracing.span("append"):
                history = await self._history(publication)
                try:
                    receipt = await self._run(connection, publication, digest, record, history)
                except (ConnectionError, TimeoutError, OSError) as exc:
                    raise OutcomeUnknown(publication.key, f"the store fell silent: {exc}") from exc
            try:
                with tracing.span("vouch"):
                    safe = await self._vouched(connection, receipt)
            except (RedisError, OSError) as exc:
                raise OutcomeUnknown(publication.key, f"the store fell silent: {exc}") from exc
        finally:
            await connection.aclose()
        if not safe:
            raise OutcomeUnknown(
                publication.key,
                f"revision {receipt.rev} is in the log, but within {self._safe_timeout_s:g} s no replica, "
                "no synced file and no gateway vouched for it",
            )
        return receipt

    async def put_back(self, lost: Lost) -> PutBack:
        """Restore an entry the store accepted and then lost, unless something newer may be in its way by now.

        Under the entry's own key: of several gateways that saw it, one restores it. What was asked under that
        key is not in the entry, so its digest is left open.

        Raises:
            StoreUnavailable: Perhaps restored, perhaps not; call again.
        """
        with store_errors():
            answer: list[bytes] = await self._script(
                keys=_keys(lost.publication, None),
                args=_args(lost.publication, "", None, lost.beside, lost_rev=str(lost.publication.rev)),
            )
        return PutBack(answer[0])

    async def _history(self, publication: Publication) -> list[str]:
        """Return the retained fields that this publication turns into history."""
        with store_errors():
            async with self._redis.pipeline(transaction=False) as pipe:
                fields, now = await pipe.hkeys(keyspace.RETAINED).time().execute()
            owned = await retained_fields(self._redis, publication.campaign, fields)
        now_ms = unix_ms(*now)
        if not owned:
            return []
        # The revision is not known yet; any newer one gives the same answer.
        newest = max(p.rev for p in owned.values())
        standing = needed(
            [*owned.values(), msgspec.structs.replace(publication, rev=max(now_ms, newest + 1))], now_ms
        )
        kept = {p.rev for p in standing}
        return [name for name, p in owned.items() if p.rev not in kept]

    async def _run(
        self,
        connection: Commands,
        publication: Publication,
        digest: str,
        record: Record | None,
        history: list[str],
    ) -> Receipt:
        answer: list[Any] = await self._script(
            keys=_keys(publication, record), args=_args(publication, digest, record, history), client=connection
        )
        what = answer[0].decode()
        if what == "conflict":
            assert record is not None
            raise VersionConflict(record.version, int(answer[1]))
        if what == "late":
            assert record is not None
            raise TooLate(int(answer[1]), record.deadline_ms or 0)
        if what == "moved":
            raise ChainMoved
        assert what in ("done", "repeated"), what
        return Receipt(int(answer[1]), int(answer[2]), answer[3].decode(), repeated=what == "repeated")

    async def _vouched(self, connection: Commands, receipt: Receipt) -> bool:
        """Wait until a replica has the entry, or the file is synced, or a gateway has applied it.

        Both are asked at once, and the first yes counts, whatever becomes of the other: neither a replica that lags
        nor a failing question may keep what is safe from being accepted.
        """
        asking = {
            asyncio.create_task(self._store_vouches(connection, receipt)),
            asyncio.create_task(self._gateway_vouches(receipt)),
        }
        failure: BaseException | None = None
        try:
            while asking:
                answered, asking = await asyncio.wait(asking, return_when=asyncio.FIRST_COMPLETED)
                for task in answered:
                    failure = task.exception() or failure
                    if task.exception() is None and task.result():
                        return True
        finally:
            # WAIT cannot be called off: its connection is closed with it.
            for task in asking:
                task.cancel()
            await asyncio.gather(*asking, return_exceptions=True)
        if failure is not None:
            raise failure
        return False

    async def _store_vouches(self, connection: Commands, receipt: Receipt) -> bool:
        """Ask the store for a replica or for its file, which counts only where there is nobody to fail over to."""
        timeout_ms = int(self._safe_timeout_s * 1000)
        raw = connection.connection
        assert raw is not None
        try:
            # What has become a replica meanwhile names its primary's port in this place, and refuses to WAIT.
            _, _, replicas, *_ = await _asked(raw, "ROLE")
            if replicas:
                safe = await self._blocking(raw, receipt, "WAIT", 1, timeout_ms)
            elif has_sentinels(self._redis):
                safe = 0  # it may have been deposed, and its file with it: somebody else has to have the entry
            else:
                safe, _ = await self._blocking(raw, receipt, "WAITAOF", 1, 0, timeout_ms)
        except ResponseError:
            return False  # an older server, or one that keeps no file, or is no primary any more
        return int(safe) >= 1

    async def _gateway_vouches(self, receipt: Receipt) -> bool:
        """Ask the gateways until one has applied the entry, or time is up."""
        deadline = time.monotonic() + self._safe_timeout_s
        while not cancelled() and time.monotonic() < deadline:
            # First of all, for the store mostly answers within a millisecond, and then they need not be asked.
            await asyncio.sleep(_POLL_S)
            if await self._applied(receipt):
                return True
        return False

    async def _applied(self, receipt: Receipt) -> bool:
        return any(worker.bus_rev >= receipt.rev for worker in await presence.read_all(self._redis))

    async def _blocking(self, raw: Any, receipt: Receipt, *command: str | int) -> Any:
        """Run WAIT or WAITAOF, which may block longer than the socket's usual patience.

        They vouch for this connection's own writes only. So this goes through the raw connection, which
        fails where a client would reconnect and be told "all zero of your writes are safe"; and after a
        repeated key, which wrote nothing, it writes a fence first.
        """
        if receipt.repeated:
            await _asked(raw, "SET", keyspace.FENCE, receipt.rev)
        await raw.send_command(*command)
        answer = await raw.read_response(timeout=self._safe_timeout_s + 1)
        if answer is None:
            # The answer may still come, and nobody else may find it on this connection.
            await raw.disconnect(nowait=True)
            raise TimeoutError(f"no answer to {command[0]}")
        return answer


async def _asked(raw: Any, *command: str | int) -> Any:
    """Return the answer to a command on this very connection; fails where a client would reconnect and ask again."""
    await raw.send_command(*command)
    return await raw.read_response()


async def retained_fields(redis: Commands, campaign: str, fields: list[bytes]) -> dict[str, Publication]:
    """Return what the store retains for one campaign, by the field's name, given the names of all fields."""
    names = [name for name in fields if name.split(b" ")[0] == campaign.encode()]
    values = await redis.hmget(keyspace.RETAINED, names) if names else []
    found: dict[str, Publication] = {}
    for name, value in zip(names, values, strict=True):
        try:
            if value is not None:
                found[name.decode()] = from_doorbell(value)
        except NotAPublication:
            continue  # a newer version's kind: not ours to judge, so it stays
    return found


def _keys(publication: Publication, record: Record | None) -> list[str]:
    return [
        keyspace.LOG,
        keyspace.RETAINED,
        keyspace.outcome(publication.key),
        keyspace.campaign(publication.campaign),
        # Of what is put back nothing is noted: a gateway's login need not open the chain.
        *([keyspace.AUDIT] if record is not None and record.audit_line else []),
    ]


def _args(
    publication: Publication, digest: str, record: Record | None, fields: list[str], lost_rev: str = ""
) -> list[str | bytes | int]:
    # Outcomes expire with jitter, like everything that expires here.
    ttl_s = int(limits.IDEMPOTENCY_TTL_S * (1 + random.random() / 10))
    return [
        keyspace.DOORBELL,
        publication.key,
        digest,
        publication.campaign,
        pack(publication),
        ttl_s,
        limits.LOG_ENTRIES_MAX,
        "" if record is None else str(record.version),
        b"" if record is None else record.doc,
        "" if record is None else record.rev_field,
        lost_rev,
        "" if record is None or record.deadline_ms is None else str(record.deadline_ms),
        "" if record is None else record.audit_after,
        b"" if record is None else record.audit_line,
        *fields,
    ]
