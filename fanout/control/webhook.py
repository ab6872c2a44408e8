"""The event moves because the production's own schedule says so: one signed call, for systems that hold no API key.

Signed as Standard Webhooks 1.0 prescribes (github.com/standard-webhooks/standard-webhooks): HMAC-SHA256 over
``<webhook-id>.<webhook-timestamp>.<body>``. The id is the idempotency key, so a sender may repeat itself; the time is
held against the store's clock, so that an old call cannot be sent again later.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
from typing import Final

from starlette.requests import Request
from starlette.responses import Response

from fanout.control import bodies, idempotency
from fanout.control.handlers import Call, moved_answer
from fanout.control.pressing import Press
from fanout.control.problems import Problem
from fanout.control.requests import EventMoved, MoveRequest
from fanout.errors import InvalidInput
from fanout.settings import secret

SECRET: Final = "FANOUT_WEBHOOK_SECRET"
SECRET_BYTES_MIN: Final = 24
# No account and no key can have this name.
WEBHOOK: Final = "(webhook)"
_PREFIX: Final = "whsec_"
_HEADERS: Final = ("webhook-id", "webhook-timestamp", "webhook-signature")
# As the specification proposes: what is older was recorded, or its sender's clock is wrong.
_TOLERANCE_S: Final = 300


def key_from_environment() -> bytes | None:
    """Return the key that calls are signed with, None if no webhook is configured.

    Raises:
        InvalidInput: It is no base64, or too short; it is not repeated.
    """
    given = secret(SECRET)
    if not given:
        return None
    try:
        key = base64.b64decode(given.removeprefix(_PREFIX), validate=True)
    except binascii.Error as exc:
        raise InvalidInput(f"{SECRET} is no base64; make one with: openssl rand -base64 32") from exc
    if len(key) < SECRET_BYTES_MIN:
        raise InvalidInput(f"{SECRET} has {len(key)} bytes, it needs at least {SECRET_BYTES_MIN}")
    return key


async def event(call: Call) -> Response:
    """Move an event. Raises Problem 401 for what is not signed, or not now; 404 where no webhook is configured."""
    services, request = call.services, call.request
    if services.webhook_key is None:
        raise Problem(404, "not-found", "Not found", f"No webhook is configured here; set {SECRET}.")
    raw = await bodies.read(request, services.config.action_body_bytes_max, services.config.body_timeout_s)
    sent_id = _signed(request, raw, services.webhook_key, await services.watch.now_ms())
    body = bodies.decode(request, raw, EventMoved, optional=False)
    digest = idempotency.digest_of(request, body)
    press = Press(WEBHOOK, sent_id, digest)

    async def move() -> Response:
        return await moved_answer(call, await services.actions.move(body.campaign, MoveRequest(at=body.at), press))

    return await idempotency.once(services.replies, WEBHOOK, sent_id, digest, move)


def _signed(request: Request, raw: bytes, key: bytes, now_ms: int) -> str:
    """Return the call's id. Raises Problem 401."""
    sent_id, at, signatures = (request.headers.get(name, "") for name in _HEADERS)
    if not idempotency.KEY.fullmatch(sent_id) or not at.isascii() or not at.isdigit():
        raise _refused(f"Send {', '.join(_HEADERS)}; the time in Unix seconds.")
    if abs(int(at[:16]) - now_ms / 1000) > _TOLERANCE_S:
        raise _refused(
            f"webhook-timestamp is {at[:16]}, now is {now_ms // 1000}; {_TOLERANCE_S} s apart are allowed."
        )
    digest = hmac.new(key, f"{sent_id}.{at}.".encode() + raw, hashlib.sha256).digest()
    wanted = b"v1," + base64.b64encode(digest)
    # Several while a sender's key is being rotated.
    if not any(hmac.compare_digest(wanted, one.encode()) for one in signatures.split(" ")):
        raise _refused("No signature in webhook-signature is right for this id, timestamp and body.")
    return sent_id


def _refused(detail: str) -> Problem:
    return Problem(401, "not-signed", "Not signed", detail)
