"""The flight recorder: keeps, second by second, what comes of every activation, beside what was forecast of it."""

from __future__ import annotations

from typing import Final

import msgspec

from fanout import campaign as lifecycle
from fanout.campaign import Activation, Campaign, Phase
from fanout.control.requests import ForecastQuery
from fanout.control.watching import Watch
from fanout.readiness import Readiness
from fanout.store.flights import Ended, Flight, FlightStore, Sample

# What is armed for later is not watched until shortly before.
_BEFORE_MS: Final = 5_000
# Stragglers come back within this: two beacons, and the longest pause of a device that reconnects.
_TAIL_MS: Final = 60_000


class Recorder:
    """Looks at every campaign that is going on, once a tick.

    Args:
        watch: What there is.
        flights: Where records are kept.
    """

    def __init__(self, watch: Watch, flights: FlightStore) -> None:
        self._watch = watch
        self._flights = flights

    async def tick(self) -> None:
        """Take a sample of every activation that is on. Raises StoreUnavailable."""
        now_ms = await self._watch.now_ms()
        campaigns = {stored.id: lifecycle.advance(stored, now_ms) for stored in await self._watch.records()}
        for campaign in campaigns.values():
            activation = campaign.activation
            if activation is not None and _is_on(campaign, activation, now_ms):
                await self._look(campaign, activation, now_ms)
        for flight in await self._flights.unfinished():
            if ended := _ended(flight, campaigns.get(flight.campaign), now_ms):
                await self._flights.keep(msgspec.structs.replace(flight, ended=ended))

    async def _look(self, campaign: Campaign, activation: Activation, now_ms: int) -> None:
        flight = await self._flights.find(campaign.id, activation.rev)
        if flight is None:
            flight = await self._begun(campaign, activation, now_ms)
            await self._flights.begin(flight)
        if now_ms < activation.at - _BEFORE_MS or flight.ended == "over":
            return
        readiness = await self._watch.readiness(campaign.id)
        if readiness.activate_rev != activation.rev:
            return
        await self._flights.add(campaign.id, activation.rev, _sample(readiness, activation))
        # At every sample: whatever comes next, a retract or a crash, what was known by then is kept.
        ended: Ended = "over" if now_ms >= _over_ms(activation) else ""
        await self._flights.keep(msgspec.structs.replace(flight, newest=readiness, ended=ended))

    async def _begun(self, campaign: Campaign, activation: Activation, now_ms: int) -> Flight:
        asked = ForecastQuery(
            window_s=activation.window_ms / 1000,
            in_s=max(0, activation.at - now_ms) / 1000,
            share=activation.share,
        )
        return Flight(
            campaign=campaign.id,
            title=campaign.title,
            rev=activation.rev,
            stage=activation.stage,
            at=activation.at,
            window_ms=activation.window_ms,
            share=activation.share,
            by=activation.by,
            reason=activation.reason,
            retracts=activation.retracts,
            shadow=campaign.shadow,
            forecast=await self._watch.forecast(campaign.id, asked),
        )


def _is_on(campaign: Campaign, activation: Activation, now_ms: int) -> bool:
    """Tell whether there is something of it to see, now or later."""
    if campaign.phase is Phase.CLOSED or not activation.rev:
        return False
    return now_ms <= _over_ms(activation) + _BEFORE_MS


def _ended(flight: Flight, campaign: Campaign | None, now_ms: int) -> Ended:
    """Return what has ended a record that nobody looks at any more, "" if it is still looked at."""
    if campaign is None or campaign.phase is Phase.CLOSED:
        return "closed"
    activation = campaign.activation
    if activation is None or activation.rev < flight.rev:
        return "cancelled"
    if activation.rev > flight.rev:
        return "superseded"
    # Nobody looked while its tail ended: the recorder was away.
    return "" if _is_on(campaign, activation, now_ms) else "over"


def _over_ms(activation: Activation) -> int:
    return activation.at + activation.window_ms + _TAIL_MS


def _sample(readiness: Readiness, activation: Activation) -> Sample:
    return Sample(
        second=(readiness.now - activation.at) // 1000,
        connected=readiness.total.connected,
        ready=readiness.total.ready,
        active=readiness.total.active,
        failed=readiness.failed,
    )
