"""What people decide without telling devices: create, edit, approve, schedule. The rules are `fanout.planning`'s."""

from __future__ import annotations

from fanout import planning
from fanout.campaign import Action, Campaign, Schedule
from fanout.checks import check_window
from fanout.control import requests
from fanout.control.config import ControlConfig
from fanout.control.drafts import draft
from fanout.control.pressing import Change, Press, Presser
from fanout.control.requests import instant_ms, milliseconds
from fanout.control.views import CampaignView, view
from fanout.control.watching import Watch
from fanout.errors import Refused
from fanout.store.bundles import BundleStore


class Plans:
    """Everything that is decided before devices hear of it.

    Args:
        presser: How a decision takes effect.
        watch: For what is there already.
        bundles: Where content is.
        config: Limits.
    """

    def __init__(self, presser: Presser, watch: Watch, bundles: BundleStore, config: ControlConfig) -> None:
        self._presser = presser
        self._watch = watch
        self._bundles = bundles
        self._config = config

    async def create(self, request: requests.CreateCampaign, press: Press) -> tuple[CampaignView, bool]:
        """Create a campaign in draft.

        Returns:
            The campaign, and False if it existed already, asked for in the same words.
        Raises:
            InvalidInput: It cannot be stored as asked.
            Refused: The id belongs to another campaign.
            StoreUnavailable: The store did not answer; creating again is safe.
        """
        now_ms = await self._watch.now_ms()
        new = await self._drafted(request, press.by, now_ms)
        if await self._presser.create(new, press):
            return view(new, self._config, now_ms), True
        existing = await self._watch.get(new.id)
        if not planning.same_definition(await self._watch.record(new.id), new):
            raise Refused(
                f"campaign {existing.id} exists with other content, created by {existing.author}; choose another id"
            )
        return existing, False

    async def edit(self, campaign_id: str, request: requests.CreateCampaign, press: Press) -> CampaignView:
        """Replace a campaign's definition; see `Presser.press` for what it raises."""

        async def change(campaign: Campaign, now_ms: int) -> Change:
            wanted = await self._drafted(request, press.by, now_ms)
            return Change(planning.edited(campaign, wanted, press.by, now_ms))

        return await self._presser.press(Action.EDIT, campaign_id, press, change)

    async def approve(self, campaign_id: str, press: Press) -> CampaignView:
        """Turn the second key; see `Presser.press` for what it raises."""

        async def change(campaign: Campaign, now_ms: int) -> Change:
            return Change(planning.approved(campaign, press.by, now_ms))

        return await self._presser.press(Action.APPROVE, campaign_id, press, change)

    async def schedule(self, campaign_id: str, request: requests.ScheduleRequest, press: Press) -> CampaignView:
        """Have it happen by itself; see `Presser.press` for what it raises."""

        async def change(campaign: Campaign, now_ms: int) -> Change:
            return Change(planning.scheduled(campaign, self._schedule(request, now_ms), now_ms))

        return await self._presser.press(Action.SCHEDULE, campaign_id, press, change)

    async def unschedule(self, campaign_id: str, press: Press) -> CampaignView:
        """Leave it to people again; see `Presser.press` for what it raises."""

        async def change(campaign: Campaign, now_ms: int) -> Change:
            return Change(planning.scheduled(campaign, None, now_ms))

        return await self._presser.press(Action.SCHEDULE, campaign_id, press, change)

    async def _drafted(self, request: requests.CreateCampaign, by: str, now_ms: int) -> Campaign:
        new = await draft(request, by, now_ms, self._bundles, self._config)
        for content in new.contents:
            await self._bundles.put(content)
        return new.campaign

    def _schedule(self, request: requests.ScheduleRequest, now_ms: int) -> Schedule:
        ahead_ms_max = self._config.at_ahead_ms_max
        at = instant_ms("at", request.at, request.in_s, now_ms, ahead_ms_max)
        prefetch_at = None
        if request.prefetch_at is not None:
            prefetch_at = instant_ms(
                "prefetch_at",
                request.prefetch_at,
                None,
                now_ms,
                ahead_ms_max,
                hint="send an instant to come, or leave prefetch_at out if people prefetch",
            )
        return Schedule(
            stage=request.stage,
            at=at,
            window_ms=check_window("activate", milliseconds(request.window_s), self._config.activate_window_ms_max),
            arm_at=max(now_ms, at - milliseconds(request.arm_ahead_s)),
            prefetch_at=prefetch_at,
            prefetch_window_ms=check_window(
                "prefetch",
                milliseconds(request.prefetch_window_s),
                self._config.prefetch_window_ms_max,
                "prefetch_window_s",
            ),
        )
