"""Where a device keeps bundles. `Cache` is what an app may implement on its own storage; `MemoryCache` is ours.

Nothing expires by time: caches that expire together make small herds. A bundle goes when its campaign is
closed, or when room is needed.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final, Protocol

from fanout import limits

# Eight of the largest bundles; an event needs one.
CACHE_BYTES_MAX: Final = 8 * 1024 * 1024

assert CACHE_BYTES_MAX >= limits.BUNDLE_BYTES_MAX


class Cache(Protocol):
    """Bundles by digest. Calls are short and synchronous: they run between two frames of the app."""

    def digests(self) -> Iterable[str]:
        """Return what is kept, oldest first. Asked once, when the device starts."""
        ...

    def get(self, sha256: str) -> str | None:
        """Return a bundle's content, None if it is not kept."""
        ...

    def put(self, sha256: str, content: str) -> Iterable[str]:
        """Keep a bundle; return the digests of those that had to go for it."""
        ...

    def drop(self, digests: Iterable[str]) -> None:
        """Forget these, if they are kept."""
        ...


class MemoryCache:
    """A cache in memory that makes room by dropping what was used the longest time ago.

    Args:
        bytes_max: Content kept, UTF-8 bytes. A bundle that alone is larger is kept alone.
        bundles_max: Bundles kept; a device can tell a gateway of this many.
    """

    def __init__(self, bytes_max: int = CACHE_BYTES_MAX, bundles_max: int = limits.HAVE_MAX) -> None:
        self._bytes_max = bytes_max
        self._bundles_max = bundles_max
        self._contents: dict[str, str] = {}  # least recently used first
        self._sizes: dict[str, int] = {}  # UTF-8 bytes of each

    def digests(self) -> Iterable[str]:
        return list(self._contents)

    def get(self, sha256: str) -> str | None:
        content = self._contents.pop(sha256, None)
        if content is not None:
            self._contents[sha256] = content
        return content

    def put(self, sha256: str, content: str) -> Iterable[str]:
        self.drop([sha256])
        size = len(content.encode())
        evicted: list[str] = []
        while self._contents and (
            len(self._contents) >= self._bundles_max or sum(self._sizes.values()) + size > self._bytes_max
        ):
            evicted.append(next(iter(self._contents)))
            self.drop(evicted[-1:])
        self._contents[sha256], self._sizes[sha256] = content, size
        return evicted

    def drop(self, digests: Iterable[str]) -> None:
        for sha256 in digests:
            if self._contents.pop(sha256, None) is not None:
                del self._sizes[sha256]
