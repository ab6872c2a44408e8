"""An OpenTelemetry collector: takes spans by OTLP over HTTP from real processes, and keeps them."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import uvicorn
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import (
    ExportTraceServiceRequest,
    ExportTraceServiceResponse,
)
from opentelemetry.proto.trace.v1.trace_pb2 import Span, Status
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from gateway.worker import bind


@dataclass(frozen=True)
class Recorded:
    """A span as it was sent, in plain values; ids are hex."""

    name: str
    kind: str
    trace: str
    id: str
    parent: str
    began_ns: int
    ended_ns: int
    failed: bool
    attributes: dict[str, Any]
    resource: dict[str, Any]


class Collector:
    """What has come.

    Attributes:
        url: For ``OTEL_EXPORTER_OTLP_ENDPOINT``.
    """

    def __init__(self, url: str) -> None:
        self.url = url
        self.spans: list[Recorded] = []

    def environment(self) -> dict[str, str]:
        """Return what makes a process send here, soon after each span's end."""
        return {"OTEL_EXPORTER_OTLP_ENDPOINT": self.url, "OTEL_BSP_SCHEDULE_DELAY": "50"}

    def named(self, name: str) -> list[Recorded]:
        return [span for span in self.spans if span.name == name]

    async def take(self, request: Request) -> Response:
        sent = ExportTraceServiceRequest.FromString(await request.body())
        for resource in sent.resource_spans:
            about = _plain(resource.resource.attributes)
            for scope in resource.scope_spans:
                self.spans += [_recorded(span, about) for span in scope.spans]
        answer = ExportTraceServiceResponse().SerializeToString()
        return Response(answer, media_type="application/x-protobuf")


def _plain(attributes: Any) -> dict[str, Any]:
    return {each.key: getattr(each.value, str(each.value.WhichOneof("value"))) for each in attributes}


def _recorded(span: Span, resource: dict[str, Any]) -> Recorded:
    return Recorded(
        name=span.name,
        kind=Span.SpanKind.Name(span.kind).removeprefix("SPAN_KIND_"),
        trace=span.trace_id.hex(),
        id=span.span_id.hex(),
        parent=span.parent_span_id.hex(),
        began_ns=span.start_time_unix_nano,
        ended_ns=span.end_time_unix_nano,
        failed=span.status.code == Status.STATUS_CODE_ERROR,
        attributes=_plain(span.attributes),
        resource=resource,
    )


@asynccontextmanager
async def collector() -> AsyncIterator[Collector]:
    """Run one while the context lasts."""
    sock = bind("127.0.0.1", 0)
    made = Collector(f"http://127.0.0.1:{sock.getsockname()[1]}")
    app = Starlette(routes=[Route("/v1/traces", made.take, methods=["POST"])])
    server = uvicorn.Server(uvicorn.Config(app, log_config=None, access_log=False, lifespan="off"))
    task = asyncio.create_task(server._serve(sockets=[sock]))
    try:
        yield made
    finally:
        server.should_exit = True
        await task
