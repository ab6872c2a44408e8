"""People who sign in: their names, roles and password hashes.

Passwords are hashed with argon2id, with the library's own parameters, so that one guess costs an attacker with the
store's dump as much as one sign-in costs us. Knows nothing of sessions.
"""

from __future__ import annotations

import asyncio
import re
import secrets
import time
from typing import Any, Final

import msgspec
from argon2 import PasswordHasher
from argon2.exceptions import InvalidHashError, VerificationError
from msgspec import Struct
from redis.asyncio import Redis
from redis.exceptions import NoPermissionError

from fanout import keyspace
from fanout.connect import store_errors
from fanout.errors import InvalidInput, NotFound, Refused
from fanout.roles import Role

# An address fits, so that people sign in with what they know.
NAME: Final = re.compile(r"[a-z0-9][a-z0-9_.+@-]{0,63}")
# Length is what makes a password strong (NIST SP 800-63B, 3.1.1.2); the limit bounds what a guess makes us hash.
PASSWORD_CHARS_MIN: Final = 12
PASSWORD_CHARS_MAX: Final = 256
ACCOUNTS_MAX: Final = 10_000
# One hash takes 64 MiB for 50 ms: two at a time are as many as a small replica can bear.
_HASHES_AT_ONCE: Final = 2


class Account(Struct, frozen=True):
    """Somebody who may sign in.

    Attributes:
        name: What they sign in with; written beside what they do.
        role: What they may do.
        password: Its hash.
        created_ms: Unix ms.
        stamp: Made anew with every password. A session remembers it, and ends when it is another.
    """

    name: str
    role: Role
    password: str
    created_ms: int = 0
    stamp: str = ""


_encoder: Final = msgspec.msgpack.Encoder()
_decoder: Final = msgspec.msgpack.Decoder(Account)

_CREATE: Final = """
if redis.call('HLEN', KEYS[1]) >= tonumber(ARGV[3]) then return -1 end
return redis.call('HSETNX', KEYS[1], ARGV[1], ARGV[2])
"""


# Not over what somebody else has changed, or an account that has just been removed would be there again.
_REPLACE: Final = """
if redis.call('HGET', KEYS[1], ARGV[1]) ~= ARGV[2] then return 0 end
redis.call('HSET', KEYS[1], ARGV[1], ARGV[3])
return 1
"""
_TRIES: Final = 5


class AccountStore:
    """Creates, checks, changes and removes accounts.

    Args:
        redis: Client of the primary.
        hasher: What makes and checks hashes.
    """

    def __init__(self, redis: Redis, hasher: PasswordHasher | None = None) -> None:
        # Any: the client's types say bytes or str, and ours always answers in bytes.
        self._redis: Any = redis
        self._create = redis.register_script(_CREATE)
        self._replace = redis.register_script(_REPLACE)
        self._hasher = hasher or PasswordHasher()
        self._hashing = asyncio.Semaphore(_HASHES_AT_ONCE)
        self._nobody: str | None = None

    async def create(self, name: str, role: Role, password: str) -> Account:
        """Make an account.

        Raises:
            InvalidInput: A bad name, or a password too short or too long.
            Refused: The name is taken, or there are too many accounts.
            StoreUnavailable: The store did not answer.
        """
        check_name(name)
        account = Account(name, role, await self._hash(password), int(time.time() * 1000), _new_stamp())
        with store_errors():
            made = await self._create(keys=[keyspace.ACCOUNTS], args=[name, _encoder.encode(account), ACCOUNTS_MAX])
        if int(made) < 0:
            raise Refused(f"there are {ACCOUNTS_MAX} accounts, which is the limit; remove one first")
        if int(made) == 0:
            raise Refused(f"an account named {name!r} exists; choose another name, or change that one")
        return account

    async def check(self, name: str, password: str) -> Account | None:
        """Return the account if this is its password, None otherwise. Raises StoreUnavailable.

        An unknown name takes as long as a wrong password.
        """
        if len(password) > PASSWORD_CHARS_MAX:
            return None
        account = await self.find(name) if NAME.fullmatch(name) else None
        if self._nobody is None:
            self._nobody = await self._hash("a password that nobody has")
        good = await self._verify(account.password if account else self._nobody, password)
        if account is None or not good:
            return None
        if self._hasher.check_needs_rehash(account.password):
            await self._rehash(account, password)
        return account

    async def _rehash(self, account: Account, password: str) -> None:
        """Keep the same password as it is hashed today, if it is still the same and this login may write it."""
        new = msgspec.structs.replace(account, password=await self._hash(password))
        try:
            with store_errors():
                await self._replace(
                    keys=[keyspace.ACCOUNTS], args=[account.name, _encoder.encode(account), _encoder.encode(new)]
                )
        except NoPermissionError:
            pass

    async def find(self, name: str) -> Account | None:
        """Return the account of this name, None if there is none. Raises StoreUnavailable."""
        with store_errors():
            doc = await self._redis.hget(keyspace.ACCOUNTS, name)
        return None if doc is None else _decoder.decode(doc)

    async def list(self) -> list[Account]:
        """Return every account, by name. Raises StoreUnavailable."""
        with store_errors():
            docs = await self._redis.hvals(keyspace.ACCOUNTS)
        return sorted((_decoder.decode(doc) for doc in docs), key=lambda account: account.name)

    async def set_password(self, name: str, password: str) -> None:
        """Change a password, and end the account's sessions. Raises InvalidInput, NotFound, StoreUnavailable."""
        await self._change(name, password=await self._hash(password), stamp=_new_stamp())

    async def set_role(self, name: str, role: Role) -> None:
        """Change a role. Raises NotFound, StoreUnavailable."""
        await self._change(name, role=role)

    async def remove(self, name: str) -> None:
        """End an account; its sessions end with it. Raises NotFound, StoreUnavailable."""
        with store_errors():
            removed = await self._redis.hdel(keyspace.ACCOUNTS, name)
        if not removed:
            raise _unknown(name)

    async def _change(self, name: str, **fields: Any) -> None:
        for _ in range(_TRIES):
            with store_errors():
                found = await self._redis.hget(keyspace.ACCOUNTS, name)
            if found is None:
                raise _unknown(name)
            new = _encoder.encode(msgspec.structs.replace(_decoder.decode(found), **fields))
            with store_errors():
                if await self._replace(keys=[keyspace.ACCOUNTS], args=[name, found, new]):
                    return
        raise Refused("others are changing this account at the same time; try again")

    async def _hash(self, password: str) -> str:
        if not PASSWORD_CHARS_MIN <= len(password) <= PASSWORD_CHARS_MAX:
            raise InvalidInput(
                f"the password has {len(password)} characters; "
                f"send {PASSWORD_CHARS_MIN} to {PASSWORD_CHARS_MAX}, a few words for instance"
            )
        async with self._hashing:
            return await asyncio.to_thread(self._hasher.hash, password)

    async def _verify(self, hashed: str, password: str) -> bool:
        async with self._hashing:
            try:
                return await asyncio.to_thread(self._hasher.verify, hashed, password)
            except (VerificationError, InvalidHashError):
                return False


def _new_stamp() -> str:
    return secrets.token_urlsafe(12)


def check_name(name: str) -> str:
    """Return ``name`` if it can name an account; InvalidInput otherwise."""
    if not NAME.fullmatch(name):
        raise InvalidInput(
            f"account name is {name[:80]!r}; allowed are 1 to 64 characters of a-z 0-9 _ . + @ - , "
            "starting with a letter or digit"
        )
    return name


def _unknown(name: str) -> NotFound:
    return NotFound(f"there is no account named {name[:80]!r}; fanout account list names them")
