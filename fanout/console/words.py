"""What the pages say in words: what is wrong with the fleet, what is next, why a button cannot be pressed. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Final

from fanout.campaign import Action, Campaign, Phase
from fanout.control.auth import Caller
from fanout.control.views import CampaignView
from fanout.readiness import Fleet, Readiness
from fanout.roles import Role
from fanout.store.flights import Ended, Flight

# A worker whose loop is so late holds up handshakes and beacons: people should know before they press.
LOOP_LAG_MS_MAX: Final = 250.0
# Two beats of presence: until then a worker may only not have said yet that it has caught up.
BUS_LAG_MS_MAX: Final = 2_000

# What each button needs, as in the API's route table; a test holds the two together.
NEEDED: Final[Mapping[str, Role]] = {
    "prefetch": Role.EDITOR,
    "activate": Role.PUBLISHER,
    "cancel": Role.PUBLISHER,
    "retract": Role.PUBLISHER,
    "close": Role.PUBLISHER,
    "approve": Role.EDITOR,
    "schedule": Role.PUBLISHER,
    "unschedule": Role.PUBLISHER,
    "move": Role.PUBLISHER,
    "edit": Role.EDITOR,
}

PHASES: Final[Mapping[Phase, str]] = {
    Phase.DRAFT: "draft",
    Phase.PREFETCHING: "prefetching",
    Phase.ARMED: "armed",
    Phase.ACTIVATING: "activating",
    Phase.LIVE: "live",
    Phase.CLOSED: "closed",
}

_FLIGHTS: Final[Mapping[Ended, str]] = {
    "": "In flight: these are the figures so far.",
    "over": "",
    "superseded": "Another activation came before this one was over: these are the figures until then.",
    "cancelled": "It was taken back before its instant: no device has shown it.",
    "closed": "The campaign was closed before this was over: these are the figures until then.",
}


def wrong(fleet: Fleet) -> list[str]:
    """Return what is wrong with the fleet, a sentence each; empty if everything is well."""
    return list(_wrong(fleet))


def _wrong(fleet: Fleet) -> Iterator[str]:
    if not fleet.workers:
        yield "No gateway says that it is there: no device can be reached."
        return
    for worker in fleet.workers:
        if worker.health == "unready":
            yield f"{worker.worker} is unready: it takes no new devices."
        elif worker.health != "ok":
            yield f"{worker.worker} is {worker.health}: it cannot reach the store, and serves from what it remembers."
        if worker.loop_lag_ms > LOOP_LAG_MS_MAX:
            yield (
                f"{worker.worker} is {worker.loop_lag_ms:,.0f} ms late with everything it does; "
                f"up to {LOOP_LAG_MS_MAX:,.0f} ms is well."
            )
    if fleet.bus_lag_ms > BUS_LAG_MS_MAX:
        few = fleet.workers_behind
        yield (
            f"{few} of {len(fleet.workers)} workers {'has' if few == 1 else 'have'} not heard what was published "
            f"{fleet.bus_lag_ms / 1000:,.1f} s ago."
        )


def why_not(campaign: CampaignView, caller: Caller, ready: Readiness) -> dict[str, str]:
    """Return for each button why this caller cannot press it now, "" if they can."""
    return {
        button: f"You are {caller.role}; this needs the role {needed}."
        if not caller.role.includes(needed)
        else _not_now(campaign, button, caller, ready)
        for button, needed in NEEDED.items()
    }


def _not_now(campaign: CampaignView, button: str, caller: Caller, ready: Readiness) -> str:
    if campaign.phase is Phase.CLOSED:
        return "The campaign is closed."
    if button == "unschedule":
        return "" if campaign.schedule is not None else "Nothing is scheduled."
    if button == "retract" and ready.ahead_rev:
        return ""
    if Action(button) not in campaign.allowed:
        return _forbidden(campaign, Action(button))
    if button == "approve" and caller.name in campaign.editors:
        return "You have written or changed it; somebody else has to approve it."
    if button == "activate" and campaign.two_keys and campaign.approval is None:
        return f"It waits for a second key: somebody other than {', '.join(campaign.editors)} has to approve it."
    return ""


def _forbidden(campaign: Campaign, action: Action) -> str:
    if action is Action.ACTIVATE:
        return "Devices hold nothing to show yet; prefetch first."
    if action is Action.CANCEL:
        return "Nothing is armed."
    if action is Action.RETRACT:
        return "Nothing is shown that could be taken back."
    if action is Action.MOVE:
        return "Nothing is scheduled and nothing is armed."
    if action is Action.APPROVE and not campaign.two_keys:
        return "This campaign needs no second key."
    if action is Action.APPROVE and campaign.approval is not None:
        return f"{campaign.approval.by} has approved it."
    return f"Not while it is {PHASES[campaign.phase]}."


def next_step(campaign: CampaignView, ready: Readiness) -> str:
    """Return what a person would do, or wait for, next."""
    total, activation = ready.total, campaign.activation
    match campaign.phase:
        case Phase.DRAFT:
            return "Nothing has reached a device. Prefetch, so that devices hold the content before the event."
        case Phase.PREFETCHING if not ready.met:
            return (
                f"Devices are fetching: {total.ready:,} of {total.connected:,} are ready; "
                f"going live needs {campaign.threshold:.0%}."
            )
        case Phase.PREFETCHING:
            return f"{total.ready:,} of {total.connected:,} devices are ready. You can go live."
        case Phase.ARMED if activation is not None:
            return f"Armed on the devices: they show {activation.stage!r} at its instant, whatever happens to us."
        case Phase.ACTIVATING if activation is not None:
            return f"Devices are flipping to {activation.stage!r}: {total.active:,} of {ready.expected:,} so far."
        case Phase.LIVE if activation is not None:
            back = " It was retracted." if activation.retracts else ""
            return f"{total.active:,} of {ready.expected:,} devices show {activation.stage!r}.{back}"
    return "It is over: devices have dropped its content."


def ahead(ready: Readiness) -> str:
    """Return what is to be said of devices that are ahead of the record, "" if they are not."""
    if not ready.ahead_rev:
        return ""
    return (
        f"Devices show a newer activation, revision {ready.ahead_rev}, than this record knows: the store has "
        "lost it in a failover. Press the stage you want, or retract."
    )


def of_flight(flight: Flight) -> str:
    """Return what is to be said of a flight record as a whole, "" if it is whole."""
    if not flight.ended and flight.newest is None:
        return "Armed: its instant has not come, or has come just now."
    return _FLIGHTS[flight.ended]


def next_stage(campaign: Campaign) -> str:
    """Return the stage that is likely to be pressed next."""
    if campaign.phase in (Phase.ARMED, Phase.ACTIVATING) and campaign.activation is not None:
        # Its own again, to widen a canary; the one after it is nothing to have under the finger just now.
        return campaign.activation.stage
    if campaign.stage in campaign.stages:
        place = campaign.stages.index(campaign.stage) + 1
        return campaign.stages[min(place, len(campaign.stages) - 1)]
    # Before anything was shown, the first stage is what is there anyway; the event begins with the one after.
    return campaign.stages[min(1, len(campaign.stages) - 1)]
