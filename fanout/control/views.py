"""What callers are shown: a campaign as of now, with what may be done to it. Pure."""

from __future__ import annotations

import msgspec
from msgspec import UNSET, Struct, UnsetType

from fanout import campaign as lifecycle
from fanout.audit import Entry
from fanout.bus.publication import Variant
from fanout.campaign import Action, Campaign
from fanout.control.config import ControlConfig
from fanout.store.flights import Flight
from fanout.store.outcomes import Outcome, outcome


class CampaignView(Campaign, frozen=True, kw_only=True):
    """A campaign as of ``now``.

    Attributes:
        allowed: Actions that its phase allows now.
        etag: The ETag header's value; send it as If-Match to change only what you have seen.
        now: The store's clock, Unix ms.
        rev: In answers to an action: the revision of what it published.
        warnings: In answers to an action: what should be thought about, in sentences.
        waits: Why the schedule's next step has not been taken, "" if nothing holds it up.
    """

    allowed: list[Action]
    etag: str
    now: int
    rev: int | UnsetType = UNSET
    warnings: list[str] | UnsetType = UNSET
    waits: str = ""


class CampaignList(Struct, frozen=True):
    """Every campaign, the newest change first."""

    campaigns: list[CampaignView]


class FlightView(Flight, frozen=True, kw_only=True):
    """A flight record, and what it shows.

    Attributes:
        outcome: Beside the forecast: how many flipped, how long it took, who stayed behind and why. In lists, which
            have no samples, without the times.
    """

    outcome: Outcome


class FlightList(Struct, frozen=True):
    """Flight records without their samples, the newest first."""

    flights: list[FlightView]


class AuditList(Struct, frozen=True):
    """Entries of the audit chain, the newest first."""

    entries: list[Entry]


class AuditChain(Struct, frozen=True):
    """Lines of the audit chain as they are stored, and where the next ones begin, null at its end."""

    lines: list[str]
    next: int | None


class BundleView(Struct, frozen=True):
    """A bundle that was uploaded here: its name, its length, where devices fetch it."""

    sha256: str
    bytes: int
    url: str


class Status(Struct, frozen=True):
    """One word."""

    status: str


def flight_view(flight: Flight) -> FlightView:
    """Return a flight record as its readers see it."""
    fields = {name: getattr(flight, name) for name in Flight.__struct_fields__}
    return FlightView(**fields, outcome=outcome(flight))


def etag(version: int) -> str:
    """Return the ETag of a campaign's version."""
    return f'"{version}"'


def with_urls(variants: tuple[Variant, ...], config: ControlConfig) -> tuple[Variant, ...]:
    """Return the variants with the URL of every bundle; records leave out those of bundles kept here."""
    return tuple(
        variant
        if variant.bundle.url is not None
        else msgspec.structs.replace(
            variant,
            bundle=msgspec.structs.replace(variant.bundle, url=config.bundle_url(variant.bundle.sha256)),
        )
        for variant in variants
    )


def view(
    campaign: Campaign, config: ControlConfig, now_ms: int, rev: int | None = None, *, waits: str = ""
) -> CampaignView:
    """Return the campaign as its readers see it."""
    now = lifecycle.advance(campaign, now_ms)
    fields = {name: getattr(now, name) for name in Campaign.__struct_fields__}
    fields["variants"] = with_urls(now.variants, config)
    return CampaignView(
        **fields,
        allowed=lifecycle.allowed(now),
        etag=etag(now.version),
        now=now_ms,
        rev=UNSET if rev is None else rev,
        waits=waits,
    )
