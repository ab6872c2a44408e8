"""Laws of `fanout.slots`: the same everywhere (mmh3 is the oracle), in range, and spread evenly."""

from __future__ import annotations

import json
import math
import random
from pathlib import Path
from typing import Any

import mmh3
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from fanout import limits, slots

VECTORS = json.loads((Path(__file__).parents[1] / "vectors" / "slots.json").read_text("utf-8"))

device_ids = st.text(min_size=1, max_size=limits.DEVICE_ID_CHARS_MAX)
revs = st.integers(0, 2**53 - 1)
windows = st.integers(0, limits.PREFETCH_WINDOW_MS_MAX)
campaigns = st.text(min_size=1, max_size=limits.NAME_CHARS_MAX)


def oracle(data: bytes, seed: int) -> int:
    return mmh3.hash(data, seed % 2**32, signed=False)


@given(st.binary(max_size=140), st.integers(0, 2**64))
@example(b"", 0)
@example(b"\xff\xff\xff", 2**32 - 1)
def test_the_hash_is_murmur3(data: bytes, seed: int) -> None:
    assert slots.murmur3_32(data, seed) == oracle(data, seed)


@given(device_ids, revs, windows)
def test_a_slot_is_its_share_of_the_window_rounded_down(device_id: str, rev: int, window_ms: int) -> None:
    # In integers, so that a rounding error of the doubles would show.
    assert slots.slot_ms(device_id, rev, window_ms) == oracle(device_id.encode(), rev) * window_ms // 2**32


@given(device_ids, revs, windows)
def test_a_slot_lies_within_its_window(device_id: str, rev: int, window_ms: int) -> None:
    slot = slots.slot_ms(device_id, rev, window_ms)
    assert 0 <= slot < max(window_ms, 1)


@given(device_ids, revs, windows, windows)
def test_a_wider_window_never_brings_a_device_forward(device_id: str, rev: int, one: int, other: int) -> None:
    narrow, wide = sorted((one, other))
    assert slots.slot_ms(device_id, rev, narrow) <= slots.slot_ms(device_id, rev, wide)


@given(device_ids, revs, st.integers(max_value=-1))
def test_a_negative_window_is_refused(device_id: str, rev: int, window_ms: int) -> None:
    with pytest.raises(ValueError, match="window_ms"):
        slots.slot_ms(device_id, rev, window_ms)


# --- Spread. The ids are fixed, so these give the same figures on every machine, for ever.

FLEET = [f"tv-{number:08d}" for number in range(50_000)]


def chi_square(counts: list[int]) -> float:
    expected = sum(counts) / len(counts)
    return sum((count - expected) ** 2 / expected for count in counts)


