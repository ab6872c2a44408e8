"""Templates and what every page has in common: escaping, the headers, how numbers and instants are written.

Knows nothing of campaigns. Instants are written in UTC here; the browser adds its own zone.
"""

from __future__ import annotations

import datetime
from collections.abc import Mapping
from typing import Any, Final

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup
from starlette.requests import Request
from starlette.responses import Response

from fanout.durations import in_words

# No script and no style but our own files: nothing that somebody writes into a title can run.
CSP: Final = (
    "default-src 'self'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; "
    "frame-ancestors 'none'; form-action 'self'; base-uri 'none'"
)


# Of audit entries: names and digests of things are kept for the chain, not to be read by people.
_UNTOLD: Final = ("key", "bundles")
_INSTANTS: Final = ("at", "from", "arm_at", "prefetch_at")
_SHARES: Final = ("share", "coverage")
_NAMES: Final[Mapping[str, str]] = {
    "window_ms": "over",
    "prefetch_window_ms": "prefetch over",
    "two_keys": "two keys",
}


def number(value: float) -> str:
    """Return a number as people read it: 4,812."""
    return f"{value:,.0f}" if value == int(value) or abs(value) >= 100 else f"{value:,.1f}"


def percent(share: float) -> str:
    """Return a share as a percentage, never rounded up to a hundred that it is not."""
    text = f"{share:.1%}"
    if text == "100.0%":
        return "100%" if share >= 1 else "99.9%"
    return text


def seconds(value: float | None) -> str:
    """Return a duration: 4.5 s, 12 min 30 s, 2 h 5 min."""
    return "never" if value is None else in_words(value)


def instant(at_ms: int) -> Markup:
    """Return an instant as a time element in UTC, for the browser to add the viewer's zone to."""
    when = datetime.datetime.fromtimestamp(at_ms / 1000, datetime.UTC)
    iso = when.isoformat(timespec="milliseconds").replace("+00:00", "Z")
    return Markup('<time datetime="{}">{} UTC</time>').format(iso, when.strftime("%Y-%m-%d %H:%M:%S"))


def told(details: Mapping[str, Any]) -> list[tuple[str, str | Markup]]:
    """Return an audit entry's details as names and values to read; what is not so is left out."""
    return [
        (_NAMES.get(name, name), _value(name, value))
        for name, value in details.items()
        if name not in _UNTOLD and value is not None and value is not False
    ]


def _value(name: str, value: Any) -> str | Markup:
    if isinstance(value, Mapping):
        return Markup(", ").join(Markup("{} {}").format(each, inner) for each, inner in told(value))
    if value is True:
        return "yes"
    if name in _INSTANTS and isinstance(value, int):
        return instant(value)
    if name.endswith("_ms") and isinstance(value, int):
        return seconds(value / 1000)
    return percent(value) if name in _SHARES and isinstance(value, int | float) else str(value)


def _environment() -> Environment:
    made = Environment(
        loader=PackageLoader("fanout.console"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    made.filters.update(number=number, told=told, percent=percent, seconds=seconds, instant=instant)
    return made


ENVIRONMENT: Final = _environment()


def text(name: str, context: dict[str, Any]) -> str:
    """Return a template's text."""
    return ENVIRONMENT.get_template(name).render(context)


def render(request: Request, name: str, status: int = 200, **context: Any) -> Response:
    """Return a page.

    Args:
        name: Of its template, which extends ``base.html``.
        context: What it shows; ``caller`` is None unless given, ``rehearsal`` False, ``stream`` "".
    """
    usual = {"caller": None, "path": request.url.path, "rehearsal": False, "stream": ""}
    return Response(
        text(name, {**usual, **context}),
        status,
        headers={"Content-Security-Policy": CSP},
        media_type="text/html; charset=utf-8",
    )
