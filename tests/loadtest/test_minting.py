"""The swarm's own tokens are the ones everybody else makes."""

from __future__ import annotations

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fanout import tokens
from loadtest.minting import Minter
from loadtest.swarm import SwarmConfig

KEY = b"a device key that only these tests use"
ATTRS = st.dictionaries(st.text(max_size=8), st.text(max_size=8), max_size=4)


@given(
    device=st.text(min_size=1, max_size=40), topics=st.lists(st.text(min_size=1, max_size=9), max_size=3), attrs=ATTRS
)
def test_a_token_is_the_librarys_byte_for_byte(device: str, topics: list[str], attrs: dict[str, str]) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(time, "time", lambda: 1_700_000_000.25)
        minter = Minter(KEY, topics, ttl_s=90.5, audience="tests")
        assert minter.mint(device, attrs) == tokens.mint(KEY, device, topics, attrs, ttl_s=90.5, audience="tests")


def test_a_swarms_tokens_are_meant_for_gateways_as_they_are() -> None:
    config = SwarmConfig(urls=("ws://127.0.0.1:1/v1/connect",), devices=1, topics=("t",))
    assert (config.audience, config.token_ttl_s) == (tokens.AUDIENCE, tokens.TTL_S)
