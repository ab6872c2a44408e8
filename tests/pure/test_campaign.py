"""Laws of `fanout.campaign`: the table of phases, time that only goes on, retracts, cancels, canaries."""

from __future__ import annotations

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fanout import campaign as lifecycle
from fanout.arming import standing
from fanout.campaign import TRANSITIONS, Action, Phase, Schedule
from fanout.errors import InvalidInput, Refused

from . import strategies as some
from .campaigns import PEOPLES, a_campaign, an_activation, in_every_phase, in_phase, press


def a_schedule(at: int) -> Schedule:
    return Schedule(stage="ended", at=at, window_ms=10, arm_at=at - 5)


# --- The table


@pytest.mark.parametrize("state", in_every_phase())
@pytest.mark.parametrize("action", PEOPLES)
def test_an_action_is_a_row_of_the_table_or_refused_naming_what_is_allowed(state: str, action: Action) -> None:
    before = in_every_phase()[state]
    rows = [a for a in PEOPLES if (before.phase, a) in TRANSITIONS]
    # The one row that asks for more than the phase: where nothing has begun, there is nothing to go back from.
    may = [a for a in rows if a is not Action.RETRACT or state != "armed"]
    assert [a for a in lifecycle.allowed(before) if a in PEOPLES] == may
    if action in may:
        after = press(before, action, 100)
        if action is Action.RETRACT:
            expected = Phase.ACTIVATING  # it does not wait for an instant: it has begun when it is pressed
        elif action is Action.CANCEL:
            expected = Phase.LIVE if state == "armed again" else Phase.PREFETCHING
        else:
            expected = lifecycle.target(before, action)
        assert after.phase is expected
        assert after.version == before.version + 1
        assert after.updated_ms == 100
        return
    with pytest.raises(Refused) as refusal:
        press(before, action, 100)
    text = str(refusal.value)
    assert action in text
    if action in rows:
        assert "nothing to retract" in text
        return
    assert text.endswith("allowed is: " + (", ".join(lifecycle.allowed(before)) or "nothing"))
    assert before.phase in text


def test_every_phase_can_be_reached_and_nothing_leaves_closed() -> None:
    reached, frontier = {Phase.DRAFT}, [Phase.DRAFT]
    while frontier:
        here = frontier.pop()
        for (source, _), to in TRANSITIONS.items():
            targets = [Phase(to)] if to != lifecycle.BEFORE else [Phase.PREFETCHING, Phase.ARMED]
            for phase in targets if source is here else []:
                if phase not in reached:
                    reached.add(phase)
                    frontier.append(phase)
    assert reached == set(Phase)
    assert not [row for row in TRANSITIONS if row[0] is Phase.CLOSED]


def test_every_open_phase_can_be_closed() -> None:
    assert {phase for phase, action in TRANSITIONS if action is Action.CLOSE} == set(Phase) - {Phase.CLOSED}


@pytest.mark.parametrize("state", [name for name in in_every_phase() if name != "closed"])
def test_what_is_closed_holds_only_what_had_begun(state: str) -> None:
    open_one = msgspec.structs.replace(in_every_phase()[state], schedule=a_schedule(at=500))
    begun = open_one.begun if open_one.phase is Phase.ARMED else open_one.activation
    shut = lifecycle.closed(open_one, 100)
    assert (shut.schedule, shut.activation) == (None, begun)
    assert lifecycle.advance(shut, 10_000) == shut


# --- Time


@given(st.sampled_from(Phase), st.integers(0, 60), st.integers(0, 30), st.integers(0, 120), st.integers(0, 120))
def test_looking_twice_is_looking_later(phase: Phase, at: int, window_ms: int, one: int, other: int) -> None:
    earlier, later = sorted((one, other))
    campaign = a_campaign(phase=phase, activation=an_activation("live", at, window_ms))
    assert lifecycle.advance(lifecycle.advance(campaign, earlier), later) == lifecycle.advance(campaign, later)


