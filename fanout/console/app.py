"""The console's routes: pages, the stream, flight records, a file's reading, signing in, and static files."""

from __future__ import annotations

from pathlib import Path
from typing import Final

from starlette.responses import Response
from starlette.routing import BaseRoute, Mount
from starlette.staticfiles import StaticFiles
from starlette.types import Scope

from fanout.console import flights, live, pages, reading, signin, wall
from fanout.console.visits import nowhere, page
from fanout.control.services import Services

STATIC: Final = Path(__file__).parent / "static"


class _Static(StaticFiles):
    """Files that browsers keep, and ask about each time: modules name each other without a version."""

    async def get_response(self, path: str, scope: Scope) -> Response:
        scope["fanout.route"] = "/static"
        response = await super().get_response(path, scope)
        response.headers["Cache-Control"] = "no-cache"
        return response


def routes(services: Services) -> list[BaseRoute]:
    """Return everything that a browser is shown."""
    return [
        page(services, "/", pages.home),
        page(services, "/fleet", pages.fleet),
        page(services, "/campaigns", pages.campaigns),
        page(services, "/campaigns/new", pages.new),
        page(services, "/campaigns/{id}", pages.campaign),
        page(services, "/campaigns/{id}/edit", pages.edit),
        page(services, "/campaigns/{id}/flights/{rev}", flights.show),
        page(services, "/campaigns/{id}/flights/{rev}/download.html", flights.download),
        page(services, "/audit", pages.audit),
        page(services, "/console/live", live.stream),
        reading.route(services),
        *wall.routes(services),
        *signin.routes(services),
        Mount("/static", _Static(directory=STATIC)),
        nowhere(services),
    ]
