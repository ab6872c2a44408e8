"""What holds for a device whatever messages come, in whatever order: property tests of its state machine."""

from __future__ import annotations

import random

from hypothesis import given
from hypothesis import strategies as st

from fanout import slots, wire
from fanout.arming import standing
from fanout.bus import retained
from fanout.bus.publication import Activated, Cancelled, Publication, Variant, message_for
from fanout.device import Flip
from fanout.device.liveness import ANSWER_MS

from .driving import BUNDLE, EPOCH, OTHER_BUNDLE, Hand, activate, beacon, cancel, close, connected, rev_at, welcome

HELD = (BUNDLE, OTHER_BUNDLE)
# Every window is over by then.
END = 250_000.0

activations = st.builds(
    activate,
    st.integers(-5_000, 60_000),
    at=st.integers(-20_000, 80_000),
    window_ms=st.sampled_from([0, 1, 1_000, 20_000]),
    stage=st.sampled_from(["upcoming", "live", "ended"]),
    bundle=st.sampled_from(HELD),
    share=st.sampled_from([0.1, 0.5, 1.0, 1.0]),
    shadow=st.booleans(),
)
cancels = st.builds(cancel, st.integers(-5_000, 60_000))
closes = st.builds(close, st.integers(-5_000, 60_000))
messages = st.lists(st.one_of(activations, activations, cancels, closes), max_size=8, unique_by=lambda m: m.rev)
devices = st.sampled_from([f"tv-{n}" for n in range(20)])


def looks(flips: list[Flip]) -> list[tuple[int, str, str | None, bool, int]]:
    return [(flip.rev, flip.stage, flip.bundle, flip.shadow, flip.due_ms) for flip in flips]


@given(devices, messages, st.data())
def test_a_device_flips_once_whatever_is_replayed(
    device: str, told: list[wire.StateMessage], data: st.DataObject
) -> None:
    hand = connected(device, held=HELD, serves=True)
    at = 0.0
    for message in data.draw(st.lists(st.sampled_from(told), max_size=30) if told else st.just([])):
        at += data.draw(st.integers(0, 15_000))
        hand.run(at)
        hand.say(message)
    hand.run(END)
    revs = [flip.rev for flip in hand.flips]
    assert revs == sorted(set(revs))
    active = [report.rev for report in hand.reports("active")]
    assert active == sorted(set(active))


@given(devices, messages, st.randoms(use_true_random=False), st.integers(0, 60_000))
def test_the_order_and_number_of_messages_change_nothing(
    device: str, told: list[wire.StateMessage], rng: random.Random, at: int
) -> None:
    once = connected(device, held=HELD, serves=True)
    once.run(at)
    for message in told:
        once.say(message)
    once.run(END)
    again = connected(device, held=HELD, serves=True)
    again.run(at)
    shuffled = told + [message for message in told if rng.random() < 0.5]
    rng.shuffle(shuffled)
    for message in shuffled:
        again.say(message)
    again.run(END)
    if not any(isinstance(message, wire.Close) for message in told):
        # A close takes content away, and whether that is fetched again on the way depends on when it came.
        assert looks(again.flips) == looks(once.flips)
    assert again.machine.shown("cup") == once.machine.shown("cup")
    assert again.machine.resume().since == once.machine.resume().since


@given(devices, messages, st.integers(-10_000, 100_000))
def test_a_device_ends_where_the_newest_standing_activation_for_it_leads(
    device: str, told: list[wire.StateMessage], at: int
) -> None:
    hand = Hand(device, held=HELD, serves=True)
    hand.say(welcome(at, told), at)
    hand.run(END)
    closed = max((m.rev for m in told if isinstance(m, wire.Close)), default=0)
    stand = standing(
        [m for m in told if isinstance(m, wire.Activate) and m.rev > closed],
        [m.rev for m in told if isinstance(m, wire.Cancel)],
    )
    mine = [m for m in stand if slots.in_share(device, "cup", m.share)]
    if mine and not mine[-1].shadow:
        assert hand.machine.shown("cup") == (mine[-1].stage, mine[-1].bundle)
    if all(m.shadow for m in mine):
        assert hand.machine.shown("cup") is None


@given(devices, messages, st.integers(-10_000, 100_000))
def test_a_flip_comes_at_the_devices_own_slot_or_late_in_a_short_window(
    device: str, told: list[wire.StateMessage], at: int
) -> None:
    hand = Hand(device, held=HELD, serves=True)
    hand.say(welcome(at, told), at)
    by_rev = {m.rev: m for m in told if isinstance(m, wire.Activate)}
    begun = EPOCH + at
    for flip in [f for f in hand.run(END) if isinstance(f, Flip)]:
        told_of = by_rev[flip.rev]
        slot = told_of.at + slots.slot_ms(device, flip.rev, told_of.window_ms)
        if begun < told_of.at + told_of.window_ms:
            assert flip.due_ms == slot
            assert flip.late_ms <= max(0, begun - slot) + 1
        else:
            catch_up = min(wire.CATCH_UP_MS, told_of.window_ms)
            assert flip.due_ms == begun + slots.slot_ms(device, flip.rev, catch_up)
            assert flip.late_ms <= 1


