"""Which tokens open the door, with keys as operators have them."""

from __future__ import annotations

import base64
import hmac
import json
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from jwt.algorithms import ECAlgorithm, OKPAlgorithm, RSAAlgorithm
from support.stack import KEY, token

from fanout.errors import InvalidInput
from gateway.tokens import (
    JWKS_ALGORITHMS,
    KeySet,
    TokenRefused,
    TokenVerifier,
    secret_verifier,
    verifier_from_environment,
)

ATTR_KEYS = ("platform", "region")
RSA = rsa.generate_private_key(public_exponent=65537, key_size=2048)
EC = ec.generate_private_key(ec.SECP256R1())
ED = ed25519.Ed25519PrivateKey.generate()
ED_NEXT = ed25519.Ed25519PrivateKey.generate()


def public(key: Any, kid: str) -> dict[str, Any]:
    """Return a key's public half, as it stands in a JWKS."""
    algorithm: Any = {RSA: RSAAlgorithm, EC: ECAlgorithm}.get(key, OKPAlgorithm)
    return {**json.loads(algorithm.to_jwk(key.public_key())), "kid": kid}


def signed(key: Any, algorithm: str, kid: str | None) -> str:
    claims = jwt.decode(token("tv-9"), options={"verify_signature": False})
    return jwt.encode(claims, key, algorithm, headers={"kid": kid} if kid else None)


def by_hand(header: dict[str, Any], claims: str | dict[str, Any], key: bytes, digest: str = "sha256") -> str:
    """Return a token that a careful library would not make."""

    def text(data: bytes) -> str:
        return base64.urlsafe_b64encode(data).rstrip(b"=").decode()

    body = claims if isinstance(claims, str) else json.dumps(claims)
    unsigned = f"{text(json.dumps(header).encode())}.{text(body.encode())}"
    return f"{unsigned}.{text(hmac.digest(key, unsigned.encode(), digest))}"


@pytest.fixture
def verifier() -> TokenVerifier:
    return secret_verifier(KEY.encode(), "fanout", ATTR_KEYS)


def test_a_good_token_says_who_listens_to_what(verifier: TokenVerifier) -> None:
    expires_s = int(time.time()) + 60
    attrs = {"region": "jp", "platform": "tv", "secret": "ignored"}
    identity = verifier.verify(token("tv-7", exp=expires_s, topics=["b", "a", "a"], attrs=attrs))
    assert identity.device_id == "tv-7"
    assert identity.expires_s == expires_s
    assert identity.topics == {"a", "b"}
    assert identity.attrs == (("platform", "tv"), ("region", "jp"))
    assert verifier.verify(token(attrs=None)).attrs == ()
    assert verifier.verify(token(aud=["other", "fanout"]))


@pytest.mark.parametrize(
    "claims",
    [
        {"exp": 1_000_000_000},
        {"exp": "soon"},
        {"exp": None},
        {"nbf": 4_000_000_000},
        {"aud": "elsewhere"},
        {"aud": None},
        {"sub": None},
        {"sub": ""},
        {"sub": "x" * 129},
        {"topics": None},
        {"topics": []},
        {"topics": "t"},
        {"topics": ["t"] * 17},
        {"topics": [1]},
        {"topics": ["NOT A NAME"]},
        {"topics": ["x" * 65]},
        {"attrs": ["platform"]},
        {"attrs": {str(number): "x" for number in range(9)}},
        {"attrs": {"platform": 1}},
        {"attrs": {"platform": "x" * 33}},
        {"attrs": {"unknown": {"deep": 1}}},
    ],
)
def test_a_claim_outside_its_limits_is_refused(verifier: TokenVerifier, claims: dict[str, Any]) -> None:
    with pytest.raises(TokenRefused):
        verifier.verify(token(**claims))


USUAL = {"sub": "x", "exp": int(time.time()) + 99, "aud": "fanout", "topics": ["t"]}


