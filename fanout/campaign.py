"""Campaign lifecycle. Every change of a campaign's phase is a row of TRANSITIONS.

Knows nothing of HTTP, Redis, sockets or clocks: ``now_ms`` is an argument. The two steps that time takes by
itself (the instant arrives, the window ends) are rows too, taken by `advance` whenever a campaign is read, so
no process has to be awake for a phase to be right.

    draft ──prefetch──▶ prefetching ──activate──▶ armed ──(instant)──▶ activating ──(window over)──▶ live
                             ▲                     │ ▲                     │                          │
                             └────── cancel ───────┘ └── activate, retract ┴──────────────────────────┘
    A cancel leads back to whatever had begun before; close leads from every phase to closed.

One thing no row knows: a failover of the store may lose a record's newest changes while devices, told by their
gateways, have them. Then devices are ahead of the record, and a retract leads back to what it says is shown.
"""

from __future__ import annotations

import enum
from typing import Any, Final

import msgspec
from msgspec import Struct

from fanout import limits, wire
from fanout.bus.publication import Variant
from fanout.errors import InvalidInput, Refused


class Phase(enum.StrEnum):
    DRAFT = "draft"
    PREFETCHING = "prefetching"
    ARMED = "armed"
    ACTIVATING = "activating"
    LIVE = "live"
    CLOSED = "closed"


class Action(enum.StrEnum):
    PREFETCH = "prefetch"
    ACTIVATE = "activate"
    CANCEL = "cancel"
    RETRACT = "retract"
    CLOSE = "close"
    EDIT = "edit"
    APPROVE = "approve"
    SCHEDULE = "schedule"
    MOVE = "move"
    INSTANT = "instant"  # time's own: the activation's instant has come
    WINDOW_OVER = "window over"  # time's own: its window has ended


# Cancel leads back to the activation that had begun before, or to prefetching if none ever had.
BEFORE: Final = "before"

P, A = Phase, Action
TRANSITIONS: Final[dict[tuple[Phase, Action], Phase | str]] = {
    (P.DRAFT, A.PREFETCH): P.PREFETCHING,
    (P.DRAFT, A.CLOSE): P.CLOSED,
    (P.PREFETCHING, A.PREFETCH): P.PREFETCHING,
    (P.PREFETCHING, A.ACTIVATE): P.ARMED,
    (P.PREFETCHING, A.CLOSE): P.CLOSED,
    (P.ARMED, A.PREFETCH): P.ARMED,
    (P.ARMED, A.ACTIVATE): P.ARMED,  # the event moved
    (P.ARMED, A.CANCEL): BEFORE,
    (P.ARMED, A.RETRACT): P.ARMED,  # of what is shown already; what was armed goes with it
    (P.ARMED, A.INSTANT): P.ACTIVATING,
    (P.ARMED, A.CLOSE): P.CLOSED,
    (P.ACTIVATING, A.ACTIVATE): P.ARMED,  # a canary is widened, or the next stage follows at once
    (P.ACTIVATING, A.RETRACT): P.ARMED,
    (P.ACTIVATING, A.WINDOW_OVER): P.LIVE,
    (P.ACTIVATING, A.CLOSE): P.CLOSED,
    (P.LIVE, A.PREFETCH): P.LIVE,
    (P.LIVE, A.ACTIVATE): P.ARMED,
    (P.LIVE, A.RETRACT): P.ARMED,
    (P.LIVE, A.CLOSE): P.CLOSED,
    # What follows tells devices nothing; a move does, if something is armed.
    (P.DRAFT, A.EDIT): P.DRAFT,
    (P.PREFETCHING, A.EDIT): P.DRAFT,  # devices hold what it was before, so they prefetch again
    (P.DRAFT, A.APPROVE): P.DRAFT,
    (P.PREFETCHING, A.APPROVE): P.PREFETCHING,
    (P.LIVE, A.APPROVE): P.LIVE,
    (P.DRAFT, A.SCHEDULE): P.DRAFT,
    (P.PREFETCHING, A.SCHEDULE): P.PREFETCHING,
    (P.LIVE, A.SCHEDULE): P.LIVE,
    (P.DRAFT, A.MOVE): P.DRAFT,
    (P.PREFETCHING, A.MOVE): P.PREFETCHING,
    (P.ARMED, A.MOVE): P.ARMED,
    (P.LIVE, A.MOVE): P.LIVE,
}
del P, A


class PrefetchPlan(Struct, frozen=True):
    """The newest prefetch. ``rev`` is 0 until the store has assigned it."""

    rev: int
    from_ms: int
    window_ms: int


class Activation(Struct, frozen=True):
    """The newest activation. ``rev`` is 0 until the store has assigned it.

    Attributes:
        before: The stage the fleet showed or was turning to when this was published; a retract leads there.
        retracts: True if this is a retract.
        forced: True if the readiness gate was overridden, with ``reason``.
    """

    rev: int
    stage: str
    at: int
    window_ms: int
    share: float = 1.0
    before: str | None = None
    retracts: bool = False
    forced: bool = False
    reason: str = ""
    by: str = ""


