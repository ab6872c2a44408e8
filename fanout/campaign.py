"""Campaign lifecycle. Every change of a campaign's phase is a row of TRANSITIONS.

Knows nothing of HTTP, Redis, sockets or clocks: ``now_ms`` is an argument. The two steps that time takes by
itself (the instant arrives, the window ends) are rows too, taken by `advance` whenever a campaign is read, so
no process has to be awake for a phase to be right.

    draft ──prefetch──▶ prefetching ──activate──▶ armed ──(instant)──▶ activating ──(window over)──▶ live
                             ▲                     │ ▲                     │                          │
                             └────── cancel ───────┘ └── activate, retract ┴──────────────────────────┘
    A cancel leads back to whatever had begun before; close leads from every phase to closed.
"""

from __future__ import annotations

import enum
import re
from typing import Final

import msgspec
from msgspec import Struct

from fanout import limits, wire
from fanout.bus.publication import Variant
from fanout.errors import InvalidInput, Refused

NAME: Final = re.compile(rf"[a-z0-9][a-z0-9_.:-]{{0,{limits.NAME_CHARS_MAX - 1}}}")
SHA256: Final = re.compile(r"[0-9a-f]{64}")


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
        phase: As of the last change; `advance` brings it to now.
        stage: What the fleet shows or is turning to: the newest begun activation's, canaries left aside.
        activation: The newest, armed or begun.
        begun: The newest that had begun when ``activation`` was published; a cancel leads back to it.
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
    phase: Phase = Phase.DRAFT
    stage: str | None = None
    prefetch: PrefetchPlan | None = None
    activation: Activation | None = None
    begun: Activation | None = None
    author: str = ""
    created_ms: int = 0
    updated_ms: int = 0
    version: int = 1


def check_name(what: str, value: str) -> str:
    """Return ``value`` if it can name a campaign, topic or stage.

    Raises:
        InvalidInput: Saying what is allowed.
    """
    if not NAME.fullmatch(value):
        raise InvalidInput(
            f"{what} is {value[:80]!r}; allowed are 1 to {limits.NAME_CHARS_MAX} characters of a-z 0-9 _ . : - , "
            "starting with a letter or digit"
        )
    return value


def check(campaign: Campaign) -> Campaign:
    """Return the campaign if it can be stored.

    Raises:
        InvalidInput: Names the field, what was sent and what is allowed.
    """
    check_name("id", campaign.id)
    check_name("topic", campaign.topic)
    if not 1 <= len(campaign.title) <= limits.TITLE_CHARS_MAX:
        raise InvalidInput(f"title has {len(campaign.title)} characters; 1 to {limits.TITLE_CHARS_MAX} are allowed")
    if not 1 <= len(campaign.stages) <= limits.STAGES_MAX:
        raise InvalidInput(f"{len(campaign.stages)} stages were sent; 1 to {limits.STAGES_MAX} are allowed")
    for stage in campaign.stages:
        check_name("stage", stage)
    if len(set(campaign.stages)) < len(campaign.stages):
        raise InvalidInput(f"stages are {list(campaign.stages)}; each name may occur once")
    check_stage(campaign, campaign.retract_stage)
    if not 0 <= campaign.threshold <= 1:
        raise InvalidInput(f"threshold is {campaign.threshold}; send a share between 0 and 1, such as 0.95")
    _check_variants(campaign.variants)
    return campaign


def _check_variants(variants: tuple[Variant, ...]) -> None:
    if not 1 <= len(variants) <= limits.VARIANTS_MAX:
        raise InvalidInput(f"{len(variants)} variants were sent; 1 to {limits.VARIANTS_MAX} are allowed")
    if variants[-1].match:
        raise InvalidInput(f"the last variant matches {variants[-1].match}; it must match all: send an empty match")
    for variant in variants:
        bundle = variant.bundle
        if not SHA256.fullmatch(bundle.sha256):
            raise InvalidInput(f"bundle sha256 is {bundle.sha256[:80]!r}; send 64 lower-case hex digits")
        if not 1 <= bundle.bytes <= limits.BUNDLE_BYTES_MAX:
            raise InvalidInput(
                f"bundle {bundle.sha256[:12]} has {bundle.bytes} bytes; 1 to {limits.BUNDLE_BYTES_MAX} are allowed"
            )


