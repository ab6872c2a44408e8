"""What each button does: check what was asked, change the campaign purely, say what to publish.

Owns the readiness gate. Knows nothing of HTTP; phases are `fanout.campaign`'s, and how a press takes effect
is `fanout.control.pressing`'s.

The gate holds for every activation: the first, the next stage, a widened canary, the event that moved. It
does not hold for a retract, which must never wait.
"""

from __future__ import annotations

from typing import Final

import msgspec
import structlog
from redis.asyncio import Redis

from fanout import campaign as lifecycle
from fanout.bus.publisher import Publisher
from fanout.campaign import Action, Activation, Campaign, PrefetchPlan, check_window
from fanout.control import publications, requests
from fanout.control.config import ControlConfig
from fanout.control.drafts import draft, same_definition
from fanout.control.observe import Observer
from fanout.control.pressing import Change, Press, Presser
from fanout.control.readiness import Fleet, Readiness
from fanout.control.requests import instant_ms, milliseconds
from fanout.control.views import CampaignView, view
from fanout.errors import InvalidInput, Refused
from fanout.store.bundles import BundleStore
from fanout.store.campaigns import REV_ACTIVATE, REV_PREFETCH, CampaignStore

log: Final = structlog.get_logger("fanout.control")


class GateRefused(Refused):
    """Too few devices are ready for an activation."""

    def __init__(self, readiness: Readiness) -> None:
        total = readiness.total
        super().__init__(
            f"{total.ready} of {total.connected} connected devices are ready ({total.coverage:.1%}), the "
            f"threshold is {readiness.threshold:.1%}; wait for the prefetch, or send force with a reason"
        )
        self.readiness = readiness


