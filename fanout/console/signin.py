"""Signing in and out. Owns its pages, forms and cookies; who somebody is then is `fanout.control.auth`'s.

A sign-in always makes a new session, so that nobody can be made to use one that somebody else knows. What went wrong
is told in words that do not say whether an account exists.
"""

from __future__ import annotations

import math
import secrets
import time
from typing import TYPE_CHECKING, Final
from urllib.parse import parse_qsl, urlsplit

import structlog
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response
from starlette.routing import BaseRoute, Route

from fanout.console.templating import render
from fanout.control import auth, bodies
from fanout.control.guesses import Guesses
from fanout.control.problems import Problem, retry_after
from fanout.control.services import Services
from fanout.errors import ChainMoved, ProviderFailed, StoreUnavailable
from fanout.roles import Role
from fanout.store.accounts import NAME, PASSWORD_CHARS_MAX, Account

if TYPE_CHECKING:
    from fanout.console.oidc import Provider

log: Final = structlog.get_logger("fanout.console")

LOGIN: Final = "/login"
LOGOUT: Final = "/logout"
OIDC: Final = "/login/oidc"
CALLBACK: Final = "/login/oidc/callback"

# A name, a password of which each character may be twelve in a form, a path and a token.
_FORM_BYTES_MAX: Final = 8192
_FIELDS_MAX: Final = 10
_NAME_CHARS_MAX: Final = 64
_PATH_CHARS_MAX: Final = 1000
# Of the cookies that bind a form, and a trip to the provider, to a browser, seconds.
_FORM_S: Final = 3600
_TRIP_S: Final = 600
# Lines about failures that are written at once, and every minute; more say nothing that these do not.
_LINES: Final = 20

_WRONG: Final = "This name and password do not belong together."
_ELSEWHERE: Final = "This form was open for too long, or in another window; try again."
_NO_STORE: Final = "The store does not answer, so nobody can sign in just now; try again in a few seconds."
_LOST: Final = "This took too long, or was begun in another browser; try again."