def check_stage(campaign: Campaign, stage: str) -> str:
    """Return ``stage`` if it is one of the campaign's; InvalidInput otherwise."""
    if stage not in campaign.stages:
        raise InvalidInput(f"stage is {stage[:80]!r}; campaign {campaign.id} has {', '.join(campaign.stages)}")
    return stage


def check_window(what: str, window_ms: int, window_ms_max: int) -> int:
    """Return ``window_ms`` if it is within 0 and its limit; InvalidInput otherwise."""
    if not 0 <= window_ms <= window_ms_max:
        raise InvalidInput(
            f"{what} window is {window_ms} ms, the limit is {window_ms_max} ms; "
            f"send between 0 and {window_ms_max / 1000:g} s"
        )
    return window_ms


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
    return [action for action in Action if action not in never and (campaign.phase, action) in TRANSITIONS]


def prefetched(campaign: Campaign, plan: PrefetchPlan, now_ms: int) -> Campaign:
    """Return the campaign with a prefetch published. Raises Refused in a phase that forbids it."""
    campaign = advance(campaign, now_ms)
    return _changed(campaign, Action.PREFETCH, now_ms, prefetch=plan)


def activated(campaign: Campaign, activation: Activation, now_ms: int) -> Campaign:
    """Return the campaign with this activation armed (and begun, if its instant has come).

    Raises:
        InvalidInput: Unknown stage, or a share outside 0..1.
        Refused: The phase forbids it, or the share shrinks a canary: devices never flip back by share.
    """
    campaign = advance(campaign, now_ms)
    check_stage(campaign, activation.stage)
    if not 0 < activation.share <= 1:
        raise InvalidInput(f"share is {activation.share}; send more than 0 and at most 1")
    running = _running(campaign)
    if running is not None and running.stage == activation.stage and activation.share < running.share:
        raise Refused(
            f"share is {activation.share}, stage {running.stage!r} already runs at {running.share}; "
            "a share can only be widened; retract to go back"
        )
    return _armed(campaign, Action.ACTIVATE, activation, now_ms)


def _armed(campaign: Campaign, action: Action, activation: Activation, now_ms: int) -> Campaign:
    armed = msgspec.structs.replace(activation, before=campaign.stage)
    changed = _changed(campaign, action, now_ms, activation=armed, begun=_running(campaign))
    return advance(changed, now_ms)


def cancelled(campaign: Campaign, now_ms: int) -> Campaign:
    """Return the campaign with its armed activation taken back. Raises Refused when nothing is armed."""
    campaign = advance(campaign, now_ms)
    changed = _changed(campaign, Action.CANCEL, now_ms, activation=campaign.begun, begun=None)
    return advance(changed, now_ms)


def retracted(campaign: Campaign, window_ms: int, reason: str, by: str, now_ms: int) -> Campaign:
    """Return the campaign going back, now, to the stage shown before its newest begun activation.

    Raises:
        Refused: The phase forbids it, nothing has begun, or what has begun last is a retract already.
    """
    campaign = advance(campaign, now_ms)
    target(campaign, Action.RETRACT)
    running = _running(campaign)
    if running is None:
        raise Refused(f"campaign {campaign.id} shows no stage yet, there is nothing to retract; cancel it instead")
    if running.retracts:
        raise Refused(f"campaign {campaign.id} was already retracted to {running.stage!r}; activate a stage instead")
    back = Activation(
        rev=0,
        stage=running.before or campaign.retract_stage,
        at=now_ms,
        window_ms=window_ms,
        retracts=True,
        reason=reason,
        by=by,
    )
    return _armed(campaign, Action.RETRACT, back, now_ms)


def closed(campaign: Campaign, now_ms: int) -> Campaign:
    """Return the campaign closed, for good."""
    return _changed(advance(campaign, now_ms), Action.CLOSE, now_ms)


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


def _changed(
    campaign: Campaign,
    action: Action,
    now_ms: int,
    **fields: PrefetchPlan | Activation | None,
) -> Campaign:
    phase = target(campaign, action)
    return msgspec.structs.replace(campaign, phase=phase, updated_ms=now_ms, version=campaign.version + 1, **fields)
