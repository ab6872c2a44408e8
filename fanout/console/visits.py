"""Who comes to a page and what happens then: sign-in first, and errors as pages. Knows no particular page."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote

from starlette.datastructures import Headers
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response
from starlette.routing import Match, Route
from starlette.types import Scope

from fanout.console.templating import render
from fanout.control import auth
from fanout.control.auth import Caller
from fanout.control.problems import Problem
from fanout.control.services import Services
from fanout.errors import FanoutError, NotFound, StoreUnavailable


@dataclass(frozen=True, slots=True)
class Visit:
    """One request for a page, by somebody who is signed in."""

    request: Request
    services: Services
    caller: Caller

    @property
    def campaign_id(self) -> str:
        return str(self.request.path_params["id"])

    def page(self, name: str, **context: Any) -> Response:
        """Return a page."""
        return render(self.request, name, **{"caller": self.caller, **context})


Handler = Callable[[Visit], Awaitable[Response]]


def page(services: Services, path: str, handler: Handler) -> Route:
    """Return a page's route: whoever is not signed in is led to where they can."""

    async def endpoint(request: Request) -> Response:
        # The path as the route has it, so that requests are counted by page and not by campaign.
        request.scope["fanout.route"] = path
        caller = None
        try:
            caller = await auth.visitor(request, services)
            if caller is None:
                here = request.url.path + (f"?{request.url.query}" if request.url.query else "")
                return RedirectResponse(f"/login?next={quote(here, safe='')}", 303)
            return await handler(Visit(request, services, caller))
        except NotFound as exc:
            return _told(request, 404, caller, "There is no such page", str(exc))
        except Problem as exc:
            return _told(request, exc.status, caller, exc.title, exc.detail)
        except StoreUnavailable:
            return _told(
                request,
                503,
                caller,
                "The store does not answer",
                "What devices hold is not touched by this: what is armed fires. This page looks again by itself.",
            )

    return Route(path, endpoint, methods=["GET"])


class _Nowhere(Route):
    """Every path that nothing else has, for those who ask for pages; programs are answered by the API."""

    def matches(self, scope: Scope) -> tuple[Match, Scope]:
        if scope["type"] != "http" or scope["method"] not in ("GET", "HEAD") or scope["path"].startswith("/v1/"):
            return Match.NONE, {}
        if "text/html" not in Headers(scope=scope).get("accept", ""):
            return Match.NONE, {}
        return super().matches(scope)


def nowhere(services: Services) -> Route:
    """Return the route of pages that are not there; it has to be the last."""

    async def endpoint(request: Request) -> Response:
        try:
            caller = await auth.visitor(request, services)
        except FanoutError:
            caller = None  # whoever it is, there is nothing to see
        return _told(request, 404, caller, "There is no such page", f"Nothing is at {request.url.path[:200]}.")

    return _Nowhere("/{path:path}", endpoint, methods=["GET"])


def _told(request: Request, status: int, caller: Caller | None, title: str, detail: str) -> Response:
    return render(request, "error.html", status, caller=caller, title=title, detail=detail, again=status == 503)