class SignIn:
    """The pages of one control plane.

    Args:
        services: Accounts, sessions, limits.
        provider: Where people may sign in, too.
    """

    def __init__(self, services: Services, provider: Provider | None) -> None:
        self._services = services
        self._provider = provider
        self._lines = Guesses(_LINES, _LINES, 1)
        self._left_out = 0

    async def show(self, request: Request) -> Response:
        """Show the form, unless somebody is signed in."""
        path = own_path(request.query_params.get("next", ""))
        try:
            visiting = await auth.visitor(request, self._services)
        except StoreUnavailable:
            return self._page(request, path, error=_NO_STORE, status=503)
        if visiting is not None and not visiting.demo:
            return _to(path)
        return self._page(request, path)

    async def enter(self, request: Request) -> Response:
        """Take the form: begin a session, or show it again with what was typed except the password."""
        form = await _form(request, self._services)
        name, path = form.get("name", "")[:_NAME_CHARS_MAX], own_path(form.get("next", ""))
        cookie = request.cookies.get(auth.cookie_name(request, "login"), "")
        if not auth.from_own_page(request) or not auth.same(form.get("csrf_login", ""), cookie):
            return self._page(request, path, name, _ELSEWHERE, 403)
        try:
            account = await self._try(request, name.strip().lower(), form.get("password", ""))
            if account is None:
                return self._page(request, path, name, _WRONG, 401)
            return await self._begin(request, path, account.name, "password", stamp=account.stamp)
        except _TooMany as exc:
            return self._too_many(request, path, name, exc.wait_s)
        except StoreUnavailable:
            return self._page(request, path, name, _NO_STORE, 503)

    async def leave(self, request: Request) -> Response:
        """End the session. Raises Problem 403 without its token, StoreUnavailable."""
        visiting = await auth.visitor(request, self._services)
        if visiting is not None and not visiting.demo:
            auth.check_csrf(request, visiting, (await _form(request, self._services)).get("csrf", ""))
            await self._services.sessions.end(request.cookies[auth.session_cookie(request)])
            await self._note(visiting.name, "sign out", {})
        response = _to(LOGIN)
        _forget(request, response, "session")
        return response

    async def depart(self, request: Request) -> Response:
        """Send somebody to the provider."""
        assert self._provider is not None, "there is no route to here without one"
        path = own_path(request.query_params.get("next", ""))
        address = auth.address_of(request)
        # Each is remembered for a while, so that nobody can have us remember without end.
        if wait_s := self._services.guesses.take(address, time.monotonic()):
            return self._too_many(request, path, "", wait_s)
        trip = self._provider.trip(path)
        try:
            state = await self._services.sessions.depart(trip)
            response = RedirectResponse(await self._provider.way(self._back(request), state, trip), 303)
        except StoreUnavailable:
            return self._page(request, path, error=_NO_STORE, status=503)
        except ProviderFailed as exc:
            return self._page(request, path, error=str(exc), status=502)
        _remember(request, response, "trip", state, _TRIP_S)
        return response

    async def arrive(self, request: Request) -> Response:
        """Take somebody who comes back from the provider: begin a session, or say why not."""
        assert self._provider is not None, "there is no route to here without one"
        try:
            response = await self._arrive(request, self._provider)
        except StoreUnavailable:
            response = self._page(request, "/", error=_NO_STORE, status=503)
        except ProviderFailed as exc:
            response = self._page(request, "/", error=str(exc), status=502)
        _forget(request, response, "trip")
        return response

    async def _arrive(self, request: Request, provider: Provider) -> Response:
        query = request.query_params
        state = query.get("state", "")
        # Whoever is sent here with somebody else's state and code would act as that somebody without noticing.
        bound = auth.same(state, request.cookies.get(auth.cookie_name(request, "trip"), ""))
        trip = await self._services.sessions.arrive(state) if bound else None
        if trip is None:
            return self._page(request, "/", error=_LOST, status=400)
        if "code" not in query:
            why = f"The provider did not sign you in: {query.get('error', 'it does not say why')[:80]!r}."
            return self._page(request, trip.path, error=why, status=403)
        if query.get("iss", provider.issuer) != provider.issuer:
            raise ProviderFailed("The answer comes from another provider.")
        identity = await provider.identity(self._back(request), query["code"], trip)
        self._services.guesses.give_back(auth.address_of(request))
        if identity.role is None:
            why = f"You are {identity.name!r} there, and no group of yours may use this console; ask who runs it."
            return self._page(request, trip.path, error=why, status=403)
        if await self._is_taken(identity.name):
            why = (
                f"You are {identity.name!r} there, which is the name of an account or an API key here; "
                "sign in with that account's password."
            )
            return self._page(request, trip.path, error=why, status=409)
        return await self._begin(request, trip.path, identity.name, "oidc", role=identity.role)

    async def _is_taken(self, name: str) -> bool:
        """Tell whether somebody else would act under the same name, and nobody could tell them apart afterwards."""
        if await self._services.accounts.find(name) is not None:
            return True
        return any(key.name == name for key in await self._services.keys.list())

    async def _try(self, request: Request, name: str, password: str) -> Account | None:
        """Return the account that this opens, if it does. Raises _TooMany, StoreUnavailable.

        Whoever has signed in from an address has tries of their own there: others can use up those of the name,
        and so keep somebody out, but nobody from where they work.
        """
        names, addresses = self._services.account_guesses, self._services.guesses
        address, now_s = auth.address_of(request), time.monotonic()
        here = f"{name} {address}"
        if not NAME.fullmatch(name):
            taken = [(addresses, address)]
        else:
            taken = [(names, here)] if names.knows(here) else [(names, name), (addresses, address)]
        for n, (guesses, guesser) in enumerate(taken):
            if wait_s := guesses.take(guesser, now_s):
                for earlier, who in taken[:n]:
                    earlier.give_back(who)
                await self._log("too many sign-ins", name, address)
                raise _TooMany(wait_s)
        account = None
        try:
            account = await self._services.accounts.check(name, password)
        except StoreUnavailable:
            _give_back(taken)
            raise
        if account is None:
            await self._log("a sign-in failed", name, address)
        else:
            _give_back(taken)
            names.good(here)
        return account

    async def _begin(
        self, request: Request, path: str, name: str, via: str, *, role: Role | None = None, stamp: str = ""
    ) -> Response:
        """Begin a session, in place of the one that this browser may have. Raises StoreUnavailable."""
        sessions = self._services.sessions
        if old := request.cookies.get(auth.session_cookie(request)):
            await sessions.end(old)
        token, _ = await sessions.begin(name, role, stamp)
        await self._note(name, "sign in", {"via": via})
        response = _to(path)
        _remember(request, response, "session", token, int(self._services.config.session_s))
        _forget(request, response, "login")
        return response

    async def _note(self, name: str, action: str, details: dict[str, str]) -> None:
        try:
            await self._services.audit.append(name, action, int(time.time() * 1000), details)
        except ChainMoved:
            # Everybody is pressing: nobody is kept out because of a line.
            log.warning("not noted in the audit chain", action=action, by=name)

    async def _log(self, what: str, name: str, address: str) -> None:
        if self._lines.take("", time.monotonic()):
            self._left_out += 1
            return
        left_out, self._left_out = self._left_out, 0
        # What is no account's name may be a password in the wrong field.
        known = await self._services.accounts.find(name) is not None
        log.warning(what, account=name if known else None, address=address, left_out=left_out)

    def _back(self, request: Request) -> str:
        base = self._services.config.console_url or f"{request.url.scheme}://{request.url.netloc}"
        return base.rstrip("/") + CALLBACK

    def _too_many(self, request: Request, path: str, name: str, wait_s: float) -> Response:
        wait = retry_after(wait_s)
        error = f"Too many tries; wait {wait['Retry-After']} seconds, then try again."
        response = self._page(request, path, name, error, 429)
        response.headers.update(wait)
        return response

    def _page(self, request: Request, path: str, name: str = "", error: str = "", status: int = 200) -> Response:
        cookie = auth.cookie_name(request, "login")
        # The same for every window of a browser, or the last one that was opened would void the others.
        csrf = request.cookies.get(cookie) or secrets.token_urlsafe(32)
        response = render(
            request,
            "login.html",
            status,
            typed=name,
            next=path,
            error=error,
            csrf_login=csrf,
            name_chars_max=_NAME_CHARS_MAX,
            password_chars_max=PASSWORD_CHARS_MAX,
            provider=self._provider.label if self._provider else "",
        )
        _remember(request, response, "login", csrf, _FORM_S)
        return response


