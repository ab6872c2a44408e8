"""The simulator's slots and shares are everybody's: equal to fanout.slots, and to the vectors."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fanout.slots import murmur3_32, share_point, slot_ms
from loadtest.simulation.crowd import Crowd
from loadtest.simulation.hashing import Ids, slots_ms

from .nights import quiet

VECTORS = json.loads((Path(__file__).parents[1] / "vectors" / "slots.json").read_text())
# Lengths of every remainder by four, letters of more than one byte, and nothing.
PREFIXES = ("", "d", "tv", "tv-", "device-", "télé-", "a-much-longer-name-of-a-television-")


@pytest.mark.parametrize("prefix", PREFIXES)
@pytest.mark.parametrize("first", [0, 95, 999_990, 4_000_000_000])
def test_slots_and_shares_are_those_of_fanout_slots_wherever_digits_are_added(prefix: str, first: int) -> None:
    last = first + 20
    ids = Ids(prefix, first, last)
    names = [f"{prefix}{number}" for number in range(first, last)]
    assert slots_ms(ids.hashes(1_795_000_900_123), 45_000).tolist() == [
        slot_ms(name, 1_795_000_900_123, 45_000) for name in names
    ]
    assert ids.points("final").tolist() == [share_point(name, "final") for name in names]


@settings(max_examples=50)
@given(st.text(max_size=12), st.integers(0, 10**9), st.integers(0, 2**53), st.integers(0, 600_000))
def test_any_device_of_any_name_has_its_slot(prefix: str, number: int, rev: int, window_ms: int) -> None:
    (found,) = slots_ms(Ids(prefix, number, number + 1).hashes(rev), window_ms).tolist()
    assert found == slot_ms(f"{prefix}{number}", rev, window_ms)


def test_the_vectors_hold_for_every_id_that_ends_in_a_number() -> None:
    checked = 0
    for vector in VECTORS["slots"]:
        prefix, number = vector["device_id"].rstrip("0123456789"), vector["device_id"]
        number = number[len(prefix) :]
        # A number with zeros in front is no name of a simulated device, unless they count as the prefix's.
        prefix += number[: len(number) - len(number.lstrip("0"))]
        number = number.lstrip("0")
        if not number or int(number) > 4_000_000_000:
            continue
        ids = Ids(prefix, int(number), int(number) + 1)
        assert slots_ms(ids.hashes(vector["rev"]), vector["window_ms"]).tolist() == [vector["slot_ms"]]
        checked += 1
    assert checked > 5


def test_a_canary_has_the_devices_of_its_share() -> None:
    asked = quiet(devices=300, devices_per_worker=300, share=0.25)
    outside = Crowd(asked, 0, None).outside
    assert outside is not None
    assert outside.tolist() == [share_point(f"device-{number}", asked.campaign) >= 0.25 for number in range(300)]


def test_a_hash_of_many_is_the_hash_of_each() -> None:
    found = Ids("device-", 0, 2_000).hashes(7)
    assert found.dtype == np.uint32
    assert found.tolist() == [murmur3_32(f"device-{number}".encode(), 7) for number in range(2_000)]
