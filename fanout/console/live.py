"""Pages that keep up: a stream of server-sent events for each open page.

Once a second the page's parts are rendered again, and those that have changed are sent, with the figures that charts
and buttons go by. What it sends is what the page would show if it were loaded anew, so nothing has to be merged.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any, Final

import msgspec
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse

from fanout.console import looks
from fanout.console.looks import Look
from fanout.console.templating import text
from fanout.console.visits import Visit
from fanout.control import auth
from fanout.control.problems import Problem
from fanout.errors import NotFound, StoreUnavailable

# As often as presence is written: looking more often would show the same.
BEAT_S: Final = 1.0
# A session that has ended, or a role that has been taken away, ends the stream within so many beats.
_BEATS_PER_CHECK: Final = 10


@dataclass(frozen=True, slots=True)
class Living:
    """A page that keeps up: what it shows, and which parts of it; a part's file is named as its element is."""

    look: Look
    parts: tuple[str, ...]


PAGES: Final[dict[str, Living]] = {
    "fleet": Living(looks.fleet, ("fleet-words", "fleet-figures", "fleet-gateways")),
    "campaigns": Living(looks.campaigns, ("campaigns-on", "campaigns-list")),
    "campaign": Living(
        looks.campaign,
        (
            "campaign-head",
            "campaign-steps",
            "campaign-readiness",
            "campaign-plan",
            "campaign-flights",
            "campaign-done",
        ),
    ),
}


def part(name: str, context: dict[str, Any]) -> str:
    """Return one part's element."""
    return text(f"parts/{name}.html", context)


async def stream(visit: Visit) -> Response:
    """Answer with a page's stream: ``?page=...`` and, for a campaign's, ``&id=...``."""
    page = PAGES.get(visit.request.query_params.get("page", ""))
    if page is None:
        raise NotFound(f"there is no such stream; there are {', '.join(PAGES)}")
    campaign_id = visit.request.query_params.get("id", "")
    # Before the stream's status is sent, so that a browser is told of a campaign that is not there.
    if page.look is looks.campaign:
        await visit.services.watch.record(campaign_id)
    return StreamingResponse(
        _events(visit, page, campaign_id),
        media_type="text/event-stream",
        headers={"X-Accel-Buffering": "no"},  # a proxy that collects answers would show the past
    )


async def _events(visit: Visit, page: Living, campaign_id: str) -> AsyncIterator[str]:
    sent: dict[str, str] = {}
    ending: asyncio.Event = visit.request.app.state.ending
    beat = 0
    while not ending.is_set():
        beat += 1
        try:
            if beat % _BEATS_PER_CHECK == 0 and await _gone(visit.request, visit):
                yield _event("gone", {})
                return
            context = await page.look(visit.services, visit.caller, campaign_id)
        except StoreUnavailable:
            yield _event("silent", {})
        except NotFound:
            yield _event("gone", {})
            return
        else:
            changed = {name: html for name in page.parts if sent.get(name) != (html := part(name, context))}
            sent |= changed
            parts = [{"id": name, "html": html} for name, html in changed.items()]
            yield _event("look", {"parts": parts, "point": context["point"]})
        try:
            await asyncio.wait_for(ending.wait(), BEAT_S)
        except TimeoutError:
            pass


async def _gone(request: Request, visit: Visit) -> bool:
    """Tell whether whoever looks may no longer, or has become somebody else."""
    try:
        return await auth.visitor(request, visit.services) != visit.caller
    except Problem:
        return True


def _event(kind: str, data: dict[str, Any]) -> str:
    # JSON has no line ends of its own, so one data line is enough.
    return f"event: {kind}\ndata: {msgspec.json.encode(data).decode()}\n\n"