class Approval(Struct, frozen=True):
    """The second key: who, other than those who made the campaign what it is, has approved it, and when (Unix ms)."""

    by: str
    at: int


class Schedule(Struct, frozen=True, kw_only=True):
    """What is to happen by itself, and when; instants are Unix ms.

    Attributes:
        stage: To activate.
        at: The activation's instant: the event's own time.
        window_ms: The activation's.
        arm_at: When to publish the activation; from then on it sits on the devices.
        prefetch_at: When to publish the prefetch; None leaves that to people.
        prefetch_window_ms: The prefetch's.
        prefetched, armed: Whether it has been done, by the scheduler or by hand.
    """

    stage: str
    at: int
    window_ms: int
    arm_at: int
    prefetch_at: int | None = None
    prefetch_window_ms: int = 0
    prefetched: bool = False
    armed: bool = False


class Campaign(Struct, frozen=True, kw_only=True):
    """One live event's change of UI.

    Attributes:
        topic: What its messages are addressed to.
        stages: Names, in the order of the event.
        variants: First match wins; the last matches all.
        threshold: Coverage (ready ÷ connected, 0..1) below which going live refuses.
        miss: What a device without the bundle does on activation.
        shadow: A rehearsal: devices do everything but render.
        retract_stage: Where a retract leads when nothing was shown before.
        two_keys: Activating needs the approval of somebody who has not written or changed it.
        origin_per_s: Requests a second its origin is allowed to see.
        phase: As of the last change; `advance` brings it to now.
        stage: What the fleet shows or is turning to: the newest begun activation's, canaries left aside.
        activation: The newest, armed or begun.
        activate_rev: Of the newest activation that this record knows of, whatever became of it; 0 before the first.
        begun: The newest that had begun when ``activation`` was published; a cancel leads back to it.
        editors: Who has changed its definition, the author first.
        approval: The second key; None again once the definition or the schedule has been changed.
        version: Grows by one with every change; the ETag.
    """

    id: str
    title: str
    topic: str
    stages: tuple[str, ...]
    variants: tuple[Variant, ...]
    threshold: float = 0.95
    miss: wire.Miss = "fetch"
    shadow: bool = False
    retract_stage: str
    two_keys: bool = False
    origin_per_s: float = limits.ORIGIN_PER_S_DEFAULT
    phase: Phase = Phase.DRAFT
    stage: str | None = None
    prefetch: PrefetchPlan | None = None
    activation: Activation | None = None
    activate_rev: int = 0
    begun: Activation | None = None
    author: str = ""
    editors: tuple[str, ...] = ()
    approval: Approval | None = None
    schedule: Schedule | None = None
    created_ms: int = 0
    updated_ms: int = 0
    version: int = 1


def advance(campaign: Campaign, now_ms: int) -> Campaign:
    """Return the campaign as time has moved it: armed → activating → live."""
    activation = campaign.activation
    if activation is None:
        return campaign
    if campaign.phase is Phase.ARMED and activation.at <= now_ms:
        # A canary leaves the fleet as a whole where it was.
        stage = activation.stage if activation.share >= 1 else campaign.stage
        campaign = msgspec.structs.replace(campaign, phase=_leads_to(campaign, Action.INSTANT), stage=stage)
    if campaign.phase is Phase.ACTIVATING and activation.at + activation.window_ms <= now_ms:
        campaign = msgspec.structs.replace(campaign, phase=_leads_to(campaign, Action.WINDOW_OVER))
    return campaign


def _running(campaign: Campaign) -> Activation | None:
    """Return the newest activation that has begun."""
    return campaign.activation if campaign.phase in (Phase.ACTIVATING, Phase.LIVE) else campaign.begun


def allowed(campaign: Campaign) -> list[Action]:
    """Return what people may do to the campaign in its phase, for buttons and for error messages."""
    never = [Action.INSTANT, Action.WINDOW_OVER]
    running = _running(campaign)
    if running is None or running.retracts:
        never.append(Action.RETRACT)  # nothing to go back from
    if campaign.schedule is None and campaign.phase is not Phase.ARMED:
        never.append(Action.MOVE)
    if not campaign.two_keys or campaign.approval is not None:
        never.append(Action.APPROVE)
    return [action for action in Action if action not in never and (campaign.phase, action) in TRANSITIONS]


def prefetched(campaign: Campaign, plan: PrefetchPlan, now_ms: int) -> Campaign:
    """Return the campaign with a prefetch published. Raises Refused in a phase that forbids it."""
    campaign = advance(campaign, now_ms)
    schedule = campaign.schedule and msgspec.structs.replace(campaign.schedule, prefetched=True)
    return changed(campaign, Action.PREFETCH, now_ms, prefetch=plan, schedule=schedule)


