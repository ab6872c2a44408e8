"""The short way for plain requests: whatever it reads, the library reads the same."""

from __future__ import annotations

from hypothesis import example, given
from hypothesis import strategies as st
from websockets.http11 import Request

from gateway.connection import Handshake
from gateway.plainrequest import plain_request
from loadtest.lean import opening

USUAL = opening("ws://127.0.0.1:80/v1/connect", "Authorization: Bearer x", query={"since": "5"})

token = st.text(st.sampled_from("abcXYZ019-_!#$%&'*+.^`|~"), min_size=1, max_size=12)
value = st.text(st.characters(codec="iso-8859-1"), max_size=20)
mostly_plain = st.text(st.characters(min_codepoint=32, max_codepoint=126), max_size=20)
field = st.tuples(
    st.one_of(token, st.text(max_size=5)), st.sampled_from([":", ": ", " :", ":\t", ""]), value | mostly_plain
)
line_end = st.sampled_from(["\r\n", "\r\n", "\r\n", "\n", "\r"])


@st.composite
def heads(draw: st.DrawFn) -> bytes:
    """Return a request's head, mostly well formed."""
    method = draw(st.sampled_from(["GET", "GET", "GET", "POST", "get"]))
    path = draw(st.sampled_from(["/v1/connect", "/", "/a b", "*", "/é", "/?x=1&y=%20"]))
    version = draw(st.sampled_from(["HTTP/1.1", "HTTP/1.1", "HTTP/1.0", "HTTP/2"]))
    names = st.sampled_from(["Content-Length", "Transfer-Encoding", "Host"])
    fields = draw(st.lists(st.one_of(field, st.tuples(names, st.just(": "), mostly_plain)), max_size=6))
    end = draw(line_end)
    lines = [f"{method} {path} {version}", *(name + between + text for name, between, text in fields), "", ""]
    return end.join(lines).encode("utf-8", "replace")


def by_the_library(data: bytes) -> Request | None:
    """Return the request as the library's own parser reads it."""
    handshake = Handshake(None, lambda offered: offered[0], 4096)
    handshake.receive_head(data)
    events = handshake.events_received()
    return events[0] if events and isinstance(events[0], Request) else None


@given(heads(), st.binary(max_size=5))
@example(USUAL, b"")
@example(b"GET / HTTP/1.1\r\nA: b\r\n c\r\n\r\n", b"")
@example(b"GET / HTTP/1.1\r\n" + b"A: b\r\n" * 129 + b"\r\n", b"")
def test_what_the_short_way_reads_the_library_reads_the_same(head: bytes, more: bytes) -> None:
    found = plain_request(head + more)
    if found is not None:
        request, end = found
        expected = by_the_library(head)
        assert expected is not None
        assert (request.method, request.path, request.protocol) == (expected.method, expected.path, expected.protocol)
        assert list(request.headers.raw_items()) == list(expected.headers.raw_items())
        assert end == len(head)


def test_a_usual_request_takes_the_short_way_and_a_cut_one_does_not() -> None:
    found = plain_request(USUAL + b"\x81\x80")
    assert found is not None
    assert found[1] == len(USUAL)
    assert all(plain_request(USUAL[:cut]) is None for cut in range(len(USUAL)))


def test_a_hostile_head_takes_no_longer_than_it_is_long() -> None:
    # With backtracking these would take until long after everybody has gone home.
    for piece in (b"A: " + b" \t" * 4000, b"A:" * 4000, b"A: b\r\n" * 1300 + b"A", b"-" * 8000):
        assert plain_request(b"GET / HTTP/1.1\r\n" + piece) is None
