"""Traces of publications, for OpenTelemetry: the press, its entry in the log, each worker's broadcast. No device.

Owns all of OpenTelemetry that is here. Off unless its standard environment variables say where spans go, and then
nothing of it is even imported. That traces cannot be had is a line in the log, never a reason not to serve.
"""

from __future__ import annotations

import logging
import os
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import TYPE_CHECKING, Final

import structlog

from fanout import __version__

if TYPE_CHECKING:
    from opentelemetry.context import Context
    from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
    from opentelemetry.sdk.trace.export import SpanExporter
    from opentelemetry.trace import Span as Recorded
    from opentelemetry.trace import Tracer

log: Final = structlog.get_logger(__name__)

# The names of `opentelemetry.trace.SpanKind`.
INTERNAL: Final = "INTERNAL"
SERVER: Final = "SERVER"
PRODUCER: Final = "PRODUCER"
CONSUMER: Final = "CONSUMER"

_DISABLED: Final = "OTEL_SDK_DISABLED"
_EXPORTER: Final = "OTEL_TRACES_EXPORTER"
_ENDPOINTS: Final = ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "OTEL_EXPORTER_OTLP_ENDPOINT")
_PROTOCOLS: Final = ("OTEL_EXPORTER_OTLP_TRACES_PROTOCOL", "OTEL_EXPORTER_OTLP_PROTOCOL")
_ONLY_PROTOCOL: Final = "http/protobuf"
# A collector that is away must keep nobody from leaving: after its drain a gateway's worker has ten seconds.
_STOP_S: Final = 3.0

Attributes = Mapping[str, str | int | float | bool]
_NOTHING: Final[Attributes] = {}

_tracer: Tracer | None = None
_provider: TracerProvider | None = None


class Span:
    """A part of a trace while it goes on; nothing, where nobody records it.

    Attributes:
        traceparent: What carries the trace on (W3C Trace Context), "" where nobody records it.
    """

    def __init__(self, recorded: Recorded | None = None) -> None:
        self._recorded = recorded
        self.traceparent = ""
        if recorded is not None and (context := recorded.get_span_context()).trace_flags.sampled:
            self.traceparent = f"00-{context.trace_id:032x}-{context.span_id:016x}-{context.trace_flags:02x}"

    def set(self, attributes: Attributes) -> None:
        """Say more of it."""
        if self._recorded is not None:
            self._recorded.set_attributes(attributes)


_OFF: Final = nullcontext(Span())


def asked() -> bool:
    """Tell whether the environment says that spans go somewhere."""
    if os.environ.get(_DISABLED, "").strip().lower() == "true" or os.environ.get(_EXPORTER) == "none":
        return False
    return any(os.environ.get(name) for name in (*_ENDPOINTS, _EXPORTER))


def preload() -> None:
    """Import what tracing needs, if it is asked for: processes that are forked off then share it."""
    if asked():
        try:
            import opentelemetry.exporter.otlp.proto.http.trace_exporter  # noqa: F401
        except ImportError:
            pass  # `start` says so


def start(service: str, instance: str = "") -> None:
    """Record spans from now on, if the environment asks for it.

    Args:
        service: What this process is, unless ``OTEL_SERVICE_NAME`` says otherwise.
        instance: Which of them.
    """
    global _tracer, _provider
    if _tracer is not None or not asked():
        return
    if fault := _unusable():
        log.warning("no traces", why=fault)
        return
    try:
        from opentelemetry.sdk.resources import OTELResourceDetector, Resource
        from opentelemetry.sdk.trace import TracerProvider
        from opentelemetry.sdk.trace.export import BatchSpanProcessor

        exporter = _exporter()
    except ImportError as exc:
        log.warning("no traces", why=f"{exc}; install fanout[otel], or unset the OTEL_ variables")
        return
    ours = {"service.name": service, "service.version": __version__}
    if instance:
        ours["service.instance.id"] = instance
    # What the environment says of the process goes before what we think.
    resource = Resource.create(ours).merge(OTELResourceDetector().detect())
    _provider = TracerProvider(resource=resource, shutdown_on_exit=False)
    _provider.add_span_processor(BatchSpanProcessor(exporter))
    _tracer = _provider.get_tracer("fanout", __version__)


def _unusable() -> str:
    """Return which variable asks for what is not here, "" if none does."""
    if (exporter := os.environ.get(_EXPORTER, "") or "otlp") != "otlp":
        return f"{_EXPORTER} is {exporter[:40]!r}; send otlp, or none"
    for name in _PROTOCOLS:
        if (protocol := os.environ.get(name, "") or _ONLY_PROTOCOL) != _ONLY_PROTOCOL:
            return f"{name} is {protocol[:40]!r}; send {_ONLY_PROTOCOL}, to the collector's port for it (4318)"
    return ""


def _exporter() -> SpanExporter:
    """Return what sends spans, and says in our words that it could not: its own hold URLs."""
    from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
    from opentelemetry.sdk.trace.export import SpanExportResult

    class Exporter(OTLPSpanExporter):
        def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
            result = super().export(spans)
            if result is not SpanExportResult.SUCCESS:
                log.warning("spans lost", spans=len(spans), why="the collector did not take them")
            return result

    logging.getLogger("opentelemetry").setLevel(logging.CRITICAL)
    return Exporter()


def stop() -> None:
    """Send what has been recorded, within a few seconds, and record no more."""
    global _tracer, _provider
    provider, _tracer, _provider = _provider, None, None
    if provider is not None:
        sending = threading.Thread(target=provider.shutdown, daemon=True)
        sending.start()
        sending.join(_STOP_S)


def span(
    name: str, kind: str = INTERNAL, attributes: Attributes = _NOTHING, *, parent: str = ""
) -> AbstractContextManager[Span]:
    """Return a span for a block, within the one that goes on here.

    Args:
        parent: The ``traceparent`` of a caller elsewhere, whose trace it is part of then.
    """
    return _OFF if _tracer is None else _recording(_tracer, name, kind, attributes, parent)


@contextmanager
def _recording(tracer: Tracer, name: str, kind: str, attributes: Attributes, parent: str) -> Iterator[Span]:
    from opentelemetry.trace import SpanKind, StatusCode, use_span

    context = _context(parent) if parent else None
    recorded = tracer.start_span(name, context, SpanKind[kind], attributes)
    try:
        # What an exception says may quote what somebody sent; which kind it is tells enough.
        with use_span(recorded, record_exception=False, set_status_on_exception=False):
            yield Span(recorded)
    except BaseException as exc:
        recorded.set_attribute("error.type", type(exc).__name__)
        recorded.set_status(StatusCode.ERROR)
        raise
    finally:
        recorded.end()


def record(name: str, kind: str, parent: str, took_s: float, attributes: Attributes) -> None:
    """Record what has just ended, as a part of the trace that came with a publication."""
    if _tracer is None:
        return
    from opentelemetry.trace import SpanKind

    if (context := _context(parent)) is not None:
        ended_ns = time.time_ns()
        began_ns = ended_ns - int(took_s * 1e9)
        _tracer.start_span(name, context, SpanKind[kind], attributes, start_time=began_ns).end(ended_ns)


def _context(traceparent: str) -> Context | None:
    """Return the context that a traceparent carries, None if it is none."""
    from opentelemetry.trace import get_current_span
    from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

    context = TraceContextTextMapPropagator().extract({"traceparent": traceparent})
    return context if get_current_span(context).get_span_context().is_valid else None
