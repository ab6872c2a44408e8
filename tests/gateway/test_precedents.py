"""The short way for requests: whatever it answers, the library would have answered the same.

Each example lets the front door see some requests, so that it learns from whatever it admits, mutants too; each
is held against a door that has never seen one, and so has the library judge.
"""

from __future__ import annotations

import asyncio
import functools
import re
from collections.abc import Callable
from typing import Any, cast

import pytest
from echoing import Line, device_frame, frames_in
from hypothesis import example, given
from hypothesis import strategies as st
from support.stack import KEY, activated, token
from websockets.datastructures import Headers
from websockets.http11 import Request, Response

from fanout import wire
from fanout.bus.reader import Reader
from gateway import precedents
from gateway.config import GatewayConfig
from gateway.connection import Connection
from gateway.handshake import Admitted, FrontDoor
from gateway.server import Server
from gateway.tokens import secret_verifier

TOKENS = token("tv-1"), token("tv-2", attrs={"platform": "phone"})
KEYS = "dGhlIHNhbXBsZSBub25jZQ==", "AAAAAAAAAAAAAAAAAAAAAA=="
SHORT_KEY = "AAAA"
ORIGIN = "https://tv.example"
DIGEST = "a" * 64
UNREAD = re.compile(r"host|user-agent|x-", re.IGNORECASE)

Lines = list[str]


def line(query: str = "") -> str:
    return f"GET {wire.PATH}{query} HTTP/1.1"


def television(bearer: str = TOKENS[0], key: str = KEYS[0], query: str = "") -> Lines:
    """Return a request of the SDKs that may set headers."""
    return [
        line(query),
        "Host: gateway.example",
        "Upgrade: websocket",
        "Connection: Upgrade",
        f"Sec-WebSocket-Key: {key}",
        "Sec-WebSocket-Version: 13",
        "Sec-WebSocket-Protocol: fanout.v1.msgpack",
        f"Authorization: Bearer {bearer}",
    ]


def browser(bearer: str = TOKENS[0], key: str = KEYS[0], query: str = "") -> Lines:
    """Return a request of Chromium's."""
    return [
        line(query),
        "Host: gateway.example",
        "Connection: Upgrade",
        "Pragma: no-cache",
        "Cache-Control: no-cache",
        "User-Agent: Mozilla/5.0 (Web0S; Linux/SmartTV)",
        "Upgrade: websocket",
        f"Origin: {ORIGIN}",
        "Sec-WebSocket-Version: 13",
        "Accept-Encoding: gzip, deflate, br",
        "Accept-Language: en-GB,en;q=0.9",
        f"Sec-WebSocket-Key: {key}",
        "Sec-WebSocket-Extensions: permessage-deflate; client_max_window_bits",
        f"Sec-WebSocket-Protocol: fanout.v1.json, bearer.{bearer}",
    ]


def proxied(bearer: str = TOKENS[0], key: str = KEYS[0], query: str = "") -> Lines:
    """Return a television's request behind a proxy that writes names in lower case."""
    request, *fields = television(bearer, key, query)
    pairs = [field.split(":", 1) for field in fields]
    return [request, *(f"{name.lower()}:{value}" for name, value in pairs), "x-forwarded-for: 192.0.2.7", "x-n: é"]


KINDS = (television, browser, proxied)


def head(lines: Lines, end: str = "\r\n") -> bytes:
    return (end.join(lines) + end * 2).encode("latin-1")


def door(**settings: Any) -> FrontDoor:
    return FrontDoor(config(**settings), verifier())


def config(**settings: Any) -> GatewayConfig:
    return GatewayConfig(redis_url="unix:///nowhere", origins=(ORIGIN,), **settings)


@functools.cache
def verifier() -> Any:
    return secret_verifier(KEY.encode(), "fanout", ("platform",))


def read_by_the_library(data: bytes, at: FrontDoor) -> Request | None:
    """Return the request as the library's own parser reads it."""
    handshake = at.handshake()
    handshake.receive_head(data)
    events = handshake.events_received()
    return events[0] if events and isinstance(events[0], Request) else None


