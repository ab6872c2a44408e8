"""A cache of bundles in a directory, so that a device which starts again has them still. Trusts nothing it reads.

One file a bundle, named by its digest and written aside before it takes the name, so that a reader sees all of it or
nothing. A power cut may still leave a file half empty: the digest is checked whenever one is read, and nothing is
synced to the disk, for a bundle that is lost is only fetched again. The time of a file is when it was last used.
Every call looks at the directory anew (a few dozen names), so several processes may share one.
"""

from __future__ import annotations

import hashlib
import logging
import os
import random
import re
import time
from collections.abc import Callable, Iterable
from contextlib import suppress
from pathlib import Path
from typing import Final, NamedTuple

from fanout import limits
from fanout.device.cache import CACHE_BYTES_MAX, MemoryCache

log: Final = logging.getLogger("fanout.device")

SUFFIX: Final = ".bundle"
_NAME: Final = re.compile(r"[0-9a-f]{64}" + re.escape(SUFFIX))
_ASIDE: Final = re.compile(r"\.[0-9a-f]{64}\.[0-9a-f]{16}\.tmp")
# Twice what a campaign lies ahead and is remembered after its close, so nothing that is still wanted goes.
UNUSED_S: Final = 30 * 24 * 3600.0
# A television without a battery lives in 1970 until it has asked somebody: such a time says nothing.
_PLAUSIBLE_S: Final = 1_577_836_800.0  # 2020
# Whoever wrote this file aside and has not renamed it by now was killed.
ASIDE_S: Final = 3_600.0


class _Kept(NamedTuple):
    path: Path
    size: int  # bytes
    used_s: float  # when last, wall clock

    @property
    def sha256(self) -> str:
        return self.path.name.removesuffix(SUFFIX)


