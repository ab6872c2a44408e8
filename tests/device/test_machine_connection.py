"""Staying connected: resuming, syncing, backing off, moving to another gateway."""

from __future__ import annotations

import random

import pytest

from fanout import wire
from fanout.device import DeviceMachine, Reopen

from .driving import (
    BUNDLE,
    EPOCH,
    GRACE_MS,
    POLICY,
    FixedRandom,
    Hand,
    activate,
    beacon,
    connected,
    inline,
    rev_at,
    welcome,
)


def test_a_new_device_says_nothing_about_itself() -> None:
    assert Hand().machine.resume().query() == {}


def test_a_returning_device_says_what_it_holds_and_how_far_it_heard() -> None:
    hand = connected()
    hand.say(activate(-1_000, at=5_000))
    hand.say(inline(-2_000))
    assert hand.machine.resume().query() == {"have": BUNDLE, "since": str(rev_at(-1_000))}


def test_a_beacon_that_knows_more_makes_the_device_ask_once() -> None:
    hand = connected()
    hand.say(inline(-2_000))
    hand.say(beacon(1_000, rev_at(-1_000)), 1_000)
    assert hand.syncs == [wire.Sync(rev_at(-2_000))]
    hand.say(activate(-1_000, at=50_000))
    hand.say(beacon(1_050, rev_at(-1_000)), 1_050)
    hand.say(beacon(11_000, rev_at(-1_000)), 11_000)
    assert len(hand.syncs) == 1


def test_an_answer_without_anything_for_this_device_is_an_answer() -> None:
    hand = connected()
    hand.say(beacon(1_000, rev_at(500)), 1_000)
    hand.say(beacon(1_050, rev_at(500)), 1_050)
    hand.say(beacon(11_000, rev_at(500)), 11_000)
    assert len(hand.syncs) == 1
    assert hand.machine.resume().since == rev_at(500)


def test_a_beacon_that_knows_no_more_is_left_alone() -> None:
    hand = connected()
    hand.say(inline(-2_000))
    hand.say(beacon(1_000, rev_at(-2_000)), 1_000)
    assert not hand.syncs


def test_messages_before_any_welcome_are_ignored() -> None:
    hand = Hand(held=[BUNDLE])
    hand.say(activate(at=0))
    hand.say(inline())
    assert hand.machine.next_due_ms() is None
    assert hand.actions == []


def test_silence_makes_the_device_ask_and_then_open_another_socket() -> None:
    hand = connected()
    hand.run(2 * GRACE_MS - 1, beacons=False)
    assert len(hand.syncs) == 1
    assert Reopen() not in hand.actions
    backoff_ms = POLICY.base_ms / 2
    hand.run(2 * GRACE_MS + backoff_ms - 1, beacons=False)
    assert Reopen() not in hand.actions, "others heard the same last, and do not all come now"
    hand.run(2 * GRACE_MS + backoff_ms, beacons=False)
    assert hand.actions[-1] == Reopen()
    hand.run(3 * GRACE_MS, beacons=False)
    assert hand.actions.count(Reopen()) == 1, "one at a time"


def test_told_to_reconnect_a_device_does_so_within_the_time_given() -> None:
    hand = connected(rng=FixedRandom(0.25))
    hand.say(wire.Reconnect(8_000))
    hand.run(1_999)
    assert Reopen() not in hand.actions
    hand.run(2_000)
    assert hand.actions.count(Reopen()) == 1
    hand.say(welcome(2_100), 2_100)
    hand.run(100_000)
    assert hand.actions.count(Reopen()) == 1


def test_a_welcome_makes_a_planned_move_unnecessary() -> None:
    hand = connected()
    hand.say(wire.Reconnect(8_000))
    hand.say(welcome(1_000), 1_000)
    hand.run(100_000)
    assert Reopen() not in hand.actions


