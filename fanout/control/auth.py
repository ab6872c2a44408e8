"""Who is calling, and whether they may. Owns the Authorization header; keys are `fanout.store.keys`'s."""

from __future__ import annotations

from typing import Final

from starlette.requests import Request

from fanout.control.problems import Problem
from fanout.store.keys import ApiKey, KeyStore, Role

_REALM: Final = 'Bearer realm="fanout"'


async def caller(request: Request, keys: KeyStore, needed: Role) -> ApiKey:
    """Return who sent this request.

    Raises:
        Problem: 401 without a key that is known, 403 with one whose role is too small.
        StoreUnavailable: Keys could not be looked up.
    """
    scheme, _, key = request.headers.get("authorization", "").partition(" ")
    if scheme.lower() != "bearer" or not key:
        raise _unauthorized("Send Authorization: Bearer <API key>.", _REALM)
    found = await keys.find(key.strip())
    if found is None:
        raise _unauthorized("This API key is not known, or was revoked.", f'{_REALM}, error="invalid_token"')
    if not found.role.includes(needed):
        raise Problem(
            403,
            "forbidden",
            "This needs another role",
            f"{found.name!r} is {found.role}; this needs {needed}.",
            role=found.role,
            needed=needed,
        )
    return found


def _unauthorized(detail: str, challenge: str) -> Problem:
    return Problem(401, "unauthorized", "Who are you?", detail, {"WWW-Authenticate": challenge})
