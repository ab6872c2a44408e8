"""The page /fanout beside locust's own: percentiles of the merged histograms, counts, workers, SLOs.

It renews itself every two seconds from /fanout/figures.json. Knows Flask and the figures' document.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

from flask import Blueprint, Flask, Response, request

_PAGE: Final = Path(__file__).with_name("page.html")
_LINK: Final = (
    '<a href="{base}/fanout" style="position:fixed;left:16px;bottom:16px;z-index:2000;padding:8px 14px;'
    "border-radius:8px;background:#173b8f;color:#fff;font:600 14px system-ui,sans-serif;text-decoration:none;"
    'box-shadow:0 2px 8px rgba(0,0,0,.35)">fanout figures</a>'
)


def add_page(
    app: Flask | None,
    base: str,
    guarded: Callable[[Callable[[], Response]], Callable[[], Response]],
    figures: Callable[[], dict[str, Any]],
    table: Callable[[], str],
) -> None:
    """Add the page to locust's app, and a link to it.

    Args:
        app: Locust's; without one nothing is added.
        base: Path in front of all of its pages, "" for none.
        guarded: Makes a view ask for the sign-in, where locust has one.
        figures: Returns the document.
        table: Returns the CSV.
    """
    if app is None:
        return
    pages = Blueprint("fanout", __name__, url_prefix=base or None)

    def page() -> Response:
        return Response(_PAGE.read_text("utf-8"), mimetype="text/html")

    def document() -> Response:
        shown = {name: value for name, value in figures().items() if name != "histograms"}
        return Response(json.dumps(shown), mimetype="application/json", headers={"Cache-Control": "no-store"})

    def csv() -> Response:
        headers = {"Content-Disposition": "attachment; filename=fanout.csv"}
        return Response(table(), mimetype="text/csv", headers=headers)

    for path, view in (("/fanout", page), ("/fanout/figures.json", document), ("/fanout/figures.csv", csv)):
        pages.add_url_rule(path, f"fanout{path}".replace("/", "_").replace(".", "_"), guarded(view))
    app.register_blueprint(pages)

    @app.after_request
    def link(response: Response) -> Response:
        if request.path.rstrip("/") == base and response.mimetype == "text/html":
            response.set_data(response.get_data(as_text=True).replace("</body>", f"{_LINK.format(base=base)}</body>"))
        return response
