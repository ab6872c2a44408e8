"""What each button does: check what was asked, change the campaign purely, say what to publish.

Owns the readiness gate. Knows nothing of HTTP; phases are `fanout.campaign`'s, and how a press takes effect
is `fanout.control.pressing`'s.

The gate holds for every activation: the first, the next stage, a widened canary. It does not hold for a retract,
which must never wait, nor for what is armed already and only moves.
"""

from __future__ import annotations

import msgspec

from fanout import campaign as lifecycle
from fanout import planning
from fanout.campaign import Action, Activation, Campaign, PrefetchPlan
from fanout.checks import check_window
from fanout.control import publications, requests
from fanout.control.config import ControlConfig
from fanout.control.observe import Observer
from fanout.control.pressing import Change, Press, Presser
from fanout.control.requests import check_text, instant_ms, milliseconds
from fanout.control.views import CampaignView
from fanout.errors import InvalidInput, Refused
from fanout.readiness import Readiness
from fanout.store.bundles import BundleStore
from fanout.store.campaigns import REV_ACTIVATE, REV_PREFETCH


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
    """The buttons that devices are told of.

    Args:
        presser: How a press takes effect.
        observer: Who is ready.
        bundles: Where content is.
        config: Limits.
    """

    def __init__(self, presser: Presser, observer: Observer, bundles: BundleStore, config: ControlConfig) -> None:
        self._presser = presser
        self._observer = observer
        self._bundles = bundles
        self._config = config

    async def prefetch(self, campaign_id: str, request: requests.PrefetchRequest, press: Press) -> CampaignView:
        """Publish a prefetch; see `Presser.press` for what it raises."""
        window_ms = check_window("prefetch", milliseconds(request.window_s), self._config.prefetch_window_ms_max)

        async def change(campaign: Campaign, now_ms: int) -> Change:
            from_ms = instant_ms(
                "from", request.from_, request.in_s, now_ms, self._config.at_ahead_ms_max, default=now_ms
            )
            plan = PrefetchPlan(0, from_ms, window_ms)
            after = lifecycle.prefetched(campaign, plan, now_ms)
            contents = await self._contents(campaign)
            publication = publications.prefetch(after, plan, contents, press.bus_key, self._config)
            return Change(after, publication, REV_PREFETCH)

        return await self._presser.press(Action.PREFETCH, campaign_id, press, change)

    async def activate(self, campaign_id: str, request: requests.ActivateRequest, press: Press) -> CampaignView:
        """Publish an activation if the gate allows; see `Presser.press` for what it raises."""
        window_ms = check_window("activate", milliseconds(request.window_s), self._config.activate_window_ms_max)
        reason = check_text("reason", request.reason, lines=True).strip()
        if request.force and not reason:
            raise InvalidInput("force was sent without a reason; say why in reason", "$.reason")

        async def change(campaign: Campaign, now_ms: int) -> Change:
            activation = Activation(
                rev=0,
                stage=request.stage,
                at=instant_ms("at", request.at, request.in_s, now_ms, self._config.at_ahead_ms_max, default=now_ms),
                window_ms=window_ms,
                share=request.share,
                reason=reason,
                by=press.by,
            )
            # Phase and stage first: a campaign that cannot be activated has nothing to do with readiness.
            lifecycle.activated(campaign, activation, now_ms)
            readiness = await self._gate(campaign, request.force, now_ms)
            forced = not readiness.met
            after = lifecycle.activated(campaign, msgspec.structs.replace(activation, forced=forced), now_ms)
            publication = publications.activate(
                after, activation, request.miss or campaign.miss, press.bus_key, self._config
            )
            total = readiness.total
            known = {"connected": total.connected, "ready": total.ready, "coverage": round(total.coverage, 4)}
            return Change(after, publication, REV_ACTIVATE, known)

        return await self._presser.press(Action.ACTIVATE, campaign_id, press, change)

    async def move(self, campaign_id: str, request: requests.MoveRequest, press: Press) -> CampaignView:
        """Put the event at another time, also on devices if it is armed there; see `Presser.press`.

        The gate has been passed already: only the time changes, and the event will not wait.
        """

        async def change(campaign: Campaign, now_ms: int) -> Change:
            at = instant_ms("at", request.at, request.in_s, now_ms, self._config.at_ahead_ms_max)
            after, activation = planning.moved(campaign, at, now_ms)
            if activation is None:
                return Change(after)
            return Change(
                after,
                publications.activate(after, activation, campaign.miss, press.bus_key, self._config),
                REV_ACTIVATE,
            )

        return await self._presser.press(Action.MOVE, campaign_id, press, change)

    async def cancel(self, campaign_id: str, press: Press) -> CampaignView:
        """Take back what is armed; see `Presser.press` for what it raises."""

        async def change(campaign: Campaign, now_ms: int) -> Change:
            after = lifecycle.cancelled(campaign, now_ms)
            return Change(after, publications.cancel(after, press.bus_key))

        return await self._presser.press(Action.CANCEL, campaign_id, press, change)

    async def retract(self, campaign_id: str, request: requests.RetractRequest, press: Press) -> CampaignView:
        """Go back to the stage before, now; see `Presser.press` for what it raises."""
        window_ms = check_window("retract", milliseconds(request.window_s), self._config.retract_window_ms_max)
        reason = check_text("reason", request.reason, lines=True).strip()
        if not reason:
            raise InvalidInput("reason is empty; say why the stage is retracted", "$.reason")

        async def change(campaign: Campaign, now_ms: int) -> Change:
            ready = await self._observer.readiness(lifecycle.advance(campaign, now_ms), now_ms)
            ahead = ready.ahead_rev > 0
            after = lifecycle.retracted(campaign, window_ms, reason, press.by, now_ms, ahead=ahead)
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

    async def _gate(self, campaign: Campaign, force: bool, now_ms: int) -> Readiness:
        """Return who is ready. Raises GateRefused if these are too few and nobody forces it."""
        readiness = await self._observer.readiness(lifecycle.advance(campaign, now_ms), now_ms)
        if not readiness.met and not force:
            raise GateRefused(readiness)
        return readiness

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
