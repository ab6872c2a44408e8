"""Opening the store, and saying in our own words when it does not answer.

The one place that knows how a Redis client of this project is configured.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Final, TypeAlias
from urllib.parse import urlsplit

from redis.asyncio import Redis
from redis.asyncio.connection import parse_url
from redis.asyncio.retry import Retry
from redis.asyncio.sentinel import (
    MasterNotFoundError,
    Sentinel,
    SentinelConnectionPool,
    SentinelManagedConnection,
    SentinelManagedSSLConnection,
)
from redis.backoff import NoBackoff
from redis.exceptions import (
    AuthenticationError,
    AuthorizationError,
    BusyLoadingError,
    ClusterDownError,
    ConnectionError,
    NoPermissionError,
    OutOfMemoryError,
    ReadOnlyError,
    RedisError,
    ResponseError,
    TimeoutError,
)
from redis.maint_notifications import MaintNotificationsConfig

from fanout.errors import InvalidInput, StoreUnavailable

# A client as our code calls it. The library's annotations leave open whether answers are text or bytes, and
# whether they must be awaited; ours are always bytes and always awaited.
Commands: TypeAlias = Any
# Long enough for a store that is saving or failing over, short enough that a person still waits.
TIMEOUT_S: Final = 2.0
_TURNED_AWAY: Final = (AuthenticationError, AuthorizationError, NoPermissionError)
# Between two tries to reach a store that is not there yet, seconds.
_ASK_S: Final = 0.2
# What a store that is up answers when it cannot serve: no primary, loading, disk full, replica only.
# The library takes the code off the message where it has a class for it, so both are needed.
_NOT_SERVING: Final = (BusyLoadingError, ClusterDownError, OutOfMemoryError, ReadOnlyError)
_NOT_SERVING_WORDS: Final = ("MISCONF", "NOREPLICAS", "NOMASTERLINK")
_SENTINEL_SCHEMES: Final = ("redis+sentinel", "rediss+sentinel")
_SENTINEL_FORM: Final = "redis+sentinel://host,host/primary-name"
_SENTINEL_PORT: Final = 26379


def connect(url: str, *, timeout_s: float = TIMEOUT_S) -> Redis:
    """Return a client of the primary that a URL names; nothing is sent yet.

    ``redis://``, ``rediss://`` and ``unix://`` name the server itself. ``redis+sentinel://`` (``rediss+sentinel://``
    with TLS) names Sentinels and their name for the primary, which every new connection asks them for::

        redis+sentinel://[user:password@]host[:26379][,host…]/primary-name[/db][?sentinel_password=…]

    Commands are tried twice: a pooled connection may have died with the last server. Every write of ours is
    safe to repeat. Silence is not tried again, or a caller would wait for a stopped store several times over.
    Health checks stay off: they leave a subscriber stuck on a dead primary.

    Raises:
        InvalidInput: The URL has another scheme or cannot be read.
    """
    # Of every connection, those to Sentinels too.
    settings: dict[str, Any] = {
        "socket_timeout": timeout_s,
        "socket_connect_timeout": timeout_s,
        "health_check_interval": 0,
        "retry": Retry(NoBackoff(), 1, supported_errors=(ConnectionError,)),
    }
    try:
        if urlsplit(url).scheme in _SENTINEL_SCHEMES:
            return _primary_of(url, settings)
        client: Redis = Redis.from_url(
            url, **settings, maint_notifications_config=MaintNotificationsConfig(enabled=False)
        )
    except (ValueError, TypeError) as exc:
        # Any other part of it may hold a password.
        raise InvalidInput(
            f"redis url with scheme {url[: max(url.find('://'), 0)]!r}: {exc}; "
            f"send redis://, rediss://, unix:// or {_SENTINEL_FORM}"
        ) from exc
    return client


class _AskingAgain(SentinelManagedConnection):
    """Asks the Sentinels before it reconnects, too.

    The library's would go back to where it was, and an old primary that restarts believes in itself for the seconds
    until it is told otherwise: what it takes meanwhile is lost.
    """

    async def send_packed_command(self, command: Any, check_health: bool = True) -> None:
        if not self.is_connected:
            await self.connect()  # type: ignore[no-untyped-call]
        await super().send_packed_command(command, check_health)


class _AskingAgainOverTls(_AskingAgain, SentinelManagedSSLConnection):
    """The same over TLS."""


class _AskingSentinels(SentinelConnectionPool):
    """Ends its clients of the Sentinels with itself, which the library would leave open; fails in few words."""

    async def get_master_address(self) -> Any:
        try:
            return await super().get_master_address()  # type: ignore[no-untyped-call]
        except MasterNotFoundError:
            # The library's words hold every setting of every client.
            raise ConnectionError(f"no Sentinel knows a living primary {self.service_name!r}") from None

    async def aclose(self) -> None:
        await super().aclose()
        await self.sentinel_manager.aclose()


def _primary_of(url: str, settings: dict[str, Any]) -> Redis:
    """Return a client that asks Sentinels for the primary. Raises ValueError."""
    parts = urlsplit(url)
    login, _, hosts = parts.netloc.rpartition("@")
    name, _, db = parts.path.strip("/").partition("/")
    if not name:
        raise ValueError("it names no primary")
    if db and not db.isdigit():
        raise ValueError(f"its database is {db!r}, not a number")
    sentinels = [(each.hostname, each.port) for each in (urlsplit(f"//{host}") for host in hosts.split(","))]
    if not all(host for host, _ in sentinels):
        raise ValueError("it names no Sentinel, or one without a host")
    # What is left is the primary's, in the form the library reads.
    options: dict[str, Any] = dict(parse_url(f"redis://{login}@primary/{db}?{parts.query}"))
    del options["host"]
    asking = {option: options.pop(f"sentinel_{option}", None) for option in ("username", "password")}
    kind: type[SentinelManagedConnection] = _AskingAgain
    tls = {option: value for option, value in options.items() if option.startswith("ssl_")}
    if parts.scheme == "rediss+sentinel":
        tls["ssl"] = True
        kind = _AskingAgainOverTls
    manager: Any = Sentinel(  # type: ignore[no-untyped-call]
        [(host, port or _SENTINEL_PORT) for host, port in sentinels], sentinel_kwargs={**settings, **asking, **tls}
    )
    settings = {**settings, **options, **tls, "connection_class": kind}
    settings.pop("ssl", None)
    client: Redis = manager.master_for(name, connection_pool_class=_AskingSentinels, **settings)
    return client


async def reach(url: str, wait_s: float, setting: str) -> None:
    """Wait until the store answers: a process that starts with its store need not start after it.

    Args:
        url: The store's.
        wait_s: How long, seconds.
        setting: What told the URL, for the error: the URL itself may hold a password.
    Raises:
        StoreUnavailable: It did not answer in time, or turns this login away.
    """
    until_s = time.monotonic() + wait_s
    async with connect(url, timeout_s=min(TIMEOUT_S, max(wait_s, _ASK_S))) as client:
        while True:
            try:
                await client.ping()
                return
            except STORE_ERRORS as exc:
                # The library takes a login that fails for a connection that does, and would try it again.
                if isinstance(exc, _TURNED_AWAY) or isinstance(exc.__cause__, _TURNED_AWAY):
                    raise StoreUnavailable(
                        f"the store of {setting} turns this login away: {exc}; mend {setting}"
                    ) from exc
                if time.monotonic() >= until_s:
                    raise StoreUnavailable(
                        f"the store of {setting} did not answer within {wait_s:g} s: {exc}; start it, mend "
                        f"{setting}, or wait longer with --store-wait-s"
                    ) from exc
            await asyncio.sleep(_ASK_S)


def has_sentinels(client: Commands) -> bool:
    """Tell whether Sentinels choose this client's primary, so that it may have been deposed without knowing."""
    return isinstance(client.connection_pool, SentinelConnectionPool)


@contextmanager
def store_errors() -> Iterator[None]:
    """Turn "the store did not serve this" into StoreUnavailable; other errors of the store are bugs.

    Raises:
        StoreUnavailable: From every kind of refusal or silence.
    """
    try:
        yield
    except (ConnectionError, TimeoutError, OSError, *_NOT_SERVING) as exc:
        raise StoreUnavailable(f"the store does not answer: {exc}") from exc
    except ResponseError as exc:
        if str(exc).startswith(_NOT_SERVING_WORDS):
            raise StoreUnavailable(f"the store does not serve: {exc}") from exc
        raise


STORE_ERRORS: Final[tuple[type[Exception], ...]] = (RedisError, OSError, StoreUnavailable)