@pytest.mark.parametrize(
    "bad",
    [
        pytest.param("", id="empty"),
        pytest.param("a.b.c", id="no base64"),
        pytest.param(token() + "x", id="longer"),
        pytest.param(token()[:-4], id="shorter"),
        pytest.param(token(key="another key, as long as it has to be"), id="another key"),
        pytest.param(by_hand({"alg": "HS512"}, USUAL, KEY.encode(), "sha512"), id="another hash"),
        pytest.param(jwt.encode(USUAL, "", "none"), id="alg none"),
        pytest.param(by_hand({"alg": "nOnE"}, USUAL, b""), id="alg nOnE"),
        pytest.param(by_hand({}, USUAL, KEY.encode()), id="no alg"),
        pytest.param(by_hand({"alg": "HS256"}, "[]", KEY.encode()), id="no object"),
        pytest.param(by_hand({"alg": "HS256", "kid": [1]}, USUAL, KEY.encode()), id="kid is a list"),
        pytest.param(by_hand({"alg": "HS256", "crit": ["x"]}, USUAL, KEY.encode()), id="crit"),
        pytest.param(by_hand({"alg": "HS256"}, {**USUAL, "exp": float("inf")}, KEY.encode()), id="infinite exp"),
        pytest.param(by_hand({"alg": "HS256"}, {**USUAL, "attrs": {"platform": "\ud800"}}, KEY.encode()), id="attr"),
        pytest.param("e30." * 3_000, id="very long"),
        pytest.param("ü.ü.ü", id="not ascii"),
    ],
)
def test_a_forged_or_broken_token_is_refused_in_one_way(verifier: TokenVerifier, bad: str) -> None:
    with pytest.raises(TokenRefused) as caught:
        verifier.verify(bad)
    assert not bad or bad not in str(caught.value)


def test_a_secret_that_is_too_short_is_refused() -> None:
    with pytest.raises(InvalidInput, match="31 bytes"):
        secret_verifier(b"x" * 31, "fanout", ())


# --- Public keys.


def key_set(path: Path, *keys: dict[str, Any]) -> KeySet:
    path.write_text(json.dumps({"keys": keys}))
    return KeySet(str(path))


def test_each_kind_of_public_key_opens_the_door_to_its_own_tokens_only(tmp_path: Path) -> None:
    octets = {"kty": "oct", "kid": "hmac", "k": base64.urlsafe_b64encode(KEY.encode()).decode().rstrip("=")}
    keys = key_set(tmp_path / "jwks", public(RSA, "r"), public(EC, "e"), public(ED, "o"), octets)
    verifier = TokenVerifier(keys.key_for, JWKS_ALGORITHMS, "fanout", ATTR_KEYS)
    for key, algorithm, kid in ((RSA, "RS256", "r"), (EC, "ES256", "e"), (ED, "EdDSA", "o")):
        assert verifier.verify(signed(key, algorithm, kid)).device_id == "tv-9"
    pem = RSA.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    for forged in (
        by_hand({"alg": "HS256", "kid": "r"}, USUAL, pem),
        by_hand({"alg": "HS256", "kid": "hmac"}, USUAL, KEY.encode()),
        by_hand({"alg": "RS256", "kid": "r"}, USUAL, pem),
        by_hand({"alg": "none", "kid": "r"}, USUAL, b""),
        signed(RSA, "RS256", "e"),
        signed(ED_NEXT, "EdDSA", "o"),
        signed(RSA, "RS512", "r"),
        signed(RSA, "RS256", "unknown"),
        signed(RSA, "RS256", None),
    ):
        with pytest.raises(TokenRefused):
            verifier.verify(forged)


