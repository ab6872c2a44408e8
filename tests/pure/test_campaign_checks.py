"""What `fanout.campaign` lets into the store: names, sizes and windows, and what it says of the others."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fanout import checks, limits, wire
from fanout.bus.publication import Variant
from fanout.errors import InvalidInput

from .campaigns import BUNDLE, a_campaign

allowed_names = st.from_regex(r"\A[a-z0-9][a-z0-9_.:-]{0,63}\Z")


@given(allowed_names)
def test_a_proper_name_is_taken(name: str) -> None:
    assert checks.check_name("id", name) == name


@given(st.text(max_size=70))
def test_a_name_is_taken_only_if_every_character_is_allowed(name: str) -> None:
    first = set("abcdefghijklmnopqrstuvwxyz0123456789")
    proper = 1 <= len(name) <= 64 and name[0] in first and set(name) <= first | set("_.:-")
    if proper:
        checks.check_name("id", name)
    else:
        with pytest.raises(InvalidInput, match="allowed are"):
            checks.check_name("id", name)


def test_a_proper_campaign_is_taken() -> None:
    assert checks.check(a_campaign()) == a_campaign()


@pytest.mark.parametrize(
    ("fields", "says"),
    [
        ({"id": "Final"}, "id is 'Final'"),
        ({"id": "final\n"}, "id is"),
        ({"topic": ""}, "topic is ''"),
        ({"title": ""}, "title has 0"),
        ({"title": "x" * 201}, "title has 201"),
        ({"stages": ()}, "0 stages"),
        ({"stages": tuple(f"s{i}" for i in range(17))}, "17 stages"),
        ({"stages": ("upcoming", "live", "live")}, "may occur once"),
        ({"stages": ("upcoming", "Live")}, "stage is 'Live'"),
        ({"retract_stage": "overtime"}, "'overtime'"),
        ({"threshold": 1.5}, "threshold is 1.5"),
        ({"threshold": float("nan")}, "threshold is nan"),
        ({"variants": ()}, "0 variants"),
        ({"variants": (Variant({}, BUNDLE),) * 65}, "65 variants"),
        ({"variants": (Variant({"region": "jp"}, BUNDLE),)}, "must match all"),
        ({"variants": (Variant({}, wire.Bundle("A" * 64, 2)),)}, "64 lower-case hex"),
        ({"variants": (Variant({}, wire.Bundle("0" * 64, 0)),)}, "has 0 bytes"),
        ({"variants": (Variant({}, wire.Bundle("0" * 64, limits.BUNDLE_BYTES_MAX + 1)),)}, "1048577 bytes"),
    ],
    ids=lambda value: value if isinstance(value, str) else None,
)
def test_an_improper_campaign_is_invalid_and_told_why(fields: dict[str, object], says: str) -> None:
    with pytest.raises(InvalidInput, match=says):
        checks.check(a_campaign(**fields))


@given(st.integers(-(10**6), 10**6), st.integers(0, 10**6))
def test_a_window_is_taken_within_its_limit_only(window_ms: int, limit_ms: int) -> None:
    if 0 <= window_ms <= limit_ms:
        assert checks.check_window("activate", window_ms, limit_ms) == window_ms
    else:
        with pytest.raises(InvalidInput, match=f"is {window_ms} ms, the limit is {limit_ms} ms"):
            checks.check_window("activate", window_ms, limit_ms)
