"""Whose socket is this? Verifying device tokens; the algorithm is configuration, never the token's choice.

Knows nothing of sockets. Refusals say what was wrong, never what the token was.
"""

from __future__ import annotations

import http.client
import os
import random
import threading
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Final, NamedTuple

import jwt
from cryptography.exceptions import UnsupportedAlgorithm

from fanout import limits
from fanout.checks import NAME
from fanout.errors import InvalidInput
from fanout.settings import secret
from gateway.plaintoken import claims_of

# RFC 7518 section 3.2: an HS256 key as long as the hash.
KEY_BYTES_MIN: Final = 32
# How far ahead of this host's clock the token service's may be (``iat``, ``nbf``): without it, a gateway a second
# behind refuses every token that was made just now, and sends the device back for another. The end is the end.
LEEWAY_S: Final = 30.0
_EXPIRED: Final = "the token has expired; get a new one"
# Combinations of topics and attributes whose checks are remembered: about as many as a worker has cohorts. Only
# the holders of good tokens add to them; were it to fill, it is emptied, and each is checked once more.
_ALLOWED_MAX: Final = 4_096
JWKS_ALGORITHMS: Final = ("RS256", "ES256", "EdDSA")
# Rotation: the new key is published before it is used, so looking every few minutes is enough; a token
# with an unknown key id may ask for one extra look, no more often than this.
JWKS_REFRESH_S: Final = 300.0
JWKS_REFRESH_MIN_S: Final = 10.0
# What reading one can raise: the libraries check less than they parse, and the thread that looks must go on.
_NOT_A_KEY_SET: Final = (
    jwt.PyJWTError,
    http.client.HTTPException,
    UnsupportedAlgorithm,
    OSError,
    ValueError,
    TypeError,
    AttributeError,
    KeyError,
)


Allowed = tuple[frozenset[str], tuple[tuple[str, str], ...]]


class Identity(NamedTuple):
    """What a token says of a device.

    Attributes:
        device_id: ``sub``.
        expires_s: ``exp``, Unix seconds.
        topics: At most 16.
        attrs: Sorted pairs of the configured keys only.
    """

    device_id: str
    expires_s: int
    topics: frozenset[str]
    attrs: tuple[tuple[str, str], ...]


class TokenRefused(Exception):
    """The token does not open the door; the message may be told to whoever sent it."""


class TokenVerifier:
    """Checks signature, times, audience and claims.

    Args:
        key_for: Returns the key a token is to be checked with, or raises TokenRefused.
        algorithms: The only ones accepted.
        audience: What ``aud`` must contain.
        attr_keys: Attributes taken from ``attrs``; others are ignored.
        secret: The shared secret, if that is how tokens are signed: plain ones then take the short way.
    """

    def __init__(
        self,
        key_for: Callable[[str], Any],
        algorithms: tuple[str, ...],
        audience: str,
        attr_keys: tuple[str, ...],
        secret: bytes | None = None,
    ) -> None:
        self._secret = secret
        self._key_for = key_for
        self._algorithms = list(algorithms)
        self._audience = audience
        self._attr_keys = frozenset(attr_keys)
        self._allowed: dict[Any, Allowed] = {}

    def verify(self, token: str) -> Identity:
        """Return who holds this token. Raises TokenRefused."""
        if self._secret is not None:
            plain = claims_of(token, self._secret, self._audience, time.time())
            if plain is not None:
                return self._identity(plain)
        return self._identity(self._long_way(token))

    def _long_way(self, token: str) -> dict[str, Any]:
        try:
            key = self._key_for(token)
            claims: dict[str, Any] = jwt.decode(
                token,
                key,
                algorithms=self._algorithms,
                audience=self._audience,
                leeway=LEEWAY_S,
                options={"require": ["sub", "exp", "aud"]},
            )
        except jwt.ExpiredSignatureError as exc:
            raise TokenRefused(_EXPIRED) from exc
        except jwt.PyJWTError as exc:
            raise TokenRefused(f"the token is not valid: {exc}") from exc
        if int(claims["exp"]) <= time.time():
            raise TokenRefused(_EXPIRED)
        return claims

    def _identity(self, claims: Mapping[str, Any]) -> Identity:
        device_id = claims["sub"]
        if not isinstance(device_id, str) or not 1 <= len(device_id) <= limits.DEVICE_ID_CHARS_MAX:
            raise TokenRefused(f"claim sub must be a string of 1 to {limits.DEVICE_ID_CHARS_MAX} characters")
        topics, attrs = self._allow(claims.get("topics", []), claims.get("attrs", {}))
        return Identity(device_id, int(claims["exp"]), topics, attrs)

    def _allow(self, topics: Any, attrs: Any) -> Allowed:
        """Return topics and attributes as `Identity` has them, from memory if the same claims were good before."""
        if not isinstance(topics, list) or not isinstance(attrs, dict):
            raise TokenRefused("claim topics must be a list, and claim attrs an object")
        claimed = tuple(topics), tuple(attrs.items())
        try:
            known = self._allowed.get(claimed)
        except TypeError:
            known = None  # a list or an object is where a string must be; the check below says so
        if known is None:
            known = self._checked(topics, attrs)
            if len(self._allowed) >= _ALLOWED_MAX:
                self._allowed.clear()
            self._allowed[claimed] = known
        return known

    def _checked(self, topics: list[Any], attrs: dict[str, Any]) -> Allowed:
        if not 1 <= len(topics) <= limits.TOPICS_PER_DEVICE_MAX:
            raise TokenRefused(f"claim topics must list 1 to {limits.TOPICS_PER_DEVICE_MAX} topics")
        if not all(isinstance(topic, str) and NAME.fullmatch(topic) for topic in topics):
            raise TokenRefused("claim topics holds something that is not a topic's name")
        if len(attrs) > limits.ATTRS_PER_DEVICE_MAX:
            raise TokenRefused(f"claim attrs must be an object of at most {limits.ATTRS_PER_DEVICE_MAX} pairs")
        for name, value in attrs.items():
            # Half a surrogate pair is a string to JSON, and to nothing we would hand it on to.
            if not isinstance(value, str) or len(value) > limits.ATTR_VALUE_CHARS_MAX or not value.isprintable():
                raise TokenRefused(
                    f"attribute {name[:40]!r} must be a string of at most "
                    f"{limits.ATTR_VALUE_CHARS_MAX} printable characters"
                )
        known = tuple(sorted((name, value) for name, value in attrs.items() if name in self._attr_keys))
        return frozenset(topics), known


