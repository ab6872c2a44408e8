"""Bundles: content of all stages as canonical bytes, named by their SHA-256, immutable.

Owns what canonical means and where the bytes are. Knows nothing of campaigns, but for the stages they need.
"""

from __future__ import annotations

import hashlib
import json
from collections import OrderedDict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Final

import msgspec
from redis.asyncio import Redis

from fanout import keyspace, limits
from fanout.checks import check_name
from fanout.connect import store_errors
from fanout.errors import InvalidInput, NotFound

# What never changes may be kept: thirty-two bundles of the largest size, so that an origin without a CDN
# does not ask the store for the same bytes once per device.
CACHE_BYTES_MAX: Final = 32 * limits.BUNDLE_BYTES_MAX


@dataclass(frozen=True, slots=True)
class Content:
    """Canonical bytes and their name."""

    sha256: str
    data: bytes


def canonical(stages: Mapping[str, Mapping[str, Any]]) -> Content:
    """Return the bundle with this content per stage: JSON with sorted keys, no spaces, UTF-8.

    Raises:
        InvalidInput: No stage, too many, a bad stage name, content that is no JSON, or too many bytes.
    """
    if not 1 <= len(stages) <= limits.STAGES_MAX:
        raise InvalidInput(f"the bundle has {len(stages)} stages; 1 to {limits.STAGES_MAX} are allowed")
    for stage in stages:
        check_name("stage", stage)
    try:
        text = json.dumps(
            {"stages": stages}, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False
        )
        data = text.encode()
    except (ValueError, TypeError, RecursionError) as exc:
        # UnicodeEncodeError is a ValueError: half of a surrogate pair has no UTF-8.
        raise InvalidInput(f"the bundle's content cannot be written as JSON: {exc}") from exc
    if len(data) > limits.BUNDLE_BYTES_MAX:
        raise InvalidInput(
            f"the bundle has {len(data)} bytes, the limit is {limits.BUNDLE_BYTES_MAX} bytes; "
            "put images and video behind URLs"
        )
    return Content(hashlib.sha256(data).hexdigest(), data)


def check_stages(where: str, present: Iterable[str], wanted: Iterable[str]) -> None:
    """Raise InvalidInput unless the bundle that was sent there has content for every stage wanted."""
    have = set(present)
    missing = [stage for stage in wanted if stage not in have]
    if missing:
        raise InvalidInput(
            f"{where} has no content for stage {', '.join(missing)}; "
            f"it has {', '.join(sorted(have))}; send an object per stage of the campaign",
            f"$.{where}",
        )


class _Stages(msgspec.Struct):
    stages: dict[str, Any]


def stages_of(data: bytes) -> list[str]:
    """Return the stages that stored canonical bytes have content for."""
    return list(msgspec.json.decode(data, type=_Stages).stages)


class BundleStore:
    """Keeps bundles in the store, and the last ones used in memory.

    Args:
        redis: Client of the primary.
        cache_bytes_max: How much content is kept in this process.
    """

    def __init__(self, redis: Redis, *, cache_bytes_max: int = CACHE_BYTES_MAX) -> None:
        # Any: the client's types say bytes or str, and ours always answers in bytes.
        self._redis: Any = redis
        self._cache_bytes_max = cache_bytes_max
        self._cache: OrderedDict[str, bytes] = OrderedDict()
        self._cache_bytes = 0

    async def put(self, content: Content) -> None:
        """Store a bundle; storing it again changes nothing. Raises StoreUnavailable."""
        with store_errors():
            await self._redis.set(keyspace.bundle(content.sha256), content.data, nx=True)
        self._remember(content.sha256, content.data)

    async def get(self, sha256: str) -> bytes:
        """Return a bundle's canonical bytes.

        Raises:
            NotFound: No bundle of this name was uploaded.
            StoreUnavailable: It is not in memory, and the store did not answer.
        """
        if (data := self._cache.get(sha256)) is not None:
            self._cache.move_to_end(sha256)
            return data
        with store_errors():
            found: bytes | None = await self._redis.get(keyspace.bundle(sha256))
        if found is None:
            raise NotFound(f"there is no bundle {sha256[:80]!r}; upload it with POST /v1/bundles")
        self._remember(sha256, found)
        return found

    async def exists(self, sha256: str) -> bool:
        """Tell whether a bundle is in the store itself. Raises StoreUnavailable."""
        with store_errors():
            return bool(await self._redis.exists(keyspace.bundle(sha256)))

    def _remember(self, sha256: str, data: bytes) -> None:
        if sha256 in self._cache or len(data) > self._cache_bytes_max:
            return
        self._cache[sha256] = data
        self._cache_bytes += len(data)
        while self._cache_bytes > self._cache_bytes_max:
            _, dropped = self._cache.popitem(last=False)
            self._cache_bytes -= len(dropped)