@st.composite
def histories(draw: st.DrawFn, *, plain: bool = False) -> list[Publication]:
    """Return what a campaign's editors did, in order.

    Plain ones have neither cancels nor canaries.
    """
    published: list[Publication] = []
    now = 0
    for _ in range(draw(st.integers(1, 5))):
        now += draw(st.integers(1, 20_000))
        last = published[-1] if published else None
        armed = isinstance(last, Activated) and last.at > rev_at(now)
        if armed and not plain and draw(st.booleans()):
            published.append(Cancelled(campaign="cup", topic="cup", rev=rev_at(now)))
            continue
        published.append(
            Activated(
                campaign="cup",
                topic="cup",
                rev=rev_at(now),
                variants=(Variant({}, wire.Bundle(draw(st.sampled_from(HELD)), 10)),),
                stage=draw(st.sampled_from(["upcoming", "live", "ended"])),
                at=rev_at(now + draw(st.integers(0, 30_000))),
                window_ms=draw(st.sampled_from([0, 1_000, 10_000])),
                share=1.0 if plain else draw(st.sampled_from([0.3, 1.0, 1.0])),
            )
        )
    return published


def told_by(publications: list[Publication]) -> list[wire.StateMessage]:
    told = [message_for(publication, 0) for publication in publications]
    return [message for message in told if message is not None]


@given(devices, histories(), st.integers(0, 150_000))
def test_a_device_that_comes_late_ends_in_the_same_stage_as_one_that_was_there(
    device: str, history: list[Publication], arrival: int
) -> None:
    present = connected(device, held=HELD, serves=True)
    for publication, message in zip(history, told_by(history), strict=True):
        present.run(publication.rev - EPOCH)
        present.say(message)
    present.run(END)

    past = [p for p in history if p.rev <= rev_at(arrival)]
    late = Hand(device, held=HELD, serves=True)
    late.say(welcome(arrival, told_by(retained.needed(past, rev_at(arrival)))), arrival)
    for publication in history[len(past) :]:
        late.run(publication.rev - EPOCH)
        late.say(told_by([publication])[0])
    late.run(END)
    assert late.machine.shown("cup") == present.machine.shown("cup")


# Plain ones: what takes an activation back from a device is missed indeed, if missed for less than the grace.
@given(devices, histories(plain=True), st.integers(0, 100_000), st.integers(0, 60_000))
def test_a_device_that_was_away_ends_in_the_same_stage_as_one_that_stayed(
    device: str, history: list[Publication], leaves: int, away: int
) -> None:
    stayed = connected(device, held=HELD, serves=True)
    for publication, message in zip(history, told_by(history), strict=True):
        stayed.run(publication.rev - EPOCH)
        stayed.say(message)
    stayed.run(END)

    left = connected(device, held=HELD, serves=True)
    back = leaves + away
    for publication in [p for p in history if p.rev <= rev_at(leaves)]:
        left.run(publication.rev - EPOCH)
        left.say(told_by([publication])[0])
    left.run(leaves)
    left.machine.disconnected(left.now)
    left.run(back, beacons=False)
    since = left.machine.resume().since
    missed = [p for p in history if p.rev <= rev_at(back)]
    news = [p for p in retained.needed(missed, rev_at(back)) if p.rev > since]
    left.say(welcome(back, told_by(news)), back)
    for publication in [p for p in history if p.rev > rev_at(back)]:
        left.run(publication.rev - EPOCH)
        left.say(told_by([publication])[0])
    left.run(END)
    assert left.machine.shown("cup") == stayed.machine.shown("cup")
    revs = [flip.rev for flip in left.flips]
    assert revs == sorted(set(revs))


@given(devices, messages, st.integers(0, 100_000), st.integers(0, ANSWER_MS))
def test_a_device_that_slept_does_nothing_before_it_has_heard_and_ends_where_the_others_do(
    device: str, told: list[wire.StateMessage], at: int, silence: int
) -> None:
    seen = [message for message in told if not (isinstance(message, wire.Activate) and message.shadow)]
    awake, asleep = connected(device, held=HELD, serves=True), connected(device, held=HELD, serves=True)
    for hand in (awake, asleep):
        for message in seen:
            hand.say(message)
    asleep.run(at)
    asleep.note(asleep.machine.distrusted(at))
    assert len(asleep.syncs) == 1
    assert not [action for action in asleep.run(at + silence, beacons=False) if isinstance(action, Flip)]
    asleep.say(beacon(at + silence))
    for hand in (awake, asleep):
        hand.run(END)
    assert asleep.machine.shown("cup") == awake.machine.shown("cup")
    revs = [flip.rev for flip in asleep.flips]
    assert revs == sorted(set(revs))


@given(devices, st.floats(0.01, 1), st.floats(0.01, 1))
def test_widening_a_share_only_adds_devices_and_flips_nobody_twice(device: str, a: float, b: float) -> None:
    narrow, wide = sorted((a, b))
    hand = connected(device, held=HELD, serves=True)
    hand.say(activate(-1_000, at=0, share=narrow))
    hand.run(50_000)
    before = len(hand.flips)
    hand.say(activate(50_000, at=50_000, share=wide))
    hand.run(100_000)
    assert len(hand.flips) == (1 if slots.in_share(device, "cup", wide) else 0)
    assert before <= len(hand.flips)
