"""The operations: from a request that has been read and allowed to an answer.

Thin on purpose: each calls one thing and dresses what it returns. Paths and roles are `fanout.control.routes`'s.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

import msgspec
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest
from starlette.requests import Request
from starlette.responses import Response

from fanout.campaign import Activation, PrefetchPlan, Schedule
from fanout.control import origin
from fanout.control.pressing import Press
from fanout.control.services import Services
from fanout.control.views import AuditList, BundleView, CampaignList, CampaignView, FlightList, Status, flight_view
from fanout.errors import NotFound, StoreUnavailable
from fanout.store.bundles import canonical

_REV_DIGITS_MAX: Final = 16


@dataclass(frozen=True, slots=True)
class Call:
    """One request, after its caller, its query and its body have been read."""

    request: Request
    services: Services
    press: Press
    query: Any
    body: Any

    @property
    def campaign_id(self) -> str:
        return str(self.request.path_params["id"])


def _json(value: Any, status: int = 200, headers: dict[str, str] | None = None) -> Response:
    return Response(msgspec.json.encode(value), status, headers=headers, media_type="application/json")


def campaign_answer(view: CampaignView, status: int = 200) -> Response:
    """Dress a campaign: its ETag, and where it is if it is new."""
    headers = {"ETag": view.etag}
    if status == 201:
        headers["Location"] = f"/v1/campaigns/{view.id}"
    return _json(view, status, headers)


async def _cautioned(call: Call, view: CampaignView, plan: PrefetchPlan | Activation | Schedule | None) -> Response:
    """Dress a campaign with what should be thought about, now that this was pressed."""
    warnings = [] if plan is None else await call.services.watch.cautions(view, plan)
    return campaign_answer(msgspec.structs.replace(view, warnings=warnings))


async def moved_answer(call: Call, view: CampaignView) -> Response:
    """Dress a campaign whose event was moved, whoever moved it."""
    return await _cautioned(call, view, view.schedule or view.activation)


async def list(call: Call) -> Response:
    """Answer with every campaign."""
    return _json(CampaignList(await call.services.watch.campaigns()))


async def create(call: Call) -> Response:
    """Create a campaign: 201, or 200 if it was there already."""
    view, created = await call.services.plans.create(call.body, call.press)
    return campaign_answer(view, 201 if created else 200)


async def show(call: Call) -> Response:
    """Answer with one campaign."""
    return campaign_answer(await call.services.watch.get(call.campaign_id))


async def prefetch(call: Call) -> Response:
    """Press prefetch."""
    view = await call.services.actions.prefetch(call.campaign_id, call.body, call.press)
    return await _cautioned(call, view, view.prefetch)


async def activate(call: Call) -> Response:
    """Press activate."""
    view = await call.services.actions.activate(call.campaign_id, call.body, call.press)
    return await _cautioned(call, view, view.activation)


async def cancel(call: Call) -> Response:
    """Press cancel."""
    return campaign_answer(await call.services.actions.cancel(call.campaign_id, call.press))


async def retract(call: Call) -> Response:
    """Press retract."""
    return campaign_answer(await call.services.actions.retract(call.campaign_id, call.body, call.press))


async def close(call: Call) -> Response:
    """Press close."""
    return campaign_answer(await call.services.actions.close(call.campaign_id, call.press))


async def edit(call: Call) -> Response:
    """Replace a campaign's definition."""
    return campaign_answer(await call.services.plans.edit(call.campaign_id, call.body, call.press))


async def approve(call: Call) -> Response:
    """Turn the second key."""
    return campaign_answer(await call.services.plans.approve(call.campaign_id, call.press))


async def schedule(call: Call) -> Response:
    """Have it happen by itself."""
    view = await call.services.plans.schedule(call.campaign_id, call.body, call.press)
    return await _cautioned(call, view, view.schedule)


async def unschedule(call: Call) -> Response:
    """Leave it to people again."""
    return campaign_answer(await call.services.plans.unschedule(call.campaign_id, call.press))


async def move(call: Call) -> Response:
    """Put the event at another time."""
    return await moved_answer(call, await call.services.actions.move(call.campaign_id, call.body, call.press))


async def forecast(call: Call) -> Response:
    """Answer with what would happen."""
    return _json(await call.services.watch.forecast(call.campaign_id, call.query))


async def flights(call: Call) -> Response:
    """Answer with a campaign's flight records."""
    await call.services.watch.record(call.campaign_id)
    return _json(FlightList([flight_view(each) for each in await call.services.flights.list(call.campaign_id)]))


async def flight(call: Call) -> Response:
    """Answer with one flight record."""
    rev = call.request.path_params["rev"]
    if not rev.isdecimal() or len(rev) > _REV_DIGITS_MAX:
        raise NotFound(f"{rev[:80]!r} is no revision; the campaign's list of flights names those there are")
    return _json(flight_view(await call.services.flights.get(call.campaign_id, int(rev))))


async def audit(call: Call) -> Response:
    """Answer with what was done."""
    return _json(AuditList(await call.services.watch.done(call.query.campaign, call.query.count)))


async def audit_chain(call: Call) -> Response:
    """Answer with the chain itself."""
    return _json(await call.services.watch.chain(call.query.start))


async def readiness(call: Call) -> Response:
    """Answer with who is ready."""
    return _json(await call.services.watch.readiness(call.campaign_id))


async def fleet(call: Call) -> Response:
    """Answer with every worker."""
    return _json(await call.services.watch.fleet())


async def upload(call: Call) -> Response:
    """Store a bundle: 201, or 200 if it was there already."""
    content = canonical(call.body.stages)
    new = not await call.services.bundles.exists(content.sha256)
    await call.services.bundles.put(content)
    path = f"/v1/bundles/{content.sha256}"
    view = BundleView(content.sha256, len(content.data), call.services.config.bundle_url(content.sha256))
    return _json(view, 201 if new else 200, {"Location": path})


async def bundle(call: Call) -> Response:
    """Answer with a bundle's bytes."""
    return await origin.answer(call.request, call.services.bundles, call.request.path_params["sha256"])


async def openapi(call: Call) -> Response:
    """Answer with the document."""
    return Response(call.services.openapi, media_type="application/json")


async def healthz(call: Call) -> Response:
    """Answer: this process runs, whatever the store does."""
    return _json(Status("ok"))


async def readyz(call: Call) -> Response:
    """Answer: the store answers, or 503."""
    try:
        await call.services.ping()
    except StoreUnavailable:
        return _json(Status("unready"), 503)
    return _json(Status("ok"))


async def metrics(call: Call) -> Response:
    """Answer with what Prometheus scrapes."""
    await call.services.sampler.refresh()
    return Response(generate_latest(call.services.metrics.registry), headers={"Content-Type": CONTENT_TYPE_LATEST})