def see(at: FrontDoor, data: bytes) -> Admitted | Response | None:
    """Have a door answer a whole head the long way; it may learn from that."""
    request = read_by_the_library(data, at)
    return None if request is None else at.check_path(request) or at.admit(request, data)


# --- Mutants.

pieces = st.sampled_from(
    [
        "Content-Length: 0",
        "Content-Length: 5",
        "Transfer-Encoding: chunked",
        " folded",
        "no field at all",
        "Connection: close",
        "Upgrade: h2c",
        "Origin: https://evil.example",
        "Sec-WebSocket-Version: 8",
        "Sec-WebSocket-Protocol: fanout.v1.json",
        "Sec-WebSocket-Protocol: chat",
        "Host: other",
        "Host : other",
        "User-Agent: \0",
        "User-Agent: x\ty\xff",
        "User-Agent: x\rAuthorization: Bearer y",
        "X-\xe9: 1",
        *(f"Sec-WebSocket-Key: {key}" for key in (*KEYS, SHORT_KEY, "\0")),
        *(f"sec-websocket-key:  {key}" for key in KEYS),
        *(f"Authorization: Bearer {bearer}" for bearer in (*TOKENS, "x", "\0")),
        *(f"AUTHORIZATION:{scheme} {bearer}" for scheme in ("Bearer", " bearer ") for bearer in TOKENS),
        *(f"Sec-WebSocket-Protocol: {first}bearer.{bearer}" for first in ("", "x, ") for bearer in TOKENS),
        *(f"X-Copy: {bearer}" for bearer in TOKENS),
    ]
)
queries = st.sampled_from(["", "?", "?since=7", f"?have={DIGEST}&since=8", "?since=x", "?a b", "?é", "?\0"])
keys = st.sampled_from(
    [*KEYS, *KEYS, SHORT_KEY, KEYS[0][:-1], KEYS[0] + "=", "A" * 24, "-" * 22 + "==", "A" * 21 + "B=="]
)
bearers = st.sampled_from([*TOKENS, *TOKENS, TOKENS[0][:-1], "x", "", f"{TOKENS[0]},x", f" {TOKENS[0]} "])


@st.composite
def requests(draw: st.DrawFn) -> list[bytes]:
    """Return some requests of one kind: the usual one or a mutant, and others a little different from it."""
    kind = draw(st.sampled_from(KINDS))
    changes = draw(st.lists(st.tuples(st.sampled_from("+-*~"), st.integers(1, 12), pieces), max_size=3))
    made = []
    for again in range(draw(st.integers(2, 4))):
        made_of = kind(draw(bearers), draw(keys), draw(queries)) if again else kind()
        if again and draw(st.booleans()):
            changes = [*changes[:2], (draw(st.sampled_from("+-*~")), draw(st.integers(1, 12)), draw(pieces))]
        data = head(mutant(made_of, changes), draw(st.sampled_from(["\r\n"] * 5 + ["\n"])))
        if draw(st.integers(0, 5)) == 5:
            at, byte = draw(st.integers(0, len(data) - 1)), draw(st.sampled_from(b"\0\r\n :,\xe9aB="))
            data = data[:at] + bytes([byte]) + data[at + 1 :]
        made.append(data)
    return made


def mutant(lines: Lines, changes: list[tuple[str, int, str]]) -> Lines:
    lines = list(lines)
    for kind, at, piece in changes:
        at = 1 + at % (len(lines) - 1)
        if kind == "+":
            lines.insert(at, piece)
        elif kind == "-" and len(lines) > 3:
            del lines[at]
        elif kind == "*":
            lines.append(lines[at])
        elif kind == "~":
            spaced = lines[at].replace(": ", (":", ":  ", " : ")[len(piece) % 3])
            # Of bytes it swaps the case of ASCII alone; a text's would make letters that are not Latin-1.
            lines[at] = spaced.encode("latin-1").swapcase().decode("latin-1")
    return lines


