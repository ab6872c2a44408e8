"""Laws of `fanout.planning`: edits, the second key, schedules and the event that moves."""

from __future__ import annotations

import msgspec
import pytest

from fanout import campaign as lifecycle
from fanout import planning
from fanout.campaign import Action, Campaign, Phase, Schedule
from fanout.errors import InvalidInput, Refused
from fanout.planning import Step, due, missed, moved

from .campaigns import a_campaign, an_activation, in_phase, press

NOW = 100_000
PLAN = Schedule(
    stage="live", at=NOW + 60_000, window_ms=10_000, arm_at=NOW + 30_000, prefetch_at=NOW, prefetch_window_ms=20_000
)


def two_keys(**fields: object) -> Campaign:
    return a_campaign(two_keys=True, editors=("ada",), **fields)


def planned(**changed: object) -> Campaign:
    return planning.scheduled(a_campaign(), msgspec.structs.replace(PLAN, **changed), NOW)


# --- The second key


def test_without_the_second_key_nothing_goes_live_and_with_it_it_does() -> None:
    campaign = press(two_keys(), Action.PREFETCH, NOW)
    with pytest.raises(Refused, match="somebody other than ada has to approve"):
        press(campaign, Action.ACTIVATE, NOW)
    approved = planning.approved(campaign, "grace", NOW)
    assert press(approved, Action.ACTIVATE, NOW).phase is Phase.ARMED


def test_a_retract_and_a_cancel_never_wait_for_a_key() -> None:
    live = msgspec.structs.replace(in_phase(Phase.LIVE), two_keys=True, editors=("ada",))
    assert press(live, Action.RETRACT, NOW).phase is Phase.ACTIVATING
    armed = msgspec.structs.replace(in_phase(Phase.ARMED), two_keys=True, editors=("ada",))
    assert press(armed, Action.CANCEL, 100).phase is Phase.PREFETCHING


def test_nobody_approves_what_they_wrote_or_changed() -> None:
    edited = planning.edited(two_keys(), two_keys(title="Another"), "grace", NOW)
    for name in ("ada", "grace"):
        with pytest.raises(Refused, match="somebody else's than ada, grace"):
            planning.approved(edited, name, NOW)
    assert planning.approved(edited, "linus", NOW).approval is not None


@pytest.mark.parametrize(
    ("campaign", "words"),
    [(a_campaign(), "does not ask"), (planning.approved(two_keys(), "grace", 1), "approved by grace already")],
)
def test_an_approval_that_means_nothing_is_refused(campaign: Campaign, words: str) -> None:
    assert Action.APPROVE not in lifecycle.allowed(campaign)
    with pytest.raises(Refused, match=words):
        planning.approved(campaign, "linus", NOW)


def test_an_approval_is_void_once_the_campaign_or_its_schedule_changes_but_not_when_the_event_moves() -> None:
    approved = planning.approved(planning.scheduled(two_keys(), PLAN, NOW), "grace", NOW)
    assert planning.edited(approved, two_keys(title="Another"), "ada", NOW).approval is None
    assert planning.scheduled(approved, None, NOW).approval is None
    assert moved(approved, PLAN.at + 1_000, NOW)[0].approval is not None


# --- Edits


def test_an_edit_keeps_a_campaigns_life_and_changes_its_definition() -> None:
    before = planned()
    after = planning.edited(before, a_campaign(title="The semi-final", threshold=0.5), "grace", NOW + 1)
    assert (after.title, after.threshold, after.phase) == ("The semi-final", 0.5, Phase.DRAFT)
    assert (after.schedule, after.created_ms, after.version) == (
        before.schedule,
        before.created_ms,
        before.version + 1,
    )


def test_what_was_prefetched_is_a_draft_again_after_an_edit_and_is_prefetched_again_on_schedule() -> None:
    prefetched = press(planned(), Action.PREFETCH, NOW)
    assert due(prefetched, NOW) is None
    edited = planning.edited(prefetched, a_campaign(title="Another"), "grace", NOW)
    assert (edited.phase, edited.prefetch) == (Phase.DRAFT, None)
    assert due(edited, NOW) is Step.PREFETCH


@pytest.mark.parametrize("phase", [Phase.ARMED, Phase.ACTIVATING, Phase.LIVE, Phase.CLOSED])
def test_what_devices_show_or_are_about_to_is_not_edited(phase: Phase) -> None:
    with pytest.raises(Refused, match="edit was asked of"):
        planning.edited(in_phase(phase), a_campaign(title="Another"), "ada", 100)


def test_an_edit_to_another_id_or_without_the_scheduled_stage_is_refused() -> None:
    with pytest.raises(InvalidInput, match="copy the campaign instead"):
        planning.edited(a_campaign(), a_campaign(id="other"), "ada", NOW)
    with pytest.raises(Refused, match="'live' is scheduled"):
        planning.edited(planned(), a_campaign(stages=("upcoming", "ended")), "ada", NOW)


# --- Schedules


