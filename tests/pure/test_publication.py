"""Laws of `fanout.bus.publication`: what is packed is unpacked, and what each cohort is told."""

from __future__ import annotations

from typing import Any, Union, get_type_hints

import msgpack  # type: ignore[import-untyped]
import msgspec
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from fanout import wire
from fanout.bus import publication as bus

from . import strategies as some


def unpacked(body: bytes) -> bus.Publication:
    return bus.unpack(body, rev=1, prev=0, key="k")


@given(some.publications)
def test_a_publication_survives_the_log(publication: bus.Publication) -> None:
    body = bus.pack(publication)
    read = bus.unpack(body, rev=publication.rev, prev=publication.prev, key=publication.key)
    assert read == publication


@given(some.publications, some.naturals, some.naturals, some.names)
def test_the_body_knows_nothing_of_its_place_in_the_log(
    publication: bus.Publication, rev: int, prev: int, key: str
) -> None:
    # So the same request packs to the same bytes, whatever revision it is given.
    elsewhere = msgspec.structs.replace(publication, rev=rev, prev=prev, key=key)
    assert bus.pack(elsewhere) == bus.pack(publication)


@given(some.publications)
def test_the_body_is_plain_msgpack_with_its_kind(publication: bus.Publication) -> None:
    plain: dict[str, Any] = msgpack.unpackb(bus.pack(publication))
    kinds = {
        bus.Prefetched: "prefetch",
        bus.Activated: "activate",
        bus.Cancelled: "cancel",
        bus.Closed: "close",
    }
    assert plain["kind"] == kinds[type(publication)]
    assert (plain["campaign"], plain["topic"]) == (publication.campaign, publication.topic)


@given(some.publications, st.dictionaries(st.text(min_size=1, max_size=9), some.anything, max_size=3))
def test_fields_of_a_later_version_are_ignored(publication: bus.Publication, extra: dict[str, Any]) -> None:
    plain: dict[str, Any] = msgpack.unpackb(bus.pack(publication))
    body: bytes = msgpack.packb({**extra, **plain})
    assert bus.pack(unpacked(body)) == bus.pack(publication)


TRACE = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
# What a version from before traces reads with: the same, without that field.
BEFORE_TRACES: Any = Union[  # noqa: UP007 - made from values
    tuple(
        msgspec.defstruct(
            kind.__name__,
            [
                (name, hints[name]) if default is msgspec.NODEFAULT else (name, hints[name], default)
                for name, default in ((f.name, f.default) for f in msgspec.structs.fields(kind) if f.name != "trace")
            ],
            tag=kind.__struct_config__.tag,
            tag_field="kind",
            kw_only=True,
        )
        for kind in (bus.Prefetched, bus.Activated, bus.Cancelled, bus.Closed)
        for hints in [get_type_hints(kind)]
    )
]


@given(some.publications)
def test_a_version_that_knows_no_traces_reads_a_traced_publication_as_if_it_had_none(
    publication: bus.Publication,
) -> None:
    traced = bus.pack(msgspec.structs.replace(publication, trace=TRACE))
    read = msgspec.msgpack.Decoder(BEFORE_TRACES).decode(traced)
    assert msgspec.msgpack.encode(read) == bus.pack(publication), "nor does an untraced one say anything of traces"


@given(some.publications)
def test_a_trace_survives_the_log(publication: bus.Publication) -> None:
    assert unpacked(bus.pack(msgspec.structs.replace(publication, trace=TRACE))).trace == TRACE
    assert not unpacked(bus.pack(publication)).trace


def refused_or_read(body: bytes) -> None:
    try:
        unpacked(body)
    except bus.NotAPublication as refusal:
        says = str(refusal)
    else:
        return
    assert "entry 1" in says, "an operator must find the entry"


@given(st.binary(max_size=120))
@example(b"")
@example(b"\xc1")
@example(b"\x81\xa4kind\xa7balloon")
def test_an_unreadable_entry_is_not_a_publication_and_nothing_worse(body: bytes) -> None:
    refused_or_read(body)


@pytest.mark.parametrize(
    "body",
    [
        pytest.param(b"\x81\xa4kind\xa1\xff", id="a kind that is not UTF-8"),
        pytest.param(b"\x83\xa4kind\xa6cancel\xa8campaign\xa1\xff\xa5topic\xa1t", id="a name that is not UTF-8"),
        pytest.param(
            b"\x84\xa4kind\xa6cancel\xa8campaign\xa1c\xa5topic\xa1t\xa1x" + b"\x91" * 5_000 + b"\xc0",
            id="nested too deeply",
        ),
    ],
)
def test_an_entry_with_broken_text_or_depth_is_not_a_publication(body: bytes) -> None:
    refused_or_read(body)


# --- Variants


@given(some.variants, some.attrs)
def test_the_first_variant_that_matches_wins(variants: tuple[bus.Variant, ...], attrs: dict[str, str]) -> None:
    matching = [i for i, variant in enumerate(variants) if variant.match.items() <= attrs.items()]
    assert bus.variant_for(variants, attrs) == (matching[0] if matching else None)


@given(some.variants, some.attrs)
def test_a_last_variant_that_matches_all_leaves_nobody_out(
    variants: tuple[bus.Variant, ...], attrs: dict[str, str]
) -> None:
    rest = msgspec.structs.replace(variants[-1], match={})
    assert bus.variant_for((*variants, rest), attrs) is not None


# --- What devices are told


@given(some.publications, st.data(), st.booleans())
def test_a_message_carries_the_publication_and_its_variants_bundle(
    publication: bus.Publication, data: st.DataObject, inline: bool
) -> None:
    variant = None
    if isinstance(publication, bus.Prefetched | bus.Activated):
        variant = data.draw(st.integers(0, len(publication.variants) - 1))
    message = bus.message_for(publication, variant, inline=inline)
    assert message is not None
    assert wire.tag_of(message) == msgpack.unpackb(bus.pack(publication))["kind"]
    same = ("campaign", "rev", "from_ms", "window_ms", "shadow", "stage", "at", "share", "miss")
    for name in same:
        assert getattr(message, name, None) == getattr(publication, name, None)
    if isinstance(publication, bus.Prefetched | bus.Activated):
        assert variant is not None
        bundle = publication.variants[variant].bundle
        if isinstance(message, wire.Activate):
            assert message.bundle == bundle.sha256
        if isinstance(message, wire.Prefetch):
            assert msgspec.structs.replace(message.bundle, inline=None) == msgspec.structs.replace(
                bundle, inline=None
            )
            assert message.bundle.inline == (bundle.inline if inline else None)


@given(some.publications)
def test_devices_no_variant_is_for_are_told_of_cancels_and_closes_only(publication: bus.Publication) -> None:
    told = bus.message_for(publication, None)
    assert (told is not None) == isinstance(publication, bus.Cancelled | bus.Closed)
