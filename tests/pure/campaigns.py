"""Campaigns in every phase, and the buttons, for the tests of the lifecycle."""

from __future__ import annotations

from collections.abc import Callable

import msgspec

from fanout import campaign as lifecycle
from fanout import wire
from fanout.bus.publication import Variant
from fanout.campaign import Action, Activation, Campaign, Phase, PrefetchPlan

STAGES = ("upcoming", "live", "ended")
# What devices are told of; the rest is tests/pure/test_planning.py's.
PEOPLES = (Action.PREFETCH, Action.ACTIVATE, Action.CANCEL, Action.RETRACT, Action.CLOSE)
BUNDLE = wire.Bundle("0" * 64, 2)


def a_campaign(**fields: object) -> Campaign:
    draft = Campaign(
        id="final",
        title="The final",
        topic="final",
        stages=STAGES,
        variants=(Variant({}, BUNDLE),),
        retract_stage="upcoming",
    )
    return msgspec.structs.replace(draft, **fields)


def an_activation(stage: str, at: int, window_ms: int = 10, share: float = 1.0) -> Activation:
    return Activation(rev=0, stage=stage, at=at, window_ms=window_ms, share=share)


def press(campaign: Campaign, action: Action, now: int) -> Campaign:
    """Do what a person would, with plain arguments."""
    how: dict[Action, Callable[[], Campaign]] = {
        Action.PREFETCH: lambda: lifecycle.prefetched(campaign, PrefetchPlan(0, now, 5), now),
        Action.ACTIVATE: lambda: lifecycle.activated(campaign, an_activation("live", now + 5), now),
        Action.CANCEL: lambda: lifecycle.cancelled(campaign, now),
        Action.RETRACT: lambda: lifecycle.retracted(campaign, 5, "a false alarm", "ada", now),
        Action.CLOSE: lambda: lifecycle.closed(campaign, now),
    }
    return how[action]()


def in_phase(phase: Phase) -> Campaign:
    """Return a campaign that came into this phase by itself, at 100 ms."""
    draft = a_campaign()
    prefetching = press(draft, Action.PREFETCH, 10)
    armed = lifecycle.activated(prefetching, an_activation("live", at=150), 20)
    begun = lifecycle.activated(prefetching, an_activation("live", at=90, window_ms=60), 20)
    over = lifecycle.activated(prefetching, an_activation("live", at=30, window_ms=20), 20)
    made = {
        Phase.DRAFT: draft,
        Phase.PREFETCHING: prefetching,
        Phase.ARMED: armed,
        Phase.ACTIVATING: lifecycle.advance(begun, 100),
        Phase.LIVE: lifecycle.advance(over, 100),
        Phase.CLOSED: press(draft, Action.CLOSE, 10),
    }[phase]
    assert made.phase is phase
    return made


def in_every_phase() -> dict[str, Campaign]:
    """Return a campaign in each phase, and one that is armed for its second stage while it shows the first."""
    again = lifecycle.activated(in_phase(Phase.LIVE), an_activation("ended", at=150), 100)
    assert again.phase is Phase.ARMED
    return {**{phase.value: in_phase(phase) for phase in Phase}, "armed again": again}
