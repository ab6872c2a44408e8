"""The app: serves the route table. Owns the order of checks, and what every answer has in common.

For each request: route, caller, role, query, body, key, then the operation. Errors become problems in one place.
"""

from __future__ import annotations

import asyncio
import re
import time
import traceback
from collections.abc import Callable, Sequence
from typing import Any, Final

import structlog
from redis.asyncio import Redis
from starlette.applications import Starlette
from starlette.datastructures import MutableHeaders
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from fanout import tracing
from fanout.control import auth, bodies, idempotency, openapi, origin, problems, webhook
from fanout.control.config import ControlConfig
from fanout.control.handlers import Call
from fanout.control.metrics import Metrics
from fanout.control.pressing import Press
from fanout.control.problems import Problem
from fanout.control.routes import OPERATIONS, Operation
from fanout.control.services import Services
from fanout.errors import FanoutError

_ROUTE: Final = "fanout.route"
_UNMATCHED: Final = "unmatched"
_HSTS: Final = "max-age=31536000"  # a year
_VERSION: Final = re.compile(r'"([0-9]{1,15})"')

log: Final = structlog.get_logger("fanout.control")

Extra = Callable[[Services], Sequence[BaseRoute]]


def create_app(redis: Redis, config: ControlConfig, extra: Extra | None = None) -> Starlette:
    """Return the control plane as an ASGI app.

    Args:
        redis: Client of the primary; the caller closes it after the app has ended.
        config: Limits.
        extra: Given the app's services, what it serves besides the API. None serves the API alone.
    """
    services = Services(redis, config, openapi.document(OPERATIONS), webhook.key_from_environment())
    by_path: dict[str, dict[str, Operation]] = {}
    for operation in OPERATIONS:
        by_path.setdefault(operation.path, {})[operation.method] = operation
    app = Starlette(
        routes=[
            Route(path, _endpoint(services, operations), methods=list(operations))
            for path, operations in by_path.items()
        ]
        + list(extra(services) if extra is not None else ()),
        middleware=[Middleware(Shell, metrics=services.metrics)],
        exception_handlers={HTTPException: _problem, FanoutError: _problem},
    )
    # A redirect would make a client repeat its POST elsewhere, or drop its key; a 404 says what is wrong.
    app.router.redirect_slashes = False
    app.state.services = services
    # Set by whoever runs the app when it is to end: answers that never end by themselves end then.
    app.state.ending = asyncio.Event()
    return app


async def _problem(request: Request, exc: Exception) -> Response:
    problem = problems.of(exc)
    if problem.status == 500:
        _log_failure(request.scope, exc)
    return problem.response()


def _log_failure(scope: Scope, exc: Exception) -> None:
    # As text, made here: a renderer that shows local variables would show the caller's API key.
    trace = "".join(traceback.format_exception(exc))
    log.error("a request failed", route=scope.get(_ROUTE, _UNMATCHED), traceback=trace)


def _endpoint(services: Services, operations: dict[str, Operation]) -> Any:
    async def endpoint(request: Request) -> Response:
        operation = operations["GET" if request.method == "HEAD" else request.method]
        request.scope[_ROUTE] = operation.path
        return await _serve(request, operation, services)

    return endpoint


async def _serve(request: Request, operation: Operation, services: Services) -> Response:
    by = ""
    if operation.role is not None:
        by = (await auth.caller(request, services, operation.role)).name
    elif operation.name == "bundle" and request.method == "GET":
        services.metrics.origin.inc()
    query = bodies.query(request, operation.query) if operation.query is not None else None
    body = await _body(request, operation, services.config)
    if not operation.keyed:
        return await operation.handler(Call(request, services, Press(by, "", ""), query, body))
    key, digest = idempotency.key_of(request), idempotency.digest_of(request, body)
    if_match = _if_match(request) if operation.press else None
    call = Call(request, services, Press(by, key, digest, if_match), query, body)
    if not operation.press:
        return await idempotency.once(services.replies, by, key, digest, lambda: operation.handler(call))
    started = time.perf_counter()
    about = {"http.request.method": request.method, "http.route": operation.path}
    parent = request.headers.get("traceparent", "")
    with tracing.span(f"{request.method} {operation.path}", tracing.SERVER, about, parent=parent) as span:
        response = await idempotency.once(services.replies, by, key, digest, lambda: operation.handler(call))
        span.set({"http.response.status_code": response.status_code})
    services.metrics.publish.observe(time.perf_counter() - started)
    return response


async def _body(request: Request, operation: Operation, config: ControlConfig) -> Any:
    if operation.body is None or operation.signed:
        return None
    bytes_max = config.content_body_bytes_max if operation.content else config.action_body_bytes_max
    raw = await bodies.read(request, bytes_max, config.body_timeout_s)
    return bodies.decode(request, raw, operation.body, optional=operation.body_optional)


def _if_match(request: Request) -> int | None:
    sent = request.headers.get("if-match")
    if sent is None or sent.strip() == "*":
        return None
    match = _VERSION.fullmatch(sent.strip())
    if match is None:
        raise Problem(
            422,
            "invalid-input",
            "Invalid input",
            f'If-Match is {sent[:80]!r}; send one ETag as it was given, such as "3"',
        )
    return int(match[1])


class Shell:
    """Around everything: security headers, the request's count, and an answer when something breaks.

    Args:
        app: What it is around.
        metrics: Counts requests by route and status.
    """

    def __init__(self, app: ASGIApp, metrics: Metrics) -> None:
        self._app = app
        self._metrics = metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        status = 0

        async def finish(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                headers = MutableHeaders(scope=message)
                if scope.get(_ROUTE) == origin.ROUTE:
                    headers.update(origin.OPEN)
                _secure(headers, scope["scheme"])
            await send(message)

        try:
            await self._app(scope, receive, finish)
        except Exception as exc:  # noqa: BLE001 - the caller is owed an answer, and the log the traceback
            _log_failure(scope, exc)
            if status == 0:
                await problems.internal().response()(scope, receive, finish)
        finally:
            self._metrics.requests.labels(scope.get(_ROUTE, _UNMATCHED), str(status)).inc()


def _secure(headers: MutableHeaders, scheme: str) -> None:
    headers["X-Content-Type-Options"] = "nosniff"
    headers.setdefault("Cache-Control", "no-store")
    headers.setdefault("Referrer-Policy", "no-referrer")
    # Answers are data: a browser that is led here renders nothing and runs nothing.
    headers.setdefault("Content-Security-Policy", "default-src 'none'; frame-ancestors 'none'")
    headers.setdefault("Cross-Origin-Resource-Policy", "same-origin")
    if scheme == "https":  # as the terminator before us says, if it is one we trust; over http it would be ignored
        headers.setdefault("Strict-Transport-Security", _HSTS)
