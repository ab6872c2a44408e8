"""Laws of `fanout.wire`: both encodings against independent readers, and against bytes nobody should send."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgpack  # type: ignore[import-untyped]
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from fanout import limits, wire
from fanout.wire import Encoding, WireError

from . import strategies as some

Decode = Callable[[bytes, Encoding], Any]
VECTORS = json.loads((Path(__file__).parents[1] / "vectors" / "wire.json").read_text("utf-8"))

encodings = st.sampled_from(Encoding)
directions = st.sampled_from([wire.decode_to_device, wire.decode_from_device])
# A message with the function that reads it.
addressed = st.one_of(
    st.tuples(some.to_device, st.just(wire.decode_to_device)),
    st.tuples(some.from_device, st.just(wire.decode_from_device)),
)


def oracle_write(plain: Any, encoding: Encoding) -> bytes:
    if encoding is Encoding.JSON:
        return json.dumps(plain).encode()
    packed: bytes = msgpack.packb(plain)
    return packed


def oracle_read(data: bytes, encoding: Encoding) -> Any:
    return json.loads(data) if encoding is Encoding.JSON else msgpack.unpackb(data)


# --- What is written is what is read


@given(addressed, encodings)
def test_every_message_survives_the_round_trip(message: tuple[some.Pair, Decode], encoding: Encoding) -> None:
    (_, struct), decode = message
    assert decode(wire.encode(struct, encoding), encoding) == struct


@given(addressed, encodings)
def test_an_independent_reader_sees_the_documented_object(
    message: tuple[some.Pair, Decode], encoding: Encoding
) -> None:
    (plain, struct), _ = message
    assert oracle_read(wire.encode(struct, encoding), encoding) == plain


@given(addressed, encodings)
def test_what_an_independent_writer_wrote_is_understood(
    message: tuple[some.Pair, Decode], encoding: Encoding
) -> None:
    (plain, struct), decode = message
    assert decode(oracle_write(plain, encoding), encoding) == struct


@given(addressed, encodings, st.randoms(use_true_random=False))
def test_the_order_of_fields_means_nothing(message: tuple[some.Pair, Decode], encoding: Encoding, rng: Any) -> None:
    (plain, struct), decode = message
    shuffled = list(plain.items())
    rng.shuffle(shuffled)
    assert decode(oracle_write(dict(shuffled), encoding), encoding) == struct


@given(some.to_device | some.from_device)
def test_the_tag_names_the_type_on_the_wire(pair: some.Pair) -> None:
    plain, struct = pair
    assert wire.tag_of(struct) == plain["t"]


@given(some.activates, encodings)
def test_what_is_left_out_of_an_activation_has_its_default(pair: some.Pair, encoding: Encoding) -> None:
    plain, struct = pair
    short = {key: plain[key] for key in ("t", "campaign", "rev", "stage", "bundle", "at", "window_ms")}
    told = wire.decode_to_device(oracle_write(short, encoding), encoding)
    assert isinstance(told, wire.Activate)
    assert (told.share, told.miss, told.shadow) == (1.0, "fetch", False)
    assert told.rev == struct.rev


# --- What a later version may add


@given(addressed, encodings, st.dictionaries(st.text(min_size=1, max_size=9), some.anything, max_size=3))
def test_unknown_fields_are_ignored(
    message: tuple[some.Pair, Decode], encoding: Encoding, extra: dict[str, Any]
) -> None:
    (plain, struct), decode = message
    optional = {"state", "share", "miss", "shadow", "ms", "via"}
    unknown = {key: value for key, value in extra.items() if key not in plain and key not in optional}
    assert decode(oracle_write({**unknown, **plain}, encoding), encoding) == struct


@given(
    directions,
    encodings,
    st.text(max_size=20),
    st.dictionaries(st.text(max_size=9), some.anything, max_size=3),
)
def test_unknown_types_are_ignored(decode: Decode, encoding: Encoding, tag: str, rest: dict[str, Any]) -> None:
    known = {"welcome", "prefetch", "activate", "cancel", "close", "beacon", "reconnect"}
    known |= {"report", "sync", "subscribe", "unsubscribe"}
    if tag not in known:
        assert decode(oracle_write({**rest, "t": tag}, encoding), encoding) is None


@given(some.to_device, some.from_device, encodings)
def test_a_message_that_goes_the_wrong_way_is_an_unknown_type(
    down: some.Pair, up: some.Pair, encoding: Encoding
) -> None:
    assert wire.decode_from_device(oracle_write(down[0], encoding), encoding) is None
    assert wire.decode_to_device(oracle_write(up[0], encoding), encoding) is None


# --- What nobody should send


def read_or_refuse(decode: Decode, data: bytes, encoding: Encoding) -> None:
    """Decode; anything raised but WireError fails the test."""
    try:
        decode(data, encoding)
    except WireError as refusal:
        says = str(refusal)
    else:
        return
    assert says, "a refusal says why"


@given(directions, encodings, st.binary(max_size=200))
@example(wire.decode_from_device, Encoding.MSGPACK, b"\x81\xa1t\xa1\xff")
@example(wire.decode_from_device, Encoding.MSGPACK, b"\x82\xa1t\xa6report\xa8campaign\xa1\xff")
@example(wire.decode_from_device, Encoding.JSON, b'{"t":"report","campaign":"\\ud800","rev":1,"kind":"ready"}')
@example(wire.decode_from_device, Encoding.JSON, b"")
def test_arbitrary_bytes_raise_wire_errors_only(decode: Decode, encoding: Encoding, data: bytes) -> None:
    read_or_refuse(decode, data, encoding)


@given(addressed, encodings, st.data())
def test_a_damaged_message_raises_wire_errors_only(
    message: tuple[some.Pair, Decode], encoding: Encoding, data: st.DataObject
) -> None:
    (_, struct), decode = message
    damaged = bytearray(wire.encode(struct, encoding))
    for _ in range(data.draw(st.integers(1, 4))):
        where = data.draw(st.integers(0, len(damaged)))
        how = data.draw(st.sampled_from(["insert", "overwrite", "cut"]))
        if how == "insert":
            damaged[where:where] = data.draw(st.binary(min_size=1, max_size=3))
        elif how == "overwrite":
            damaged[where : where + 1] = data.draw(st.binary(min_size=1, max_size=1))
        else:
            del damaged[where:]
    read_or_refuse(decode, bytes(damaged), encoding)


@given(addressed, encodings, st.data())
def test_a_field_of_another_type_raises_wire_errors_only(
    message: tuple[some.Pair, Decode], encoding: Encoding, data: st.DataObject
) -> None:
    (plain, _), decode = message
    name = data.draw(st.sampled_from(sorted(plain)))
    read_or_refuse(decode, oracle_write({**plain, name: data.draw(some.anything)}, encoding), encoding)


@pytest.mark.parametrize("tag", ["sync", "from a later version"])
@pytest.mark.parametrize(
    ("encoding", "head", "opening"),
    [
        (Encoding.JSON, b'{"t":"%b","since":1,"x":', b"["),
        (Encoding.JSON, b'{"t":"%b","since":1,"x":', b'{"":'),
        (Encoding.MSGPACK, b"\x83\xa1t\xd9%c%b\xa5since\x01\xa1x", b"\x91"),
    ],
)
def test_a_deeply_nested_field_raises_wire_errors_only(
    encoding: Encoding, head: bytes, opening: bytes, tag: str
) -> None:
    name = tag.encode()
    data = head % (len(name), name) if encoding is Encoding.MSGPACK else head % name
    room = limits.MESSAGE_BYTES_MAX - len(data)
    data += opening * (room // len(opening))
    read_or_refuse(wire.decode_from_device, data, encoding)


@given(addressed, encodings, st.data())
def test_a_message_without_a_required_field_is_refused(
    message: tuple[some.Pair, Decode], encoding: Encoding, data: st.DataObject
) -> None:
    (plain, _), decode = message
    required = sorted(plain.keys() - {"state", "share", "miss", "shadow", "ms", "via"})
    missing = data.draw(st.sampled_from(required))
    short = {key: value for key, value in plain.items() if key != missing}
    with pytest.raises(WireError):
        decode(oracle_write(short, encoding), encoding)


@given(addressed, encodings, st.binary(min_size=1, max_size=5).filter(lambda tail: not tail.isspace()))
def test_bytes_after_the_message_are_refused(
    message: tuple[some.Pair, Decode], encoding: Encoding, tail: bytes
) -> None:
    (plain, _), decode = message
    if encoding is Encoding.JSON:
        tail = b"x" + tail
    with pytest.raises(WireError):
        decode(oracle_write(plain, encoding) + tail, encoding)


@pytest.mark.parametrize("encoding", Encoding)
@pytest.mark.parametrize(
    "wrong",
    [
        {"t": "sync", "since": -1},
        {"t": "sync", "since": 2**53},
        {"t": "sync", "since": 2**64 - 1},
        {"t": "sync", "since": 1.5},
        {"t": "sync", "since": "1"},
        {"t": "sync", "since": True},
        {"t": "sync", "since": None},
        {"t": "report", "campaign": "", "rev": 1, "kind": "ready"},
        {"t": "report", "campaign": "c" * 65, "rev": 1, "kind": "ready"},
        {"t": "report", "campaign": "c", "rev": -1, "kind": "ready"},
        {"t": "report", "campaign": "c", "rev": 2**53, "kind": "ready"},
        {"t": "report", "campaign": "c", "rev": 1, "kind": "happy"},
        {"t": "report", "campaign": "c", "rev": 1, "kind": "ready", "ms": -1},
        {"t": "report", "campaign": "c", "rev": 1, "kind": "ready", "ms": 2**53},
        {"t": "report", "campaign": "c", "rev": 1, "kind": "ready", "via": "pigeon"},
        {"t": "subscribe", "topics": []},
        {"t": "subscribe", "topics": [""]},
        {"t": "subscribe", "topics": ["x" * 65]},
        {"t": "subscribe", "topics": ["x"] * 17},
        {"t": "subscribe", "topics": "x"},
        {"t": "unsubscribe", "topics": ["x"] * 17},
        {"t": 7},
        {"t": None},
        {},
        [],
        "sync",
        7,
        None,
    ],
    ids=repr,
)
def test_what_a_device_may_not_send_is_refused(wrong: Any, encoding: Encoding) -> None:
    with pytest.raises(WireError):
        wire.decode_from_device(oracle_write(wrong, encoding), encoding)


@given(
    some.to_device, encodings, st.sampled_from(["__proto__", "a\x00b", "\x1b[2J", "\u202e", "c" * 2**20, "", "\n"])
)
@example(({"t": "cancel", "campaign": "c", "rev": 1}, None), Encoding.JSON, "__proto__")
def test_a_hostile_name_is_a_name_or_refused(pair: some.Pair, encoding: Encoding, name: str) -> None:
    plain, _ = pair
    hostile = {key: name if key in ("campaign", "stage", "session") else value for key, value in plain.items()}
    read_or_refuse(wire.decode_to_device, oracle_write(hostile, encoding), encoding)


@pytest.mark.parametrize("number", [math.nan, math.inf, -math.inf], ids=["nan", "inf", "minus inf"])
def test_a_share_that_is_no_number_is_refused(number: float) -> None:
    share = {"t": "activate", "campaign": "c", "rev": 1, "stage": "s", "bundle": "a" * 64, "at": 1, "window_ms": 1}
    for encoding in Encoding:
        assert wire.decode_to_device(oracle_write(share, encoding), encoding) is not None
        with pytest.raises(WireError):
            wire.decode_to_device(oracle_write({**share, "share": number}, encoding), encoding)


@pytest.mark.parametrize("encoding", Encoding)
def test_the_limits_themselves_are_allowed(encoding: Encoding) -> None:
    name = "é" * limits.NAME_CHARS_MAX
    full = {"t": "subscribe", "topics": [name] * limits.TOPICS_PER_DEVICE_MAX}
    assert wire.decode_from_device(oracle_write(full, encoding), encoding) == wire.Subscribe(full["topics"])  # type: ignore[arg-type]
    top = 2**53 - 1  # the greatest that a double tells from its neighbours
    report = {"t": "report", "campaign": "c", "rev": top, "kind": "active", "ms": top}
    assert wire.decode_from_device(oracle_write(report, encoding), encoding) == wire.Report("c", top, "active", top)
    sync = {"t": "sync", "since": top}
    assert wire.decode_from_device(oracle_write(sync, encoding), encoding) == wire.Sync(top)


@given(some.from_device, encodings)
def test_what_a_device_may_send_fits_the_message_limit(pair: some.Pair, encoding: Encoding) -> None:
    # The product's names are ASCII (`checks.NAME`). One in another script belongs to no campaign: whether
    # it is ignored or refused as too long is all the same.
    plain, struct = pair
    if json.dumps(plain).isascii() and all(map(str.isascii, [plain.get("campaign", ""), *plain.get("topics", [])])):
        assert len(wire.encode(struct, encoding)) <= limits.MESSAGE_BYTES_MAX


# --- Close codes


@given(st.integers(1000, 4999))
def test_a_device_may_return_after_every_code_below_4500(code: int) -> None:
    assert wire.may_return(code) == (code < 4500)


def test_close_codes_are_ones_an_application_may_send() -> None:
    reserved = {1004, 1005, 1006, 1015}
    for code in wire.CloseCode:
        assert code not in reserved
        assert 1000 <= code <= 1014 or 4000 <= code <= 4999


# --- Vectors


def test_the_vectors_cover_every_type_and_say_what_they_are() -> None:
    assert VECTORS["about"]
    seen = {(case["direction"], case["message"]["t"]) for case in VECTORS["messages"]}
    down = {"welcome", "prefetch", "activate", "cancel", "close", "beacon", "reconnect"}
    up = {"report", "sync", "subscribe", "unsubscribe"}
    assert seen == {("to_device", tag) for tag in down} | {("from_device", tag) for tag in up}


@pytest.mark.parametrize("case", VECTORS["messages"], ids=lambda case: case["name"])
def test_the_vectors_say_the_same_in_both_encodings(case: dict[str, Any]) -> None:
    decode = getattr(wire, f"decode_{case['direction']}")
    packed = bytes.fromhex(case["msgpack"])
    assert json.loads(case["json"]) == case["message"]
    assert msgpack.unpackb(packed) == case["message"]
    struct = decode(packed, Encoding.MSGPACK)
    assert struct is not None
    assert decode(case["json"].encode(), Encoding.JSON) == struct
    for encoding in Encoding:
        assert decode(wire.encode(struct, encoding), encoding) == struct


@pytest.mark.parametrize("case", VECTORS["ignored"], ids=lambda case: case["name"])
def test_the_vectors_of_what_is_ignored_are_ignored(case: dict[str, Any]) -> None:
    decode = getattr(wire, f"decode_{case['direction']}")
    assert decode(case["json"].encode(), Encoding.JSON) is None
    assert decode(bytes.fromhex(case["msgpack"]), Encoding.MSGPACK) is None


@pytest.mark.parametrize("case", VECTORS["refused"], ids=lambda case: case["name"])
def test_the_vectors_of_what_is_refused_are_refused(case: dict[str, Any]) -> None:
    decode = getattr(wire, f"decode_{case['direction']}")
    data = case["json"].encode() if "json" in case else bytes.fromhex(case["msgpack"])
    with pytest.raises(WireError):
        decode(data, Encoding.JSON if "json" in case else Encoding.MSGPACK)


@pytest.mark.parametrize("case", VECTORS["reduced"], ids=lambda case: case["name"])
def test_the_vectors_of_what_is_ignored_in_part_are_read_for_the_rest(case: dict[str, Any]) -> None:
    decode = getattr(wire, f"decode_{case['direction']}")
    rest = decode(json.dumps(case["message"]).encode(), Encoding.JSON)
    assert rest is not None
    assert decode(case["json"].encode(), Encoding.JSON) == rest
    assert decode(bytes.fromhex(case["msgpack"]), Encoding.MSGPACK) == rest


# --- The page that others read


def test_every_example_of_the_protocol_page_is_a_message() -> None:
    page = (Path(__file__).parents[2] / "docs" / "protocol.md").read_text("utf-8")
    blocks = [block.split("```", 1)[0] for block in page.split("```json\n")[1:]]
    types = set()
    for block in blocks:
        plain = json.loads(block)
        types.add(plain["t"])
        for encoding in Encoding:
            data = oracle_write(plain, encoding)
            read = wire.decode_to_device(data, encoding) or wire.decode_from_device(data, encoding)
            assert read is not None
            assert oracle_read(wire.encode(read, encoding), encoding) == plain
    documented = {case["message"]["t"] for case in VECTORS["messages"]}
    # `subscribe` and `unsubscribe` share a section and an example.
    assert types == documented - {"subscribe"}
