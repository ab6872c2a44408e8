"""What people decide about a campaign without telling devices: its definition, the second key, its schedule.

Pure, as `fanout.campaign`, whose table says when each may be done. The event that moves is here too, as it moves the
whole schedule; what is armed on devices already has to be published anew by whoever asks for it.
"""

from __future__ import annotations

import enum
from typing import Final

import msgspec

from fanout import campaign as lifecycle
from fanout.campaign import Action, Activation, Approval, Campaign, Phase, Schedule, changed
from fanout.durations import in_words
from fanout.errors import InvalidInput, Refused

# What people decide when they create a campaign, and may edit; the rest is its life.
DEFINITION: Final = (
    "id",
    "title",
    "topic",
    "stages",
    "variants",
    "threshold",
    "miss",
    "shadow",
    "retract_stage",
    "two_keys",
    "origin_per_s",
)
# An instant that came while the scheduler slept (a change of leader, a store that was away) is still taken so much
# later; after that, people decide.
LATE_MS_MAX: Final = 5_000


class Step(enum.StrEnum):
    """What a schedule asks for."""

    PREFETCH = "prefetch"
    ACTIVATE = "activate"


def same_definition(one: Campaign, other: Campaign) -> bool:
    """Tell whether two campaigns were asked for in the same words."""
    return all(getattr(one, name) == getattr(other, name) for name in DEFINITION)


def edited(campaign: Campaign, wanted: Campaign, by: str, now_ms: int) -> Campaign:
    """Return the campaign with the definition of ``wanted``, no longer approved, back in draft.

    Raises:
        InvalidInput: ``wanted`` is another campaign.
        Refused: The phase forbids it.
    """
    campaign = lifecycle.advance(campaign, now_ms)
    if wanted.id != campaign.id:
        raise InvalidInput(f"id is {wanted.id!r}, the campaign is {campaign.id!r}; copy the campaign instead", "$.id")
    if campaign.schedule is not None and campaign.schedule.stage not in wanted.stages:
        raise Refused(
            f"stage {campaign.schedule.stage!r} is scheduled, the stages sent are {', '.join(wanted.stages)}; "
            "change the schedule first"
        )
    definition = {name: getattr(wanted, name) for name in DEFINITION}
    schedule = campaign.schedule and msgspec.structs.replace(campaign.schedule, prefetched=False)
    editors = campaign.editors if by in campaign.editors else (*campaign.editors, by)
    return changed(
        campaign, Action.EDIT, now_ms, **definition, prefetch=None, schedule=schedule, approval=None, editors=editors
    )


def approved(campaign: Campaign, by: str, now_ms: int) -> Campaign:
    """Return the campaign with its second key.

    Raises:
        Refused: It needs none, has it already, or ``by`` has a hand in it; or the phase forbids it.
    """
    campaign = lifecycle.advance(campaign, now_ms)
    lifecycle.target(campaign, Action.APPROVE)
    if not campaign.two_keys:
        raise Refused(f"campaign {campaign.id} does not ask for a second key; there is nothing to approve")
    if campaign.approval is not None:
        raise Refused(f"campaign {campaign.id} was approved by {campaign.approval.by} already")
    if by in campaign.editors:
        raise Refused(
            f"{by} has made or changed campaign {campaign.id}; the second key is somebody else's than "
            f"{', '.join(campaign.editors)}"
        )
    return changed(campaign, Action.APPROVE, now_ms, approval=Approval(by, now_ms))


def scheduled(campaign: Campaign, schedule: Schedule | None, now_ms: int) -> Campaign:
    """Return the campaign with this schedule, or with none, and no longer approved.

    Raises:
        InvalidInput: It asks for a stage that is not there, or for steps in the past or out of order.
        Refused: The phase forbids it.
    """
    campaign = lifecycle.advance(campaign, now_ms)
    lifecycle.target(campaign, Action.SCHEDULE)
    if schedule is not None:
        if schedule.stage not in campaign.stages:
            raise InvalidInput(
                f"stage is {schedule.stage[:80]!r}; campaign {campaign.id} has {', '.join(campaign.stages)}",
                "$.stage",
            )
        _check_order(schedule, now_ms)
        schedule = msgspec.structs.replace(schedule, prefetched=campaign.phase is not Phase.DRAFT, armed=False)
        if not schedule.prefetched and schedule.prefetch_at is None:
            raise InvalidInput(
                f"campaign {campaign.id} has not been prefetched; send prefetch_at too, or prefetch it first",
                "$.prefetch_at",
            )
    return changed(campaign, Action.SCHEDULE, now_ms, schedule=schedule, approval=None)


