"""Opening the store, and saying in our own words when it does not answer.

The one place that knows how a Redis client of this project is configured.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Final, TypeAlias

from redis.asyncio import Redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import (
    BusyLoadingError,
    ClusterDownError,
    ConnectionError,
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
# What a store that is up answers when it cannot serve: no primary, loading, disk full, replica only.
# The library takes the code off the message where it has a class for it, so both are needed.
_NOT_SERVING: Final = (BusyLoadingError, ClusterDownError, OutOfMemoryError, ReadOnlyError)
_NOT_SERVING_WORDS: Final = ("MISCONF", "NOREPLICAS", "NOMASTERLINK")


def connect(url: str, *, timeout_s: float = TIMEOUT_S) -> Redis:
    """Return a client for a ``redis://``, ``rediss://`` or ``unix://`` URL; nothing is sent yet.

    Commands are tried twice: a pooled connection may have died with the last server. Every write of ours is
    safe to repeat. Health checks stay off: they leave a subscriber stuck on a dead primary.

    Raises:
        InvalidInput: The URL has another scheme or cannot be read.
    """
    try:
        client: Redis = Redis.from_url(
            url,
            socket_timeout=timeout_s,
            socket_connect_timeout=timeout_s,
            health_check_interval=0,
            retry=Retry(NoBackoff(), 1),
            maint_notifications_config=MaintNotificationsConfig(enabled=False),
        )
    except ValueError as exc:
        raise InvalidInput(f"redis url is {url!r}: {exc}; send redis://, rediss:// or unix://") from exc
    return client


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
