"""Idempotency-Key over HTTP: the first answer to a key is the answer to it.

Owns the header, the digest of a request and the kept answers. What happens to a key whose first try never got
an answer is `fanout.control.pressing`'s.
"""

from __future__ import annotations

import hashlib
import re
import uuid
from collections.abc import Awaitable, Callable
from typing import Any, Final

import msgspec
import structlog
from starlette.requests import Request
from starlette.responses import Response

from fanout import limits
from fanout.control.pressing import KeyReused
from fanout.control.problems import Problem
from fanout.errors import StoreUnavailable
from fanout.store.replies import Reply, ReplyStore

HEADER: Final = "Idempotency-Key"
REPLAYED: Final = "Idempotency-Replayed"
# The key travels in the doorbell's header line: visible ASCII, no spaces.
KEY: Final = re.compile(rf"[!-~]{{1,{limits.KEY_CHARS_MAX}}}")
# What belongs to an answer rather than to its delivery.
_KEPT_HEADERS: Final = ("content-type", "etag", "location")

log: Final = structlog.get_logger("fanout.control")


def key_of(request: Request) -> str:
    """Return the request's key, or a fresh one. Raises Problem for one that cannot be used."""
    sent = request.headers.get(HEADER)
    if sent is None:
        return uuid.uuid4().hex
    if not KEY.fullmatch(sent):
        raise Problem(
            422,
            "invalid-input",
            "Invalid input",
            f"{HEADER} has {len(sent)} characters; send 1 to {limits.KEY_CHARS_MAX} visible ASCII characters "
            "without spaces",
        )
    return sent


def digest_of(request: Request, body: Any) -> str:
    """Return a digest of what is being asked: method, path and body, however the JSON was written."""
    asked = hashlib.sha256(f"{request.method} {request.url.path}\n".encode())
    asked.update(msgspec.json.encode(body, order="sorted"))
    return asked.hexdigest()


async def once(
    replies: ReplyStore, caller: str, key: str, digest: str, run: Callable[[], Awaitable[Response]]
) -> Response:
    """Return the first answer to this caller's key; ``run`` gives it if there is none yet.

    Raises:
        KeyReused: The key was used for another request.
        StoreUnavailable: Before ``run``; nothing was done.
    """
    first = await replies.get(caller, key)
    if first is not None:
        return _replay(first, key, digest)
    response = await run()
    headers = {name: response.headers[name] for name in _KEPT_HEADERS if name in response.headers}
    reply = Reply(digest, response.status_code, headers, bytes(response.body))
    try:
        kept = await replies.keep(caller, key, reply)
    except StoreUnavailable:
        # What was done is done, and vouched for; a repetition will find it in the log.
        log.warning("an answer was not kept", by=caller)
        kept = reply
    if kept != reply:
        return _replay(kept, key, digest)
    response.headers[HEADER] = key
    return response


def _replay(first: Reply, key: str, digest: str) -> Response:
    if first.digest != digest:
        raise KeyReused(key)
    return Response(first.body, first.status, headers={**first.headers, HEADER: key, REPLAYED: "true"})
