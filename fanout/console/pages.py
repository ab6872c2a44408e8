"""The pages: each reads what it shows and names its template. What is shown is `looks`'s."""

from __future__ import annotations

from typing import Any, Final

import msgspec
from starlette.responses import RedirectResponse, Response

from fanout import limits
from fanout.campaign import Campaign
from fanout.console import words
from fanout.console.live import PAGES, part
from fanout.console.visits import Visit
from fanout.control.services import Services
from fanout.errors import NotFound

AUDIT_SHOWN: Final = 200
# Of what the form's simple fields take: more than a screen shows. The JSON beside them takes what a bundle does.
TEXT_CHARS_MAX: Final = 500


async def home(visit: Visit) -> Response:
    """Lead to the campaigns."""
    return RedirectResponse("/campaigns", 303)


async def fleet(visit: Visit) -> Response:
    """Show the fleet."""
    return await _living(visit, "fleet", "")


async def campaigns(visit: Visit) -> Response:
    """Show every campaign."""
    return await _living(visit, "campaigns", "")


async def campaign(visit: Visit) -> Response:
    """Show one campaign, with everything that may be pressed."""
    record = await visit.services.watch.record(visit.campaign_id)
    return await _living(
        visit,
        "campaign",
        visit.campaign_id,
        rehearsal=record.shadow,
        contents=await _contents(visit.services, record),
        limits=limits,
        config=visit.services.config,
    )


async def new(visit: Visit) -> Response:
    """Show the form for a new campaign, empty or with another's definition."""
    source = visit.request.query_params.get("from", "")
    given = await _definition(visit.services, source) if source else None
    return _form(visit, given, "")


async def edit(visit: Visit) -> Response:
    """Show the form with a campaign's definition, to change it."""
    return _form(visit, await _definition(visit.services, visit.campaign_id), visit.campaign_id)


async def audit(visit: Visit) -> Response:
    """Show what was done, by whom."""
    return visit.page("audit.html", done=await visit.services.watch.done(None, AUDIT_SHOWN), shown=AUDIT_SHOWN)


async def _living(visit: Visit, name: str, campaign_id: str, **more: Any) -> Response:
    page = PAGES[name]
    context = await page.look(visit.services, visit.caller, campaign_id)
    parts = {each: part(each, context) for each in page.parts}
    stream = f"/console/live?page={name}" + (f"&id={campaign_id}" if campaign_id else "")
    told = msgspec.json.encode(context["point"]).decode()
    return visit.page(f"{name}.html", **{**context, **more, "parts": parts, "stream": stream, "told": told})


def _form(visit: Visit, given: dict[str, Any] | None, editing: str) -> Response:
    return visit.page(
        "new.html",
        given="" if given is None else msgspec.json.encode(given).decode(),
        editing=editing,
        version=0 if given is None else given["version"],
        rehearsal=bool(given and given["shadow"] and editing),
        why=""
        if visit.caller.role.includes(words.NEEDED["edit"])
        else f"You are {visit.caller.role}; this needs the role {words.NEEDED['edit']}.",
        limits=limits,
        text_chars_max=TEXT_CHARS_MAX,
        attr_keys=visit.services.config.attr_keys,
    )


async def _contents(services: Services, record: Campaign) -> list[dict[str, Any]]:
    """Return every variant with what it shows, as far as its bundle is kept here."""
    return [
        {
            "match": ", ".join(f"{name}={value}" for name, value in variant.match.items()) or "everyone else",
            "bytes": variant.bundle.bytes,
            "sha256": variant.bundle.sha256,
            "url": variant.bundle.url,
            "stages": await _stages(services, variant.bundle.sha256) if variant.bundle.url is None else {},
        }
        for variant in record.variants
    ]


async def _stages(services: Services, sha256: str) -> dict[str, Any]:
    try:
        found = msgspec.json.decode(await services.bundles.get(sha256))["stages"]
    except NotFound:
        return {}
    return dict(found)


async def _definition(services: Services, campaign_id: str) -> dict[str, Any]:
    """Return what a campaign was asked for with, its bundles' content where it is kept here."""
    record = await services.watch.record(campaign_id)
    variants = []
    for variant in record.variants:
        kept = {} if variant.bundle.url else await _stages(services, variant.bundle.sha256)
        elsewhere = {name: getattr(variant.bundle, name) for name in ("sha256", "bytes", "url")}
        variants.append({"match": variant.match, "bundle": {"stages": kept} if kept else elsewhere})
    return {
        **{name: getattr(record, name) for name in ("id", "title", "topic", "threshold", "miss", "shadow")},
        **{name: getattr(record, name) for name in ("retract_stage", "two_keys", "origin_per_s", "version")},
        "stages": list(record.stages),
        "variants": variants,
    }
