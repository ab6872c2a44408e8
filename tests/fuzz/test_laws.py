"""The laws of any bytes, with hypothesis looking for those that break them."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.fuzz import laws

all_laws = pytest.mark.parametrize("law", laws.LAWS.values(), ids=laws.LAWS)


@st.composite
def damaged(draw: st.DrawFn, seeds: list[bytes]) -> bytes:
    """Return a seed in which a few pieces are other bytes, or nothing, or there twice, or another seed."""
    data = bytearray(draw(st.sampled_from(seeds)))
    for _ in range(draw(st.integers(1, 3))):
        start, end = sorted((draw(st.integers(0, len(data))), draw(st.integers(0, len(data)))))
        data[start:end] = draw(st.binary(max_size=4) | st.just(bytes(data[start:end]) * 2) | st.sampled_from(seeds))
    return bytes(data[:1_000])


@all_laws
def test_every_seed_keeps_its_law(law: laws.Law) -> None:
    for seed in laws.seeds(law):
        law(seed)


@all_laws
@given(st.data())
def test_any_bytes_keep_every_law(law: laws.Law, data: st.DataObject) -> None:
    law(data.draw(st.binary(max_size=300)))


@all_laws
@given(st.data())
def test_damaged_seeds_keep_every_law(law: laws.Law, data: st.DataObject) -> None:
    law(data.draw(damaged(laws.seeds(law))))
