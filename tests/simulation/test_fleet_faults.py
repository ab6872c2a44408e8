"""What goes wrong: gateways and zones that die, devices that were away, late timers, clocks; all by the protocol."""

from __future__ import annotations

import numpy as np
import pytest

from loadtest.simulation.crowd import Crowd
from loadtest.simulation.draws import Ways
from loadtest.simulation.policies import CATCH_UP_S
from loadtest.simulation.scenario import REGIONS, Region
from loadtest.simulator import simulate

from .nights import night, quiet


def test_armed_devices_flip_though_their_gateway_is_dead() -> None:
    """It dies when everybody has heard; slots are within the grace, so nobody waits for a new connection."""
    calm = night(quiet(), "inline")
    dead = night(quiet(gateway_dies_s=4.0, admit_per_s=0.1), "inline")
    assert np.isinf(dead.crowd.welcomed_s).any()
    assert (dead.flips_s == calm.flips_s).all()


def test_who_lost_its_gateway_before_its_turn_hears_from_the_welcome() -> None:
    asked = quiet(gateway_dies_s=2.0, sends_per_s=1_000.0, admit_per_s=100.0, ahead_s=0.0)
    found = night(asked, "inline")
    crowd = found.crowd
    heard_s = crowd.heard_s(0.0)
    # The last worker has the last quarter of the devices, and writes a thousand a second.
    assert (heard_s[:17_000] == crowd.sent_s[:17_000]).all()
    assert (heard_s[15_000:17_000] <= 2.0).all()
    late = heard_s[17_000:]
    assert (late > 2.0).all()
    # 5,000 handshakes at 300 a second, and the longest wait outside.
    assert np.isfinite(late).all()
    assert late.max() == pytest.approx(2 + 5_000 / 300, abs=7.5 + 20)
    assert (found.flips_s >= heard_s).all()


def test_who_is_outside_for_longer_than_the_grace_fires_nothing_until_its_welcome() -> None:
    """Rule 23, with a beacon a second: armed slots after the third second of silence wait for the welcome."""
    asked = quiet(gateway_dies_s=5.0, beacon_s=1.0, admit_per_s=100.0, ahead_s=5.0)
    found = night(asked, "inline")
    crowd = found.crowd
    slot_s = crowd.slots_s[crowd.back] + np.float32(5.0)
    flips_s = found.flips_s[crowd.back]
    doubtful = (slot_s > 8.0) & (crowd.welcomed_s > slot_s)
    assert doubtful.sum() > 100
    assert (flips_s[doubtful] == crowd.welcomed_s[doubtful]).all()
    assert (flips_s[~doubtful] == slot_s[~doubtful]).all()


def test_who_comes_back_after_the_window_flips_at_its_catch_up_slot() -> None:
    found = night(quiet(offline_share=0.5, offline_s=100.0), "inline")
    crowd = found.crowd
    heard_s = crowd.heard_s(0.0)
    over = heard_s >= 5 + 45
    assert over.sum() > 4_000
    after_s = (found.flips_s - heard_s)[over]
    assert after_s.min() >= 0
    assert after_s.max() < CATCH_UP_S + 1e-3
    # Its own slot of the protocol, not just any.
    assert np.allclose(after_s, crowd.slots_s[over] / 45 * CATCH_UP_S, atol=2e-3)
    passed = crowd.offline & ~over & (heard_s > 5 + crowd.slots_s)
    assert (found.flips_s[passed] == heard_s[passed]).all()


def test_late_timers_make_late_flips_and_only_theirs() -> None:
    calm, late = night(quiet(), "inline"), night(quiet(late_share=0.2, late_ms=800.0), "inline")
    behind_s = late.flips_s - calm.flips_s
    assert np.count_nonzero(behind_s) / 20_000 == pytest.approx(0.2, abs=0.02)
    assert behind_s.max() <= 0.8 + 1e-4
    assert behind_s[behind_s > 0].mean() == pytest.approx(0.4, abs=0.02)


def test_herds_that_come_back_are_those_of_the_operations_page() -> None:
    """docs/operations.md simulates gateway and devices attempt by attempt: a worker of 100,000 dies, of five."""
    asked = quiet(devices=250_000, workers=5, connections_max=100_000, gateway_dies_s=0.0, admit_per_s=2_000.0)
    back_s = np.sort(night(asked, "inline").crowd.welcomed_s)
    # Half as many devices at half the rate: half are back after 5 s, 99 % after 14, all after 16, says the page.
    assert len(back_s) == 50_000
    assert back_s[25_000] == pytest.approx(5, abs=1)
    assert back_s[49_500] == pytest.approx(14, abs=1.5)
    assert back_s[-1] == pytest.approx(16, abs=2)


def test_a_zone_that_dies_takes_its_share_of_the_devices_and_the_others_take_them_in() -> None:
    asked = quiet(workers=10, zone_share=0.3, zone_dies_s=1.0, admit_per_s=1_000.0)
    (figures,) = simulate(asked, ["inline"], processes=1).policies
    crowd = Crowd(asked, 0, None)
    assert len(crowd.back) == 6_000
    assert figures.never == 0
    assert figures.handshakes_per_s_peak >= 6_000
    # They come within half a second and its ways, when seven workers admit 1,000 a second each.
    assert figures.handshakes_refused >= 6_000 - 7_000 * 0.6


def test_ways_have_their_medians_and_percentiles() -> None:
    crowd = Crowd(quiet(devices=200_000, workers=4, regions=REGIONS), 0, None)
    below = [np.count_nonzero(crowd.way_s <= region.median_ms / 1000) for region in REGIONS]
    ways = Ways(REGIONS, 8).delays(np.arange(65_536, dtype=np.uint16))
    expected = [np.count_nonzero(ways <= region.median_ms / 1000) / 65_536 for region in REGIONS]
    assert np.array(below) / 200_000 == pytest.approx(expected, abs=0.005)
    one = Region(name="one", share=1.0, median_ms=40.0, p99_ms=250.0)
    alone = Ways((one,), 8).delays(np.arange(65_536, dtype=np.uint16))
    assert np.quantile(alone, 0.5) == pytest.approx(0.040, rel=0.001)
    assert np.quantile(alone, 0.99) == pytest.approx(0.250, rel=0.001)


def test_clocks_are_late_by_the_least_of_their_samples() -> None:
    region = (Region(name="one", share=1.0, median_ms=40.0, p99_ms=250.0),)
    rng = np.random.Generator(np.random.Philox(1))
    asked = quiet(devices=200_000, workers=4, regions=region, clock_samples=8)
    sigma = np.log(250 / 40) / 2.3263
    least = (0.040 * np.exp(sigma * rng.standard_normal((8, 200_000)))).min(axis=0)
    clock_s = Crowd(asked, 0, None).clock_s
    for share in (0.1, 0.5, 0.9):
        assert np.quantile(clock_s, share) == pytest.approx(np.quantile(least, share), rel=0.02)
