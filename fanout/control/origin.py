"""The origin: bundles over HTTP, for devices and the CDNs before them. Needs no key, asks for no cookie.

A bundle is named by its content, so an answer is good for ever: a year, says the header, in any cache.
"""

from __future__ import annotations

from typing import Final

from starlette.requests import Request
from starlette.responses import Response

from fanout.checks import SHA256
from fanout.errors import NotFound
from fanout.store.bundles import BundleStore

ROUTE: Final = "/v1/bundles/{sha256}"
_YEAR: Final = "public, max-age=31536000, immutable"
# A browser device lives on another origin than its bundles; it may read refusals too, and when to come back.
OPEN: Final = {
    "Access-Control-Allow-Origin": "*",
    "Access-Control-Expose-Headers": "Retry-After",
    "Cross-Origin-Resource-Policy": "cross-origin",
}


async def answer(request: Request, bundles: BundleStore, sha256: str) -> Response:
    """Return a bundle, or 304 if the caller has it.

    Raises:
        NotFound: There is none of this name. That answer is not cached: it may be uploaded any moment.
        StoreUnavailable: It is not in memory, and the store did not answer.
    """
    if not SHA256.fullmatch(sha256):
        raise NotFound(f"a bundle is named by 64 lower-case hex digits, not {sha256[:80]!r}")
    data = await bundles.get(sha256)
    headers = {"ETag": f'"{sha256}"', "Cache-Control": _YEAR}
    if _has(request.headers.get("if-none-match", ""), sha256):
        return Response(status_code=304, headers=headers)
    return Response(data, headers=headers, media_type="application/json")


def _has(if_none_match: str, sha256: str) -> bool:
    tags = [tag.strip().removeprefix("W/") for tag in if_none_match.split(",")]
    return "*" in tags or f'"{sha256}"' in tags
