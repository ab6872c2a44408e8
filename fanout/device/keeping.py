"""The cache behind a guard: it may be the app's own, on a disk that is full, and must not stop the device."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from fanout.device.cache import Cache
from fanout.device.troubles import Troubles


class Keeping:
    """A cache whose failures are noted instead of raised.

    Args:
        cache: Where bundles are kept.
        evicted: Told of each bundle that is not there any more.
        troubles: Told what failed.
    """

    def __init__(self, cache: Cache, evicted: Callable[[str], None], troubles: Troubles) -> None:
        self._cache = cache
        self._evicted = evicted
        self._troubles = troubles

    def put(self, sha256: str, content: str) -> None:
        """Keep a bundle, if that can be done."""
        try:
            for gone in self._cache.put(sha256, content):
                self._evicted(gone)
        except Exception as exc:  # noqa: BLE001 - noted with its traceback
            self._failed("put", f"could not keep bundle {sha256}: {exc!r}", exc)

    def drop(self, digests: Iterable[str]) -> None:
        """Forget these."""
        try:
            self._cache.drop(digests)
        except Exception as exc:  # noqa: BLE001 - noted with its traceback
            self._failed("drop", f"could not drop bundles: {exc!r}", exc)

    def get(self, sha256: str) -> str | None:
        """Return a bundle, None if it is gone: better a generic presentation at the right moment than nothing."""
        try:
            content = self._cache.get(sha256)
        except Exception as exc:  # noqa: BLE001 - noted with its traceback
            self._failed("get", f"could not return bundle {sha256}: {exc!r}", exc)
            content = None
        if content is None:
            self._failed("gone", f"bundle {sha256} is gone")
            self._evicted(sha256)
        return content

    def _failed(self, place: str, detail: str, cause: BaseException | None = None) -> None:
        self._troubles.note("storage", detail, place=place, cause=cause)
