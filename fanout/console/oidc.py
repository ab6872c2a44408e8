"""Signing in at an OpenID provider: authorization code with PKCE. Owns what is asked of the provider and believed of
its answers; knows nothing of sessions and pages.

What a provider says is believed once its signature, issuer, audience, nonce and time are right. The algorithm is one
of a list, never what the token asks for.
"""

from __future__ import annotations

import secrets
import ssl
import time
from collections.abc import Iterable
from functools import cache
from typing import Any, Final
from urllib.parse import urlsplit

import httpx
import structlog
from authlib.oauth2.auth import ClientAuth
from authlib.oauth2.rfc6749.parameters import prepare_grant_uri, prepare_token_request
from authlib.oauth2.rfc7636 import create_s256_code_challenge
from authlib.oidc.core import CodeIDToken
from joserfc import jwt
from joserfc.errors import JoseError
from joserfc.jwk import KeySet, import_key
from msgspec import Struct

from fanout.control.config import ControlConfig
from fanout.errors import ProviderFailed
from fanout.roles import Role
from fanout.settings import secret
from fanout.store.accounts import NAME
from fanout.store.sessions import Trip

log: Final = structlog.get_logger("fanout.console")

_SECRET: Final = "FANOUT_OIDC_CLIENT_SECRET"
_DISCOVERY: Final = "/.well-known/openid-configuration"
_ENDPOINTS: Final = ("authorization_endpoint", "token_endpoint", "jwks_uri")
_ALGORITHMS: Final = ("RS256", "PS256", "ES256", "Ed25519")
# A person waits for it, and the other way to sign in is on the same page.
_TIMEOUT_S: Final = 5.0
# Providers move their endpoints once in years, with notice.
_FRESH_S: Final = 3600.0
# How far the provider's clock may be from ours.
_LEEWAY_S: Final = 60


class Identity(Struct, frozen=True):
    """Who the provider says somebody is. ``role`` is None for whom no group of theirs lets in."""

    name: str
    role: Role | None


