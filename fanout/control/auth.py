"""Who is calling, and whether they may. Owns the Authorization header and the session's cookie; what opens them is
`fanout.store`'s.

Machines send an API key in the header, and no other site can make a browser send that. People have a session, whose
cookie the browser sends by itself; so whatever changes something must carry the session's token in a header too,
which no other site can read, nor set.
"""

from __future__ import annotations

import hmac
import secrets
import time
from typing import Final

from msgspec import Struct
from starlette.requests import Request

from fanout.control.config import is_loopback
from fanout.control.guesses import client
from fanout.control.problems import Problem, retry_after
from fanout.control.services import Services
from fanout.errors import StoreUnavailable
from fanout.roles import Role
from fanout.store.keys import ApiKey
from fanout.store.sessions import Session

CSRF_HEADER: Final = "X-CSRF-Token"
_REALM: Final = 'Bearer realm="fanout"'
_SAFE_METHODS: Final = ("GET", "HEAD")
# What a browser says of a request that the page itself made, or the person did; older ones say nothing.
_OWN_SITE: Final = ("", "same-origin", "none")
_DEMO_CSRF: Final = secrets.token_urlsafe(32)


class Caller(Struct, frozen=True):
    """Whoever sent a request.

    Attributes:
        name: Written beside what they do.
        role: What they may do.
        csrf: What their changes must carry beside the cookie; "" for API keys, which need none.
        demo: Nobody signed in: the console is open to whoever reaches it.
    """

    name: str
    role: Role
    csrf: str = ""
    demo: bool = False


async def caller(request: Request, services: Services, needed: Role) -> Caller:
    """Return who sent this request.

    Raises:
        Problem: 401 without a key or session that is known, 403 with one whose role is too small or without the
            session's token on what changes something, 429 after too many unknown keys.
        StoreUnavailable: It could not be looked up.
    """
    if "authorization" in request.headers:
        found = await _by_key(request, services)
    else:
        visiting = await visitor(request, services)
        if visiting is None:
            detail = "Send Authorization: Bearer <API key>, or sign in; if you were signed in, that has ended."
            raise _unauthorized(detail, _REALM)
        check_csrf(request, visiting, request.headers.get(CSRF_HEADER, ""))
        found = visiting
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


async def visitor(request: Request, services: Services) -> Caller | None:
    """Return whose session this request belongs to, None if it belongs to none. Raises StoreUnavailable.

    Where the console is open, whoever comes without one is let in, if the browser was led here by a name of this
    machine: under another name, a page of another site could be reading along.
    """
    token = request.cookies.get(session_cookie(request), "")
    session = await services.sessions.find(token) if token else None
    role = None if session is None else await _role(session, services)
    if session is not None and role is not None:
        return Caller(session.name, role, session.csrf)
    if services.config.open_console and is_loopback(request.url.hostname or ""):
        return Caller("demo", Role.ADMIN, _DEMO_CSRF, demo=True)
    return None


def session_cookie(request: Request) -> str:
    """Return the name of the session's cookie on this request's scheme."""
    return cookie_name(request, "session")


def cookie_name(request: Request, what: str) -> str:
    """Return the name of a cookie of ours: over https one that no other host can set (RFC 6265bis, 4.1.3)."""
    return f"__Host-fanout_{what}" if request.url.scheme == "https" else f"fanout_{what}"


def check_csrf(request: Request, visiting: Caller, sent: str) -> None:
    """Hold that a change was asked for by a page of ours. Raises Problem 403."""
    if request.method in _SAFE_METHODS:
        return
    if not from_own_page(request) or not same(sent, visiting.csrf):
        raise Problem(
            403,
            "csrf",
            "Not from this page",
            f"What changes something must come from a page of this console, with its token in {CSRF_HEADER}; "
            "reload the page and try again.",
        )


def from_own_page(request: Request) -> bool:
    """Tell whether the browser says that a page of ours sent this, or says nothing."""
    return request.headers.get("sec-fetch-site", "") in _OWN_SITE


def same(sent: str, expected: str) -> bool:
    """Compare secrets in constant time; an empty one is like no other."""
    return bool(expected) and hmac.compare_digest(sent.encode(), expected.encode())


async def _role(session: Session, services: Services) -> Role | None:
    """Return what somebody may do now, None if the session has ended with their account or its password."""
    if session.role is not None:
        return session.role
    account = await services.accounts.find(session.name)
    return None if account is None or account.stamp != session.stamp else account.role


async def _by_key(request: Request, services: Services) -> Caller:
    scheme, _, key = request.headers["authorization"].partition(" ")
    if scheme.lower() != "bearer" or not key:
        raise _unauthorized("Send Authorization: Bearer <API key>.", _REALM)
    found = await _find(request, key.strip(), services)
    if found is None:
        raise _unauthorized("This API key is not known, or was revoked.", f'{_REALM}, error="invalid_token"')
    return Caller(found.name, found.role)


async def _find(request: Request, key: str, services: Services) -> ApiKey | None:
    """Look the key up, unless its address has sent too many unknown ones. Raises Problem, StoreUnavailable."""
    guesses = services.guesses
    address = address_of(request)
    new = not guesses.knows(key)
    if new and (wait_s := guesses.take(address, time.monotonic())):
        detail = "Too many unknown API keys came from your address; wait for Retry-After, then send a known one."
        raise Problem(429, "too-many-keys", "Too many unknown keys", detail, retry_after(wait_s))
    try:
        found = await services.keys.find(key)
    except StoreUnavailable:
        if new:
            guesses.give_back(address)
        raise
    if found is None:
        guesses.unknown(key)
        return None
    if new:
        guesses.give_back(address)
    guesses.good(key)
    return found


def address_of(request: Request) -> str:
    """Return what stands for the client that sent this, as `Guesses` counts."""
    return client(request.client.host if request.client else "")


def _unauthorized(detail: str, challenge: str) -> Problem:
    return Problem(401, "unauthorized", "Who are you?", detail, {"WWW-Authenticate": challenge})