class Actions:
    """Everything that can be done to campaigns.

    Args:
        redis: Client of the primary.
        config: Limits.
        bundles: Where content is.
    """

    def __init__(self, redis: Redis, config: ControlConfig, bundles: BundleStore) -> None:
        self._config = config
        self._bundles = bundles
        self._campaigns = CampaignStore(redis)
        self._publisher = Publisher(redis, safe_timeout_s=config.safe_timeout_s)
        self._presser = Presser(self._campaigns, self._publisher, config)
        self._observer = Observer(redis)

    async def list(self) -> list[CampaignView]:
        """Return every campaign. Raises StoreUnavailable."""
        now_ms = await self._publisher.now_ms()
        return [view(campaign, self._config, now_ms) for campaign in await self._campaigns.list()]

    async def get(self, campaign_id: str) -> CampaignView:
        """Return one campaign. Raises NotFound, StoreUnavailable."""
        campaign = await self._campaigns.get(campaign_id)
        return view(campaign, self._config, await self._publisher.now_ms())

    async def readiness(self, campaign_id: str) -> Readiness:
        """Return who is ready, and who has flipped. Raises NotFound, StoreUnavailable."""
        campaign = await self._campaigns.get(campaign_id)
        now_ms = await self._publisher.now_ms()
        return await self._observer.readiness(lifecycle.advance(campaign, now_ms), now_ms)

    async def fleet(self) -> Fleet:
        """Return every gateway worker and their sums. Raises StoreUnavailable."""
        return await self._observer.fleet(await self._publisher.now_ms())

    async def create(self, request: requests.CreateCampaign, author: str) -> tuple[CampaignView, bool]:
        """Create a campaign in draft.

        Returns:
            The campaign, and False if it existed already, asked for in the same words.
        Raises:
            InvalidInput: It cannot be stored as asked.
            Refused: The id belongs to another campaign.
            StoreUnavailable: The store did not answer; creating again is safe.
        """
        now_ms = await self._publisher.now_ms()
        new = await draft(request, author, now_ms, self._bundles, self._config)
        for content in new.contents:
            await self._bundles.put(content)
        if await self._campaigns.create(new.campaign):
            log.info("campaign created", campaign=new.campaign.id, by=author)
            return view(new.campaign, self._config, now_ms), True
        existing = await self._campaigns.get(new.campaign.id)
        if not same_definition(existing, new.campaign):
            raise Refused(
                f"campaign {existing.id} exists with other content, created by {existing.author}; choose another id"
            )
        return view(existing, self._config, now_ms), False

    async def prefetch(self, campaign_id: str, request: requests.PrefetchRequest, press: Press) -> CampaignView:
        """Publish a prefetch; see `Presser.press` for what it raises."""
        window_ms = check_window("prefetch", milliseconds(request.window_s), self._config.prefetch_window_ms_max)

        async def change(campaign: Campaign, now_ms: int) -> Change:
            from_ms = instant_ms("from", request.from_, request.in_s, now_ms, self._config.at_ahead_ms_max)
            plan = PrefetchPlan(0, from_ms, window_ms)
            after = lifecycle.prefetched(campaign, plan, now_ms)
            contents = await self._contents(campaign)
            publication = publications.prefetch(after, plan, contents, press.bus_key, self._config)
            return Change(after, publication, REV_PREFETCH)

        return await self._presser.press(Action.PREFETCH, campaign_id, press, change)

    async def activate(self, campaign_id: str, request: requests.ActivateRequest, press: Press) -> CampaignView:
        """Publish an activation if the gate allows; see `Presser.press` for what it raises."""
        window_ms = check_window("activate", milliseconds(request.window_s), self._config.activate_window_ms_max)
        if request.force and not request.reason.strip():
            raise InvalidInput("force was sent without a reason; say why in reason")

        async def change(campaign: Campaign, now_ms: int) -> Change:
            activation = Activation(
                rev=0,
                stage=request.stage,
                at=instant_ms("at", request.at, request.in_s, now_ms, self._config.at_ahead_ms_max),
                window_ms=window_ms,
                share=request.share,
                reason=request.reason.strip(),
                by=press.by,
            )
            # Phase and stage first: a campaign that cannot be activated has nothing to do with readiness.
            lifecycle.activated(campaign, activation, now_ms)
            forced = await self._gate(campaign, request.force, now_ms)
            after = lifecycle.activated(campaign, msgspec.structs.replace(activation, forced=forced), now_ms)
            publication = publications.activate(
                after, activation, request.miss or campaign.miss, press.bus_key, self._config
            )
            return Change(after, publication, REV_ACTIVATE)

        return await self._presser.press(Action.ACTIVATE, campaign_id, press, change)

    async def cancel(self, campaign_id: str, press: Press) -> CampaignView:
        """Take back what is armed; see `Presser.press` for what it raises."""

        async def change(campaign: Campaign, now_ms: int) -> Change:
            after = lifecycle.cancelled(campaign, now_ms)
            return Change(after, publications.cancel(after, press.bus_key))

        return await self._presser.press(Action.CANCEL, campaign_id, press, change)

    async def retract(self, campaign_id: str, request: requests.RetractRequest, press: Press) -> CampaignView:
        """Go back to the stage before, now; see `Presser.press` for what it raises."""
        window_ms = check_window("retract", milliseconds(request.window_s), self._config.retract_window_ms_max)
        reason = request.reason.strip()
        if not reason:
            raise InvalidInput("reason is empty; say why the stage is retracted")

        async def change(campaign: Campaign, now_ms: int) -> Change:
            after = lifecycle.retracted(campaign, window_ms, reason, press.by, now_ms)
            assert after.activation is not None
            publication = publications.activate(after, after.activation, campaign.miss, press.bus_key, self._config)
            return Change(after, publication, REV_ACTIVATE)

        return await self._presser.press(Action.RETRACT, campaign_id, press, change)

    async def close(self, campaign_id: str, press: Press) -> CampaignView:
        """End the campaign for good; see `Presser.press` for what it raises."""

        async def change(campaign: Campaign, now_ms: int) -> Change:
            after = lifecycle.closed(campaign, now_ms)
            return Change(after, publications.close(after, press.bus_key))

        return await self._presser.press(Action.CLOSE, campaign_id, press, change)

    async def _gate(self, campaign: Campaign, force: bool, now_ms: int) -> bool:
        """Return whether the gate had to be forced. Raises GateRefused."""
        readiness = await self._observer.readiness(lifecycle.advance(campaign, now_ms), now_ms)
        if readiness.met:
            return False
        if not force:
            raise GateRefused(readiness)
        return True

    async def _contents(self, campaign: Campaign) -> dict[str, bytes]:
        """Return the content that may travel inline, after making sure that the rest can be fetched."""
        contents: dict[str, bytes] = {}
        for bundle in {variant.bundle for variant in campaign.variants if variant.bundle.url is None}:
            # Asked of the store even if this process remembers it: devices may ask another one.
            if not await self._bundles.exists(bundle.sha256):
                raise Refused(f"bundle {bundle.sha256} is no longer in the store; upload it again")
            if publications.may_inline(bundle):
                contents[bundle.sha256] = await self._bundles.get(bundle.sha256)
        return contents
