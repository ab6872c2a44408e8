"""Deterministic jitter: when, within a window, one device acts. Pure.

The slot depends on nothing but the device's id and the publication's revision, so every SDK, every replay
and the simulator agree on it to the millisecond, and no coordination is needed to spread a fleet evenly.
"""

from __future__ import annotations

import random
from struct import iter_unpack
from typing import Final

_MASK: Final = 0xFFFFFFFF
_C1: Final = 0xCC9E2D51
_C2: Final = 0x1B873593


def murmur3_32(data: bytes, seed: int) -> int:
    """Return the 32-bit MurmurHash3 (x86 variant) of ``data``.

    Args:
        data: Any bytes.
        seed: Any non-negative integer; only its low 32 bits count.
    Returns:
        An unsigned 32-bit integer.
    Source: Austin Appleby's MurmurHash3_x86_32; vectors in tests/vectors/slots.json.
    """
    h = seed & _MASK
    whole = len(data) & ~3
    for (word,) in iter_unpack("<I", data[:whole]):
        k = word * _C1 & _MASK
        k = (k << 15 | k >> 17) & _MASK
        h ^= k * _C2 & _MASK
        h = (h << 13 | h >> 19) & _MASK
        h = h * 5 + 0xE6546B64 & _MASK
    if whole < len(data):
        k = int.from_bytes(data[whole:], "little") * _C1 & _MASK
        k = (k << 15 | k >> 17) & _MASK
        h ^= k * _C2 & _MASK
    h ^= len(data)
    h = (h ^ h >> 16) * 0x85EBCA6B & _MASK
    h = (h ^ h >> 13) * 0xC2B2AE35 & _MASK
    return h ^ h >> 16


def slot_ms(device_id: str, seed: int, window_ms: int) -> int:
    """Return where in the window this device acts.

    Uniform over devices, fixed for a device and seed, so replays and duplicates land on the same instant.

    Args:
        device_id: The token's subject.
        seed: The publication's revision.
        window_ms: Width of the window in milliseconds, >= 0.
    Returns:
        Milliseconds from the window's start, 0 <= slot < window_ms (0 for an empty window).
    Raises:
        ValueError: If window_ms is negative.
    Source: MurmurHash3 x86_32; vectors in tests/vectors/slots.json.
    """
    if window_ms < 0:
        raise ValueError(f"window_ms is {window_ms}, it must be >= 0")
    # Dividing by 2**32 first is exact in IEEE doubles, so JavaScript's numbers give the same millisecond.
    return int(murmur3_32(device_id.encode(), seed) / 2**32 * window_ms)


def share_point(device_id: str, campaign: str) -> float:
    """Return the share from which on this device belongs to a canary of the campaign.

    Seeded by the campaign and not by the revision: widening a share only ever adds devices.

    Returns:
        0 <= point < 1; the device takes part when point < share.
    """
    return murmur3_32(device_id.encode(), murmur3_32(campaign.encode(), 0)) / 2**32


def in_share(device_id: str, campaign: str, share: float) -> bool:
    """Tell whether this device takes part in an activation of that share (0..1)."""
    # Every point is below 1: a whole fleet need not be hashed to find that all of it takes part.
    return share >= 1 or share_point(device_id, campaign) < share


def backoff_ms(attempt: int, base_ms: int, cap_ms: int, rng: random.Random) -> int:
    """Return how long to wait before reconnecting: full jitter over an exponentially growing span.

    Args:
        attempt: How many attempts have failed in a row, >= 0.
        base_ms: Span after the first failure.
        cap_ms: Largest span.
        rng: Source of randomness.
    Returns:
        Milliseconds, uniform in 0..min(cap_ms, base_ms * 2**attempt).
    Source: AWS Architecture Blog, "Exponential Backoff And Jitter" (2015), "full jitter".
    """
    span = min(cap_ms, base_ms * 2 ** min(attempt, 32))
    return int(rng.random() * span)