@given(st.integers(0, 60), st.integers(0, 30), st.integers(0, 120))
def test_an_activation_begins_at_its_instant_and_ends_with_its_window(at: int, window_ms: int, now: int) -> None:
    seen = lifecycle.advance(a_campaign(phase=Phase.ARMED, activation=an_activation("live", at, window_ms)), now)
    expected = Phase.ARMED if now < at else Phase.ACTIVATING if now < at + window_ms else Phase.LIVE
    assert seen.phase is expected
    # From its instant on, devices show it.
    assert seen.stage == (None if expected is Phase.ARMED else "live")


def test_a_canary_leaves_the_fleet_where_it_was() -> None:
    canary = an_activation("live", at=10, window_ms=10, share=0.1)
    seen = lifecycle.advance(a_campaign(phase=Phase.ARMED, stage="upcoming", activation=canary), 100)
    assert (seen.phase, seen.stage) == (Phase.LIVE, "upcoming")


# --- Retract and cancel


def test_a_retract_leads_back_to_the_stage_shown_before() -> None:
    shown = lifecycle.activated(in_phase(Phase.PREFETCHING), an_activation("upcoming", at=50), 50)
    wrong = lifecycle.activated(lifecycle.advance(shown, 100), an_activation("ended", at=110), 100)
    back = lifecycle.retracted(wrong, 0, "pressed by mistake", "ada", 115)
    assert back.activation is not None
    assert back.activation.stage == "upcoming"
    assert lifecycle.advance(back, 115).stage == "upcoming"


def test_a_retract_of_the_first_stage_leads_to_the_prepared_one() -> None:
    back = press(in_phase(Phase.ACTIVATING), Action.RETRACT, 100)
    assert back.activation is not None
    assert back.activation.stage == "upcoming"


def test_a_retract_is_not_retracted() -> None:
    back = lifecycle.retracted(in_phase(Phase.LIVE), 5, "a false alarm", "ada", 100)
    with pytest.raises(Refused, match="activate a stage instead"):
        lifecycle.retracted(back, 5, "no, it was true", "ada", 110)


@pytest.mark.parametrize("state", [name for name in in_every_phase() if name != "closed"])
def test_a_retract_of_what_only_devices_know_leads_to_what_the_record_says_is_shown(state: str) -> None:
    before = in_every_phase()[state]
    back = lifecycle.retracted(before, 5, "the store lost it", "ada", 100, ahead=True)
    assert back.activation is not None
    assert (back.phase, back.activation.stage) == (Phase.ACTIVATING, before.stage or before.retract_stage)
    assert back.version == before.version + 1


def test_a_retract_is_possible_after_a_cancel() -> None:
    live = in_phase(Phase.LIVE)
    planned = lifecycle.activated(live, an_activation("ended", at=900), 200)
    rested = lifecycle.cancelled(planned, 300)
    assert (rested.phase, rested.stage) == (Phase.LIVE, "live")
    back = lifecycle.retracted(rested, 5, "a false alarm", "ada", 400)
    assert back.activation is not None
    assert back.activation.stage == "upcoming"


def test_a_second_retract_never_leads_back_to_what_the_first_took_away() -> None:
    false_alarm = lifecycle.activated(in_phase(Phase.PREFETCHING), an_activation("live", at=50), 50)
    back = lifecycle.retracted(false_alarm, 60, "a false alarm", "ada", 100)
    hasty = lifecycle.activated(back, an_activation("ended", at=110), 110)  # the retract's window is still open
    again = lifecycle.retracted(hasty, 0, "that was wrong too", "ada", 130)
    assert again.activation is not None
    assert again.activation.stage == "upcoming"