@given(requests(), st.binary(max_size=5))
@example([head(kind(bearer, key)) for bearer in TOKENS for key in KEYS for kind in KINDS], b"\x81")
@example([head([*television(), "", *browser()])], b"")
def test_whatever_takes_the_short_way_the_library_would_answer_the_same(seen: list[bytes], more: bytes) -> None:
    learning = door()
    for data in [*seen, *seen]:
        whole = data[: data.find(b"\r\n\r\n") + 4]
        expected = see(door(), whole)
        if (found := learning.recognise(data + more)) is None:
            see(learning, whole)
            continue
        asked, end = found
        assert end == len(whole)
        assert expected is not None
        # The response with its accept value, the subprotocol, who it is, its query.
        assert verdict(learning.check_path(asked) or learning.admit(asked)) == verdict(expected)


# What is cut out, and what is left out: letters that may stand in it, and some that may not.
letters = st.text(st.sampled_from("aZ09-_.+/=~%&?,; \t\0\n\r\x7fé"), max_size=8)
spoilt = st.tuples(st.sampled_from(TOKENS), letters, st.integers(0, 9)).map(
    lambda drawn: drawn[0][: drawn[2]] + drawn[1] + drawn[0][drawn[2] :]
)


@given(
    kind=st.sampled_from(KINDS),
    key=st.sampled_from(KEYS)
    | st.text(st.sampled_from("AQgw/+-_= "), min_size=20, max_size=24).map(lambda k: k + "=="),
    query=st.just("") | letters.map(lambda text: f"?x={text}"),
    bearer=st.sampled_from(TOKENS) | spoilt | letters,
    agent=st.just("x") | letters,
)
@example(kind=television, key="-" * 22 + "==", query="", bearer=TOKENS[0], agent="x")
@example(kind=browser, key=KEYS[0], query="", bearer=f"{TOKENS[0]},x", agent="x")
@example(kind=browser, key=KEYS[0], query="", bearer=f"{TOKENS[0]} x", agent="x")
@example(kind=television, key="A" * 18 + "==", query="", bearer=TOKENS[0], agent="x")
@example(kind=television, key="A" * 26 + "==", query="", bearer=TOKENS[0], agent="x")
@example(kind=television, key=KEYS[0], query="?\0", bearer=TOKENS[0], agent="x")
@example(kind=television, key=KEYS[0], query="", bearer=TOKENS[0], agent="x\0")
@example(kind=television, key=KEYS[0], query="", bearer=TOKENS[0], agent="x\nOrigin: x")
def test_what_differs_from_device_to_device_is_read_as_the_library_reads_it(
    kind: Any, key: str, query: str, bearer: str, agent: str
) -> None:
    learning = door()
    see(learning, head([*kind(), "User-Agent: x"]))
    data = head([*kind(bearer, key, query), f"User-Agent: {agent}"])
    found = learning.recognise(data)
    if found is not None:
        expected, answer = see(door(), data), learning.admit(found[0])
        assert expected is not None
        assert verdict(answer) == verdict(expected)


def verdict(answer: Admitted | Response) -> Admitted | bytes:
    return answer if isinstance(answer, Admitted) else answer.serialize()


def test_the_library_reads_none_of_the_fields_that_are_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = set()

    class Watched(Headers):
        def __getitem__(self, key: str) -> str:
            asked.add(key.lower())
            return super().__getitem__(key)

        def __contains__(self, key: object) -> bool:
            asked.add(str(key).lower())
            return super().__contains__(key)

        def get_all(self, key: str) -> list[str]:
            asked.add(key.lower())
            return super().get_all(key)

    monkeypatch.setattr("websockets.http11.Headers", Watched)
    assert isinstance(see(door(), head(browser())), Admitted)
    assert {"content-length", "origin", "sec-websocket-key", "authorization"} <= asked
    assert not [name for name in asked if precedents._UNREAD.sub(b"", f"\r\n{name}: x\r\n".encode()) == b"\r\n"]


# --- What is learned.


