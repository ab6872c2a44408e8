"""Laws of the store's clock as seen from here. Pure."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from fanout.bus.clock import SAMPLES, StoreClock

OFFSETS_MS = st.integers(-(10**12), 10**12)
INSTANTS_MS = st.integers(0, 10**9)
# How long a question and its answer are on their way, ms.
DELAYS_MS = st.tuples(st.integers(0, 5_000), st.integers(0, 5_000))


def asked(clock: StoreClock, at_ms: int, offset_ms: int, delays_ms: tuple[int, int]) -> None:
    """Ask a store whose clock is ``offset_ms`` ahead of our monotonic one."""
    there, back = delays_ms
    clock.sample(at_ms, at_ms + there + back, at_ms + there + offset_ms)


@given(st.floats(0, 10**13), INSTANTS_MS)
def test_before_the_first_answer_this_hosts_clock_has_to_do(wall_ms: float, now_ms: int) -> None:
    assert StoreClock(wall_ms).now_ms(now_ms) == int(now_ms + wall_ms)


@given(OFFSETS_MS, st.lists(st.tuples(INSTANTS_MS, DELAYS_MS), min_size=1, max_size=SAMPLES), INSTANTS_MS)
def test_the_estimate_is_never_further_off_than_half_the_shortest_round_trip(
    offset_ms: int, questions: list[tuple[int, tuple[int, int]]], now_ms: int
) -> None:
    clock = StoreClock(0)
    for at_ms, delays_ms in questions:
        asked(clock, at_ms, offset_ms, delays_ms)
    shortest_ms = min(sum(delays_ms) for _, delays_ms in questions)
    assert abs(clock.now_ms(now_ms) - (now_ms + offset_ms)) <= shortest_ms / 2 + 1


@given(OFFSETS_MS, OFFSETS_MS, DELAYS_MS, INSTANTS_MS)
def test_a_store_with_another_clock_is_believed_once_the_old_answers_have_left(
    old_ms: int, new_ms: int, delays_ms: tuple[int, int], now_ms: int
) -> None:
    clock = StoreClock(0)
    asked(clock, now_ms, old_ms, (0, 0))
    for _ in range(SAMPLES):
        asked(clock, now_ms, new_ms, delays_ms)
    assert abs(clock.now_ms(now_ms) - (now_ms + new_ms)) <= sum(delays_ms) / 2 + 1


@given(OFFSETS_MS, DELAYS_MS, INSTANTS_MS, st.integers(0, 10**6))
def test_between_answers_it_goes_as_fast_as_our_own(
    offset_ms: int, delays_ms: tuple[int, int], now_ms: int, later_ms: int
) -> None:
    clock = StoreClock(0)
    asked(clock, now_ms, offset_ms, delays_ms)
    assert abs(clock.now_ms(now_ms + later_ms) - clock.now_ms(now_ms) - later_ms) <= 1
