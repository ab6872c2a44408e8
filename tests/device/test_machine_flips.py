"""What a device does at its instant: late, moved, cancelled, rehearsed, without its bundle, in doubt."""

from __future__ import annotations

import pytest

from fanout import slots, wire
from fanout.device import Cancelled, Closed, Drop, Flip
from fanout.device.campaigns import TOMBSTONES_MAX
from fanout.device.lanes import STAGE_LANE_MAX
from fanout.device.shelf import TRIES_MAX

from .driving import (
    BUNDLE,
    EPOCH,
    GRACE_MS,
    OTHER_BUNDLE,
    Hand,
    activate,
    beacon,
    cancel,
    close,
    connected,
    inline,
    prefetch,
    rev_at,
    welcome,
)


def slot(rev: int, window_ms: int, device: str = "tv-1") -> int:
    return slots.slot_ms(device, rev_at(rev), window_ms)


def test_an_armed_device_flips_at_its_slot_and_reports_it() -> None:
    hand = connected(held=[BUNDLE])
    hand.say(activate(-1_000, at=5_000, window_ms=1_000))
    due = 5_000 + slot(-1_000, 1_000)
    hand.run(due - 1)
    assert not hand.flips
    hand.run(due)
    assert hand.flips == [Flip("cup", rev_at(-1_000), "live", BUNDLE, False, EPOCH + due, 0.0)]
    assert hand.reports() == [wire.Report("cup", rev_at(-1_000), "active", 0, "cache")]


def test_a_flip_that_comes_late_says_by_how_much() -> None:
    hand = connected(held=[BUNDLE])
    hand.say(activate(at=5_000))
    due = 5_000 + slot(-1_000, 1_000)
    hand.note(hand.machine.due(due + 70))
    (report,) = hand.reports("active")
    assert report.ms == hand.flips[0].late_ms == 70


def test_a_slot_that_has_just_passed_means_at_once() -> None:
    hand = connected(held=[BUNDLE])
    now = 5_000 + slot(-1_000, 10_000) + 1
    hand.say(activate(at=5_000, window_ms=10_000), now)
    assert hand.machine.next_due_ms() <= now
    hand.run(now)
    assert len(hand.flips) == 1


def test_after_the_window_a_device_flips_at_a_slot_of_a_short_one() -> None:
    hand = connected(held=[BUNDLE])
    hand.run(65_000)
    hand.say(activate(at=5_000, window_ms=60_000))
    hand.run(200_000)
    (flip,) = hand.flips
    assert flip.due_ms == EPOCH + 65_000 + slot(-1_000, wire.CATCH_UP_MS)
    assert hand.reports("active")[0].ms == 0


def test_of_several_activations_that_came_too_late_only_the_newest_is_shown() -> None:
    for device in (f"tv-{n}" for n in range(20)):
        hand = Hand(device, held=[BUNDLE])
        past = [activate(0, at=0, stage="upcoming"), activate(10_000, at=10_000, stage="live")]
        hand.say(welcome(50_000, past), 50_000)
        hand.run(100_000)
        assert [flip.stage for flip in hand.flips] == ["live"]


def test_an_event_that_moves_supersedes_what_was_armed() -> None:
    hand = connected(held=[BUNDLE])
    hand.say(activate(-1_000, at=5_000))
    hand.say(activate(1_000, at=60_000), 1_000)
    hand.run(100_000)
    assert [flip.rev for flip in hand.flips] == [rev_at(1_000)]
    assert hand.flips[0].due_ms == EPOCH + 60_000 + slot(1_000, 1_000)


def test_a_cancelled_activation_never_fires_and_the_app_is_told_once() -> None:
    hand = connected(held=[BUNDLE])
    hand.say(activate(-1_000, at=5_000))
    hand.say(cancel(1_000), 1_000)
    hand.say(cancel(1_000))
    hand.say(activate(-1_000, at=5_000))
    hand.run(100_000)
    assert not hand.flips
    assert [a for a in hand.actions if isinstance(a, Cancelled)] == [Cancelled("cup", rev_at(1_000))]


def test_a_cancel_that_overtakes_its_activation_counts_all_the_same() -> None:
    hand = connected(held=[BUNDLE])
    hand.say(cancel(1_000), 1_000)
    hand.say(activate(-1_000, at=5_000))
    hand.run(100_000)
    assert not hand.flips


def test_a_retract_shows_the_stage_before() -> None:
    hand = connected(held=[BUNDLE])
    hand.say(activate(-1_000, at=0, stage="upcoming"))
    hand.run(10_000)
    hand.say(activate(10_000, at=10_000, stage="live"))
    hand.run(20_000)
    hand.say(activate(20_000, at=20_000, window_ms=0, stage="upcoming"))
    hand.run(30_000)
    assert [flip.stage for flip in hand.flips] == ["upcoming", "live", "upcoming"]


def test_publishing_the_same_again_is_reported_but_shown_once() -> None:
    hand = connected(held=[BUNDLE])
    hand.say(activate(0, at=0))
    hand.run(10_000)
    hand.say(activate(10_000, at=10_000))
    hand.run(20_000)
    assert len(hand.flips) == 1
    assert [report.rev for report in hand.reports("active")] == [rev_at(0), rev_at(10_000)]


