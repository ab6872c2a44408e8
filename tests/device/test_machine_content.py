"""Getting content: at the device's slot, checked, tried again, and never twice."""

from __future__ import annotations

import random

from fanout import limits, slots, wire
from fanout.device import Drop, Prefetched, Store
from fanout.device.shelf import TRIES_MAX

from .driving import (
    BUNDLE,
    CONTENT,
    EPOCH,
    OTHER_BUNDLE,
    OTHER_CONTENT,
    Hand,
    activate,
    close,
    connected,
    inline,
    prefetch,
    rev_at,
    welcome,
)


def slot(rev: int, window_ms: int) -> int:
    return slots.slot_ms("tv-1", rev_at(rev), window_ms)


def test_a_bundle_is_fetched_at_the_devices_slot() -> None:
    hand = connected()
    hand.say(prefetch(-2_000, at=1_000, window_ms=60_000))
    due = 1_000 + slot(-2_000, 60_000)
    hand.run(due - 1)
    assert not hand.fetches
    hand.run(due)
    assert [fetch.bundle.sha256 for fetch in hand.fetches] == [BUNDLE]
    hand.note(hand.machine.stored(BUNDLE, due + 40.0, took_ms=40))
    assert hand.reports() == [wire.Report("cup", rev_at(-2_000), "ready", 40, "fetch")]
    assert Prefetched("cup", rev_at(-2_000), BUNDLE, "fetch") in hand.actions
    assert hand.machine.resume().have == [BUNDLE]


def test_after_the_prefetch_window_the_fetch_comes_in_a_short_one() -> None:
    hand = connected()
    hand.say(prefetch(-2_000, at=0, window_ms=60_000), 100_000)
    due = 100_000 + slot(-2_000, wire.CATCH_UP_MS)
    hand.run(due - 1)
    assert not hand.fetches
    hand.run(due)
    assert len(hand.fetches) == 1


def test_an_inline_bundle_is_checked_and_stored_at_once() -> None:
    hand = connected()
    actions = hand.say(inline())
    assert actions[0] == Store(BUNDLE, CONTENT)
    assert hand.reports() == [wire.Report("cup", rev_at(-2_000), "ready", 0, "inline")]
    hand.run(100_000)
    assert not hand.fetches


def test_an_inline_bundle_of_another_digest_is_never_stored() -> None:
    hand = connected()
    hand.say(inline(claimed=OTHER_BUNDLE))
    hand.say(inline(claimed=OTHER_BUNDLE))
    hand.run(100_000)
    assert not hand.stores
    assert not hand.fetches
    assert [report.kind for report in hand.reports()] == ["failed"]
    assert hand.machine.held == ()


def test_an_inline_bundle_of_another_digest_is_fetched_if_a_url_is_given() -> None:
    hand = connected()
    hand.say(inline(claimed=OTHER_BUNDLE, url="/b"))
    hand.run(5_000)
    (fetch,) = hand.fetches
    assert (fetch.bundle.sha256, fetch.bundle.url, fetch.bundle.inline) == (OTHER_BUNDLE, "/b", None)
    hand.note(hand.machine.fetch_failed(OTHER_BUNDLE, hand.now))
    hand.run(50_000)
    assert len(hand.fetches) == 2, "it is tried again like any other"
    hand.note(hand.machine.stored(OTHER_BUNDLE, hand.now))
    assert [report.kind for report in hand.reports()] == ["failed", "ready"]


def test_a_bundle_in_the_cache_is_ready_at_the_slot_and_touches_no_origin() -> None:
    hand = connected(held=[BUNDLE])
    hand.say(prefetch(-2_000, at=0, window_ms=60_000))
    due = slot(-2_000, 60_000)
    hand.run(due - 1)
    assert not hand.reports()
    hand.run(due)
    assert hand.reports() == [wire.Report("cup", rev_at(-2_000), "ready", 0, "cache")]
    assert not hand.fetches


def test_a_repeated_prefetch_changes_nothing() -> None:
    hand = connected()
    for _ in range(3):
        hand.say(prefetch())
        hand.run(hand.now + 5_000)
    assert len(hand.fetches) == 1
    hand.note(hand.machine.stored(BUNDLE, hand.now))
    hand.say(prefetch())
    hand.say(inline())
    hand.run(hand.now + 5_000)
    assert len(hand.reports("ready")) == 1


def test_the_newest_prefetch_counts_in_whatever_order_they_come() -> None:
    old, new = prefetch(-2_000, window_ms=60_000), prefetch(-1_000, at=50_000, content=OTHER_CONTENT)
    for told in ([old, new], [new, old]):
        hand = connected(serves=True)
        for message in told:
            hand.say(message)
        hand.run(200_000)
        assert [fetch.bundle.sha256 for fetch in hand.fetches] == [OTHER_BUNDLE]
        assert [report.rev for report in hand.reports("ready")] == [rev_at(-1_000)]