@pytest.mark.parametrize("kind", KINDS)
def test_the_next_device_is_recognised_whatever_is_its_own(kind: Any) -> None:
    d = door()
    assert d.recognise(head(kind())) is None
    assert isinstance(see(d, head(kind())), Admitted)
    lines = kind(TOKENS[1], KEYS[1], f"?have={DIGEST}&since=9")
    other = [re.sub("(?<=: ).*", "something else", field) if UNREAD.match(field) else field for field in lines]
    data = head([*other, "X-Request-Id: 7"])
    found = d.recognise(data + b"\x81\x80")
    assert found is not None
    assert found[1] == len(data)
    admitted = d.admit(found[0])
    assert isinstance(admitted, Admitted)
    assert (admitted.identity.device_id, admitted.have, admitted.since) == ("tv-2", (DIGEST,), 9)
    assert all(d.recognise(data[:cut]) is None for cut in range(len(data)))


@pytest.mark.parametrize("field", [" folded", "none", "Odd : x", ": x", "O\xe9: x", "O\0: x", "Odd: \0", "Odd: \x7f"])
@pytest.mark.parametrize("at", [1, 3, 8])
def test_a_field_that_is_not_well_formed_is_left_to_the_library(field: str, at: int) -> None:
    d = door()
    see(d, head(television()))
    lines = television()
    lines.insert(at, field)
    assert see(d, head(lines)) is None
    assert d.recognise(head(lines)) is None


def test_a_recognised_device_still_needs_a_good_token_and_query() -> None:
    d = door()
    see(d, head(television()))
    for lines, status in ((television("x.y.z"), 401), (television(query="?since=x"), 400)):
        found = d.recognise(head(lines))
        assert found is not None
        answer = d.admit(found[0])
        assert isinstance(answer, Response)
        assert answer.status_code == status


def test_nothing_is_learned_from_whoever_is_refused() -> None:
    d = door()
    for lines in (television("x.y.z"), television(query="?since=x"), [*television(), "Origin: https://evil.example"]):
        for _ in range(2):
            assert d.recognise(head(lines)) is None
            assert isinstance(see(d, head(lines)), Response)


def test_a_token_in_two_places_is_left_to_the_library() -> None:
    d = door()
    for bearer in TOKENS:
        for lines in (
            [*browser(bearer), f"Authorization: Bearer {TOKENS[0]}"],
            [*television(bearer), f"Sec-WebSocket-Protocol: bearer.{bearer}"],
            [*browser(bearer), f"Sec-WebSocket-Protocol: bearer.{bearer}"],
            ["X-A: b", *browser(bearer), f"authorization:  Bearer {TOKENS[0]}"],
        ):
            see(d, head(lines))
            assert d.recognise(head(lines)) is None


def test_a_token_moved_to_another_place_is_left_to_the_library() -> None:
    d = door()
    there = [*browser(""), f"Authorization: Bearer {TOKENS[0]}"]
    assert isinstance(see(d, head(there)), Admitted)
    assert d.recognise(head(there)) is not None
    assert d.recognise(head([*browser(), "Authorization: Bearer "])) is None


def test_fields_that_nobody_reads_make_no_kinds_and_odd_ones_only_so_many() -> None:
    known = precedents.Precedents(8192)
    d = door()
    admitted = see(d, head(television()))
    assert isinstance(admitted, Admitted)
    judged = precedents.Upgradable(admitted.response, admitted.encoding, "", TOKENS[0])
    for number in range(1000):
        known.add(head([*television(), f"User-Agent: {number}", f"Odd-{number}: x"]), judged)
    assert len(known) == 1
    for number in range(1000):
        known.add(head([*television(), f"Sec-WebSocket-Extensions: x{number}"]), judged)
        assert known.find(head([*television(), f"Sec-WebSocket-Extensions: x{number}"])) is not None
        assert len(known) <= precedents.KINDS_MAX


