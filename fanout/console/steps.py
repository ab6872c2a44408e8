"""A campaign's two phases as steps in order, each with its instants and how far it is. Pure."""

from __future__ import annotations

from collections.abc import Iterator

import msgspec
from msgspec import Struct

from fanout.campaign import Activation, Phase, Schedule
from fanout.control.views import CampaignView
from fanout.readiness import Readiness


class Step(Struct, frozen=True, kw_only=True):
    """One step.

    Attributes:
        name: What it is called.
        state: ``done``, ``current``, ``ahead``; of a closed campaign ``cut``, if it was closed meanwhile, or
            ``never``.
        begins, ends: Unix ms; None where there is no such instant yet.
        share: How much of its time is over, 0..1; None for what has no length.
        words: What is to be said of it.
    """

    name: str
    state: str
    begins: int | None = None
    ends: int | None = None
    share: float | None = None
    words: str = ""


def steps(campaign: CampaignView, ready: Readiness) -> list[Step]:
    """Return prefetch, armed, instant and window, as they are or as they are planned."""
    planned = campaign.schedule if campaign.schedule is not None and not campaign.schedule.armed else None
    if campaign.phase is Phase.CLOSED:
        # Nothing has gone on since; to close it was the last that was done to it.
        campaign = msgspec.structs.replace(campaign, now=campaign.updated_ms)
        return [
            _closed(step) for step in [_prefetch(campaign, ready), *_activate(campaign, campaign.activation, None)]
        ]
    # A schedule that is yet to come says more than the activation before it.
    activation = None if planned is not None else campaign.activation
    return [_prefetch(campaign, ready), *_activate(campaign, activation, planned)]


def _closed(step: Step) -> Step:
    """Return a step as it is when nothing goes on any more."""
    if step.state == "done":
        return step
    state = "cut" if step.state == "current" else "never"
    return msgspec.structs.replace(step, state=state, words=step.words if state == "cut" else "")


def _prefetch(campaign: CampaignView, ready: Readiness) -> Step:
    plan, schedule = campaign.prefetch, campaign.schedule
    told = f"{ready.total.ready:,} of {ready.total.connected:,} devices ready"
    if plan is None or campaign.phase is Phase.DRAFT:
        if schedule is None or schedule.prefetch_at is None:
            return Step(name="Prefetch", state="ahead", words="Devices get the content, spread over a window.")
        ends = schedule.prefetch_at + schedule.prefetch_window_ms
        return Step(name="Prefetch", state="ahead", begins=schedule.prefetch_at, ends=ends, words="By schedule.")
    ends = plan.from_ms + plan.window_ms
    share = _share(campaign.now, plan.from_ms, plan.window_ms)
    return Step(
        name="Prefetch",
        state="current" if share < 1 else "done",
        begins=plan.from_ms,
        ends=ends,
        share=share,
        words=told,
    )


def _activate(campaign: CampaignView, activation: Activation | None, planned: Schedule | None) -> Iterator[Step]:
    if planned is not None:
        yield Step(name="Armed", state="ahead", begins=planned.arm_at, words="The message goes to the devices.")
        yield Step(name="Instant", state="ahead", begins=planned.at, words=f"Devices show {planned.stage!r}.")
        ends = planned.at + planned.window_ms
        yield Step(name="Window over", state="ahead", begins=ends, words="Every device has flipped.")
        return
    if activation is None:
        yield Step(name="Armed", state="ahead", words="The message goes to the devices, ahead of the instant.")
        yield Step(name="Instant", state="ahead", words="From here on each flips at its own slot.")
        yield Step(name="Window over", state="ahead", words="Every device has flipped.")
        return
    over = activation.at + activation.window_ms
    armed = campaign.phase is Phase.ARMED
    flipping = not armed and campaign.now < over
    to = f"{'Back to' if activation.retracts else 'To'} {activation.stage!r}"
    share = f", {activation.share:.0%} of the devices" if activation.share < 1 else ""
    yield Step(
        name="Armed",
        state="current" if armed else "done",
        begins=activation.rev or None,
        words=f"Pressed by {activation.by}.",
    )
    yield Step(
        name="Instant",
        state="ahead" if armed else "current" if flipping else "done",
        begins=activation.at,
        share=None if armed else _share(campaign.now, activation.at, activation.window_ms),
        words=f"{to}{share}.",
    )
    yield Step(name="Window over", state="ahead" if armed or flipping else "done", begins=over)


def _share(now_ms: int, from_ms: int, window_ms: int) -> float:
    if now_ms >= from_ms + window_ms:
        return 1.0
    return max(0.0, (now_ms - from_ms) / window_ms)