def secret_verifier(secret: bytes, audience: str, attr_keys: tuple[str, ...]) -> TokenVerifier:
    """Return a verifier for tokens signed with a shared secret (HS256).

    Raises:
        InvalidInput: The secret is too short.
    """
    if len(secret) < KEY_BYTES_MIN:
        raise InvalidInput(
            f"FANOUT_DEVICE_KEY has {len(secret)} bytes, it needs at least {KEY_BYTES_MIN}; "
            "make one with: openssl rand -hex 32"
        )
    return TokenVerifier(lambda token: secret, ("HS256",), audience, attr_keys, secret)


class KeySet:
    """Public keys from a JWKS file or URL, read again in the background.

    Args:
        source: A path, or an https:// (or http://) URL.
        refresh_s: Seconds between looks, plus or minus a tenth.
        refresh_min_s: Least seconds between two looks, however many unknown keys are named.
    """

    def __init__(
        self, source: str, refresh_s: float = JWKS_REFRESH_S, refresh_min_s: float = JWKS_REFRESH_MIN_S
    ) -> None:
        self._source = source
        self._refresh_s = refresh_s
        self._refresh_min_s = refresh_min_s
        self._keys: dict[str | None, jwt.PyJWK] = {}
        self._looked = 0.0
        self._wanted = threading.Event()
        self.load()
        threading.Thread(target=self._keep_fresh, name="jwks", daemon=True).start()

    def load(self) -> None:
        """Read the keys now. Raises InvalidInput; the keys held stay in force then."""
        try:
            if self._source.startswith(("http://", "https://")):
                found = jwt.PyJWKClient(self._source, cache_jwk_set=False, timeout=10).get_jwk_set()
            else:
                found = jwt.PyJWKSet.from_json(Path(self._source).read_text())
        except _NOT_A_KEY_SET as exc:
            raise InvalidInput(f"FANOUT_DEVICE_JWKS {self._source!r} cannot be read: {exc}") from exc
        self._keys = {key.key_id: key for key in found.keys if key.key_type != "oct"}
        self._looked = time.monotonic()

    def key_for(self, token: str) -> jwt.PyJWK:
        """Return the key a token's header names; an unknown one makes the background look again soon."""
        key = self._keys.get(jwt.get_unverified_header(token).get("kid"))
        if key is None:
            self._wanted.set()
            raise TokenRefused("the token's key id is not among the keys in force")
        return key

    def _keep_fresh(self) -> None:
        # Of its own: this thread is not to touch the numbers that others draw from a seed.
        rng = random.Random()
        while True:
            self._wanted.wait(self._refresh_s * rng.uniform(0.9, 1.1))
            self._wanted.clear()
            rest = self._looked + self._refresh_min_s - time.monotonic()
            if rest > 0:
                time.sleep(rest)
            try:
                self.load()
            except InvalidInput:
                self._looked = time.monotonic()


def verifier_from_environment(audience: str, attr_keys: tuple[str, ...]) -> TokenVerifier:
    """Return the verifier that FANOUT_DEVICE_KEY, FANOUT_DEVICE_KEY_FILE or FANOUT_DEVICE_JWKS configures.

    Raises:
        InvalidInput: None or several are set, or the one that is cannot be used.
    """
    names = ("FANOUT_DEVICE_KEY", "FANOUT_DEVICE_KEY_FILE", "FANOUT_DEVICE_JWKS")
    given = [name for name in names if os.environ.get(name)]
    if len(given) != 1:
        raise InvalidInput(f"{' and '.join(given) or 'none'} of {', '.join(names)} is set; set exactly one")
    if given[0] == "FANOUT_DEVICE_JWKS":
        return TokenVerifier(KeySet(os.environ[given[0]]).key_for, JWKS_ALGORITHMS, audience, attr_keys)
    return secret_verifier(secret("FANOUT_DEVICE_KEY").encode(), audience, attr_keys)
