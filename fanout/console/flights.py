"""Flight records as pages: what was expected of an activation beside what came of it, and who stayed behind, why."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any, Final

import msgspec
from markupsafe import Markup
from msgspec import Struct
from starlette.responses import Response

from fanout.console.visits import Visit
from fanout.errors import NotFound
from fanout.store.flights import Flight

_STATIC: Final = Path(__file__).parent / "static"
_REV_DIGITS_MAX: Final = 16
# The recorder watches for so long after the window, and a little longer on a busy machine.
_TAIL_MS: Final = 75_000
_PERCENTILES: Final = (50, 99, 100)


class Stragglers(Struct, frozen=True):
    """Devices that the activation was for and that have not flipped, by what is known of them.

    Attributes:
        failed: They said that they could not.
        not_ready: They do not hold the bundle.
        silent: They hold it, and have said nothing; most are gone without anybody having noticed yet.
    """

    failed: int
    not_ready: int
    silent: int

    @property
    def total(self) -> int:
        return self.failed + self.not_ready + self.silent


def stragglers(flight: Flight) -> Stragglers:
    """Return who stayed behind, as of the record's end or of its newest sample."""
    if flight.end is not None:
        expected, total, failed = flight.end.expected, flight.end.total, flight.end.failed
        connected, ready, active = total.connected, total.ready, total.active
    elif flight.samples:
        last = flight.samples[-1]
        connected, ready, active, failed = last.connected, last.ready, last.active, last.failed
        expected = round(connected * flight.share)
    else:
        return Stragglers(0, 0, 0)
    behind = max(0, expected - active)
    failed = min(behind, failed)
    not_ready = min(behind - failed, round((connected - ready) * flight.share))
    return Stragglers(failed, not_ready, behind - failed - not_ready)


def reached(flight: Flight) -> dict[int, float | None]:
    """Return the seconds after the instant at which so many percent had flipped, as samples show them."""
    expected = flight.end.expected if flight.end is not None else round(flight.forecast.devices)
    return {percent: _reached(flight, expected * percent / 100) for percent in _PERCENTILES}


def _reached(flight: Flight, wanted: float) -> float | None:
    """Between two samples flips are taken as even."""
    before_s, before = 0.0, 0
    for sample in flight.samples:
        if wanted > 0 and sample.active >= wanted:
            grown = sample.active - before
            part = (wanted - before) / grown if grown else 1.0
            return max(0.0, before_s + (sample.second - before_s) * part)
        before_s, before = float(sample.second), sample.active
    return None


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


def _context(flight: Flight) -> dict[str, Any]:
    expected = {50: flight.forecast.t50_s, 99: flight.forecast.t99_s, 100: flight.forecast.t100_s}
    return {
        "flight": flight,
        "rehearsal": flight.shadow,
        "stragglers": stragglers(flight),
        "reached": reached(flight),
        "expected": expected,
        "flying": flight.end is None and time.time() * 1000 < flight.at + flight.window_ms + _TAIL_MS,
        "last": flight.samples[-1] if flight.samples else None,
    }


def _json(flight: Flight) -> Markup:
    # Within a script element only this can end it.
    return Markup(msgspec.json.encode(flight).decode().replace("<", "\\u003c"))


def _file(name: str) -> Markup:
    return Markup((_STATIC / name).read_text("utf-8"))


async def _flight(visit: Visit) -> Flight:
    rev = str(visit.request.path_params["rev"])
    if not rev.isdecimal() or len(rev) > _REV_DIGITS_MAX:
        raise NotFound(f"{rev[:80]!r} is no revision; the campaign's page lists its flights")
    return await visit.services.flights.get(visit.campaign_id, int(rev))
