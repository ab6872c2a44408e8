"""Problems as answers (RFC 9457). Owns how every error of this project looks over HTTP.

A problem says what was sent, what is allowed and what to do. It never holds a traceback, an address of the
store or a secret.
"""

from __future__ import annotations

import math
import random
from typing import Any, Final

import msgspec
from starlette.exceptions import HTTPException
from starlette.responses import Response

from fanout.control.actions import GateRefused
from fanout.control.pressing import KeyReused
from fanout.errors import FanoutError, InvalidInput, NotFound, OutcomeUnknown, Refused, StoreUnavailable
from fanout.errors import VersionConflict as StaleVersion

MEDIA_TYPE: Final = "application/problem+json"
_TYPE: Final = "urn:fanout:problem:"
# Whoever is turned away comes back at a random instant in these seconds, not with everybody else.
_RETRY_AFTER_S: Final = (1, 5)


class Problem(FanoutError):
    """An answer that is not what was asked for.

    Attributes:
        status: HTTP status.
        kind: Last part of the problem's type, a stable name for programs.
        title: The kind, for people.
        detail: This occurrence: what was sent, what is allowed, what to do.
        headers: Response headers.
        extra: Further members of the problem object.
    """

    def __init__(
        self,
        status: int,
        kind: str,
        title: str,
        detail: str,
        headers: dict[str, str] | None = None,
        **extra: Any,
    ) -> None:
        super().__init__(detail)
        self.status = status
        self.kind = kind
        self.title = title
        self.detail = detail
        self.headers = headers or {}
        self.extra = extra

    def response(self) -> Response:
        """Return the problem as an HTTP answer."""
        body = {"type": _TYPE + self.kind, "title": self.title, "status": self.status, "detail": self.detail}
        return Response(
            msgspec.json.encode({**body, **self.extra}),
            self.status,
            headers=self.headers,
            media_type=MEDIA_TYPE,
        )


def retry_after(least_s: float = 0.0) -> dict[str, str]:
    """Return the header that spreads those who come back, none of them sooner than this."""
    return {"Retry-After": str(math.ceil(least_s) + random.randint(*_RETRY_AFTER_S))}


def internal() -> Problem:
    """Return what a caller is told of a bug of ours."""
    return Problem(500, "internal", "Internal error", "This is our fault; the log has more.")


def of(exc: Exception) -> Problem:
    """Return the problem that an expected exception is to its caller."""
    match exc:
        case Problem():
            return exc
        case HTTPException():
            return _of_http(exc)
        case KeyReused():
            return Problem(422, "key-reused", "Idempotency-Key used before", str(exc))
        case InvalidInput():
            about: dict[str, Any] = {"path": exc.path} if exc.path else {}
            return Problem(422, "invalid-input", "Invalid input", str(exc), **about)
        case StaleVersion():
            return Problem(
                412,
                "stale-version",
                "The campaign has changed",
                str(exc),
                sent=exc.sent,
                current=exc.current,
            )
        case GateRefused():
            return _of_gate(exc)
        case Refused():
            return Problem(409, "refused", "Not possible now", str(exc))
        case NotFound():
            return Problem(404, "not-found", "Not found", str(exc))
        case OutcomeUnknown():
            return Problem(
                503, "outcome-unknown", "Outcome unknown", str(exc), retry_after(), idempotency_key=exc.key
            )
        case StoreUnavailable():
            # The exception's own text names the store's address, which is not the caller's business.
            return Problem(
                503,
                "store-unavailable",
                "The store does not answer",
                "The store does not answer, and nothing was published; the request is safe to repeat.",
                retry_after(),
            )
    return internal()


def _of_http(exc: HTTPException) -> Problem:
    headers = dict(exc.headers or {})
    if exc.status_code == 404:
        return Problem(
            404, "no-such-route", "No such route", "No route has this path; see /v1/openapi.json.", headers
        )
    if exc.status_code == 405:
        detail = f"This path takes {headers.get('Allow', 'other methods')}."
        return Problem(405, "method-not-allowed", "Method not allowed", detail, headers)
    return Problem(exc.status_code, "http", "Request refused", str(exc.detail), headers)


def _of_gate(exc: GateRefused) -> Problem:
    readiness = exc.readiness
    return Problem(
        409,
        "gate",
        "Too few devices are ready",
        str(exc),
        coverage=readiness.total.coverage,
        threshold=readiness.threshold,
        connected=readiness.total.connected,
        ready=readiness.total.ready,
        platforms=readiness.platforms,
        regions=readiness.regions,
    )
