"""Sessions of people who have signed in, or are about to. The store holds only the hash of what their browser holds.

A session says who somebody is, not what they may do: that is looked up anew for every request, unless an identity
provider said it, whose word holds as long as the session.
"""

from __future__ import annotations

import hashlib
import secrets
import time
from typing import Any, Final

import msgspec
from msgspec import Struct
from redis.asyncio import Redis

from fanout import keyspace
from fanout.connect import store_errors
from fanout.roles import Role

TOKEN_CHARS: Final = 43  # of 32 random bytes


class Session(Struct, frozen=True):
    """Somebody who has signed in.

    Attributes:
        name: Of the account, or what the identity provider calls them.
        csrf: What every change must carry beside the cookie, which the browser sends by itself.
        began_ms: Unix ms.
        role: As the identity provider said; None for an account of ours, which is asked.
        stamp: The account's, when it was signed in to.
    """

    name: str
    csrf: str
    began_ms: int
    role: Role | None = None
    stamp: str = ""


class Trip(Struct, frozen=True):
    """Somebody who was sent to the identity provider, and what is needed when they come back.

    Attributes:
        nonce: What the provider must put into its ID token.
        verifier: What proves to the provider that the code was asked for here (PKCE, RFC 7636).
        path: Where they wanted to go.
    """

    nonce: str
    verifier: str
    path: str


_encoder: Final = msgspec.msgpack.Encoder()
_decoder: Final = msgspec.msgpack.Decoder(Session)
_trip_decoder: Final = msgspec.msgpack.Decoder(Trip)
# Time for a password, a second factor, and finding the phone.
_TRIP_S: Final = 600


class SessionStore:
    """Begins, finds and ends sessions.

    Args:
        redis: Client of the primary.
        lasts_s: How long one lasts, whatever is done in it.
    """

    def __init__(self, redis: Redis, lasts_s: float) -> None:
        # Any: the client's types say bytes or str, and ours always answers in bytes.
        self._redis: Any = redis
        self._lasts_s = lasts_s

    async def begin(self, name: str, role: Role | None = None, stamp: str = "") -> tuple[str, Session]:
        """Return a new session, and the token its browser is to keep. Raises StoreUnavailable."""
        token = secrets.token_urlsafe(32)
        session = Session(name, secrets.token_urlsafe(32), int(time.time() * 1000), role, stamp)
        with store_errors():
            await self._redis.set(_key(token), _encoder.encode(session), px=int(self._lasts_s * 1000))
        return token, session

    async def find(self, token: str) -> Session | None:
        """Return the session this token opens, None if it opens none. Raises StoreUnavailable."""
        if not _may_be_ours(token):
            return None
        with store_errors():
            doc = await self._redis.get(_key(token))
        return None if doc is None else _decoder.decode(doc)

    async def end(self, token: str) -> None:
        """End a session, if it is one. Raises StoreUnavailable."""
        with store_errors():
            await self._redis.delete(_key(token))

    async def depart(self, trip: Trip) -> str:
        """Remember a trip for a while; return the state that comes back with it. Raises StoreUnavailable."""
        state = secrets.token_urlsafe(32)
        with store_errors():
            await self._redis.set(keyspace.trip(_hash(state)), _encoder.encode(trip), ex=_TRIP_S)
        return state

    async def arrive(self, state: str) -> Trip | None:
        """Return the trip of this state, which ends with this; None if there is none. Raises StoreUnavailable."""
        if not _may_be_ours(state):
            return None
        with store_errors():
            doc = await self._redis.getdel(keyspace.trip(_hash(state)))
        return None if doc is None else _trip_decoder.decode(doc)


def _may_be_ours(token: str) -> bool:
    return len(token) == TOKEN_CHARS and token.isascii()


def _key(token: str) -> str:
    return keyspace.session(_hash(token))


def _hash(token: str) -> str:
    return hashlib.sha256(token.encode()).hexdigest()