def test_a_failed_move_is_tried_again_with_backoff() -> None:
    hand = connected()
    hand.say(wire.Reconnect(0))
    hand.run(0)
    hand.machine.reopen_failed(0, status=503, retry_after_ms=3_000)
    hand.run(3_000)
    assert hand.actions.count(Reopen()) == 1
    hand.run(3_000 + POLICY.base_ms)
    assert hand.actions.count(Reopen()) == 2


def test_moving_reports_what_is_shown_to_the_new_gateway() -> None:
    hand = connected(held=[BUNDLE])
    hand.say(activate(at=0, window_ms=0))
    hand.run(1)
    hand.say(welcome(1_000), 1_000)
    assert hand.reports()[-1] == wire.Report("cup", rev_at(-1_000), "active", 0, "resume")


def test_backoff_is_full_jitter_over_a_span_that_doubles_up_to_the_cap() -> None:
    for value in (0.0, 0.5, 0.999):
        hand = connected(rng=FixedRandom(value))
        waits = [hand.machine.disconnected(0.0) for _ in range(8)]
        spans = [500, 1_000, 2_000, 4_000, 8_000, 16_000, 20_000, 20_000]
        assert waits == [int(value * span) for span in spans]


def test_only_a_connection_that_lasted_ends_the_backoff() -> None:
    hand = Hand(rng=FixedRandom(1.0))
    for n in range(5):
        hand.say(welcome(n))
        at = hand.machine.disconnected(hand.now)
        assert at is not None
        assert at - hand.now == 500 * 2**n, "welcomed and thrown out again: ever slower"
    hand.say(welcome())
    hand.run(POLICY.cap_ms)
    assert hand.machine.disconnected(hand.now) == hand.now + 500


def test_retry_after_is_waited_for_and_the_jitter_comes_on_top() -> None:
    hand = connected(rng=FixedRandom(0.5))
    assert hand.machine.disconnected(100.0, status=503, retry_after_ms=7_000) == 100 + 7_000 + 250


@pytest.mark.parametrize("code", [4500, 4501, 4999])
def test_a_terminal_code_is_obeyed(code: int) -> None:
    assert connected().machine.disconnected(0.0, code=code) is None


@pytest.mark.parametrize("code", [None, 1000, 1001, 1006, 1011, 1012, 1013, 4000, 4001, 4002, 4499])
def test_any_other_code_means_coming_back(code: int | None) -> None:
    assert connected().machine.disconnected(0.0, code=code) is not None


@pytest.mark.parametrize(
    "broken", [{"code": 1002}, {"code": 1009}, {"status": 400}, {"status": 403}, {"status": 404}]
)
def test_a_device_that_is_called_broken_waits_longest(broken: dict[str, int]) -> None:
    hand = connected(rng=FixedRandom(0.5))
    assert hand.machine.disconnected(0.0, **broken) == POLICY.cap_ms / 2


def test_a_fleet_cut_off_at_one_instant_comes_back_spread_evenly() -> None:
    rng = random.Random(7)
    back = []
    for n in range(1_000):
        machine = DeviceMachine(f"tv-{n}", rng=rng)
        machine.received(wire.Welcome("s", EPOCH, 10.0, wire.ReconnectPolicy(10_000, 10_000)), 0.0)
        at = machine.disconnected(0.0, code=1012)
        assert at is not None
        back.append(at)
    counts = [sum(1 for at in back if low <= at < low + 1_000) for low in range(0, 10_000, 1_000)]
    assert sum(counts) == 1_000
    assert max(counts) < 2 * min(counts)


def test_a_late_answer_of_the_old_socket_is_one_more_message() -> None:
    hand = connected(held=[BUNDLE])
    hand.say(welcome(1_000), 1_000)
    hand.say(activate(at=5_000), 1_001)
    hand.say(activate(at=5_000), 1_002)
    hand.run(10_000)
    assert len(hand.flips) == 1


def test_reports_go_nowhere_while_there_is_no_socket() -> None:
    hand = connected()
    hand.machine.disconnected(0.0)
    hand.say(inline())
    assert hand.stores
    assert not hand.reports()
