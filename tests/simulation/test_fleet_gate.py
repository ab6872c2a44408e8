"""The gate: nobody is lost in it, it holds its capacity, and a wider one lets nobody in later."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from loadtest.simulation.gate import BIN_S, Passage, Rates, Retry, admitted_shares, arrivals, pass_through
from loadtest.simulation.hashing import F32, U32

BINS = 600
RETRY = Retry(fixed_s=0.5, spread_s=1.0, base_s=0.5, cap_s=4.0)

retries = st.builds(
    Retry,
    fixed_s=st.floats(0.1, 2),
    spread_s=st.floats(0, 2),
    base_s=st.just(0.0) | st.floats(0.001, 1),
    cap_s=st.floats(0, 5),
    tries=st.integers(0, 6),
)
fleets = st.tuples(st.integers(1, 3_000), st.floats(0, 30), st.integers(0, 2**32))


def herd(count: int, over_s: float, seed: int) -> tuple[F32, U32]:
    """Return when so many come, and a random word of each."""
    rng = np.random.Generator(np.random.Philox(seed))
    return (rng.random(count) * over_s).astype(np.float32), rng.integers(0, 2**32, count, dtype=np.uint32)


def through(at_s: F32, whims: U32, room_per_s: float, retry: Retry) -> tuple[Rates, Passage]:
    shares = admitted_shares(arrivals(at_s, BINS), np.full(BINS, room_per_s * BIN_S), retry)
    return shares, pass_through(at_s, whims, shares, retry)


@settings(max_examples=40)
@given(fleets, st.floats(0, 2_000), retries)
def test_everyone_is_let_in_once_or_never_and_no_attempt_is_lost(
    fleet: tuple[int, float, int], room_per_s: float, retry: Retry
) -> None:
    at_s, whims = herd(*fleet)
    _, found = through(at_s, whims, room_per_s, retry)
    inside = np.isfinite(found.admitted_s)
    assert found.admitted.sum() == np.count_nonzero(inside)
    assert (found.admitted <= found.attempts).all()
    assert (found.admitted_s >= at_s).all()
    assert len(at_s) <= found.attempts.sum()
    if retry.tries:
        assert found.attempts.sum() <= retry.tries * len(at_s)


@settings(max_examples=40)
@given(fleets, st.floats(1, 1_000), st.floats(1, 4), retries)
def test_a_wider_gate_lets_nobody_in_later(
    fleet: tuple[int, float, int], room_per_s: float, wider: float, retry: Retry
) -> None:
    at_s, whims = herd(*fleet)
    _, narrow = through(at_s, whims, room_per_s, retry)
    _, wide = through(at_s, whims, room_per_s * wider, retry)
    assert (wide.admitted_s <= narrow.admitted_s).all()
    assert wide.attempts.sum() <= narrow.attempts.sum()


def test_below_its_capacity_it_refuses_nobody() -> None:
    at_s, whims = herd(5_000, 10.0, 1)
    shares, found = through(at_s, whims, 700, RETRY)
    assert (shares == 1).all()
    assert (found.admitted_s == at_s).all()
    assert found.attempts.sum() == 5_000


def test_above_its_capacity_it_needs_arrivals_over_capacity() -> None:
    count, room_per_s = 50_000, 2_000.0
    at_s, whims = herd(count, 1.0, 2)
    _, found = through(at_s, whims, room_per_s, RETRY)
    assert np.isfinite(found.admitted_s).all()
    needs_s = count / room_per_s
    # At work from the first bin until nobody is left but who waits outside, 5.5 s at the longest.
    assert needs_s <= found.admitted_s.max() <= needs_s + 5.5
    busy = found.admitted[: int(needs_s / BIN_S) - 30]
    assert busy.sum() == pytest.approx(len(busy) * room_per_s * BIN_S, rel=0.02)


def test_what_devices_do_is_what_was_expected() -> None:
    at_s, whims = herd(200_000, 2.0, 3)
    retry = Retry(fixed_s=2.5, spread_s=5.0, base_s=1.0, cap_s=32.0, tries=5)
    shares, found = through(at_s, whims, 3_000, retry)
    full = shares < 1
    # The gate's capacity is that of every bin in expectation; a bin of 300 is a Poisson number, their sum is close.
    assert full.sum() > 100
    assert found.admitted[full].sum() == pytest.approx(full.sum() * 3_000 * BIN_S, rel=0.02)
    assert (found.admitted[full] < 300 + 6 * 300**0.5).all()


def test_the_refused_wait_as_long_as_they_were_told() -> None:
    """With a gate that is shut for its first second, then open, second attempts are plain to see."""
    at_s, whims = herd(100_000, 1.0, 4)
    shares = np.ones(BINS)
    shares[:10] = 0
    waits = pass_through(at_s, whims, shares, RETRY).admitted_s - at_s
    # 0.5 + U(0, 1) + U(0, 0.5), and those who came back within the second once more.
    first = waits[at_s > 0.5]
    assert first.min() >= 0.5
    assert first.max() <= 2.0
    assert first.mean() == pytest.approx(1.25, abs=0.01)
