"""The audit chain: whatever is done to its text, verification says so."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fanout.audit import GENESIS, Entry, hash_of, read, sealed, verify


def chain(length: int) -> list[bytes]:
    lines: list[bytes] = []
    for n in range(1, length + 1):
        before = hash_of(lines[-1]) if lines else GENESIS
        entry = Entry(n=n, at=1_000 + n, by="mia", action="activate", campaign=f"c{n % 2}", version=(n + 1) // 2)
        lines.append(sealed(before, entry))
    return lines


def test_a_chain_that_nobody_touched_is_whole() -> None:
    found = verify(chain(6), {"c0": 3, "c1": 3})
    assert (found.entries, found.faults) == (6, ())
    assert found.head == hash_of(chain(6)[-1])
    assert verify([]).faults == ()


def test_an_entry_reads_as_it_was_written() -> None:
    entry = Entry(n=1, at=5, by="mia", action="retract", campaign="c", version=2, details={"reason": "tõo €arly"})
    assert read(sealed(GENESIS, entry)) == entry


@given(st.integers(2, 8), st.data())
def test_any_edit_is_found(length: int, data: st.DataObject) -> None:
    lines = chain(length)
    place = data.draw(st.integers(0, length - 1))
    at = data.draw(st.integers(0, len(lines[place]) - 1))
    # A space between hash and document says nothing, so it is no edit of what was done.
    byte = data.draw(st.integers(0, 255).filter(lambda byte: byte != lines[place][at]))
    edited = lines[place][:at] + bytes([byte]) + lines[place][at + 1 :]
    found = verify([*lines[:place], edited, *lines[place + 1 :]])
    if at == 64:
        assert found.faults == ()
    else:
        assert found.faults
        assert found.faults[0].n == place + 1


@given(st.integers(3, 8), st.data())
def test_any_cut_but_at_the_end_is_found_by_the_links(length: int, data: st.DataObject) -> None:
    lines = chain(length)
    first = data.draw(st.integers(0, length - 2))
    last = data.draw(st.integers(first + 1, length - 1))
    assert verify(lines[:first] + lines[last:]).faults[0].n == first + 1


@given(st.permutations(range(5)).filter(lambda order: order != list(range(5))))
def test_any_reordering_is_found(order: list[int]) -> None:
    lines = chain(5)
    assert verify([lines[place] for place in order]).faults


def test_a_cut_at_the_end_is_found_by_a_noted_head_and_by_versions() -> None:
    lines = chain(6)
    noted = hash_of(lines[-1])
    assert verify(lines[:-1]).faults == ()
    (fault,) = verify(lines[:-1], noted=noted).faults
    assert "the end was cut off" in fault.words
    (fault,) = verify(lines[:-1], {"c0": 3, "c1": 3}).faults
    assert "c0 is at version 3, the chain holds 2" in fault.words
    # What was noted earlier is still there.
    assert verify(lines, noted=hash_of(lines[2])).faults == ()


def test_sealing_an_edit_anew_is_found_by_the_next_link() -> None:
    lines = chain(4)
    entry = json.loads(lines[1][65:])
    entry["by"] = "somebody else"
    lines[1] = sealed(hash_of(lines[0]), Entry(**entry))
    assert [fault.n for fault in verify(lines).faults] == [3]


@pytest.mark.parametrize("line", [b"", b"x", b"0" * 64, b"0" * 65 + b"{}", b"\xff" * 100])
def test_what_is_no_entry_is_a_fault_and_no_crash(line: bytes) -> None:
    assert verify([line]).faults
