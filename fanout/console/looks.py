"""What each page shows, read anew for every look: one function a page, from services to a template's context."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Awaitable, Callable
from typing import Any, Final
from weakref import WeakKeyDictionary

import msgspec

from fanout.audit import Entry
from fanout.campaign import Activation, Phase
from fanout.console import words
from fanout.console.steps import steps
from fanout.control.auth import Caller
from fanout.control.services import Services
from fanout.control.views import CampaignView
from fanout.readiness import Readiness

AUDIT_OF_CAMPAIGN: Final = 12
_ON: Final = (Phase.ARMED, Phase.ACTIVATING, Phase.LIVE)

# Campaigns whose entries are remembered: more are not looked at on one evening.
_REMEMBERED_MAX: Final = 64
_done: Final[WeakKeyDictionary[Services, OrderedDict[str, tuple[int, list[Entry]]]]] = WeakKeyDictionary()

# Given the services, who looks, and the campaign's id where the page is about one.
Look = Callable[[Services, Caller, str], Awaitable[dict[str, Any]]]


async def fleet(services: Services, caller: Caller, _: str) -> dict[str, Any]:
    """Return what the page of the fleet shows."""
    found = await services.watch.fleet()
    return {"caller": caller, "fleet": found, "wrong": words.wrong(found), "point": {"now": found.now}}


async def campaigns(services: Services, caller: Caller, _: str) -> dict[str, Any]:
    """Return what the list of campaigns shows."""
    found = await services.watch.campaigns()
    groups = {
        "on": [each for each in found if each.phase in _ON],
        "next": [each for each in found if each.phase is Phase.PREFETCHING or _planned(each)],
        "drafts": [each for each in found if each.phase is Phase.DRAFT and not _planned(each)],
        "closed": [each for each in found if each.phase is Phase.CLOSED],
    }
    groups["next"].sort(key=lambda each: each.schedule.at if each.schedule else each.updated_ms)
    total = await services.watch.fleet()
    return {
        "caller": caller,
        "groups": groups,
        "empty": not found,
        "fleet": total,
        "wrong": words.wrong(total),
        "point": {"now": total.now},
    }


def _planned(campaign: CampaignView) -> bool:
    return campaign.phase is Phase.DRAFT and campaign.schedule is not None


async def campaign(services: Services, caller: Caller, campaign_id: str) -> dict[str, Any]:
    """Return what the page of one campaign shows."""
    seen = await services.watch.get(campaign_id)
    ready = await services.watch.readiness(campaign_id)
    done = await _done_to(services, seen)
    why = words.why_not(seen, caller, ready)
    return {
        "caller": caller,
        "campaign": seen,
        "ready": ready,
        "steps": steps(seen, ready),
        "next_step": words.next_step(seen, ready),
        "ahead": words.ahead(ready),
        "done": done,
        "flights": await services.flights.list(campaign_id),
        "why": why,
        "point": {
            "now": ready.now,
            "version": seen.version,
            "phase": seen.phase,
            "stage": seen.stage,
            "why": why,
            "reachable": ready.reachable,
            "ready": ready.total.ready,
            "active": ready.total.active,
            "expected": ready.expected,
            "met": ready.met,
            "activation": _told(seen.activation),
            "retract_to": _retract_to(seen, ready),
            "next_stage": words.next_stage(seen),
        },
    }


async def _done_to(services: Services, seen: CampaignView) -> list[Entry]:
    """Return what was done to a campaign.

    Every entry of its is a version of it, so the chain, which may be long, is searched once a version, and not every
    second for everybody who looks.
    """
    known = _done.setdefault(services, OrderedDict())
    version, found = known.get(seen.id, (0, []))
    if version != seen.version:
        found = await services.watch.done(seen.id, AUDIT_OF_CAMPAIGN)
        known[seen.id] = (seen.version, found)
    known.move_to_end(seen.id)
    if len(known) > _REMEMBERED_MAX:
        known.popitem(last=False)
    return found


def _told(activation: Activation | None) -> dict[str, Any] | None:
    return None if activation is None else dict(msgspec.to_builtins(activation))


def _retract_to(campaign: CampaignView, ready: Readiness) -> str:
    """Return the stage that a retract leads to."""
    if ready.ahead_rev:
        return campaign.stage or campaign.retract_stage
    begun = campaign.begun if campaign.phase is Phase.ARMED else campaign.activation
    return (begun.before if begun is not None else None) or campaign.retract_stage
