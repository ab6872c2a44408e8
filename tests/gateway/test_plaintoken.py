"""The short way for plain tokens: whatever it admits, the library admits with the same claims."""

from __future__ import annotations

import base64
import json
import time
from typing import Any

import jwt
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from gateway.plaintoken import claims_of
from gateway.tokens import Identity, TokenRefused, TokenVerifier, secret_verifier

SECRET = b"a secret of sixty-four bytes, long enough for every HMAC there is"
KEYS = ("platform", "region")
NOW = int(time.time())


def slow_verifier() -> TokenVerifier:
    """The verifier without its short way."""
    return TokenVerifier(lambda token: SECRET, ("HS256",), "fanout", KEYS)


def usual(**claims: Any) -> dict[str, Any]:
    return {"sub": "tv-1", "exp": NOW + 3600, "aud": "fanout", "topics": ["t"], "attrs": {"platform": "tv"}, **claims}


odd_values = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-10, 2**40),
    st.floats(allow_nan=False, allow_infinity=False),
    st.text(max_size=5),
    st.lists(st.text(max_size=5), max_size=3),
    st.dictionaries(st.text(max_size=5), st.text(max_size=5), max_size=3),
)
names = st.sampled_from(["sub", "exp", "aud", "topics", "attrs", "iat", "nbf", "jti", "iss", "crit"])


@given(
    changes=st.dictionaries(names, odd_values, max_size=3),
    dropped=st.sets(names, max_size=2),
    headers=st.sampled_from([{}, {"kid": "x"}, {"crit": ["b64"]}, {"typ": "at+jwt"}]),
    key=st.sampled_from([SECRET, b"another secret of thirty-two bytes!!"]),
)
def test_the_short_way_admits_nobody_the_library_would_not(
    changes: dict[str, Any], dropped: set[str], headers: dict[str, Any], key: bytes
) -> None:
    claims = {name: value for name, value in usual(**changes).items() if name not in dropped}
    token = sign(claims, headers, key)
    with_short_way, without = secret_verifier(SECRET, "fanout", KEYS), slow_verifier()
    assert verdict(with_short_way, token) == verdict(without, token), "in the same words, too"


allowances = st.fixed_dictionaries(
    {
        "topics": st.one_of(
            st.sampled_from([["a", "b"], ["ab"], ["b", "a"], "ab", {"a": "b"}, ["a", 1], ["a", ["b"]]]),
            odd_values,
        ),
        "attrs": st.one_of(
            st.dictionaries(st.sampled_from(["platform", "region"]), st.sampled_from("ab"), max_size=2),
            st.dictionaries(st.sampled_from(["platform", "x"]), st.sampled_from(["a", 1, True, [], {}]), max_size=2),
            odd_values,
        ),
    }
)


USUAL_ALLOWANCE: dict[str, Any] = {"topics": ["a", "b"], "attrs": {"platform": "a"}}


@given(st.lists(allowances, max_size=6))
@example([{**USUAL_ALLOWANCE, "topics": ["ab"]}])
@example([{**USUAL_ALLOWANCE, "attrs": {"platform": "b"}}])
def test_what_a_verifier_has_seen_before_changes_no_verdict(claims: list[dict[str, Any]]) -> None:
    seasoned = secret_verifier(SECRET, "fanout", KEYS)
    for one in [USUAL_ALLOWANCE, *claims, *claims]:
        token = sign(usual(**one), {}, SECRET)
        assert verdict(seasoned, token) == verdict(secret_verifier(SECRET, "fanout", KEYS), token)


def verdict(verifier: TokenVerifier, token: str) -> Identity | str:
    try:
        return verifier.verify(token)
    except TokenRefused as exc:
        return str(exc)


@given(at=st.integers(0, 10_000), char=st.sampled_from("A_-=. b/+é\x00"))
def test_one_changed_character_is_never_admitted_the_short_way(at: int, char: str) -> None:
    token = jwt.encode(usual(), SECRET, "HS256")
    at %= len(token)
    changed = token[:at] + char + token[at + 1 :]
    if changed != token:
        assert claims_of(changed, SECRET, "fanout", NOW) is None


def test_a_usual_token_takes_the_short_way() -> None:
    token = jwt.encode(usual(iat=NOW - 1), SECRET, "HS256")
    assert claims_of(token, SECRET, "fanout", NOW) is not None


@pytest.mark.parametrize(
    "claims",
    [
        usual(exp=NOW),
        usual(iat=NOW + 10),
        usual(aud="other"),
        usual(aud=["fanout"]),
        usual(nbf=NOW + 10),
        usual(nbf=NOW - 10),
        usual(more=1),
    ],
)
def test_what_is_not_plain_or_not_valid_is_left_to_the_library(claims: dict[str, Any]) -> None:
    assert claims_of(jwt.encode(claims, SECRET, "HS256"), SECRET, "fanout", NOW) is None


def test_a_token_made_on_a_clock_a_little_ahead_is_good_already() -> None:
    for claims in (usual(iat=NOW + 20), usual(nbf=NOW + 20)):
        token = jwt.encode(claims, SECRET, "HS256")
        assert secret_verifier(SECRET, "fanout", KEYS).verify(token).device_id == "tv-1"
    with pytest.raises(TokenRefused, match="not yet valid"):
        secret_verifier(SECRET, "fanout", KEYS).verify(jwt.encode(usual(iat=NOW + 3600), SECRET, "HS256"))


def test_no_other_algorithm_takes_the_short_way() -> None:
    for algorithm in ("HS384", "HS512"):
        assert claims_of(jwt.encode(usual(), SECRET, algorithm), SECRET, "fanout", NOW) is None
    unsigned = jwt.encode(usual(), None, "none")
    assert claims_of(unsigned, SECRET, "fanout", NOW) is None


def sign(claims: dict[str, Any], headers: dict[str, Any], key: bytes) -> str:
    """Sign anything at all; the library refuses to encode some of these."""

    def part(value: Any) -> str:
        data = json.dumps(value, separators=(",", ":")).encode()
        return base64.urlsafe_b64encode(data).rstrip(b"=").decode()

    signed = f"{part({'alg': 'HS256', 'typ': 'JWT', **headers})}.{part(claims)}"
    signature = jwt.algorithms.HMACAlgorithm(jwt.algorithms.HMACAlgorithm.SHA256).sign(signed.encode(), key)
    return f"{signed}.{base64.urlsafe_b64encode(signature).rstrip(b'=').decode()}"