def test_the_same_stage_of_another_bundle_is_shown() -> None:
    hand = connected(held=[BUNDLE, OTHER_BUNDLE])
    hand.say(activate(0, at=0))
    hand.run(10_000)
    hand.say(activate(10_000, at=10_000, bundle=OTHER_BUNDLE))
    hand.run(20_000)
    assert [flip.bundle for flip in hand.flips] == [BUNDLE, OTHER_BUNDLE]


def test_a_rehearsal_does_all_but_show_and_the_real_thing_still_shows() -> None:
    hand = connected(held=[BUNDLE])
    hand.say(activate(0, at=0, shadow=True))
    hand.run(10_000)
    assert hand.machine.shown("cup") is None
    assert hand.reports("active")
    hand.say(activate(10_000, at=10_000))
    hand.run(20_000)
    assert [flip.shadow for flip in hand.flips] == [True, False]
    assert hand.machine.shown("cup") == ("live", BUNDLE)


def test_a_closed_campaign_is_gone_with_its_content_and_stays_gone() -> None:
    hand = connected()
    hand.say(inline(-2_000))
    hand.say(activate(-1_000, at=0))
    hand.run(5_000)
    hand.say(close(5_000))
    assert Drop("cup", (BUNDLE,)) in hand.actions
    assert Closed("cup", rev_at(5_000)) in hand.actions
    begun = len(hand.actions)
    for message in (inline(-2_000), activate(-1_000, at=0), activate(4_000, at=60_000), close(5_000), cancel(4_500)):
        hand.say(message)
    hand.run(100_000)
    assert hand.actions[begun:] == []
    assert hand.machine.shown("cup") is None
    assert hand.machine.resume().have == []


def test_a_close_that_overtakes_newer_messages_leaves_them_alone() -> None:
    hand = connected()
    hand.say(inline(6_000))
    hand.say(activate(7_000, at=7_000))
    hand.say(close(5_000))
    hand.run(20_000)
    assert [flip.rev for flip in hand.flips] == [rev_at(7_000)]
    assert not [a for a in hand.actions if isinstance(a, Closed | Drop)]


def test_the_memory_for_messages_is_bounded() -> None:
    hand = connected(held=[BUNDLE])
    for n in range(5 * STAGE_LANE_MAX):
        hand.say(activate(n, at=10**9, share=1e-12))
    for n in range(5 * STAGE_LANE_MAX):
        hand.say(cancel(1_000 + n))
    lanes = hand.machine._campaigns.find("cup")
    assert lanes is not None
    assert len(lanes.armed) + len(lanes.cancels) <= STAGE_LANE_MAX


def test_the_memory_for_closed_campaigns_is_bounded_and_the_newest_are_kept() -> None:
    hand = connected()
    for n in range(2 * TOMBSTONES_MAX):
        hand.say(wire.Close(f"c{n}", rev_at(n)))
    find = hand.machine._campaigns.find
    known = [n for n in range(2 * TOMBSTONES_MAX) if find(f"c{n}") is not None]
    assert known == list(range(TOMBSTONES_MAX, 2 * TOMBSTONES_MAX))


# --- Without the bundle


def test_a_device_without_the_bundle_fetches_it_at_its_slot_and_then_flips() -> None:
    hand = connected()
    hand.say(activate(at=5_000))
    due = 5_000 + slot(-1_000, 1_000)
    hand.run(due - 1)
    assert not hand.fetches
    hand.run(due)
    (fetch,) = hand.fetches
    assert fetch.bundle == wire.Bundle(BUNDLE, 0)
    hand.run(due + 300)
    hand.note(hand.machine.stored(BUNDLE, hand.now))
    hand.run(due + 300)
    assert len(hand.flips) == 1
    assert hand.reports() == [wire.Report("cup", rev_at(-1_000), "active", 300, "fetch")]


def test_a_missing_bundle_is_fetched_from_where_the_prefetch_said() -> None:
    hand = connected()
    hand.say(prefetch(-2_000, at=0, window_ms=10**6, url="https://cdn.example/b"))
    hand.say(activate(-1_000, at=0, window_ms=0))
    hand.run(0)
    assert [fetch.bundle.url for fetch in hand.fetches] == ["https://cdn.example/b"]
    hand.note(hand.machine.stored(BUNDLE, 10.0))
    hand.run(10)
    assert [(r.kind, r.via) for r in hand.reports()] == [("ready", "fetch"), ("active", "fetch")]


def test_a_missing_bundle_that_cannot_be_had_is_reported_after_a_few_tries() -> None:
    hand = connected()
    hand.say(activate(at=0, window_ms=0))
    for n in range(TRIES_MAX):
        hand.run(hand.now + 60_000)
        assert len(hand.fetches) == n + 1
        hand.note(hand.machine.fetch_failed(BUNDLE, hand.now))
    hand.run(hand.now + 10**6)
    assert len(hand.fetches) == TRIES_MAX
    assert [report.kind for report in hand.reports()] == ["failed"]
    hand.say(inline(100))
    hand.run(hand.now)
    assert len(hand.flips) == 1, "better late than never"