@pytest.mark.parametrize(
    "content",
    [
        "",
        "[]",
        "{}",
        '{"keys": 1}',
        '{"keys": [1]}',
        '{"keys": [{"kty": "OKP", "crv": "Ed25519", "x": 1}]}',
        "[[[",
    ],
)
def test_what_is_no_key_set_is_refused_by_name(tmp_path: Path, content: str) -> None:
    (tmp_path / "jwks").write_text(content)
    with pytest.raises(InvalidInput, match="FANOUT_DEVICE_JWKS"):
        KeySet(str(tmp_path / "jwks"))


class _Keys(BaseHTTPRequestHandler):
    """Serves what its server holds at the moment."""

    def do_GET(self) -> None:
        self.send_response(200)
        self.end_headers()
        self.wfile.write(self.server.body)  # type: ignore[attr-defined]
        self.server.looks += 1  # type: ignore[attr-defined]

    def log_message(self, format: str, *args: Any) -> None:
        """Say nothing."""


@contextmanager
def serving() -> Iterator[Any]:
    with HTTPServer(("127.0.0.1", 0), _Keys) as server:
        server.body, server.looks = b"", 0  # type: ignore[attr-defined]
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield server
        finally:
            server.shutdown()
            thread.join()


def test_keys_rotate_while_tokens_of_both_are_good() -> None:
    def accepts(text: str) -> bool:
        try:
            return verifier.verify(text).device_id == "tv-9"
        except TokenRefused:
            return False

    def eventually(text: str) -> bool:
        deadline = time.monotonic() + 20
        while not (found := accepts(text)) and time.monotonic() < deadline:
            threading.Event().wait(0.01)
        return found

    old, new = signed(ED, "EdDSA", "old"), signed(ED_NEXT, "EdDSA", "new")
    with serving() as server:
        server.body = json.dumps({"keys": [public(ED, "old")]}).encode()
        keys = KeySet(f"http://127.0.0.1:{server.server_port}/jwks", refresh_min_s=0.05)
        verifier = TokenVerifier(keys.key_for, JWKS_ALGORITHMS, "fanout", ATTR_KEYS)
        assert accepts(old)
        assert not accepts(new)
        # Nobody tells us of the new key: a token that names it makes us look.
        server.body = json.dumps({"keys": [public(ED, "old"), public(ED_NEXT, "new")]}).encode()
        assert eventually(new)
        assert accepts(old)
        # Whatever the server says in a bad moment, the keys held stay in force.
        server.body, looks = b'{"keys": [1]}', server.looks
        accepts(signed(ED, "EdDSA", "third"))
        deadline = time.monotonic() + 20
        while server.looks == looks and time.monotonic() < deadline:
            threading.Event().wait(0.01)
        assert server.looks > looks
        assert accepts(old)
        server.body = json.dumps({"keys": [public(ED, "old"), public(ED, "third")]}).encode()
        assert eventually(signed(ED, "EdDSA", "third")), "the look that failed was not the last"
        assert not accepts(new)


def test_exactly_one_source_of_keys_is_configured(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in ("FANOUT_DEVICE_KEY", "FANOUT_DEVICE_KEY_FILE", "FANOUT_DEVICE_JWKS"):
        monkeypatch.delenv(name, raising=False)
    with pytest.raises(InvalidInput, match="none of"):
        verifier_from_environment("fanout", ())
    (tmp_path / "key").write_text(KEY + "\n")
    monkeypatch.setenv("FANOUT_DEVICE_KEY_FILE", str(tmp_path / "key"))
    assert verifier_from_environment("fanout", ()).verify(token())
    monkeypatch.setenv("FANOUT_DEVICE_KEY", KEY)
    with pytest.raises(InvalidInput, match="set exactly one"):
        verifier_from_environment("fanout", ())
    monkeypatch.delenv("FANOUT_DEVICE_KEY")
    monkeypatch.setenv("FANOUT_DEVICE_KEY_FILE", str(tmp_path / "nowhere"))
    with pytest.raises(InvalidInput, match="nowhere"):
        verifier_from_environment("fanout", ())
