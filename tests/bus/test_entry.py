"""Laws of an entry's frame: read back as written, and refused in one way if it is anything else. Pure."""

from __future__ import annotations

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fanout.bus.entry import from_doorbell, from_stream, retained_name, rev_of
from fanout.bus.publication import NotAPublication, Publication, pack

from .publications import activated, cancelled, closed, prefetched

PUBLICATIONS = st.sampled_from([prefetched(), activated(), cancelled(), closed()])
REVS = st.integers(0, 2**53)
KEYS = st.text(st.characters(codec="ascii", min_codepoint=33, max_codepoint=126), min_size=1, max_size=128)


@given(PUBLICATIONS, REVS, REVS, KEYS)
def test_what_is_framed_is_read_back_from_the_doorbell_and_from_the_stream(
    publication: Publication, rev: int, prev: int, key: str
) -> None:
    expected = msgspec.structs.replace(publication, rev=rev, prev=prev, key=key)
    body = pack(expected)
    assert from_doorbell(f"{rev} {prev} {key} ".encode() + body) == expected
    fields = {b"prev": str(prev).encode(), b"key": key.encode(), b"body": body}
    assert from_stream(f"{rev}-0".encode(), fields) == expected
    assert rev_of(f"{rev}-0".encode()) == rev


@given(st.binary(max_size=200))
def test_bytes_from_anywhere_are_a_publication_or_not_one(data: bytes) -> None:
    for read in (
        lambda: from_doorbell(data),
        lambda: from_doorbell(b"2 1 k " + data),
        lambda: from_stream(b"2-0", {b"prev": b"1", b"key": b"k", b"body": data}),
        lambda: from_stream(b"2-0", {b"prev": data, b"key": b"k", b"body": pack(closed())}),
        lambda: from_stream(b"2-0", {b"prev": b"1", b"key": data, b"body": pack(closed())}),
    ):
        try:
            assert read().campaign is not None
        except NotAPublication:
            pass


@given(PUBLICATIONS, st.data())
def test_a_body_cut_short_is_no_publication(publication: Publication, data: st.DataObject) -> None:
    body = pack(publication)
    short = body[: data.draw(st.integers(0, len(body) - 1))]
    with pytest.raises(NotAPublication):
        from_doorbell(b"2 1 k " + short)


def test_a_retained_field_names_the_revision_it_was_first_accepted_under() -> None:
    assert retained_name(b"cup 5") == ("cup", 5)
    assert retained_name(b"cup 9 5") == ("cup", 5)


@pytest.mark.parametrize("name", [b"", b"cup", b"cup x", b"\xff 5"])
def test_a_retained_field_of_another_kind_is_refused(name: bytes) -> None:
    with pytest.raises(NotAPublication):
        retained_name(name)