class Provider:
    """An OpenID provider, as it is configured.

    Args:
        config: Issuer, client id, claims and roles.
        secret: What proves to the provider that we are that client; "" for a client without.
    """

    def __init__(self, config: ControlConfig, secret: str) -> None:
        self._config = config
        self._secret = secret
        self._issuer = config.oidc_issuer
        self._metadata: dict[str, Any] = {}
        self._fresh_until_s = 0.0
        self._keys = KeySet([])

    @property
    def issuer(self) -> str:
        """What it calls itself."""
        return self._issuer

    @property
    def label(self) -> str:
        """What people know it as: its host."""
        return urlsplit(self._issuer).hostname or self._issuer

    async def check(self) -> None:
        """Log whether it can be used. Whoever has an account here can sign in all the same."""
        try:
            await self._discover()
        except ProviderFailed as exc:
            log.warning("the OpenID provider cannot be used yet", issuer=self._issuer, why=str(exc))
        else:
            log.info("people may sign in at the OpenID provider", issuer=self._issuer)

    def trip(self, path: str) -> Trip:
        """Return what is to be remembered of somebody who is about to be sent there."""
        return Trip(nonce=secrets.token_urlsafe(32), verifier=secrets.token_urlsafe(48), path=path)

    async def way(self, back: str, state: str, trip: Trip) -> str:
        """Return the URL to send somebody to. Raises ProviderFailed.

        Args:
            back: URL they come back to.
            state: Comes back with them.
            trip: As it was remembered.
        """
        metadata = await self._discover()
        return str(
            prepare_grant_uri(
                metadata["authorization_endpoint"],
                self._config.oidc_client_id,
                "code",
                redirect_uri=back,
                scope=self._config.oidc_scope,
                state=state,
                nonce=trip.nonce,
                code_challenge=create_s256_code_challenge(trip.verifier),
                code_challenge_method="S256",
            )
        )

    async def identity(self, back: str, code: str, trip: Trip) -> Identity:
        """Return who came back with this code. Raises ProviderFailed.

        Args:
            back: URL they were to come back to.
            code: What they brought.
            trip: What was remembered of them.
        """
        answer = await self._exchange(back, code, trip)
        token = answer.get("id_token")
        if not isinstance(token, str):
            raise ProviderFailed("The provider sent no ID token; its client needs the scope openid.")
        try:
            decoded = await self._decode(token)
            claims = CodeIDToken(
                decoded.claims,
                decoded.header,
                options={
                    "iss": {"essential": True, "value": self._issuer},
                    "aud": {"essential": True, "value": self._config.oidc_client_id},
                },
                params={
                    "nonce": trip.nonce,
                    "client_id": self._config.oidc_client_id,
                    "access_token": answer.get("access_token"),
                },
            )
            claims.validate(leeway=_LEEWAY_S)
        except (JoseError, ValueError, TypeError) as exc:
            log.warning("an ID token was not believed", issuer=self._issuer, why=type(exc).__name__)
            raise ProviderFailed("The provider's answer is not signed or addressed as it should be.") from exc
        return Identity(self._name(claims), self._role(claims.get(self._config.oidc_roles_claim)))

    def _name(self, claims: dict[str, Any]) -> str:
        name = str(claims.get(self._config.oidc_name_claim) or claims["sub"]).lower()
        if not NAME.fullmatch(name):
            raise ProviderFailed(
                f"The provider calls you {name[:80]!r}, which cannot be a name here: allowed are 1 to 64 characters "
                "of a-z 0-9 _ . + @ - ."
            )
        return name

    def _role(self, claimed: Any) -> Role | None:
        groups: Iterable[Any] = claimed if isinstance(claimed, list) else [claimed]
        has = {group for group in groups if isinstance(group, str)}
        wanted = (entry.partition("=") for entry in self._config.oidc_roles)
        roles = {Role(role) for role, _, group in wanted if group in has}
        return max(roles, key=list(Role).index, default=None)

    async def _exchange(self, back: str, code: str, trip: Trip) -> dict[str, Any]:
        """Give the code, and get tokens."""
        metadata = await self._discover()
        body = prepare_token_request("authorization_code", redirect_uri=back, code=code, code_verifier=trip.verifier)
        ways = metadata.get("token_endpoint_auth_methods_supported") or ["client_secret_basic"]
        way = "client_secret_basic" if "client_secret_basic" in ways else "client_secret_post"
        auth = ClientAuth(self._config.oidc_client_id, self._secret, way if self._secret else "none")
        headers = {"Content-Type": "application/x-www-form-urlencoded", "Accept": "application/json"}
        uri, headers, body = auth.prepare("POST", metadata["token_endpoint"], headers, body)
        return await self._ask("POST", uri, content=body, headers=headers)

    async def _decode(self, token: str) -> jwt.Token:
        """Return a token whose signature is the provider's; its keys are fetched again if they do not fit."""
        try:
            return jwt.decode(token, self._keys, algorithms=list(_ALGORITHMS))
        except (JoseError, ValueError):
            self._keys = await self._fetch_keys()
            return jwt.decode(token, self._keys, algorithms=list(_ALGORITHMS))

    async def _fetch_keys(self) -> KeySet:
        found = await self._ask("GET", (await self._discover())["jwks_uri"])
        keys = []
        for entry in found.get("keys") or []:
            try:
                # A set may hold keys for other uses, of kinds that we do not know.
                if entry.get("use", "sig") == "sig":
                    keys.append(import_key(entry))
            except (JoseError, ValueError, TypeError, AttributeError):
                continue
        if not keys:
            raise ProviderFailed("The provider has no key that its answers could be checked with.")
        return KeySet(keys)

    async def _discover(self) -> dict[str, Any]:
        if self._metadata and time.monotonic() < self._fresh_until_s:
            return self._metadata
        metadata = await self._ask("GET", self._issuer.rstrip("/") + _DISCOVERY)
        if metadata.get("issuer") != self._issuer:
            called = str(metadata.get("issuer"))[:200]
            raise ProviderFailed(f"The provider calls itself {called!r}, which is not as it is configured.")
        for name in _ENDPOINTS:
            # Codes and keys travel there; the issuer's own scheme was checked when it was configured.
            if urlsplit(str(metadata.get(name))).scheme != urlsplit(self._issuer).scheme:
                raise ProviderFailed(f"The provider's {name} is not one that can be used.")
        self._metadata, self._fresh_until_s = metadata, time.monotonic() + _FRESH_S
        return metadata

    async def _ask(self, method: str, url: str, **request: Any) -> dict[str, Any]:
        """Return what the provider answers, JSON; redirects are not followed."""
        try:
            async with httpx.AsyncClient(timeout=_TIMEOUT_S, verify=_trusted()) as http:
                answer = await http.request(method, url, **request)
            found = answer.json() if answer.status_code == 200 else None
        except (httpx.HTTPError, httpx.InvalidURL, ValueError) as exc:
            raise ProviderFailed(f"The provider does not answer: {type(exc).__name__}.") from exc
        if not isinstance(found, dict):
            raise ProviderFailed(f"The provider answers with status {answer.status_code} and not as it should.")
        return found


@cache
def _trusted() -> ssl.SSLContext:
    """Return the certificates that a provider is known by: read once, for that holds up everybody for 30 ms."""
    return httpx.create_ssl_context()


def from_environment(config: ControlConfig) -> Provider | None:
    """Return the provider that is configured, with its secret from the environment or a file; None without one.

    Raises:
        InvalidInput: The secret's file cannot be read, or there are two secrets.
    """
    if not config.oidc_issuer:
        return None
    return Provider(config, secret(_SECRET))
