"""The forecast against closed forms, against devices simulated one by one, and its laws."""

from __future__ import annotations

import random

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fanout.errors import InvalidInput
from fanout.forecast import Forecast, Load, Question, forecast

QUIET = Question(workers=(Load(10_000, 50_000),) * 10, ready_share=1.0, window_s=60, ahead_s=30, origin_per_s=5_000)


def asked(**changed: object) -> Forecast:
    return forecast(msgspec.structs.replace(QUIET, **changed))


def test_a_ready_fleet_that_is_armed_ahead_flips_evenly_over_the_window() -> None:
    found = asked()
    assert (found.t50_s, found.t99_s, found.t100_s) == pytest.approx((30, 59.4, 60), abs=0.002)
    assert found.flips_per_s_peak == pytest.approx(100_000 / 60)
    assert (found.devices, found.flips, found.unready) == (100_000, 100_000, 0)
    assert (found.origin_per_s_peak, found.window_s_min, found.window_s_safe) == (0, 0, 0)
    assert (found.curve[0], found.curve[-1]) == (0, 100_000)


def test_pressed_without_a_lead_the_slowest_worker_is_the_physical_minimum() -> None:
    found = asked(workers=(Load(100_000, 20_000), Load(10_000, 20_000)), ahead_s=0, window_s=2)
    assert found.window_s_min == 5
    assert found.t100_s == 5
    # A device flips at its slot or when it is told, so the first second belongs to neither alone.
    assert found.curve[1] == pytest.approx(100_000 * (1 / 5) * (1 / 2) + 10_000 / 2, abs=1)


def test_who_is_not_ready_asks_the_origin_over_the_window() -> None:
    found = asked(ready_share=0.7, fetched_bytes=40_000)
    assert found.unready == 30_000
    assert found.origin_per_s_peak == pytest.approx(500)
    assert found.origin_bytes_per_s_peak == pytest.approx(500 * 40_000)
    assert found.within_budget
    assert found.window_s_safe == pytest.approx(6)


def test_a_window_too_small_for_the_origin_is_said_to_be_with_the_one_that_is_not() -> None:
    found = asked(ready_share=0.5, fetched_bytes=40_000, window_s=5)
    assert found.origin_per_s_peak == pytest.approx(10_000)
    assert not found.within_budget
    # The origin gives 5,000 a second whatever is asked of it.
    assert found.window_s_safe == found.t100_s == pytest.approx(10)
    assert asked(ready_share=0.5, fetched_bytes=40_000, window_s=found.window_s_safe).within_budget


def test_a_prefetch_that_goes_on_takes_some_of_the_load_before_the_instant() -> None:
    # Half of the 60,000 fetch in the 30 s before the instant, 2,000 a second.
    found = asked(ready_share=0.4, fetched_bytes=40_000, prefetch_left_s=60, window_s=60)
    assert found.origin_per_s_peak == pytest.approx(30_000 / 30 + 30_000 / 60, rel=0.02)
    # With a short window, those who are left ask at both slots.
    found = asked(ready_share=0.4, fetched_bytes=40_000, prefetch_left_s=60, window_s=15)
    assert found.origin_per_s_peak == pytest.approx(30_000 / 30 + 30_000 / 15, rel=0.05)
    over = asked(ready_share=0.4, fetched_bytes=40_000, prefetch_left_s=20, window_s=60)
    assert over.origin_per_s_peak == pytest.approx(60_000 / 20)
    assert over.window_s_safe == 0


@pytest.mark.parametrize(("miss", "fetched_bytes"), [("generic", 40_000), ("silent", 40_000), ("fetch", 0)])
def test_nobody_asks_the_origin_when_a_miss_is_not_fetched(miss: str, fetched_bytes: int) -> None:
    assert asked(ready_share=0.5, miss=miss, fetched_bytes=fetched_bytes).origin_per_s_peak == 0


def test_devices_that_stay_silent_never_flip_and_no_time_is_promised_for_them() -> None:
    found = asked(ready_share=0.9, miss="silent")
    assert (found.flips, found.t99_s, found.t100_s) == (90_000, None, None)
    assert found.t50_s is not None


def test_a_canary_is_a_smaller_fleet() -> None:
    found = asked(share=0.05)
    assert found.devices == 5_000
    assert found.t50_s == pytest.approx(30, abs=0.002)


def test_a_window_of_nothing_is_a_herd_and_is_called_one() -> None:
    found = asked(window_s=0, ready_share=0.9, fetched_bytes=1)
    assert found.flips_per_s_peak >= 90_000
    assert found.origin_per_s_peak == pytest.approx(10_000)


def test_an_empty_fleet_has_a_forecast_too() -> None:
    found = asked(workers=())
    assert (found.devices, found.t100_s, found.curve[-1]) == (0, None, 0)


@pytest.mark.parametrize(
    "changed",
    [
        {"ready_share": 1.1},
        {"share": 0},
        {"window_s": -1},
        {"ahead_s": -1},
        {"origin_per_s": 0},
        {"workers": (Load(1, 0),)},
    ],
)
def test_a_question_that_makes_no_sense_is_refused(changed: dict[str, object]) -> None:
    with pytest.raises(InvalidInput, match="send"):
        asked(**changed)


questions = st.builds(
    Question,
    workers=st.lists(st.builds(Load, st.integers(1, 50_000), st.integers(1_000, 100_000)), min_size=1, max_size=5),
    ready_share=st.floats(0, 1),
    window_s=st.floats(0, 120),
    ahead_s=st.sampled_from((0, 1, 30)),
    share=st.sampled_from((0.1, 1.0)),
    miss=st.sampled_from(("fetch", "generic", "silent")),
    fetched_bytes=st.sampled_from((0, 40_000)),
    prefetch_left_s=st.sampled_from((0, 5, 60)),
    origin_per_s=st.integers(10, 10_000),
)


@given(questions)
def test_laws(question: Question) -> None:
    found = forecast(question)
    assert list(found.curve) == sorted(found.curve)
    assert found.curve[-1] == pytest.approx(found.flips, abs=1)
    times = [each for each in (found.t50_s, found.t99_s, found.t100_s) if each is not None]
    assert times == sorted(times)
    wider = forecast(msgspec.structs.replace(question, window_s=question.window_s + 10))
    assert wider.origin_per_s_peak <= found.origin_per_s_peak
    assert found.flips_per_s_peak >= found.flips / (found.curve_step_s * len(found.curve) + 1) - 1
    safe = forecast(msgspec.structs.replace(question, window_s=found.window_s_safe + 1))
    prefetches = found.unready / question.prefetch_left_s if question.prefetch_left_s else 0
    assert safe.within_budget or prefetches >= question.origin_per_s or question.prefetch_left_s <= 6


def test_devices_simulated_one_by_one_agree() -> None:
    rng = random.Random(7)
    workers = (Load(20_000, 5_000), Load(5_000, 10_000))
    flips = sorted(
        max(rng.uniform(0, 10), rng.uniform(0, worker.delivery_s) - 1)
        for worker in workers
        for _ in range(worker.devices)
    )
    found = asked(workers=workers, window_s=10, ahead_s=1)
    for share, at_s in ((0.5, found.t50_s), (0.99, found.t99_s)):
        assert at_s == pytest.approx(flips[int(len(flips) * share)], rel=0.01)
    for second in range(11):
        simulated = sum(flip <= second for flip in flips)
        assert found.curve[second] == pytest.approx(simulated, abs=25_000 * 0.01)
