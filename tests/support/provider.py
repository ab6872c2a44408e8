"""An OpenID provider, small but whole: discovery, keys, codes with PKCE, signed ID tokens. Whoever is sent to it is
who `Provider.person` says, at once. What it is told to do wrong, it does wrong."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import secrets
import socket
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from functools import cache
from typing import Any
from urllib.parse import parse_qsl, urlencode

import uvicorn
from authlib.oauth2.rfc7636 import create_s256_code_challenge
from joserfc import jwt
from joserfc.jwk import ECKey, OKPKey, RSAKey
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, RedirectResponse, Response
from starlette.routing import Route

from .waiting import until

CLIENT_ID = "fanout-console"
CLIENT_SECRET = "what the provider and the console share"


@cache
def _other() -> dict[str, Any]:
    """Return a key that is none to check tokens with; made once, for that takes longer than a test with it."""
    return dict(RSAKey.generate_key(2048, {"kid": "for-encryption", "use": "enc"}).as_dict(private=False))


class Provider:
    """The provider, and what a test makes of it.

    Attributes:
        person: Claims of whoever comes: ``sub``, ``preferred_username``, ``groups``.
        lies: Claims that its ID tokens hold instead of the right ones.
        refuses: The error it sends people back with, instead of a code.
        asked: The query of everybody it was sent.
    """

    def __init__(self, issuer: str) -> None:
        self.issuer = issuer
        self.person: dict[str, Any] = {"sub": "1", "preferred_username": "mia", "groups": ["live-desk"]}
        self.lies: dict[str, Any] = {}
        self.refuses = ""
        self.asked: list[dict[str, str]] = []
        self.metadata: dict[str, Any] = {
            "issuer": issuer,
            "authorization_endpoint": f"{issuer}/authorize",
            "token_endpoint": f"{issuer}/token",
            "jwks_uri": f"{issuer}/jwks",
            "token_endpoint_auth_methods_supported": ["client_secret_basic"],
        }
        self._codes: dict[str, dict[str, str]] = {}
        self.turn_keys()

    def turn_keys(self, algorithm: str = "ES256") -> None:
        """Sign with another key from now on; the old one is no longer told."""
        told = {"kid": secrets.token_hex(4), "use": "sig"}
        self.algorithm = algorithm
        self.signing: Any
        if algorithm == "ES256":
            self.signing = ECKey.generate_key("P-256", told)
        elif algorithm == "Ed25519":
            self.signing = OKPKey.generate_key("Ed25519", told)
        else:
            self.signing = RSAKey.generate_key(2048, told)
        self._told = [_other(), self.signing.as_dict(private=False), {"kty": "unheard-of"}]

    def app(self) -> Starlette:
        """Return it as an app."""
        return Starlette(
            routes=[
                Route("/.well-known/openid-configuration", self._discovery),
                Route("/jwks", self._jwks),
                Route("/authorize", self._authorize),
                Route("/token", self._token, methods=["POST"]),
            ]
        )

    async def _discovery(self, request: Request) -> Response:
        return JSONResponse(self.metadata)

    async def _jwks(self, request: Request) -> Response:
        return JSONResponse({"keys": self._told})

    async def _authorize(self, request: Request) -> Response:
        asked = dict(request.query_params)
        self.asked.append(asked)
        assert (asked["response_type"], asked["client_id"]) == ("code", CLIENT_ID)
        assert "openid" in asked["scope"].split()
        assert asked["code_challenge_method"] == "S256"
        if self.refuses:
            answer = {"error": self.refuses}
        else:
            code = secrets.token_urlsafe(16)
            self._codes[code] = asked
            answer = {"code": code, "iss": self.issuer}
        return RedirectResponse(f"{asked['redirect_uri']}?{urlencode({**answer, 'state': asked['state']})}", 302)

    async def _token(self, request: Request) -> Response:
        sent = dict(parse_qsl((await request.body()).decode()))
        login = base64.b64encode(f"{CLIENT_ID}:{CLIENT_SECRET}".encode()).decode()
        asked = self._codes.pop(sent.get("code", ""), None)
        if (
            request.headers.get("authorization") != f"Basic {login}"
            or asked is None
            or sent["grant_type"] != "authorization_code"
            or sent["redirect_uri"] != asked["redirect_uri"]
            or create_s256_code_challenge(sent["code_verifier"]) != asked["code_challenge"]
        ):
            return JSONResponse({"error": "invalid_grant"}, 400)
        now_s = int(time.time())
        claims = {
            "iss": self.issuer,
            "aud": CLIENT_ID,
            "iat": now_s,
            "exp": now_s + 300,
            "nonce": asked["nonce"],
            **self.person,
            **self.lies,
        }
        header = {"alg": self.algorithm, "kid": self.signing.kid}
        token = jwt.encode(header, claims, self.signing, algorithms=[self.algorithm])
        return JSONResponse({"access_token": "x", "token_type": "Bearer", "id_token": token})


class _Server(uvicorn.Server):
    """Leaves signals to whoever runs the tests."""

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


@asynccontextmanager
async def provider() -> AsyncIterator[Provider]:
    """Run a provider on a port of its own while the context lasts."""
    with contextlib.closing(socket.create_server(("127.0.0.1", 0))) as listener:
        made = Provider(f"http://127.0.0.1:{listener.getsockname()[1]}")
        server = _Server(uvicorn.Config(made.app(), log_config=None, lifespan="off", ws="none"))
        serving = asyncio.create_task(server.serve(sockets=[listener]))
        try:
            await until(lambda: server.started)
            yield made
        finally:
            server.should_exit = True
            await asyncio.wait([serving])