def test_a_schedule_asks_for_each_step_once_in_order() -> None:
    campaign = planned()
    assert due(campaign, NOW - 1) is None
    assert due(campaign, NOW) is Step.PREFETCH
    campaign = press(campaign, Action.PREFETCH, NOW)
    assert due(campaign, NOW + 29_999) is None
    assert due(campaign, NOW + 30_000) is Step.ACTIVATE
    campaign = lifecycle.activated(campaign, an_activation("live", PLAN.at, 10_000), NOW + 30_000)
    assert due(campaign, NOW + 30_001) is None
    # Who takes it back does not want it pressed again a second later.
    assert due(lifecycle.cancelled(campaign, NOW + 31_000), NOW + 32_000) is None
    assert not missed(campaign, PLAN.at + 60_000)


def test_what_people_did_by_hand_is_not_done_again() -> None:
    by_hand = press(a_campaign(), Action.PREFETCH, NOW)
    campaign = planning.scheduled(by_hand, PLAN, NOW)
    assert due(campaign, NOW + 1_000) is None
    early = lifecycle.activated(campaign, an_activation("live", NOW + 1_000), NOW + 1_000)
    assert due(early, NOW + 30_000) is None


def test_another_stage_by_hand_leaves_the_schedule_in_force() -> None:
    campaign = planning.scheduled(press(a_campaign(), Action.PREFETCH, NOW), PLAN, NOW)
    shown = lifecycle.activated(campaign, an_activation("upcoming", NOW + 1_000), NOW + 1_000)
    assert due(shown, NOW + 30_000) is Step.ACTIVATE


def test_a_step_that_nobody_could_take_is_taken_late_or_called_missed() -> None:
    campaign = press(planned(), Action.PREFETCH, NOW)
    late = PLAN.at + planning.LATE_MS_MAX
    assert due(campaign, late) is Step.ACTIVATE
    assert not missed(campaign, late)
    assert due(campaign, late + 1) is None
    assert missed(campaign, late + 1)
    assert not missed(lifecycle.closed(campaign, NOW), late + 1)


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        ({"stage": "over"}, "stage is 'over'; campaign final has upcoming, live, ended"),
        ({"prefetch_at": NOW - 10_000}, "10 s in the past"),
        ({"arm_at": PLAN.at + 1}, "before the instant"),
        ({"prefetch_window_ms": 40_000}, "the prefetch ends 10 s after devices are to be armed"),
        ({"prefetch_at": None}, "send prefetch_at too"),
    ],
)
def test_a_schedule_that_cannot_be_kept_is_refused(changed: dict[str, object], words: str) -> None:
    with pytest.raises(InvalidInput, match=words):
        planned(**changed)


# --- The event moves


@pytest.mark.parametrize("by_ms", [7 * 60_000, -20_000])
def test_the_event_that_moves_takes_every_step_to_come_with_it(by_ms: int) -> None:
    campaign, activation = moved(planned(), PLAN.at + by_ms, NOW)
    schedule = campaign.schedule
    assert schedule is not None
    assert activation is None
    assert (schedule.at, schedule.arm_at, schedule.prefetch_at) == (
        PLAN.at + by_ms,
        PLAN.arm_at + by_ms,
        NOW + by_ms,
    )


def test_the_event_that_moves_while_armed_is_armed_anew_at_its_new_time() -> None:
    campaign = lifecycle.activated(
        press(planned(), Action.PREFETCH, NOW), an_activation("live", PLAN.at, 10_000), NOW + 30_000
    )
    after, activation = moved(campaign, PLAN.at + 60_000, NOW + 40_000)
    assert after.phase is Phase.ARMED
    assert activation is after.activation is not None
    assert (activation.rev, activation.at, activation.stage) == (0, PLAN.at + 60_000, "live")
    assert after.schedule is not None
    assert after.schedule.at == activation.at
    assert due(after, NOW + 41_000) is None
    # A cancel leads back to before both.
    assert lifecycle.cancelled(after, NOW + 42_000).activation is None


def test_what_was_armed_by_hand_moves_without_a_schedule() -> None:
    after, activation = moved(in_phase(Phase.ARMED), 500, 100)
    assert activation is not None
    assert (after.schedule, activation.at) == (None, 500)


@pytest.mark.parametrize(
    ("campaign", "at", "words"),
    [
        (a_campaign(), NOW + 1, "nothing to move"),
        (in_phase(Phase.ACTIVATING), 500, "move was asked of"),
        (planned(), NOW - 1, "in the past"),
    ],
)
def test_a_move_that_makes_no_sense_is_refused(campaign: Campaign, at: int, words: str) -> None:
    with pytest.raises((Refused, InvalidInput), match=words):
        moved(campaign, at, 100 if campaign.phase is Phase.ACTIVATING else NOW)


def test_a_move_is_offered_only_where_something_can_move() -> None:
    assert Action.MOVE not in lifecycle.allowed(a_campaign())
    assert Action.MOVE in lifecycle.allowed(planned())
    assert Action.MOVE in lifecycle.allowed(in_phase(Phase.ARMED))
