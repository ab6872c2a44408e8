"""The cache in memory keeps its bounds; origins and tokens are read as they should be."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fanout.device import MemoryCache
from fanout.device.link import subject
from fanout.device.origin import default_origin, retry_after_ms
from fanout.errors import InvalidInput

from .gateway import token

VECTORS = json.loads((Path(__file__).parents[1] / "vectors" / "retry_after.json").read_text("utf-8"))


@given(st.lists(st.tuples(st.sampled_from("abcdefgh"), st.text(max_size=20))))
def test_a_cache_stays_within_its_bounds_and_says_what_had_to_go(puts: list[tuple[str, str]]) -> None:
    cache = MemoryCache(bytes_max=30, bundles_max=3)
    kept: dict[str, str] = {}
    for name, content in puts:
        gone = list(cache.put(name, content))
        kept = {key: value for key, value in kept.items() if key not in gone} | {name: content}
        assert list(cache.digests())[-1] == name
        assert {key: cache.get(key) for key in list(cache.digests())} == kept
        assert len(kept) <= 3
        assert len(kept) == 1 or sum(len(value.encode()) for value in kept.values()) <= 30


def test_a_cache_drops_what_was_used_the_longest_time_ago() -> None:
    cache = MemoryCache(bundles_max=2)
    cache.put("a", "1")
    cache.put("b", "2")
    assert cache.get("a") == "1"
    assert list(cache.put("c", "3")) == ["b"]
    cache.drop(["a", "nothing"])
    assert cache.get("a") is None


@pytest.mark.parametrize(
    ("url", "origin"),
    [("ws://h:1", "http://h:1"), ("wss://h/v1/connect", "https://h"), ("ws://[::1]:8", "http://[::1]:8")],
)
def test_the_origin_is_the_gateways_host_unless_said_otherwise(url: str, origin: str) -> None:
    assert default_origin(url) == origin


@pytest.mark.parametrize("case", VECTORS["retry_after"], ids=lambda case: repr(case["value"]))
def test_retry_after_is_read_in_seconds_up_to_an_hour_and_anything_else_is_nothing(case: dict[str, Any]) -> None:
    assert retry_after_ms(case["value"]) == case["ms"]


def test_a_token_names_its_device() -> None:
    assert subject(token("tv-ü")) == "tv-ü"


@pytest.mark.parametrize("text", ["", "opaque", "a.b", "a.!!.c", "a.e30.c", "a.eyJzdWIiOjF9.c"])
def test_a_token_without_a_device_says_what_to_do(text: str) -> None:
    with pytest.raises(InvalidInput, match="device_id"):
        subject(text)
