"""The route table: one row per operation, from which both the app and its OpenAPI document are made.

Owns paths, roles, bodies and what each operation answers with. Knows nothing of how a row is served.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any, Final

from starlette.responses import Response

from fanout.control import handlers, origin, requests, webhook
from fanout.control.forecasting import ForecastView
from fanout.control.handlers import Call
from fanout.control.views import (
    AuditChain,
    AuditList,
    BundleView,
    CampaignList,
    CampaignView,
    FlightList,
    FlightView,
    Status,
)
from fanout.readiness import Fleet, Readiness
from fanout.roles import Role

Handler = Callable[[Call], Awaitable[Response]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Operation:
    """One row.

    Attributes:
        role: What the caller must be, None for anybody.
        query: Struct of the query string, None if it has none.
        body: Struct of the request's body, None if it has none.
        body_optional: An empty body stands for ``{}``.
        content: The body may hold bundles, and be as long as they are.
        answer: Struct of the answer's body, None for another media type.
        answers: What each success status means.
        keyed: Takes an Idempotency-Key.
        press: A button: takes If-Match, is timed, answers with an ETag.
        signed: The body is signed instead of its sender being known; its handler reads it, and checks that first.
    """

    method: str
    path: str
    name: str
    summary: str
    handler: Handler
    role: Role | None = None
    query: type[Any] | None = None
    body: type[Any] | None = None
    body_optional: bool = False
    content: bool = False
    answer: type[Any] | None = None
    answers: dict[int, str] = field(default_factory=lambda: {200: "Done."})
    keyed: bool = False
    press: bool = False
    signed: bool = False


def _button(
    name: str, role: Role, summary: str, handler: Handler, body: type[Any] = requests.NothingMore
) -> Operation:
    return Operation(
        method="POST",
        path=f"/v1/campaigns/{{id}}/{name}",
        name=name,
        summary=summary,
        handler=handler,
        role=role,
        body=body,
        body_optional=body is requests.NothingMore,
        answer=CampaignView,
        answers={200: "Accepted: it is in the log, and something besides this process has it."},
        keyed=True,
        press=True,
    )


OPERATIONS: Final[tuple[Operation, ...]] = (
    Operation(
        method="GET",
        path="/v1/campaigns",
        name="listCampaigns",
        summary="Every campaign, the newest change first",
        handler=handlers.list,
        role=Role.VIEWER,
        answer=CampaignList,
    ),
    Operation(
        method="POST",
        path="/v1/campaigns",
        name="createCampaign",
        summary="Create a campaign with its bundles",
        handler=handlers.create,
        role=Role.EDITOR,
        body=requests.CreateCampaign,
        content=True,
        answer=CampaignView,
        answers={201: "Created.", 200: "It existed already, with the same content."},
        keyed=True,
    ),
    Operation(
        method="GET",
        path="/v1/campaigns/{id}",
        name="showCampaign",
        summary="One campaign as of now, and what may be done to it",
        handler=handlers.show,
        role=Role.VIEWER,
        answer=CampaignView,
    ),
    _button(
        "prefetch",
        Role.EDITOR,
        "Devices get the content over a window",
        handlers.prefetch,
        requests.PrefetchRequest,
    ),
    _button(
        "activate",
        Role.PUBLISHER,
        "Devices show a stage, each at its slot; refused below the coverage threshold unless forced",
        handlers.activate,
        requests.ActivateRequest,
    ),
    _button("cancel", Role.PUBLISHER, "Take back an activation whose instant has not come", handlers.cancel),
    _button(
        "retract",
        Role.PUBLISHER,
        "Go back to the stage before, now; never waits for readiness",
        handlers.retract,
        requests.RetractRequest,
    ),
    _button("close", Role.PUBLISHER, "End the campaign; devices drop its content", handlers.close),
    _button("approve", Role.EDITOR, "The second key, turned by somebody who has not written it", handlers.approve),
    _button(
        "schedule",
        Role.PUBLISHER,
        "Prefetch, arm and instant happen by themselves",
        handlers.schedule,
        requests.ScheduleRequest,
    ),
    _button("unschedule", Role.PUBLISHER, "Nothing happens by itself any more", handlers.unschedule),
    _button(
        "move",
        Role.PUBLISHER,
        "The event is at another time: everything that is scheduled or armed moves with it",
        handlers.move,
        requests.MoveRequest,
    ),
    Operation(
        method="PUT",
        path="/v1/campaigns/{id}",
        name="editCampaign",
        summary="Replace a campaign's definition; it is a draft again, and no longer approved",
        handler=handlers.edit,
        role=Role.EDITOR,
        body=requests.CreateCampaign,
        content=True,
        answer=CampaignView,
        keyed=True,
        press=True,
    ),
    Operation(
        method="GET",
        path="/v1/campaigns/{id}/forecast",
        name="forecast",
        summary="What would happen if it were activated now: how long, what the origin sees, which window is safe",
        handler=handlers.forecast,
        role=Role.VIEWER,
        query=requests.ForecastQuery,
        answer=ForecastView,
    ),
    Operation(
        method="POST",
        path="/v1/hooks/event",
        name="eventMoved",
        summary="Signed, by the production's own schedule: the event is at another time",
        handler=webhook.event,
        body=requests.EventMoved,
        signed=True,
        answer=CampaignView,
    ),
    Operation(
        method="GET",
        path="/v1/campaigns/{id}/flights",
        name="listFlights",
        summary="Flight records of a campaign's activations, the newest first",
        handler=handlers.flights,
        role=Role.VIEWER,
        answer=FlightList,
    ),
    Operation(
        method="GET",
        path="/v1/campaigns/{id}/flights/{rev}",
        name="flight",
        summary="What was expected of one activation, and second by second what came of it",
        handler=handlers.flight,
        role=Role.VIEWER,
        answer=FlightView,
    ),
    Operation(
        method="GET",
        path="/v1/audit",
        name="audit",
        summary="Who did what and when, the newest first",
        handler=handlers.audit,
        role=Role.VIEWER,
        query=requests.AuditQuery,
        answer=AuditList,
    ),
    Operation(
        method="GET",
        path="/v1/audit/chain",
        name="auditChain",
        summary="The audit chain's lines, to verify or to keep elsewhere",
        handler=handlers.audit_chain,
        role=Role.VIEWER,
        query=requests.ChainQuery,
        answer=AuditChain,
    ),
    Operation(
        method="GET",
        path="/v1/campaigns/{id}/readiness",
        name="readiness",
        summary="Who is ready and who has flipped, by platform and region",
        handler=handlers.readiness,
        role=Role.VIEWER,
        answer=Readiness,
    ),
    Operation(
        method="GET",
        path="/v1/fleet",
        name="fleet",
        summary="Every gateway worker, and their sums",
        handler=handlers.fleet,
        role=Role.VIEWER,
        answer=Fleet,
    ),
    Operation(
        method="POST",
        path="/v1/bundles",
        name="uploadBundle",
        summary="Store a bundle under the SHA-256 of its canonical bytes",
        handler=handlers.upload,
        role=Role.EDITOR,
        body=requests.UploadBundle,
        content=True,
        answer=BundleView,
        answers={201: "Stored.", 200: "It was stored already."},
    ),
    Operation(
        method="GET",
        path=origin.ROUTE,
        name="bundle",
        summary="A bundle's canonical bytes, immutable; made to stand behind a CDN",
        handler=handlers.bundle,
        answers={200: "The bundle.", 304: "You have it."},
    ),
    Operation(
        method="GET",
        path="/v1/openapi.json",
        name="openapi",
        summary="This document",
        handler=handlers.openapi,
    ),
    Operation(
        method="GET",
        path="/healthz",
        name="healthz",
        summary="This process runs",
        handler=handlers.healthz,
        answer=Status,
    ),
    Operation(
        method="GET",
        path="/readyz",
        name="readyz",
        summary="The store answers",
        handler=handlers.readyz,
        answer=Status,
    ),
    Operation(
        method="GET",
        path="/metrics",
        name="metrics",
        summary="Prometheus metrics",
        handler=handlers.metrics,
    ),
)
