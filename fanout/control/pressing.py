"""How a press takes effect, once: read the record, change it, write and publish in one step, be sure.

Owns racing presses and repeated keys. Knows nothing of HTTP, nor of what the buttons mean.

Two presses at once: the store lets one change a version of the record, and the other starts again from what
it finds, as if it had come a moment later. A caller who sent If-Match is told instead.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any, Final

import structlog

from fanout import tracing
from fanout.bus.publication import Cancelled, Publication
from fanout.bus.publisher import Publisher, Receipt, Record
from fanout.campaign import Action, Campaign, Phase, advance
from fanout.connect import store_errors
from fanout.control.auditing import CREATE, details
from fanout.control.config import ControlConfig
from fanout.control.views import CampaignView, view
from fanout.errors import ChainMoved, InvalidInput, OutcomeUnknown, Refused, TooLate, VersionConflict
from fanout.limits import NAME_CHARS_MAX
from fanout.store.audit import AuditStore
from fanout.store.campaigns import CampaignStore, record, with_rev

# Presses are a few a second; whoever loses this often in a row is racing a machine.
_TRIES: Final = 8
# No record has this version, so a publication based on it is only ever a repetition.
_NO_VERSION: Final = -1

log: Final = structlog.get_logger("fanout.control")


class KeyReused(InvalidInput):
    """The Idempotency-Key was used for another request."""

    def __init__(self, key: str) -> None:
        super().__init__(f"Idempotency-Key {key!r} was used for another request; send a new key")


@dataclass(frozen=True, slots=True)
class Press:
    """What comes with every press of a button.

    Attributes:
        by: Name of the caller.
        key: Idempotency-Key, the caller's own.
        digest: Of the whole request, without spaces.
        if_match: Version the caller has seen, None for "whatever it is now".
    """

    by: str
    key: str
    digest: str
    if_match: int | None = None

    @property
    def bus_key(self) -> str:
        """The key in the log: callers do not share keys, and no name contains a slash."""
        return f"{self.by}/{self.key}"


@dataclass(frozen=True, slots=True)
class Change:
    """A campaign as it will be, and what tells devices so.

    Attributes:
        publication: None if devices are not told.
        rev_field: Where the record keeps the publication's revision, "" for nowhere.
        known: What was known when it was decided, for the audit chain.
    """

    campaign: Campaign
    publication: Publication | None = None
    rev_field: str = ""
    known: dict[str, Any] = field(default_factory=dict)


# Given the record and the store's clock (Unix ms); called again if the record changed meanwhile.
Changer = Callable[[Campaign, int], Awaitable[Change]]


class Presser:
    """Applies changes to campaigns and publishes them.

    Args:
        campaigns: The records.
        audit: What was done, in order.
        publisher: The log.
        config: For what callers are shown.
    """

    def __init__(
        self, campaigns: CampaignStore, audit: AuditStore, publisher: Publisher, config: ControlConfig
    ) -> None:
        self._campaigns = campaigns
        self._audit = audit
        self._publisher = publisher
        self._config = config

    async def create(self, campaign: Campaign, press: Press) -> bool:
        """Store a new campaign.

        Returns:
            False if one with this id exists already; it is left alone.
        Raises:
            StoreUnavailable: The store did not answer. Creating again is safe.
        """
        for _ in range(_TRIES):
            head = await self._audit.head()
            entry = head.follow(**_told(CREATE, press, campaign.created_ms, Change(campaign)))
            try:
                await self._campaigns.write(campaign.id, record(0, campaign, entry))
            except VersionConflict:
                return False
            except ChainMoved:
                continue
            log.info("campaign created", campaign=campaign.id, by=press.by)
            return True
        raise ChainMoved

    async def press(self, action: Action, campaign_id: str, press: Press, change: Changer) -> CampaignView:
        """Apply a change to the newest record and publish it, once for the press's key.

        Raises:
            NotFound: There is no such campaign.
            InvalidInput: The change cannot be made as asked, or its key was used for something else.
            Refused: The campaign's phase or the gate forbids it.
            VersionConflict: If-Match named another version.
            StoreUnavailable: Nothing was published.
            OutcomeUnknown: Published, but nothing vouched for it in time.
        """
        about = {"fanout.action": action.value, "fanout.campaign": campaign_id[:NAME_CHARS_MAX]}
        with tracing.span(f"press {action}", attributes=about):
            return await self._press(action, campaign_id, press, change)

    async def _press(self, action: Action, campaign_id: str, press: Press, change: Changer) -> CampaignView:
        not_before_ms = 0
        for _ in range(_TRIES):
            standing = await self._campaigns.standing(campaign_id, press.bus_key)
            campaign, now_ms = standing.campaign, max(standing.now_ms, not_before_ms)
            try:
                if standing.first is not None:
                    return await self._repeat(campaign, press, standing.first)
                _check_version(press, campaign)
                changed = await change(campaign, now_ms)
                entry = standing.head.follow(**_told(action, press, now_ms, changed))
                written = record(
                    campaign.version, changed.campaign, entry, changed.rev_field, _deadline_ms(campaign, now_ms)
                )
                receipt = await self._write(press, changed, written)
            except ChainMoved:
                continue
            except VersionConflict as exc:
                if exc.sent == press.if_match:
                    raise
            except TooLate as exc:
                # The instant came in between: judge again what may be done now. The log's revisions may run
                # ahead of the store's clock (after a failover), and they are what devices go by.
                not_before_ms = exc.now_ms
            else:
                return await self._done(action, press, changed, receipt, now_ms)
        raise Refused(f"campaign {campaign_id} was changed by others {_TRIES} times meanwhile; read it and try again")

    async def _write(self, press: Press, changed: Change, written: Record) -> Receipt | None:
        if changed.publication is None:
            await self._campaigns.write(changed.campaign.id, written)
            return None
        return await self._publish(press, changed.publication, written)

    async def _done(
        self, action: Action, press: Press, changed: Change, receipt: Receipt | None, now_ms: int
    ) -> CampaignView:
        campaign = changed.campaign
        if receipt is None:
            log.info("changed", action=action.value, campaign=campaign.id, by=press.by)
            return view(campaign, self._config, now_ms)
        if receipt.repeated:
            return await self._told(campaign.id, receipt)
        log.info("published", action=action.value, campaign=campaign.id, rev=receipt.rev, by=press.by)
        return view(with_rev(campaign, changed.rev_field, receipt.rev), self._config, now_ms, receipt.rev)

    async def _publish(self, press: Press, publication: Publication, written: Record) -> Receipt:
        try:
            # The publisher speaks of silence itself; this adds what its connection meets before and within
            # the script, such as a primary that has become a replica.
            with store_errors():
                receipt = await self._publisher.publish(publication, digest=press.digest, record=written)
        except OutcomeUnknown as exc:
            log.warning("outcome unknown", campaign=publication.campaign, by=press.by)
            raise OutcomeUnknown(press.key, "nothing vouched for the publication in time") from exc
        _check_digest(press, receipt)
        return receipt

    async def _repeat(self, campaign: Campaign, press: Press, first: Receipt) -> CampaignView:
        """Answer a key whose publication is in the log though its answer was never given.

        It was never vouched for either, as far as anyone here knows, so that is made up for first.

        What is published here is never appended: the key is known, and no record has this version.
        """
        _check_digest(press, first)
        again = Cancelled(campaign=campaign.id, topic=campaign.topic, key=press.bus_key)
        receipt = await self._publish(press, again, Record(version=_NO_VERSION, doc=b""))
        return await self._told(campaign.id, receipt)

    async def _told(self, campaign_id: str, receipt: Receipt) -> CampaignView:
        campaign = await self._campaigns.get(campaign_id)
        return view(campaign, self._config, await self._publisher.now_ms(), receipt.rev)


def _told(action: str, press: Press, now_ms: int, changed: Change) -> dict[str, Any]:
    """Return what the audit chain's entry says."""
    after = changed.campaign
    return {
        "at": now_ms,
        "by": press.by,
        "action": str(action),
        "campaign": after.id,
        "version": after.version,
        "details": {**details(action, after), **changed.known, "key": press.key},
    }


def _deadline_ms(campaign: Campaign, now_ms: int) -> int | None:
    """Return until when the change may be published.

    What was decided while an activation was armed rests on its instant not having come: devices would act on
    it, and ignore a cancel that the record believes in.
    """
    now = advance(campaign, now_ms)
    return now.activation.at if now.phase is Phase.ARMED and now.activation is not None else None


def _check_digest(press: Press, receipt: Receipt) -> None:
    # What a gateway put back after a failover has no digest: nobody remembers what had been asked.
    if receipt.digest not in ("", press.digest):
        raise KeyReused(press.key)


def _check_version(press: Press, campaign: Campaign) -> None:
    if press.if_match is not None and press.if_match != campaign.version:
        raise VersionConflict(press.if_match, campaign.version)