def moved(campaign: Campaign, at: int, now_ms: int) -> tuple[Campaign, Activation | None]:
    """Return the campaign with its event at another time, and the activation to publish if one is armed.

    Steps that have been taken stay taken; those to come move by as much as the event does, and one that would then
    lie in the past is due at once.

    Raises:
        InvalidInput: ``at`` is in the past.
        Refused: Nothing is scheduled or armed, or it has begun.
    """
    campaign = lifecycle.advance(campaign, now_ms)
    lifecycle.target(campaign, Action.MOVE)
    if at < now_ms:
        raise InvalidInput(f"at is {in_words((now_ms - at) / 1000)} in the past; send an instant to come", "$.at")
    schedule, armed = campaign.schedule, campaign.activation if campaign.phase is Phase.ARMED else None
    if armed is not None and armed.retracts:
        raise Refused(f"campaign {campaign.id} is going back to {armed.stage!r}; a retract does not move")
    if schedule is None and armed is None:
        raise Refused(f"campaign {campaign.id} has nothing scheduled and nothing armed; there is nothing to move")
    if schedule is not None and (armed is None or schedule.armed):
        by_ms = at - schedule.at
        schedule = msgspec.structs.replace(
            schedule,
            at=at,
            arm_at=schedule.arm_at + by_ms,
            prefetch_at=None if schedule.prefetch_at is None else schedule.prefetch_at + by_ms,
        )
    if armed is None:
        return changed(campaign, Action.MOVE, now_ms, schedule=schedule), None
    again = msgspec.structs.replace(armed, rev=0, at=at)
    after = lifecycle.armed(campaign, Action.MOVE, again, now_ms, schedule=schedule)
    return after, after.activation


def due(campaign: Campaign, now_ms: int) -> Step | None:
    """Return what the schedule asks for now, None for nothing. ``campaign`` is as of now."""
    schedule = campaign.schedule
    if schedule is None or campaign.phase is Phase.CLOSED or now_ms > schedule.at + LATE_MS_MAX:
        return None
    if not schedule.prefetched and schedule.prefetch_at is not None and schedule.prefetch_at <= now_ms:
        return Step.PREFETCH
    if not schedule.armed and schedule.arm_at <= now_ms and campaign.phase is not Phase.DRAFT:
        return Step.ACTIVATE
    return None


def missed(campaign: Campaign, now_ms: int) -> bool:
    """Tell whether the schedule's instant has passed without its activation. ``campaign`` is as of now."""
    schedule = campaign.schedule
    if schedule is None or schedule.armed or campaign.phase is Phase.CLOSED:
        return False
    return now_ms > schedule.at + LATE_MS_MAX


def _check_order(schedule: Schedule, now_ms: int) -> None:
    field = "arm_at" if schedule.prefetch_at is None else "prefetch_at"
    first = schedule.arm_at if schedule.prefetch_at is None else schedule.prefetch_at
    if first < now_ms - LATE_MS_MAX:
        ago = in_words((now_ms - first) / 1000)
        raise InvalidInput(f"{field} is {ago} in the past; send an instant to come", f"$.{field}")
    if schedule.arm_at > schedule.at:
        late = in_words((schedule.arm_at - schedule.at) / 1000)
        raise InvalidInput(
            f"devices would be armed {late} after the instant; arm_ahead_s is 0 or more: they are armed before the "
            "instant",
            "$.arm_ahead_s",
        )
    if schedule.prefetch_at is not None and schedule.prefetch_at + schedule.prefetch_window_ms > schedule.arm_at:
        late = in_words((schedule.prefetch_at + schedule.prefetch_window_ms - schedule.arm_at) / 1000)
        raise InvalidInput(
            f"the prefetch ends {late} after devices are to be armed; begin it earlier, give it a shorter window, or "
            "arm them later",
            "$.prefetch_at",
        )