def test_a_head_longer_than_the_limit_is_left_to_the_library() -> None:
    d = door(handshake_bytes_max=1024)
    see(d, head(television()))
    longest = [*television(), "User-Agent: "]
    longest[-1] += "x" * (1024 - len(head(longest)))
    assert d.recognise(head(longest)) is not None
    assert d.recognise(head([*longest[:-1], longest[-1] + "x"])) is None
    d = door()
    see(d, head(television()))
    many = [*television(), *["X-A:"] * 200]
    assert d.recognise(head(many[:100])) is not None
    assert d.recognise(head(many)) is None


def test_a_hostile_head_takes_no_longer_than_it_is_long() -> None:
    # With backtracking these would take until long after everybody has gone home.
    d = door()
    see(d, head(television()))
    request = (line() + "\r\n").encode()
    for piece in (b"x-" * 4000, b"Host: " + b" \t" * 4000, b"Host:" * 1600, b"X-: b\r\n" * 1100 + b"A"):
        assert d.recognise(request + piece + b"\r\n\r\n") is None
    bearer = b"Authorization: Bearer " + b"-." * 3900
    assert d.recognise(request + bearer + b"\r\n\r\n") is None


# --- On a socket.


def at_once(do: Callable[[], None]) -> None:
    do()


def server() -> Server:
    return Server(
        config(), verifier(), Reader(lambda: cast(Any, None), "w", lambda publication: None), 1_000, at_once
    )


def sent_to(s: Server, *reads: bytes) -> tuple[bytes, list[wire.ToDevice | None]]:
    """Return the response's head and the messages that a new device gets."""
    connection = Connection(s)
    line = Line(connection)
    connection.connection_made(cast(asyncio.BaseTransport, line))
    for data in reads:
        connection.data_received(data)
    response, _, rest = bytes(line.sent).partition(b"\r\n\r\n")
    if not response.startswith(b"HTTP/1.1 101 "):
        return response, []
    encoding = wire.Encoding.JSON if b"fanout.v1.json" in response else wire.Encoding.MSGPACK
    return response, [wire.decode_to_device(bytes(frame.data), encoding) for frame in frames_in(rest)]


@pytest.mark.parametrize("kind", KINDS)
def test_a_recognised_device_gets_what_the_first_one_got(kind: Any) -> None:
    s = server()
    first, (welcome,) = sent_to(s, head(kind()))
    assert s._door.recognise(head(kind())) is not None
    sync = device_frame(0x1 if b"json" in first else 0x2, wire.encode(wire.Sync(5), _encoding(first)))
    second, (other, beacon) = sent_to(s, head(kind()) + sync)
    assert second == first
    assert b"\r\nDate:" not in first
    assert isinstance(welcome, wire.Welcome)
    assert isinstance(other, wire.Welcome)
    assert (other.beacon_s, other.state) == (welcome.beacon_s, welcome.state)
    assert other.session != welcome.session
    assert isinstance(beacon, wire.Beacon), "a frame sent along with the request is not lost"


def _encoding(response: bytes) -> wire.Encoding:
    return wire.Encoding.JSON if b"fanout.v1.json" in response else wire.Encoding.MSGPACK


def test_the_end_of_a_request_is_no_precedent_for_a_whole_one() -> None:
    s = server()
    # The second read looks like a request, without the fields that made the first a good one.
    lines = television()
    needed, others = lines[2:4], [lines[0], lines[1], *lines[4:]]
    response, _ = sent_to(s, head([line(), *needed])[:-2] + b"X-A: ", head(others))
    assert response.startswith(b"HTTP/1.1 101 ")
    assert s._door.recognise(head(others)) is None
    assert sent_to(s, head(others))[0].startswith(b"HTTP/1.1 426 ")


def test_a_recognised_device_is_told_what_was_published_since_the_last_one() -> None:
    s = server()
    retained = s._reader.retained
    sent_to(s, head(television()))
    for rev in (5, 9):
        publication = activated("c", rev=rev)
        retained["c"] = [publication]
        s.publish(publication)
        for query in ("", "", "?since=1"):
            _, (welcome,) = sent_to(s, head(television(query=query)))
            assert isinstance(welcome, wire.Welcome)
            assert [message.rev for message in welcome.state] == [rev]
