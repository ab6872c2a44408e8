"""Laws of a simulated night, on small fleets, device by device, and the closed forms it has to meet."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from fanout.forecast import Load, Question, forecast
from loadtest.simulation.figures import LEAD_S
from loadtest.simulation.policies import POLICIES
from loadtest.simulation.scenario import REGIONS, Scenario
from loadtest.simulator import simulate

from .nights import night, quantile_s, quiet

TWO_PHASE = [name for name, policy in POLICIES.items() if policy.prefetches or policy.inline]


@st.composite
def nights(draw: st.DrawFn, **fixed: Any) -> Scenario:
    """Return a small fleet on a bad night: away, late, unready, with too small an origin, and with faults."""
    asked: dict[str, Any] = {
        "devices": draw(st.integers(50, 3_000)),
        "workers": draw(st.integers(4, 9)),
        "connections_max": 3_000,
        "seed": draw(st.integers(0, 2**64)),
        "skew": draw(st.sampled_from([0.0, 0.2])),
        "regions": REGIONS,
        "publish_median_ms": 7.0,
        "publish_p99_ms": 50.0,
        "sends_per_s": draw(st.floats(200, 50_000)),
        "admit_per_s": draw(st.floats(5, 500)),
        "offline_share": draw(st.floats(0, 0.3)),
        "offline_s": draw(st.floats(0, 60)),
        "late_share": draw(st.floats(0, 0.3)),
        "gateway_dies_s": draw(st.none() | st.floats(0, 30)),
        "zone_share": draw(st.floats(0, 0.5)),
        "zone_dies_s": draw(st.none() | st.floats(0, 30)),
        "window_s": draw(st.floats(10, 40)),
        "ahead_s": draw(st.sampled_from([0.0, 5.0])),
        "share": draw(st.sampled_from([1.0, 0.4])),
        "ready_share": draw(st.floats(0, 0.9)),
        "ready_gate": 0.95,
        "cdn_hit_ratio": draw(st.floats(0, 1)),
        "origin_per_s": draw(st.floats(1, 500)),
        "prefetch_window_s": 3_600.0,
        "beacon_s": draw(st.sampled_from([2.0, 25.0])),
    }
    return quiet(**{**asked, **fixed})


bad = settings(max_examples=12, suppress_health_check=[HealthCheck.too_slow])


@bad
@given(nights())
def test_every_device_flips_once_or_is_counted_as_never(scenario: Scenario) -> None:
    for figures in simulate(scenario, processes=1).policies:
        assert figures.flipped + figures.never == figures.audience
        assert sum(figures.flips_per_s) == figures.flipped
        assert figures.audience == scenario.devices if scenario.share == 1 else figures.audience < scenario.devices
        assert figures.origin_refused <= figures.origin_requests
        if figures.t100_s is not None:
            assert figures.never == 0


@bad
@given(nights(share=1.0), st.sampled_from(TWO_PHASE))
def test_nobody_flips_before_its_slot_or_before_it_could_have_heard(scenario: Scenario, name: str) -> None:
    found = night(scenario, name)
    crowd = found.crowd
    heard_s = crowd.heard_s(0.0)
    assert (found.flips_s >= heard_s).all()
    # By its own clock the window was still open.
    in_time = heard_s - crowd.clock_s < np.float32(scenario.ahead_s + scenario.window_s)
    assert (found.flips_s[in_time] >= np.float32(scenario.ahead_s) + crowd.slots_s[in_time] - 1e-4).all()
    # The broadcast reaches nobody before the press, and nobody before its worker and its way allow.
    assert (heard_s >= np.minimum(crowd.sent_s, heard_s)).all()
    assert (crowd.sent_s >= 0).all()


@bad
@given(nights(share=1.0), st.sampled_from(["trigger", "trigger-jitter", "polling"]))
def test_nobody_flips_before_the_event_and_an_answer(scenario: Scenario, name: str) -> None:
    found = night(scenario, name)
    assert (found.flips_s >= np.float32(scenario.ahead_s) + 2 * found.crowd.way_s - 1e-4).all()


@bad
@given(nights(share=1.0), st.floats(1, 5), st.sampled_from([name for name in POLICIES if name != "polling"]))
def test_a_larger_origin_is_later_for_nobody(scenario: Scenario, larger: float, name: str) -> None:
    small = night(scenario, name)
    large = night(quiet_like(scenario, origin_per_s=scenario.origin_per_s * larger), name)
    assert (large.flips_s <= small.flips_s).all()


@bad
@given(nights(share=1.0, gateway_dies_s=None, zone_dies_s=None), st.floats(1, 5))
def test_faster_gateways_are_later_for_nobody_who_is_ready(scenario: Scenario, faster: float) -> None:
    slow = night(scenario, "inline")
    fast = night(quiet_like(scenario, sends_per_s=scenario.sends_per_s * faster), "inline")
    here = ~slow.crowd.offline
    assert (fast.flips_s[here] <= slow.flips_s[here] + 1e-4).all()


@bad
@given(nights(share=1.0, gateway_dies_s=None, zone_dies_s=None, offline_share=0.0), st.floats(1, 3))
def test_a_wider_window_flips_nobody_sooner(scenario: Scenario, wider: float) -> None:
    narrow = night(scenario, "inline")
    wide = night(quiet_like(scenario, window_s=min(100.0, scenario.window_s * wider)), "inline")
    assert (wide.flips_s >= narrow.flips_s - 1e-4).all()


def quiet_like(scenario: Scenario, **changed: Any) -> Scenario:
    return quiet(**{**{name: getattr(scenario, name) for name in scenario.__struct_fields__}, **changed})


# --- Closed forms


def test_with_everything_ready_a_share_of_the_fleet_has_flipped_after_that_share_of_the_window() -> None:
    scenario = quiet(devices=200_000, devices_per_worker=50_000)
    (figures,) = simulate(scenario, ["inline"], processes=1).policies
    for share, found in ((0.5, figures.t50_s), (0.99, figures.t99_s), (0.999, figures.t999_s)):
        # Slots are as good as uniform: a quantile is off by 5 standard errors and one bin at the most.
        error_s = 5 * 45 * (share * (1 - share) / scenario.devices) ** 0.5 + 0.01
        assert found == pytest.approx(45 * share, abs=error_s)
    assert figures.t100_s is not None
    assert 45 * (1 - 20 / scenario.devices) < figures.t100_s < 45
    assert figures.flips_per_s_peak == pytest.approx(scenario.devices / 45, rel=0.08)


def test_polls_are_even_over_their_period() -> None:
    found = night(quiet(cdn_hit_ratio=1.0, poll_s=60.0), "polling")
    after_s = found.flips_s - 5
    for share in (0.1, 0.5, 0.9):
        assert quantile_s(after_s, share) == pytest.approx(60 * share, abs=5 * 60 * 0.5 / 20_000**0.5)
    assert after_s.max() < 60.1


def test_polls_beyond_what_the_origin_takes_succeed_with_its_share_every_period() -> None:
    """Everyone polls on, so p = capacity x period / devices each time: after n polls 1 - (1 - p)^n have flipped."""
    found = night(quiet(poll_s=30.0, origin_per_s=20_000 / 30 * 0.4), "polling")
    for polls in (1, 2, 3):
        flipped = np.count_nonzero(found.flips_s <= 5 + 30 * polls) / 20_000
        assert flipped == pytest.approx(1 - 0.6**polls, abs=0.02)


def test_a_trigger_asks_the_origin_as_fast_as_the_gateways_write() -> None:
    (figures,) = simulate(quiet(sends_per_s=1_000.0), ["trigger"], processes=1).policies
    assert figures.origin_requests == 20_000
    assert figures.origin_requests_per_s_peak == pytest.approx(4 * 1_000, rel=0.01)
    assert figures.gateway_sends_per_s_peak == pytest.approx(4 * 1_000, rel=0.01)
    assert figures.t100_s == pytest.approx(5, abs=0.02)


def test_a_trigger_beyond_what_the_origin_takes_needs_requests_over_capacity() -> None:
    (figures,) = simulate(
        quiet(origin_per_s=1_000.0, fetch_tries=64, fetch_cap_ms=4_000.0, horizon_s=300.0), ["trigger"], processes=1
    ).policies
    assert figures.t100_s is not None
    # And at the end there is nobody left but who waits outside: 7.5 s and a backoff of up to 4 s.
    assert 19 <= figures.t100_s <= 20 + 11.5 + 1


def test_who_is_not_ready_fetches_when_due_and_flips_with_the_answer() -> None:
    (figures,) = simulate(
        quiet(ready_share=0.5, ready_gate=0.5, prefetch_window_s=86_400.0), ["two-phase"], processes=1
    ).policies
    assert figures.origin_requests == pytest.approx(10_000, rel=0.05)
    assert figures.origin_requests_per_s_peak == pytest.approx(10_000 / 45, rel=0.3)
    assert figures.never == 0


def test_the_gate_holds_the_press_until_enough_slots_of_the_prefetch_are_past() -> None:
    figures = {
        each.policy: each
        for each in simulate(quiet(ready_share=0.8, ready_gate=0.99), ["two-phase", "two-phase-unready"]).policies
    }
    assert figures["two-phase"].held_s == pytest.approx(0.19 * 3_600)
    assert figures["two-phase-unready"].held_s == 0
    assert figures["two-phase"].origin_requests == pytest.approx(200, rel=0.3)
    assert figures["two-phase-unready"].origin_requests == pytest.approx(4_000, rel=0.1)


@pytest.mark.parametrize(
    ("changed", "asked"),
    [
        ({}, {}),
        ({"ahead_s": 0.0, "sends_per_s": 250.0}, {"ahead_s": 0.0}),
        ({"ready_share": 0.7, "ready_gate": 0.7, "prefetch_window_s": 80_000.0}, {"prefetch_left_s": 24_000.0}),
        (
            {"ready_share": 0.7, "ready_gate": 0.7, "prefetch_window_s": 100.0, "ahead_s": 10.0, "origin_per_s": 1e5},
            {"ahead_s": 10.0, "prefetch_left_s": 30.0, "origin_per_s": 1e5},
        ),
    ],
)
def test_it_agrees_with_the_forecast_where_the_forecast_knows_enough(
    changed: dict[str, Any], asked: dict[str, Any]
) -> None:
    scenario = quiet(**changed)
    (figures,) = simulate(scenario, ["two-phase"], processes=1).policies
    expected = forecast(
        Question(
            workers=[Load(devices=5_000, sends_per_s=scenario.sends_per_s)] * 4,
            ready_share=scenario.ready_share,
            window_s=45.0,
            fetched_bytes=scenario.bundle_bytes,
            **{"ahead_s": 5.0, "origin_per_s": scenario.origin_per_s, **asked},
        )
    )
    assert figures.t50_s == pytest.approx(expected.t50_s, rel=0.02)
    assert figures.t99_s == pytest.approx(expected.t99_s, rel=0.01)
    assert figures.t100_s == pytest.approx(expected.t100_s, rel=0.01)
    assert figures.flips_per_s_peak == pytest.approx(expected.flips_per_s_peak, rel=0.2)
    # A busiest second of so few is a matter of luck: 5 standard errors above an even one.
    peak = expected.origin_per_s_peak
    since_press = figures.origin_requests_per_s[LEAD_S - int(scenario.ahead_s) :]
    assert peak * 0.9 - 1 <= max(since_press, default=0) <= peak + 5 * peak**0.5


# --- The same answer


def test_a_million_devices_come_to_the_same_in_two_processes_and_in_other_batches() -> None:
    scenario = Scenario(devices=1_000_000, zone_dies_s=2.0, zone_share=0.2, horizon_s=120.0)
    one = simulate(scenario, ["two-phase"], processes=1)
    two = simulate(scenario, ["two-phase"], processes=2, batch_chunks=1)
    assert one == two
    (figures,) = one.policies
    assert figures.audience == 1_000_000


def test_another_seed_is_another_night() -> None:
    (one,) = simulate(quiet(seed=1, poll_s=30.0), ["polling"], processes=1).policies
    (two,) = simulate(quiet(seed=2, poll_s=30.0), ["polling"], processes=1).policies
    assert one.flips_per_s != two.flips_per_s