class FileCache:
    """A cache in a directory that makes room by dropping what was used the longest time ago.

    A bundle that was not used for 30 to 60 days goes when a device starts, each at its own age: a fleet that was
    sent a bundle in one evening must not miss it in one evening. If the directory cannot be written, bundles are
    kept in memory, and the log says so once.

    Args:
        directory: Made if it is missing. Other files in it are left alone.
        bytes_max: Content kept, bytes. A bundle that alone is larger is kept alone.
        bundles_max: Bundles kept; a device can tell a gateway of 32.
        rng: Source of jitter.
        wall_s: The wall clock, Unix seconds, as the file system uses it.
    """

    def __init__(
        self,
        directory: str | os.PathLike[str],
        bytes_max: int = CACHE_BYTES_MAX,
        bundles_max: int = limits.HAVE_MAX,
        *,
        rng: random.Random | None = None,
        wall_s: Callable[[], float] = time.time,
    ) -> None:
        self._directory = Path(directory)
        self._bytes_max = bytes_max
        self._bundles_max = bundles_max
        self._rng = rng or random.Random()
        self._wall_s = wall_s
        self._memory = MemoryCache(bytes_max, bundles_max)  # for what could not be written
        self._complained = False  # the log has been told

    def digests(self) -> Iterable[str]:
        """Return what is kept and sound, oldest first; throw out the damaged, the unused and the left over."""
        self._sweep()
        now_s, sound = self._wall_s(), []
        for kept in self._kept():
            unused_s = now_s - kept.used_s if kept.used_s > _PLAUSIBLE_S else 0.0
            if unused_s > UNUSED_S * (1 + self._rng.random()):
                self._remove(kept.path)
            elif self._read(kept.sha256) is not None:
                sound.append(kept.sha256)
        return sound + [sha256 for sha256 in self._memory.digests() if sha256 not in sound]

    def get(self, sha256: str) -> str | None:
        """Return a bundle's content, None if it is not kept or was damaged."""
        content = self._read(sha256)
        if content is None:
            return self._memory.get(sha256)
        try:
            now_s = self._wall_s()
            os.utime(self._path(sha256), (now_s, now_s))
        except OSError:
            pass  # somebody else has just dropped it, or may write here and we may not: it was read
        return content

    def put(self, sha256: str, content: str) -> Iterable[str]:
        """Keep a bundle, on disk if that can be done; return the digests of those that had to go for it."""
        data = content.encode()
        aside = self._directory / f".{sha256}.{self._rng.getrandbits(64):016x}.tmp"
        evicted = self._make_room(sha256, len(data))
        try:
            self._directory.mkdir(parents=True, exist_ok=True)
            aside.write_bytes(data)
            now_s = self._wall_s()
            os.utime(aside, (now_s, now_s))
            aside.replace(self._path(sha256))
        except OSError as exc:
            self._complain(exc)
            self._remove(aside)
            return [*evicted, *self._memory.put(sha256, content)]
        self._memory.drop([sha256])
        return evicted

    def drop(self, digests: Iterable[str]) -> None:
        """Forget these, if they are kept."""
        listed = list(digests)
        self._memory.drop(listed)
        for sha256 in listed:
            self._remove(self._path(sha256))

    # --- The directory

    def _path(self, sha256: str) -> Path:
        name = sha256 + SUFFIX
        assert _NAME.fullmatch(name), "only digests name files"
        return self._directory / name

    def _kept(self) -> list[_Kept]:
        """Return the files that are ours by their names, the one used the longest time ago first."""
        found = []
        try:
            with os.scandir(self._directory) as entries:
                for entry in entries:
                    if _NAME.fullmatch(entry.name) and entry.is_file(follow_symlinks=False):
                        stat = entry.stat(follow_symlinks=False)
                        found.append(_Kept(Path(entry.path), stat.st_size, self._used_s(entry.path, stat.st_mtime)))
        except OSError:
            pass  # no directory yet, or a file that went while one looked
        return sorted(found, key=lambda kept: (kept.used_s, kept.path.name))

    def _used_s(self, path: str, dated_s: float) -> float:
        """Return when a file was last used; one that a clock ahead of its time has dated ages from now on.

        It would else be the newest, and never too old, until that day.
        """
        now_s = self._wall_s()
        if not dated_s > now_s > _PLAUSIBLE_S:
            return dated_s
        with suppress(OSError):  # others may write here, and we may not
            os.utime(path, (now_s, now_s))
        return now_s

    def _make_room(self, sha256: str, size: int) -> list[str]:
        others = [kept for kept in self._kept() if kept.sha256 != sha256]
        total, evicted = sum(kept.size for kept in others), []
        while others and (len(others) >= self._bundles_max or total + size > self._bytes_max):
            oldest = others.pop(0)
            total -= oldest.size
            self._remove(oldest.path)
            evicted.append(oldest.sha256)
        return evicted

    def _read(self, sha256: str) -> str | None:
        path = self._path(sha256)
        try:
            if path.is_symlink() or not path.is_file():
                return None
            with path.open("rb") as file:
                # One byte more than a bundle may have is enough to see that this is none.
                data = file.read(max(self._bytes_max, limits.BUNDLE_BYTES_MAX) + 1)
            if hashlib.sha256(data).hexdigest() == sha256:
                return data.decode()
        except (OSError, UnicodeDecodeError):
            return None
        self._remove(path)
        return None

    def _sweep(self) -> None:
        """Remove what writers that were killed have left."""
        try:
            with os.scandir(self._directory) as entries:
                for entry in entries:
                    if _ASIDE.fullmatch(entry.name):
                        stat = entry.stat(follow_symlinks=False)
                        if self._wall_s() - stat.st_mtime > ASIDE_S:
                            self._remove(Path(entry.path))
        except OSError:
            pass  # as in `_kept`

    def _remove(self, path: Path) -> None:
        try:
            path.unlink(missing_ok=True)
        except OSError as exc:
            self._complain(exc)

    def _complain(self, exc: OSError) -> None:
        if not self._complained:
            self._complained = True
            log.warning("%s cannot be written (%s): bundles are kept in memory only", self._directory, exc)
