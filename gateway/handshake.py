"""From an HTTP request to an admitted device, or to the status that says what to do about it.

Knows the protocol's front door: path, subprotocols, where a token may travel, the resume query. Knows
nothing of cohorts or the bus.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from http import HTTPStatus
from typing import Final, NamedTuple

from websockets.datastructures import Headers, MultipleValuesError
from websockets.exceptions import NegotiationError
from websockets.http11 import Request, Response
from websockets.typing import Origin, Subprotocol

from fanout import limits, wire
from gateway.config import GatewayConfig
from gateway.connection import Handshake
from gateway.precedents import Precedents, Upgradable
from gateway.tokens import Identity, TokenRefused, TokenVerifier

_DIGEST: Final = re.compile(r"[0-9a-f]{64}")


class Admitted(NamedTuple):
    """A request that may become a connection.

    Attributes:
        response: The 101.
        have: Digests of the bundles the device holds.
        since: The newest revision it has seen.
    """

    response: bytes
    identity: Identity
    encoding: wire.Encoding
    have: tuple[str, ...]
    since: int


class FrontDoor:
    """Checks requests of one worker.

    Args:
        config: Origins and limits.
        verifier: Checks tokens.
    """

    def __init__(self, config: GatewayConfig, verifier: TokenVerifier) -> None:
        self._config = config
        self._verifier = verifier
        self._origins: Sequence[Origin | None] | None = (
            None if "*" in config.origins else [None, *(Origin(origin) for origin in config.origins)]
        )
        # Judging a request leaves nothing behind in it that the next one would see, so one judges all.
        self._judge = self.handshake()
        self._precedents = Precedents(config.handshake_bytes_max)

    def handshake(self) -> Handshake:
        """Return a parser for one request."""
        return Handshake(self._origins, _select_subprotocol, self._config.message_bytes_max)

    def recognise(self, data: bytes) -> tuple[Upgradable, int] | None:
        """Return the request that ``data`` begins with, and where it ends, if one like it was admitted before."""
        return self._precedents.find(data)

    def check_path(self, request: Request | Upgradable) -> Response | None:
        """Return the refusal of a request that is not for us at all."""
        if isinstance(request, Request) and request.path.partition("?")[0] != wire.PATH:
            return refusal(HTTPStatus.NOT_FOUND, f"nothing is here; devices connect to {wire.PATH}")
        return None

    def admit(self, request: Request | Upgradable, head: bytes = b"") -> Admitted | Response:
        """Return the admitted device, or the response that refuses it.

        Args:
            head: The bytes of a `Request`, if it came whole: the next one like it is recognised by them.
        """
        try:
            asked = self._judged(request) if isinstance(request, Request) else request
            if isinstance(asked, Response):
                return asked
            admitted = self._let_in(asked)
        except TokenRefused as exc:
            headers = {"WWW-Authenticate": 'Bearer realm="fanout", error="invalid_token"'}
            return refusal(HTTPStatus.UNAUTHORIZED, str(exc), headers)
        except ValueError as exc:
            return refusal(HTTPStatus.BAD_REQUEST, str(exc))
        if head:
            self._precedents.add(head, asked)
        return admitted

    def _judged(self, request: Request) -> Upgradable | Response:
        """Have the library judge a request. Raises TokenRefused: there is no token in it."""
        response = self._judge.accept(request)
        if response.status_code != HTTPStatus.SWITCHING_PROTOCOLS:
            return response
        # RFC 9110 section 6.6.1 asks for it from 2xx on; in a 101 it costs bytes and time, and nobody reads it.
        del response.headers["Date"]
        subprotocol = self._judge.subprotocol
        assert subprotocol is not None
        _, _, query = request.path.partition("?")
        encoding = wire.BY_SUBPROTOCOL[subprotocol]
        return Upgradable(response.serialize(), encoding, query, _token(request.headers))

    def _let_in(self, asked: Upgradable) -> Admitted:
        """Return the device that asks. Raises TokenRefused, and ValueError for the query."""
        identity = self._verifier.verify(asked.token)
        have, since = _resume(asked.query)
        return Admitted(asked.response, identity, asked.encoding, have, since)


def refusal(status: HTTPStatus, text: str, headers: dict[str, str] | None = None) -> Response:
    """Return a short plain-text answer that ends the connection."""
    body = f"{text}\n".encode()
    fields = Headers(
        {
            "Content-Type": "text/plain; charset=utf-8",
            "Content-Length": str(len(body)),
            "Connection": "close",
            **(headers or {}),
        }
    )
    return Response(status.value, status.phrase, fields, body)


def malformed(data: bytes) -> bytes:
    """Return the answer to bytes that are no GET request without a body."""
    method = data.split(b" ", 1)[0]
    if method != b"GET" and method.isalpha() and method.isupper():
        response = refusal(HTTPStatus.METHOD_NOT_ALLOWED, f"devices connect with GET {wire.PATH}", {"Allow": "GET"})
    else:
        response = refusal(HTTPStatus.BAD_REQUEST, "this is no HTTP/1.1 request for a WebSocket")
    return response.serialize()


def _select_subprotocol(offered: Sequence[Subprotocol]) -> Subprotocol:
    for subprotocol in offered:
        if subprotocol in wire.BY_SUBPROTOCOL:
            return subprotocol
    # Not the offer itself: a browser's contains its token.
    raise NegotiationError(f"no known subprotocol was offered; send one of {', '.join(wire.BY_SUBPROTOCOL)}")


def _token(headers: Headers) -> str:
    """Return the token from the one place it may be in. Raises TokenRefused."""
    try:
        authorization = headers.get("Authorization")
    except MultipleValuesError as exc:
        raise TokenRefused("several Authorization headers were sent; send one") from exc
    if authorization is not None:
        scheme, _, token = authorization.partition(" ")
        if scheme.lower() != "bearer" or not token:
            raise TokenRefused("the Authorization header is not: Bearer <token>")
        return token.strip()
    for value in headers.get_all("Sec-WebSocket-Protocol"):
        for entry in value.split(","):
            if entry.strip().startswith(wire.BEARER_SUBPROTOCOL):
                return entry.strip().removeprefix(wire.BEARER_SUBPROTOCOL)
    raise TokenRefused(
        "no token was sent; send Authorization: Bearer <token>, or in a browser the subprotocol bearer.<token>"
    )


def _resume(query: str) -> tuple[tuple[str, ...], int]:
    """Read ``have=<digest>,…&since=<rev>``. Raises ValueError, saying what is allowed."""
    have: tuple[str, ...] = ()
    since = 0
    for pair in query.split("&") if query else ():
        name, _, value = pair.partition("=")
        if name == "have" and value:
            have = tuple(value.replace("%2C", ",").split(","))
            if len(have) > limits.HAVE_MAX or not all(_DIGEST.fullmatch(digest) for digest in have):
                raise ValueError(f"have must list at most {limits.HAVE_MAX} digests of 64 hex digits")
        elif name == "since" and value:
            if not (value.isascii() and value.isdecimal() and len(value) <= 16):
                raise ValueError(f"since is {value[:20]!r}; send a revision")
            since = int(value)
    return have, since
