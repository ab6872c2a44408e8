"""The flight recorder: keeps, second by second, what comes of every activation, beside what was forecast of it."""

from __future__ import annotations

from typing import Final

import msgspec

from fanout import campaign as lifecycle
from fanout.campaign import Activation, Campaign
from fanout.control.requests import ForecastQuery
from fanout.control.watching import Watch
from fanout.readiness import Readiness
from fanout.store.flights import Flight, FlightStore, Sample

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
        for stored in await self._watch.records():
            campaign = lifecycle.advance(stored, now_ms)
            activation = campaign.activation
            if activation is not None and activation.rev and now_ms <= _over_ms(activation) + _BEFORE_MS:
                await self._look(campaign, activation, now_ms)

    async def _look(self, campaign: Campaign, activation: Activation, now_ms: int) -> None:
        flight = await self._flights.find(campaign.id, activation.rev)
        if flight is None:
            flight = await self._begun(campaign, activation, now_ms)
            await self._flights.begin(flight)
        if now_ms < activation.at - _BEFORE_MS or flight.end is not None:
            return
        readiness = await self._watch.readiness(campaign.id)
        if readiness.activate_rev != activation.rev:
            return
        await self._flights.add(campaign.id, activation.rev, _sample(readiness, activation))
        if now_ms >= _over_ms(activation):
            await self._flights.finish(msgspec.structs.replace(flight, end=readiness))

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
