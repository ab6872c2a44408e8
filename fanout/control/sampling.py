"""What a scrape is told of the fleet and its campaigns: read from the store when somebody scrapes, seldom otherwise.

Costs the store one look at the presence records and the campaigns, however many scrape, at most every few seconds.
"""

from __future__ import annotations

import asyncio
import time
from typing import Final

import structlog

from fanout import campaign as lifecycle
from fanout.bus.presence import WorkerRecord
from fanout.campaign import Campaign, Phase
from fanout.control.leading import Leading
from fanout.control.metrics import CAMPAIGNS_MAX, CampaignSample, FleetSample, Metrics
from fanout.control.watching import Watch
from fanout.errors import StoreUnavailable
from fanout.readiness import Audience, audience, fleet

log: Final = structlog.get_logger("fanout.control")

# Scrapes are 15 s or 30 s apart; several servers that scrape, and anybody who reloads the page, share an answer.
# Measured, the records of 1,000 workers take a fifth of a second of a core.
FRESH_S: Final = 5.0
# Less than the patience of who scrapes (10 s by default): an answer that says the store is away is worth more than
# none.
_PATIENCE_S: Final = 6.0


class Sampler:
    """Keeps the metrics of what is in the store up to date.

    Args:
        watch: What there is.
        leading: Whether this replica leads.
        metrics: Who is told.
    """

    def __init__(self, watch: Watch, leading: Leading, metrics: Metrics) -> None:
        self._watch = watch
        self._leading = leading
        self._metrics = metrics
        self._looking = asyncio.Lock()
        self._until_s = 0.0

    async def refresh(self) -> None:
        """Look again, unless somebody just has."""
        async with self._looking:
            if time.monotonic() >= self._until_s:
                await self._look()
                self._until_s = time.monotonic() + FRESH_S
        self._metrics.leader.one(self._leading.leads)

    async def _look(self) -> None:
        answered = False
        try:
            async with asyncio.timeout(_PATIENCE_S):
                await self._watch.now_ms()
                answered = True
                seen = await self._watch.everything()
        except StoreUnavailable:
            self._metrics.of_fleet(None, (), store_up=False)
            return
        except TimeoutError:
            # A store that answers is up, however long it takes to read what a large fleet has written there.
            self._metrics.of_fleet(None, (), store_up=answered)
            return
        except Exception:
            # A record that nobody can read must not take away all that this process counts.
            log.exception("the fleet was not looked at for the metrics")
            self._metrics.of_fleet(None, (), store_up=True)
            return
        whole = fleet(seen.records, seen.bus_rev, seen.now_ms)
        campaigns = [lifecycle.advance(stored, seen.now_ms) for stored in seen.campaigns]
        campaigns = [campaign for campaign in campaigns if campaign.phase is not Phase.CLOSED]
        sample = FleetSample(
            connections=whole.devices,
            health=whole.health,
            behind=whole.workers_behind,
            bus_lag_ms=whole.bus_lag_ms,
            open_campaigns=len(campaigns),
        )
        shown = sorted(campaigns, key=lambda campaign: _nearness(campaign, seen.now_ms))[:CAMPAIGNS_MAX]
        samples = [_sample(campaign, seen.records, seen.now_ms) for campaign in shown]
        self._metrics.of_fleet(sample, samples, store_up=True)


def next_instant_ms(campaign: Campaign, now_ms: int) -> int | None:
    """Return when the activation comes that is armed or planned next; ``campaign`` is as of now."""
    instants: list[int] = []
    if campaign.phase is Phase.ARMED and campaign.activation is not None:
        instants.append(campaign.activation.at)
    if campaign.schedule is not None and not campaign.schedule.armed and campaign.schedule.at > now_ms:
        instants.append(campaign.schedule.at)
    return min(instants, default=None)


def _nearness(campaign: Campaign, now_ms: int) -> tuple[bool, int]:
    """Order what comes next first; then what was changed last."""
    instant_ms = next_instant_ms(campaign, now_ms)
    return (instant_ms is None, -campaign.updated_ms if instant_ms is None else instant_ms)


def _sample(campaign: Campaign, records: list[WorkerRecord], now_ms: int) -> CampaignSample:
    total = audience(campaign, records)
    return CampaignSample(
        id=campaign.id,
        phase=campaign.phase,
        threshold=campaign.threshold,
        connected=total.connected,
        ready=total.ready,
        active=total.active,
        coverage=total.coverage,
        instant_ms=next_instant_ms(campaign, now_ms),
        active_share=_active_share(campaign, total),
    )


def _active_share(campaign: Campaign, total: Audience) -> float | None:
    """Return how many of those that the newest activation is for have acted on it; None if that is nobody yet."""
    if campaign.phase not in (Phase.ACTIVATING, Phase.LIVE) or campaign.activation is None:
        return None
    expected = round(total.connected * campaign.activation.share)
    return min(1.0, total.active / expected) if expected else None
