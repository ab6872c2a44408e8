"""API keys, each with a role. Only hashes are kept: a key is shown once, when it is made.

A key is 32 random bytes, so one plain SHA-256 is right: there is no dictionary to slow an attacker down in.
"""

from __future__ import annotations

import hashlib
import hmac
import re
import secrets
import time
from typing import Any, Final

import msgspec
from msgspec import Struct
from redis.asyncio import Redis
from redis.exceptions import NoPermissionError, WatchError

from fanout import keyspace
from fanout.connect import store_errors
from fanout.errors import InvalidInput, NotFound, Refused
from fanout.roles import Role

# Lets secret scanners recognise a key that leaked into a repository.
PREFIX: Final = "fanout_"
KEY_CHARS_MIN: Final = 32
KEY_CHARS_MAX: Final = 128
# Every request compares its key with all of them: 256 comparisons are some 50 µs.
KEYS_MAX: Final = 256
# As campaigns are named, but without the colon: the name is a part of keys in the store.
NAME: Final = re.compile(r"[a-z0-9][a-z0-9_.-]{0,63}")
_TRIES: Final = 5


class ApiKey(Struct, frozen=True):
    """Who a key belongs to; not the key itself."""

    name: str
    role: Role
    created_ms: int = 0


_encoder: Final = msgspec.msgpack.Encoder()
_decoder: Final = msgspec.msgpack.Decoder(ApiKey)


def _hash(key: str) -> bytes:
    return hashlib.sha256(key.encode()).hexdigest().encode()


class KeyStore:
    """Creates, finds, lists and revokes API keys.

    Args:
        redis: Client of the primary.
    """

    def __init__(self, redis: Redis) -> None:
        # Any: the client's types say bytes or str, and ours always answers in bytes.
        self._redis: Any = redis

    async def create(self, name: str, role: Role, *, key: str | None = None) -> str:
        """Make a key, and return it: this is the only time it can be read.

        Args:
            name: Its owner, unique; it is written beside what the owner does.
            role: What it may do.
            key: A secret from the operator's own vault instead of a fresh one. Creating the same name, role
                and secret again changes nothing, so that every start of a process may do it.
        Raises:
            InvalidInput: A bad name, or a secret too short or too long.
            Refused: The name is taken, there are too many keys, or this login to the store may not write keys.
            StoreUnavailable: The store did not answer.
        """
        if not NAME.fullmatch(name):
            raise InvalidInput(
                f"key name is {name[:80]!r}; allowed are 1 to 64 characters of a-z 0-9 _ . - , "
                "starting with a letter or digit"
            )
        given = key is not None
        key = key if key is not None else PREFIX + secrets.token_urlsafe(32)
        if not KEY_CHARS_MIN <= len(key) <= KEY_CHARS_MAX or not key.isascii() or not key.isprintable():
            raise InvalidInput(
                f"the key has {len(key)} characters; "
                f"send {KEY_CHARS_MIN} to {KEY_CHARS_MAX} printable ASCII characters, made at random"
            )
        entry = ApiKey(name, role, int(time.time() * 1000))
        # Reading comes first, for a process that may only read keys passes its own at every start.
        if given and _same(await self.find(key), entry):
            return key
        try:
            with store_errors():
                await self._add(entry, _hash(key), given)
        except NoPermissionError as exc:
            raise Refused(
                f"this login to the store may not write API keys: {exc}; make the key with `fanout key create`, "
                "as a login that may"
            ) from exc
        return key

    async def _add(self, entry: ApiKey, hashed: bytes, given: bool) -> None:
        async with self._redis.pipeline(transaction=True) as pipe:
            for _ in range(_TRIES):
                await pipe.watch(keyspace.API_KEYS)
                found = {h: _decoder.decode(doc) for h, doc in (await pipe.hgetall(keyspace.API_KEYS)).items()}
                same = found.get(hashed)
                if given and _same(same, entry):
                    return
                _check_room(entry, same, list(found.values()))
                pipe.multi()
                pipe.hset(keyspace.API_KEYS, hashed.decode(), _encoder.encode(entry))
                try:
                    await pipe.execute()
                    return
                except WatchError:
                    continue
        raise Refused("other keys are being made at the same time; try again")

    async def find(self, key: str) -> ApiKey | None:
        """Return who this key belongs to, None if nobody. Raises StoreUnavailable.

        The time it takes does not depend on how much of any stored hash matches.
        """
        if not KEY_CHARS_MIN <= len(key) <= KEY_CHARS_MAX or not key.isascii():
            return None
        hashed = _hash(key)
        with store_errors():
            entries = await self._redis.hgetall(keyspace.API_KEYS)
        found = None
        for stored, doc in entries.items():
            if hmac.compare_digest(stored, hashed):
                found = doc
        return None if found is None else _decoder.decode(found)

    async def list(self) -> list[ApiKey]:
        """Return every key's owner and role, by name. Raises StoreUnavailable."""
        with store_errors():
            docs = await self._redis.hvals(keyspace.API_KEYS)
        return sorted((_decoder.decode(doc) for doc in docs), key=lambda entry: entry.name)

    async def revoke(self, name: str) -> None:
        """End a key at once.

        Raises:
            NotFound: No key has this name.
            StoreUnavailable: The store did not answer.
        """
        with store_errors():
            entries = await self._redis.hgetall(keyspace.API_KEYS)
            for hashed, doc in entries.items():
                if _decoder.decode(doc).name == name:
                    await self._redis.hdel(keyspace.API_KEYS, hashed.decode())
                    return
        raise NotFound(f"there is no API key named {name[:80]!r}")


def _same(found: ApiKey | None, entry: ApiKey) -> bool:
    return found is not None and (found.name, found.role) == (entry.name, entry.role)


def _check_room(entry: ApiKey, same: ApiKey | None, others: list[ApiKey]) -> None:
    if same is not None:
        raise Refused(f"this key belongs to {same.name!r} already, as {same.role}; revoke that first")
    if any(other.name == entry.name for other in others):
        raise Refused(f"an API key named {entry.name!r} exists; revoke it first, or choose another name")
    if len(others) >= KEYS_MAX:
        raise Refused(f"there are {len(others)} API keys, the limit is {KEYS_MAX}; revoke one first")