def test_a_retract_of_what_is_shown_takes_what_is_armed_with_it() -> None:
    planned = lifecycle.activated(in_phase(Phase.LIVE), an_activation("ended", at=900), 200)
    back = lifecycle.retracted(planned, 5, "a false alarm", "ada", 300)
    assert back.activation is not None
    assert (back.phase, back.activation.stage) == (Phase.ACTIVATING, "upcoming")
    assert lifecycle.advance(back, 1_000).stage == "upcoming"
    # Devices agree: "ended" had not begun when the retract was published.
    devices = standing([some.activation(20, 30, 20), some.activation(200, 900, 10), some.activation(300, 300, 5)])
    assert [a.rev for a in devices] == [20, 300]


def test_a_plan_made_after_a_retract_is_cancelled_not_retracted() -> None:
    back = lifecycle.retracted(in_phase(Phase.LIVE), 5, "a false alarm", "ada", 100)
    planned = lifecycle.activated(back, an_activation("live", at=900), 200)
    assert Action.RETRACT not in lifecycle.allowed(planned)
    with pytest.raises(Refused, match="already retracted to 'upcoming'"):
        lifecycle.retracted(planned, 5, "again", "ada", 300)
    assert lifecycle.cancelled(planned, 300).activation == lifecycle.advance(back, 300).activation


def test_a_cancel_of_a_plan_that_moved_leads_back_to_what_had_begun() -> None:
    live = in_phase(Phase.LIVE)
    moved = lifecycle.activated(live, an_activation("ended", at=900), 200)
    moved = lifecycle.activated(moved, an_activation("ended", at=950), 300)
    rested = lifecycle.cancelled(moved, 400)
    assert (rested.phase, rested.stage, rested.activation) == (Phase.LIVE, "live", live.activation)


def test_a_cancel_leaves_the_campaign_where_its_devices_are() -> None:
    begun = lifecycle.activated(in_phase(Phase.PREFETCHING), an_activation("live", at=50, window_ms=60), 50)
    planned = lifecycle.activated(begun, an_activation("ended", at=900), 100)  # "live" goes on beside it
    rested = lifecycle.cancelled(planned, 300)
    devices = standing([some.activation(50, 50, 60), some.activation(100, 900, 10)], [300])
    assert [a.rev for a in devices] == [50], "every device shows live"
    assert rested.stage == "live"
    assert rested.phase is Phase.LIVE
    assert Action.RETRACT in lifecycle.allowed(rested)


# --- Canaries


@given(st.floats(0.01, 1), st.floats(0.01, 1))
def test_a_share_that_runs_is_never_shrunk(running: float, asked: float) -> None:
    canary = lifecycle.activated(in_phase(Phase.PREFETCHING), an_activation("live", 50, 10, running), 50)
    again = an_activation("live", 100, 10, asked)
    if asked < running:
        with pytest.raises(Refused, match="widened"):
            lifecycle.activated(canary, again, 100)
    else:
        assert lifecycle.activated(canary, again, 100).activation is not None


def test_a_share_that_runs_is_not_shrunk_by_changing_a_planned_widening_either() -> None:
    running = lifecycle.activated(in_phase(Phase.PREFETCHING), an_activation("live", 50, 10, 0.5), 50)
    planned = lifecycle.activated(running, an_activation("live", 900, 10, 0.6), 100)
    with pytest.raises(Refused, match="widened"):
        lifecycle.activated(planned, an_activation("live", 900, 10, 0.3), 200)


@pytest.mark.parametrize("share", [0.0, -0.1, 1.01, float("nan"), float("inf")])
def test_a_share_outside_its_range_is_invalid(share: float) -> None:
    with pytest.raises(InvalidInput, match="share is"):
        lifecycle.activated(in_phase(Phase.PREFETCHING), an_activation("live", 100, 10, share), 50)


def test_an_unknown_stage_is_invalid_and_the_known_ones_are_named() -> None:
    with pytest.raises(InvalidInput, match=r"'overtime'.*upcoming, live, ended"):
        lifecycle.activated(in_phase(Phase.PREFETCHING), an_activation("overtime", 100), 50)
