"""Device tokens, made by hand."""

from __future__ import annotations

import jwt
import pytest

from .running import DEVICE_KEY, error, fanout, good

KEY = {"FANOUT_DEVICE_KEY": DEVICE_KEY}
USUAL = ("token", "--device", "tv-1", "--topics", "sport,news")


def claims(token: str) -> dict[str, object]:
    return dict(jwt.decode(token.strip(), DEVICE_KEY, algorithms=["HS256"], audience="fanout"))


def test_a_token_says_what_was_asked_for() -> None:
    made = claims(good(fanout(*USUAL, "--attr", "platform=tv", "--attr", "region=jp", "--ttl", "60", **KEY)))
    assert made["sub"] == "tv-1"
    assert made["topics"] == ["sport", "news"]
    assert made["attrs"] == {"platform": "tv", "region": "jp"}
    assert int(str(made["exp"])) - int(str(made["iat"])) == 60


def test_options_can_come_from_the_environment() -> None:
    variables = {"FANOUT_TOKEN_DEVICE": "phone-7", "FANOUT_TOKEN_TOPICS": "sport", "FANOUT_TOKEN_TTL": "90"}
    made = claims(good(fanout("token", **variables, **KEY)))
    assert (made["sub"], made["topics"]) == ("phone-7", ["sport"])
    assert int(str(made["exp"])) - int(str(made["iat"])) == 90


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["--attr", "platform"], "NAME=VALUE"),
        (["--attr", f"platform={'x' * 33}"], "32"),
        (["--device", "x" * 129], "128"),
        (["--device", ""], "sub"),
        (["--topics", ",".join(f"t{number}" for number in range(17))], "16"),
        (["--topics", ""], "topic"),
        (["--topics", "Sport!"], "topic"),
        (["--ttl", "0"], "expired"),
        (["--ttl", "-1"], "--ttl"),
        (["--ttl", "inf"], "--ttl"),
        (["--ttl", "nan"], "--ttl"),
        (["--ttl", "soon"], "--ttl"),
    ],
)
def test_a_token_that_a_gateway_would_refuse_is_not_made(words: list[str], told: str) -> None:
    assert told in error(fanout(*USUAL, *words, **KEY))


def test_without_a_key_it_says_how_to_make_one() -> None:
    assert "openssl rand -hex 32" in error(fanout(*USUAL))


def test_a_short_key_is_refused() -> None:
    assert "32" in error(fanout(*USUAL, FANOUT_DEVICE_KEY="too short"))
