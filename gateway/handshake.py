"""From an HTTP request to an admitted device, or to the status that says what to do about it.

Knows the protocol's front door: path, subprotocols, where a token may travel, the resume query. Knows
nothing of cohorts or the bus.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from http import HTTPStatus
from typing import Final

from websockets.datastructures import Headers, MultipleValuesError
from websockets.exceptions import NegotiationError
from websockets.http11 import Request, Response
from websockets.typing import Origin, Subprotocol

from fanout import limits, wire
from gateway.config import GatewayConfig
from gateway.connection import Handshake
from gateway.tokens import Identity, TokenRefused, TokenVerifier

_DIGEST: Final = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True, slots=True)
class Admitted:
    """A request that may become a connection.

    Attributes:
        response: The 101.
        have: Digests of the bundles the device holds.
        since: The newest revision it has seen.
    """

    response: Response
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

    def handshake(self) -> Handshake:
        """Return a parser for one request."""
        return Handshake(self._origins, _select_subprotocol, self._config.message_bytes_max)

    def check_path(self, request: Request) -> Response | None:
        """Return the refusal of a request that is not for us at all."""
        if request.path.partition("?")[0] != wire.PATH:
            return refusal(HTTPStatus.NOT_FOUND, f"nothing is here; devices connect to {wire.PATH}")
        return None

    def admit(self, request: Request) -> Admitted | Response:
        """Return the admitted device, or the response that refuses it."""
        response = self._judge.accept(request)
        if response.status_code != HTTPStatus.SWITCHING_PROTOCOLS:
            return response
        subprotocol = self._judge.subprotocol
        assert subprotocol is not None
        try:
            identity = self._verifier.verify(_token(request.headers))
            have, since = _resume(request.path)
        except TokenRefused as exc:
            headers = {"WWW-Authenticate": 'Bearer realm="fanout", error="invalid_token"'}
            return refusal(HTTPStatus.UNAUTHORIZED, str(exc), headers)
        except ValueError as exc:
            return refusal(HTTPStatus.BAD_REQUEST, str(exc))
        return Admitted(response, identity, wire.BY_SUBPROTOCOL[subprotocol], have, since)


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


def _resume(path: str) -> tuple[tuple[str, ...], int]:
    """Read ``?have=<digest>,…&since=<rev>``. Raises ValueError, saying what is allowed."""
    _, _, query = path.partition("?")
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