def activated(campaign: Campaign, activation: Activation, now_ms: int) -> Campaign:
    """Return the campaign with this activation armed (and begun, if its instant has come).

    Raises:
        InvalidInput: Unknown stage, or a share outside 0..1.
        Refused: The phase forbids it, a second key is wanted, or the share shrinks a canary: devices never flip
            back by share.
    """
    campaign = advance(campaign, now_ms)
    if activation.stage not in campaign.stages:
        raise InvalidInput(
            f"stage is {activation.stage[:80]!r}; campaign {campaign.id} has {', '.join(campaign.stages)}", "$.stage"
        )
    if not 0 < activation.share <= 1:
        raise InvalidInput(f"share is {activation.share}; send more than 0 and at most 1", "$.share")
    running = _running(campaign)
    if running is not None and running.stage == activation.stage and activation.share < running.share:
        raise Refused(
            f"share is {activation.share}, stage {running.stage!r} already runs at {running.share}; "
            "a share can only be widened; retract to go back"
        )
    target(campaign, Action.ACTIVATE)
    if campaign.two_keys and campaign.approval is None:
        raise Refused(
            f"campaign {campaign.id} needs a second key: somebody other than {', '.join(campaign.editors)} "
            "has to approve it"
        )
    schedule = campaign.schedule
    if schedule is not None and schedule.stage == activation.stage:
        schedule = msgspec.structs.replace(schedule, armed=True)
    return armed(campaign, Action.ACTIVATE, activation, now_ms, schedule=schedule)


def armed(campaign: Campaign, action: Action, activation: Activation, now_ms: int, **fields: Any) -> Campaign:
    """Return the campaign with this activation as its newest, taken there by an action."""
    newest = msgspec.structs.replace(activation, before=campaign.stage)
    after = changed(campaign, action, now_ms, activation=newest, begun=_running(campaign), **fields)
    return advance(after, now_ms)


def cancelled(campaign: Campaign, now_ms: int) -> Campaign:
    """Return the campaign with its armed activation taken back. Raises Refused when nothing is armed."""
    campaign = advance(campaign, now_ms)
    after = changed(campaign, Action.CANCEL, now_ms, activation=campaign.begun, begun=None)
    return advance(after, now_ms)


def retracted(
    campaign: Campaign, window_ms: int, reason: str, by: str, now_ms: int, *, ahead: bool = False
) -> Campaign:
    """Return the campaign going back, now, to the stage shown before its newest begun activation.

    Args:
        ahead: Devices show an activation that the record does not know.
    Raises:
        Refused: The phase forbids it, nothing has begun, or what has begun last is a retract already.
    """
    campaign = advance(campaign, now_ms)
    running = _running(campaign)
    if ahead and campaign.phase is not Phase.CLOSED:
        # Something is shown, whatever the record says; what it says was shown is what there is to go back to.
        campaign = msgspec.structs.replace(campaign, phase=Phase.LIVE, activation=running, begun=None)
        return armed(campaign, Action.RETRACT, _back(campaign, campaign.stage, window_ms, reason, by, now_ms), now_ms)
    target(campaign, Action.RETRACT)
    if running is None:
        raise Refused(f"campaign {campaign.id} shows no stage yet, there is nothing to retract; cancel it instead")
    if running.retracts:
        raise Refused(f"campaign {campaign.id} was already retracted to {running.stage!r}; activate a stage instead")
    back = _back(campaign, running.before, window_ms, reason, by, now_ms)
    return armed(campaign, Action.RETRACT, back, now_ms)


def _back(campaign: Campaign, stage: str | None, window_ms: int, reason: str, by: str, now_ms: int) -> Activation:
    """Return what takes devices to a stage, or to the one that was prepared if none was shown, now."""
    return Activation(
        rev=0,
        stage=stage or campaign.retract_stage,
        at=now_ms,
        window_ms=window_ms,
        retracts=True,
        reason=reason,
        by=by,
    )


def closed(campaign: Campaign, now_ms: int) -> Campaign:
    """Return the campaign closed, for good: what was scheduled or armed does not happen any more."""
    campaign = advance(campaign, now_ms)
    newest = campaign.begun if campaign.phase is Phase.ARMED else campaign.activation
    return changed(campaign, Action.CLOSE, now_ms, activation=newest, begun=None, schedule=None)


def target(campaign: Campaign, action: Action) -> Phase:
    """Return where the action leads from the campaign's phase.

    Raises:
        Refused: TRANSITIONS has no such row; the message lists what is allowed.
    """
    if (campaign.phase, action) not in TRANSITIONS:
        may = ", ".join(allowed(campaign)) or "nothing"
        raise Refused(f"{action} was asked of campaign {campaign.id}, which is {campaign.phase}; allowed is: {may}")
    return _leads_to(campaign, action)


def _leads_to(campaign: Campaign, action: Action) -> Phase:
    to = TRANSITIONS[campaign.phase, action]
    if isinstance(to, Phase):
        return to
    assert to == BEFORE
    # Armed anew, what had begun is at once as far as time has taken it.
    return Phase.PREFETCHING if campaign.begun is None else Phase.ARMED


def changed(campaign: Campaign, action: Action, now_ms: int, **fields: Any) -> Campaign:
    """Return the campaign, which is as of now, after an action; one version further. Raises Refused."""
    phase = target(campaign, action)
    return msgspec.structs.replace(campaign, phase=phase, updated_ms=now_ms, version=campaign.version + 1, **fields)
