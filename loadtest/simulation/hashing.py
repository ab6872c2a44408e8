"""Slots and shares of a range of devices at once: MurmurHash3 of the real ids, equal to `fanout.slots`.

Ids are `<prefix><number>`, so within a number of digits all have the same length, and their bytes are columns.
Knows nothing of windows or policies.
"""

from __future__ import annotations

from typing import Final

import numpy as np
from numpy.typing import NDArray

from fanout.slots import murmur3_32

U32 = NDArray[np.uint32]
F32 = NDArray[np.float32]

_MASK: Final = 0xFFFFFFFF
_C1: Final = np.uint32(0xCC9E2D51)
_C2: Final = np.uint32(0x1B873593)


class Ids:
    """The ids of devices ``first`` to ``last - 1``. What all hashes of them share is computed once."""

    def __init__(self, prefix: str, first: int, last: int) -> None:
        self._count = last - first
        self._segments: list[tuple[int, int, _Segment]] = []
        low = first
        while low < last:
            digits = len(str(low))
            high = min(last, 10**digits)
            self._segments.append((low - first, high - first, _Segment(prefix.encode(), low, high, digits)))
            low = high

    def hashes(self, seed: int) -> U32:
        """Return every id's hash, as `fanout.slots.murmur3_32` gives it."""
        made = np.empty(self._count, np.uint32)
        for low, high, segment in self._segments:
            segment.hash_into(made[low:high], seed & _MASK)
        return made

    def points(self, campaign: str) -> NDArray[np.float64]:
        """Return from which share on each belongs to a canary, as `fanout.slots.share_point` does."""
        return _fractions(self.hashes(murmur3_32(campaign.encode(), 0)))


def slots_ms(hashes: U32, window_ms: int) -> NDArray[np.float64]:
    """Return where in the window each device acts, in whole ms, as `fanout.slots.slot_ms` does."""
    made = _fractions(hashes)
    made *= window_ms
    np.floor(made, out=made)
    return made


def _fractions(hashes: U32) -> NDArray[np.float64]:
    """Return hash / 2**32, which is exact."""
    made = hashes.astype(np.float64)
    made *= 2.0**-32
    return made


class _Segment:
    """Ids of one length: whole blocks of four bytes, already mixed, and the mixed rest."""

    def __init__(self, prefix: bytes, low: int, high: int, digits: int) -> None:
        self._length = len(prefix) + digits
        columns: list[U32 | int] = [*prefix, *_digits(low, high, digits)]
        whole = self._length // 4 * 4
        self._blocks = [_mixed(columns[at : at + 4]) for at in range(0, whole, 4)]
        self._rest = _mixed(columns[whole:]) if whole < self._length else None

    def hash_into(self, h: U32, seed: int) -> None:
        h[:] = seed
        spare = np.empty_like(h)
        for block in self._blocks:
            h ^= block
            _rotate(h, 13, spare)
            h *= np.uint32(5)
            h += np.uint32(0xE6546B64)
        if self._rest is not None:
            h ^= self._rest
        h ^= np.uint32(self._length)
        finish(h, spare)


def _digits(low: int, high: int, digits: int) -> list[U32]:
    """Return the decimal digits of low..high-1 as columns of ASCII, the first digit first."""
    left: U32 = np.arange(low, high, dtype=np.uint32)
    found: list[U32] = []
    for _ in range(digits):
        tens = left // np.uint32(10)
        left -= tens * np.uint32(10)
        left += np.uint32(ord("0"))
        found.append(left)
        left = tens
    return found[::-1]


def _mixed(columns: list[U32 | int]) -> U32 | np.uint32:
    """Return up to four bytes as a little-endian word, mixed as the hash wants it."""
    constant, word = 0, None
    for at, column in enumerate(columns):
        if isinstance(column, int):
            constant |= column << 8 * at
        else:
            shifted = column << np.uint32(8 * at)
            word = shifted if word is None else np.bitwise_or(word, shifted, out=word)
    if word is None:
        # Scalars of numpy warn when they overflow; a block of nothing but prefix is mixed as Python's integers.
        k = constant * int(_C1) & _MASK
        return np.uint32(((k << 15 | k >> 17) & _MASK) * int(_C2) & _MASK)
    word |= np.uint32(constant)
    word *= _C1
    _rotate(word, 15, np.empty_like(word))
    word *= _C2
    return word


def _rotate(h: U32, by: int, spare: U32) -> None:
    np.right_shift(h, np.uint32(32 - by), out=spare)
    h <<= np.uint32(by)
    h |= spare


def finish(h: U32, spare: U32) -> None:
    """Apply the hash's last steps in place: every bit of the input moves half of the output's."""
    for shift, factor in ((16, 0x85EBCA6B), (13, 0xC2B2AE35)):
        np.right_shift(h, np.uint32(shift), out=spare)
        h ^= spare
        h *= np.uint32(factor)
    np.right_shift(h, np.uint32(16), out=spare)
    h ^= spare
