"""What the audit chain says of each action: what was asked for and why. Pure."""

from __future__ import annotations

from typing import Any, Final

import msgspec

from fanout.campaign import Action, Activation, Campaign

# The one thing done to a campaign that is no row of the table of transitions.
CREATE: Final = "create"


def details(action: str, campaign: Campaign) -> dict[str, Any]:
    """Return what an action has made of a campaign, JSON-ready."""
    told: dict[str, Any] = {}
    if action in (CREATE, Action.EDIT):
        told |= {"title": campaign.title, "shadow": campaign.shadow, "two_keys": campaign.two_keys}
    if action in (CREATE, Action.EDIT, Action.APPROVE, Action.PREFETCH, Action.ACTIVATE):
        told["bundles"] = [variant.bundle.sha256 for variant in campaign.variants]
    if action == Action.PREFETCH and campaign.prefetch is not None:
        told |= {"from": campaign.prefetch.from_ms, "window_ms": campaign.prefetch.window_ms}
    if action in (Action.ACTIVATE, Action.RETRACT, Action.MOVE) and campaign.activation is not None:
        told |= _of_activation(campaign.activation)
    if action in (Action.SCHEDULE, Action.MOVE):
        told["schedule"] = msgspec.to_builtins(campaign.schedule)
    return told


def _of_activation(activation: Activation) -> dict[str, Any]:
    told = {name: getattr(activation, name) for name in ("stage", "at", "window_ms", "share", "before")}
    return (
        told
        | ({"forced": True} if activation.forced else {})
        | ({"reason": activation.reason} if activation.reason else {})
    )