@pytest.mark.parametrize("rev", [0, 1_795_000_000_123, 1_795_000_000_124])
def test_consecutive_ids_spread_evenly_over_the_window(rev: int) -> None:
    counts = [0] * 100
    for device_id in FLEET:
        counts[slots.slot_ms(device_id, rev, 60_000) // 600] += 1
    # 99 degrees of freedom: an even spread stays below 148.2 in 999 of 1,000 fleets.
    assert chi_square(counts) < 148.2


def test_a_new_revision_deals_the_slots_anew() -> None:
    # Nobody is always last: knowing a slot in one window says nothing about the next.
    counts = [0] * 100
    for device_id in FLEET:
        first = slots.slot_ms(device_id, 1_795_000_000_123, 60_000) // 6_000
        second = slots.slot_ms(device_id, 1_795_000_060_456, 60_000) // 6_000
        counts[first * 10 + second] += 1
    assert chi_square(counts) < 148.2


def test_a_share_selects_that_share_of_the_fleet() -> None:
    for share in (0.01, 0.1, 0.5):
        chosen = sum(slots.in_share(device_id, "final-2026", share) for device_id in FLEET)
        deviation = math.sqrt(len(FLEET) * share * (1 - share))
        assert abs(chosen - len(FLEET) * share) < 4 * deviation


def test_a_canary_is_spread_over_the_window_like_the_fleet() -> None:
    # The two hashes are seeded differently, or a 10 % canary would flip within 10 % of its window.
    counts = [0] * 20
    for device_id in FLEET:
        if slots.in_share(device_id, "final-2026", 0.1):
            counts[slots.slot_ms(device_id, 1_795_000_000_123, 60_000) // 3_000] += 1
    # 19 degrees of freedom, 999 of 1,000.
    assert chi_square(counts) < 43.8


# --- Shares


@given(device_ids, campaigns, st.floats(0, 1), st.floats(0, 1))
def test_widening_a_share_only_adds_devices(device_id: str, campaign: str, one: float, other: float) -> None:
    narrow, wide = sorted((one, other))
    if slots.in_share(device_id, campaign, narrow):
        assert slots.in_share(device_id, campaign, wide)


@given(device_ids, campaigns)
def test_share_zero_is_nobody_and_share_one_is_everybody(device_id: str, campaign: str) -> None:
    assert not slots.in_share(device_id, campaign, 0.0)
    assert slots.in_share(device_id, campaign, 1.0)
    assert 0 <= slots.share_point(device_id, campaign) < 1


# --- Backoff


@given(st.integers(0, 10_000), st.integers(0, 60_000), st.integers(0, 600_000), st.integers(0, 2**32))
def test_a_backoff_stays_within_its_span(attempt: int, base_ms: int, cap_ms: int, seed: int) -> None:
    wait = slots.backoff_ms(attempt, base_ms, cap_ms, random.Random(seed))
    assert 0 <= wait <= min(cap_ms, base_ms * 2**attempt)


def test_backoffs_fill_their_span() -> None:
    rng = random.Random(1)
    counts = [0] * 20
    for _ in range(20_000):
        counts[slots.backoff_ms(3, 500, 30_000, rng) // 200] += 1
    # Full jitter over 4,000 ms; 19 degrees of freedom, 999 of 1,000.
    assert chi_square(counts) < 43.8


# --- Vectors


@pytest.mark.parametrize("case", VECTORS["murmur3"], ids=lambda case: f"{case['utf8'][:16]}-{case['seed']}")
def test_the_murmur3_vectors_hold(case: dict[str, Any]) -> None:
    data = bytes.fromhex(case["utf8"])
    assert case["text"] is None or case["text"].encode() == data
    assert oracle(data, case["seed"]) == case["hash"]
    assert slots.murmur3_32(data, case["seed"]) == case["hash"]


@pytest.mark.parametrize("case", VECTORS["slots"], ids=lambda case: f"{case['device_id'][:9]}-{case['rev']}")
def test_the_slot_vectors_hold(case: dict[str, Any]) -> None:
    device_id, rev, window_ms = case["device_id"], case["rev"], case["window_ms"]
    assert oracle(device_id.encode(), rev) * window_ms // 2**32 == case["slot_ms"]
    assert slots.slot_ms(device_id, rev, window_ms) == case["slot_ms"]


@pytest.mark.parametrize("case", VECTORS["share"], ids=lambda case: f"{case['device_id'][:9]}-{case['campaign']}")
def test_the_share_vectors_hold(case: dict[str, Any]) -> None:
    device_id, campaign = case["device_id"], case["campaign"]
    assert oracle(device_id.encode(), oracle(campaign.encode(), 0)) == case["hash"]
    assert slots.share_point(device_id, campaign) == case["point"] == case["hash"] / 2**32


def test_the_vectors_cover_every_length_of_tail_and_wide_revisions() -> None:
    assert VECTORS["about"]
    assert {len(bytes.fromhex(case["utf8"])) % 4 for case in VECTORS["murmur3"]} == {0, 1, 2, 3}
    assert {len(bytes.fromhex(case["utf8"])) for case in VECTORS["murmur3"]} >= {0, 1, 2, 3, 4, 5}
    assert any(not case["text"].isascii() for case in VECTORS["murmur3"] if case["text"])
    assert any(case["rev"] > 2**32 for case in VECTORS["slots"])
