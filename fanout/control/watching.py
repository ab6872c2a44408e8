"""Everything that can be looked at: campaigns, who is ready, what would happen, the fleet, what was done."""

from __future__ import annotations

from typing import Any, NamedTuple

from redis.asyncio import Redis

from fanout import campaign as lifecycle
from fanout import keyspace, planning
from fanout.audit import Entry
from fanout.bus.presence import WorkerRecord
from fanout.bus.publisher import Publisher
from fanout.campaign import Activation, Campaign, PrefetchPlan, Schedule
from fanout.connect import store_errors
from fanout.control.config import ControlConfig
from fanout.control.forecasting import ForecastView, cautions, foresee
from fanout.control.observe import Observer
from fanout.control.requests import ForecastQuery
from fanout.control.views import AuditChain, CampaignView, view
from fanout.errors import StoreUnavailable
from fanout.readiness import Fleet, Readiness
from fanout.store.audit import PAGE, AuditStore
from fanout.store.campaigns import CampaignStore


class Seen(NamedTuple):
    """The fleet and every campaign, at one time.

    Attributes:
        bus_rev: The log's newest revision.
    """

    now_ms: int
    records: list[WorkerRecord]
    bus_rev: int
    campaigns: list[Campaign]


class Watch:
    """Reads, and changes nothing. Everything raises StoreUnavailable, and NotFound for an unknown campaign.

    Args:
        redis: Client of the primary.
        campaigns: The records.
        audit: What was done.
        publisher: For the store's clock.
        observer: What the fleet says of itself.
        config: Limits.
    """

    def __init__(
        self,
        redis: Redis,
        campaigns: CampaignStore,
        audit: AuditStore,
        publisher: Publisher,
        observer: Observer,
        config: ControlConfig,
    ) -> None:
        # Any: the client's types say bytes or str, and ours always answers in bytes.
        self._redis: Any = redis
        self._campaigns = campaigns
        self._audit = audit
        self._publisher = publisher
        self._observer = observer
        self._config = config

    async def now_ms(self) -> int:
        """Return the store's clock, Unix ms."""
        return await self._publisher.now_ms()

    async def campaigns(self) -> list[CampaignView]:
        """Return every campaign."""
        now_ms = await self.now_ms()
        return [view(campaign, self._config, now_ms) for campaign in await self._campaigns.list()]

    async def get(self, campaign_id: str) -> CampaignView:
        """Return one campaign."""
        campaign = await self._campaigns.get(campaign_id)
        now_ms = await self.now_ms()
        return view(campaign, self._config, now_ms, waits=await self._waits(campaign, now_ms))

    async def _waits(self, campaign: Campaign, now_ms: int) -> str:
        """Return why the schedule's next step has not been taken, "" if nothing holds it up."""
        if campaign.schedule is None:
            return ""
        if planning.missed(lifecycle.advance(campaign, now_ms), now_ms):
            return "activate: its instant has passed without it; activate it by hand, or schedule it anew"
        with store_errors():
            said = await self._redis.get(keyspace.waits(campaign.id))
        return said.decode() if said else ""

    async def record(self, campaign_id: str) -> Campaign:
        """Return one campaign as it is stored."""
        return await self._campaigns.get(campaign_id)

    async def records(self) -> list[Campaign]:
        """Return every campaign as it is stored."""
        return await self._campaigns.list()

    async def readiness(self, campaign_id: str) -> Readiness:
        """Return who is ready, and who has flipped."""
        campaign = await self._campaigns.get(campaign_id)
        now_ms = await self.now_ms()
        return await self._observer.readiness(lifecycle.advance(campaign, now_ms), now_ms)

    async def forecast(self, campaign_id: str, asked: ForecastQuery) -> ForecastView:
        """Return what would happen if this were pressed now. Raises InvalidInput for what cannot be."""
        now_ms = await self.now_ms()
        all_of_them = {each.id: lifecycle.advance(each, now_ms) for each in await self._campaigns.list()}
        campaign = all_of_them.get(campaign_id) or await self._campaigns.get(campaign_id)
        ready, records = await self._observer.both(campaign, now_ms)
        return foresee(campaign, all_of_them.values(), records, ready, asked, self._config.sends_per_s)

    async def cautions(self, campaign: Campaign, plan: PrefetchPlan | Activation | Schedule) -> list[str]:
        """Return what should be thought about after this was pressed; nothing while the store is silent."""
        try:
            now_ms = await self.now_ms()
            others = [lifecycle.advance(each, now_ms) for each in await self._campaigns.list()]
            ready, records = await self._observer.both(lifecycle.advance(campaign, now_ms), now_ms)
        except StoreUnavailable:
            return []  # it was pressed all the same
        return cautions(campaign, others, records, ready, plan, self._config.sends_per_s)

    async def fleet(self) -> Fleet:
        """Return every gateway worker and their sums."""
        return await self._observer.fleet(await self.now_ms())

    async def everything(self) -> Seen:
        """Return all that metrics are made of, read once."""
        now_ms = await self.now_ms()
        return Seen(now_ms, *await self._observer.records(), await self._campaigns.list())

    async def done(self, campaign_id: str | None, count: int) -> list[Entry]:
        """Return the newest entries of the audit chain, the newest first; of one campaign, or of all."""
        if campaign_id is not None:
            await self._campaigns.get(campaign_id)
        return await self._audit.newest(campaign_id, count)

    async def chain(self, start: int) -> AuditChain:
        """Return the audit chain from a place on, as it is stored."""
        lines = await self._audit.page(start)
        more = start + len(lines) if len(lines) == PAGE else None
        return AuditChain([line.decode(errors="replace") for line in lines], more)
