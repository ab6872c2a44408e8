"""Flight records as pages: what was expected of an activation beside what came of it, and who stayed behind, why."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Final

import msgspec
from markupsafe import Markup
from starlette.responses import Response

from fanout.console import words
from fanout.console.visits import Visit
from fanout.control.views import FlightView, flight_view
from fanout.errors import NotFound

_STATIC: Final = Path(__file__).parent / "static"
_REV_DIGITS_MAX: Final = 16


async def show(visit: Visit) -> Response:
    """Show one flight record."""
    flight = await _flight(visit)
    return visit.page("flight.html", **_context(flight), data=_json(flight))


async def download(visit: Visit) -> Response:
    """Answer with one file that needs nothing else, now or in ten years."""
    flight = await _flight(visit)
    inline = {
        "uplot": _file("vendor/uplot-1.6.32.iife.min.js"),
        "uplot_css": _file("vendor/uplot-1.6.32.min.css"),
        "css": _file("console.css"),
        # There it is a plain script, beside uPlot as one: a file opened from a disk may import nothing.
        "plot": Markup(_file("flight-plot.js").replace("export function", "function")),
    }
    page = visit.page("flight-file.html", **_context(flight), data=_json(flight), inline=inline)
    page.headers["Content-Disposition"] = f'attachment; filename="{flight.campaign}-{flight.rev}.html"'
    return page


def _context(flight: FlightView) -> dict[str, Any]:
    return {"flight": flight, "rehearsal": flight.shadow, "said": words.of_flight(flight)}


def _json(flight: FlightView) -> Markup:
    # Within a script element only this can end it.
    return Markup(msgspec.json.encode(flight).decode().replace("<", "\\u003c"))


def _file(name: str) -> Markup:
    return Markup((_STATIC / name).read_text("utf-8"))


async def _flight(visit: Visit) -> FlightView:
    rev = str(visit.request.path_params["rev"])
    if not rev.isdecimal() or len(rev) > _REV_DIGITS_MAX:
        raise NotFound(f"{rev[:80]!r} is no revision; the campaign's page lists its flights")
    return flight_view(await visit.services.flights.get(visit.campaign_id, int(rev)))