def test_a_prefetch_planned_anew_moves_the_fetch() -> None:
    hand = connected()
    hand.say(prefetch(-2_000, at=0, window_ms=1_000))
    hand.say(prefetch(-1_000, at=50_000, window_ms=1_000))
    hand.run(49_999)
    assert not hand.fetches
    hand.run(51_000)
    assert [fetch.rev for fetch in hand.fetches] == [rev_at(-1_000)]


def test_an_activation_overtaking_a_prefetch_finds_the_bundle_all_the_same() -> None:
    hand = connected()
    hand.say(activate(-1_000, at=5_000))
    hand.say(inline(-2_000))
    hand.run(10_000)
    assert [report.kind for report in hand.reports()] == ["ready", "active"]
    assert not hand.fetches


def test_a_failed_fetch_is_tried_again_inside_the_window_and_then_reported() -> None:
    hand = connected()
    hand.say(prefetch(-2_000, at=0, window_ms=600_000))
    times = []
    for _ in range(TRIES_MAX):
        begun = len(hand.fetches)
        while len(hand.fetches) == begun:
            due = hand.machine.next_due_ms()
            assert due is not None
            hand.run(max(due, hand.now))
        times.append(hand.now)
        hand.note(hand.machine.fetch_failed(BUNDLE, hand.now))
    assert times == sorted(set(times))
    assert times[-1] <= 600_000
    hand.run(10**6)
    assert len(hand.fetches) == TRIES_MAX
    assert [report.kind for report in hand.reports()] == ["failed"]


def test_a_fleet_whose_origin_fails_at_once_does_not_come_back_at_once() -> None:
    rng = random.Random(1)
    again = []
    for n in range(500):
        hand = Hand(f"tv-{n}", rng=rng)
        hand.say(welcome(0, [prefetch(-2_000, at=-1_000_000, window_ms=0)]))
        hand.run(0)
        hand.note(hand.machine.fetch_failed(BUNDLE, 0.0))
        due = hand.machine.next_due_ms()
        assert due is not None
        again.append(due)
    seconds = [sum(1 for due in again if low <= due < low + 500) for low in (0, 500, 1000, 1500)]
    assert sum(seconds) == 500
    assert max(seconds) < 2 * min(seconds)


def test_what_an_origin_asks_for_is_honoured() -> None:
    hand = connected()
    hand.say(prefetch(at=0, window_ms=0))
    hand.run(0)
    hand.note(hand.machine.fetch_failed(BUNDLE, 0, retry_after_ms=20_000))
    hand.run(19_999)
    assert len(hand.fetches) == 1
    hand.run(60_000)
    assert len(hand.fetches) == 2


def test_a_lost_prefetch_heals_on_the_next_connection() -> None:
    hand = connected()
    hand.say(prefetch(at=0, window_ms=0))
    for _ in range(TRIES_MAX):
        hand.run(hand.now + 60_000)
        hand.note(hand.machine.fetch_failed(BUNDLE, hand.now))
    hand.machine.disconnected(hand.now)
    hand.say(welcome(hand.now, [inline()]), hand.now)
    assert hand.machine.held == (BUNDLE,)
    assert [report.kind for report in hand.reports()] == ["failed", "ready"]


def test_a_bundle_the_cache_has_lost_is_fetched_again_when_the_gateway_names_it() -> None:
    hand = connected()
    hand.say(inline())
    hand.machine.evicted(BUNDLE)
    assert hand.machine.resume().have == []
    hand.say(welcome(hand.now, [prefetch()]))
    hand.run(20_000)
    assert len(hand.fetches) == 1
    hand.note(hand.machine.fetch_failed(BUNDLE, hand.now))
    hand.run(60_000)
    assert len(hand.fetches) == 2


def test_a_bundle_that_another_campaign_uses_outlives_a_close() -> None:
    hand = connected()
    hand.say(inline())
    other = wire.Prefetch("league", rev_at(-1_000), wire.Bundle(BUNDLE, len(CONTENT), "/b"), EPOCH, 0)
    hand.say(other)
    hand.run(10)
    hand.say(close(0))
    assert not [a for a in hand.actions if isinstance(a, Drop)]
    hand.say(wire.Close("league", rev_at(20)))
    assert [a for a in hand.actions if isinstance(a, Drop)] == [Drop("league", (BUNDLE,))]


def test_two_campaigns_that_share_a_bundle_fetch_it_once_and_are_both_ready() -> None:
    hand = connected(serves=True)
    hand.say(prefetch(at=0, window_ms=0))
    hand.say(wire.Prefetch("league", rev_at(-1_000), wire.Bundle(BUNDLE, len(CONTENT), "/b"), EPOCH, 0))
    hand.run(10)
    assert len(hand.fetches) == 1
    assert {report.campaign for report in hand.reports("ready")} == {"cup", "league"}


def test_a_device_names_no_more_bundles_than_the_wire_allows() -> None:
    digests = [f"{n:064x}" for n in range(100)]
    resume = Hand(held=digests).machine.resume()
    assert resume.have == digests[-limits.HAVE_MAX :]
    assert resume.query() == {"have": ",".join(resume.have)}