def test_a_new_connection_gives_a_missing_bundle_another_chance() -> None:
    hand = connected()
    hand.say(activate(at=0, window_ms=0))
    for _ in range(TRIES_MAX):
        hand.run(hand.now + 60_000)
        hand.note(hand.machine.fetch_failed(BUNDLE, hand.now))
    hand.machine.disconnected(hand.now)
    hand.say(welcome(hand.now), hand.now)
    hand.run(hand.now + 10)
    assert len(hand.fetches) == TRIES_MAX + 1


def test_a_generic_presentation_is_shown_where_that_is_wanted() -> None:
    hand = connected()
    hand.say(activate(at=0, window_ms=0, miss="generic"))
    hand.run(1)
    assert [flip.bundle for flip in hand.flips] == [None]
    assert [(r.kind, r.via) for r in hand.reports()] == [("active", "generic")]
    assert not hand.fetches


def test_a_silent_miss_shows_nothing_and_says_so() -> None:
    hand = connected()
    hand.say(activate(at=0, window_ms=0, miss="silent"))
    hand.run(1)
    hand.say(inline(1))
    hand.run(10_000)
    assert not hand.flips
    assert [report.kind for report in hand.reports()] == ["failed", "ready"]


def test_while_the_newest_waits_for_its_bundle_the_one_before_is_shown() -> None:
    hand = connected(held=[BUNDLE])
    hand.say(activate(0, at=0, window_ms=10_000, stage="upcoming"))
    hand.say(activate(1_000, at=1_000, window_ms=0, bundle=OTHER_BUNDLE), 1_000)
    hand.run(20_000)
    assert [flip.stage for flip in hand.flips] == ["upcoming"]
    hand.note(hand.machine.stored(OTHER_BUNDLE, hand.now))
    hand.run(hand.now)
    assert [flip.stage for flip in hand.flips] == ["upcoming", "live"]


def test_a_bundle_that_comes_for_a_cancelled_activation_is_not_kept() -> None:
    hand = connected()
    hand.say(activate(0, at=0, window_ms=50_000))
    hand.run(50_000)
    assert len(hand.fetches) == 1
    hand.say(close(49_000))
    hand.note(hand.machine.stored(BUNDLE, hand.now))
    hand.run(100_000)
    assert not hand.flips
    assert isinstance(hand.actions[-1], Drop)
    assert hand.machine.held == ()


# --- In doubt


def test_after_a_silence_nothing_armed_fires_until_a_beacon_ends_the_doubt() -> None:
    hand = connected(held=[BUNDLE])
    hand.say(activate(at=GRACE_MS + 5_000, window_ms=100_000))
    due = GRACE_MS + 5_000 + slot(-1_000, 100_000)
    hand.run(GRACE_MS, beacons=False)
    assert hand.syncs == [wire.Sync(rev_at(-1_000))]
    hand.machine.disconnected(hand.now)
    hand.run(due + 50, beacons=False)
    assert not hand.flips
    hand.say(welcome(hand.now), hand.now)
    hand.run(hand.now)
    assert len(hand.flips) == 1, "the window is open still: at once"


def test_what_became_due_in_doubt_and_is_over_is_caught_up_with_in_a_short_window() -> None:
    hand = connected(held=[BUNDLE])
    hand.say(activate(at=GRACE_MS, window_ms=8_000))
    hand.machine.disconnected(0)
    hand.run(60_000, beacons=False)
    hand.say(welcome(60_000), 60_000)
    hand.run(100_000)
    (flip,) = hand.flips
    assert flip.due_ms == EPOCH + 60_000 + slot(-1_000, 5_000)


def test_a_cancel_missed_in_a_silence_is_heard_before_anything_fires() -> None:
    hand = connected(held=[BUNDLE])
    hand.say(activate(at=GRACE_MS + 1_000))
    hand.run(GRACE_MS + 10_000, beacons=False)
    hand.say(cancel(2_000))
    hand.say(beacon(hand.now, rev_at(2_000)))
    hand.run(100_000)
    assert not hand.flips


def test_a_device_that_is_away_for_less_than_its_grace_flips_on_time() -> None:
    hand = connected(held=[BUNDLE])
    hand.say(activate(at=20_000))
    hand.machine.disconnected(1_000)
    hand.run(25_000, beacons=False)
    assert len(hand.flips) == 1
    assert not hand.reports(), "nobody is there to be told"
    hand.say(welcome(26_000), 26_000)
    assert hand.reports() == [wire.Report("cup", rev_at(-1_000), "active", 0, "resume")]


@pytest.mark.parametrize("messages", [[beacon(GRACE_MS - 1)], [inline()], [wire.Reconnect(10**7)]])
def test_any_message_breaks_the_silence(messages: list[wire.ToDevice]) -> None:
    hand = connected(held=[BUNDLE])
    hand.say(activate(at=GRACE_MS, window_ms=0))
    hand.run(GRACE_MS - 1, beacons=False)
    for message in messages:
        hand.say(message)
    hand.run(GRACE_MS, beacons=False)
    assert len(hand.flips) == 1