class _TooMany(Exception):
    """Too many wrong passwords; there is a try again after this many seconds."""

    def __init__(self, wait_s: float) -> None:
        super().__init__()
        self.wait_s = math.ceil(wait_s)


def routes(services: Services) -> list[BaseRoute]:
    """Return the routes of signing in and out. Raises InvalidInput: the provider's secret cannot be read."""
    provider = None
    if services.config.oidc_issuer:
        # What it stands on takes a quarter of the time that this process needs to start.
        from fanout.console import oidc

        provider = oidc.from_environment(services.config)
    pages = SignIn(services, provider)
    found: list[BaseRoute] = [
        Route(LOGIN, pages.show, methods=["GET"]),
        Route(LOGIN, pages.enter, methods=["POST"]),
        Route(LOGOUT, pages.leave, methods=["POST"]),
    ]
    if provider is not None:
        services.at_start.append(provider.check)
        found += [Route(OIDC, pages.depart, methods=["GET"]), Route(CALLBACK, pages.arrive, methods=["GET"])]
    return found


def own_path(sent: str) -> str:
    """Return where to go after signing in: a path on this origin, "/" for whatever else was sent."""
    # Browsers read a backslash as a slash, and leave out tabs and newlines.
    if not sent.startswith("/") or sent.startswith("//") or "\\" in sent or not sent.isprintable():
        return "/"
    if len(sent) > _PATH_CHARS_MAX or urlsplit(sent).path.startswith((LOGIN, LOGOUT)):
        return "/"
    return sent


def _to(path: str) -> Response:
    return RedirectResponse(path, 303)


def _give_back(taken: list[tuple[Guesses, str]]) -> None:
    for guesses, guesser in taken:
        guesses.give_back(guesser)


def _remember(request: Request, response: Response, what: str, value: str, max_age_s: int) -> None:
    secure = request.url.scheme == "https"
    response.set_cookie(
        auth.cookie_name(request, what), value, max_age_s, secure=secure, httponly=True, samesite="lax"
    )


def _forget(request: Request, response: Response, what: str) -> None:
    secure = request.url.scheme == "https"
    response.delete_cookie(auth.cookie_name(request, what), secure=secure, httponly=True, samesite="lax")


async def _form(request: Request, services: Services) -> dict[str, str]:
    """Return the fields of a form. Raises Problem: too long, too slow, or no form."""
    raw = await bodies.read(request, _FORM_BYTES_MAX, services.config.body_timeout_s)
    try:
        return dict(parse_qsl(raw.decode(), keep_blank_values=True, max_num_fields=_FIELDS_MAX))
    except ValueError as exc:
        raise Problem(400, "bad-form", "Not a form", "The body cannot be read as a form.") from exc
