"""The swarm's small socket, held against a library that knows WebSocket better."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from http import HTTPStatus

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.waiting import PATIENCE_S, until
from websockets.asyncio.server import ServerConnection, serve
from websockets.frames import Frame, Opcode
from websockets.http11 import Request, Response
from websockets.streams import StreamReader
from websockets.typing import Subprotocol

from fanout.wire import Encoding
from loadtest.lean import Handler, LeanSocket, client_frame, device_opening, open_socket, server_frame

# Around the places where a frame's length changes its form.
SIZES = st.sampled_from([0, 1, 2, 3, 4, 5, 125, 126, 127, 65_534, 65_535, 65_536, 70_001])
PAYLOADS = st.binary(max_size=300) | SIZES.map(lambda size: (bytes(range(256)) * (size // 256 + 1))[:size])
DATA = st.tuples(st.sampled_from([Opcode.TEXT, Opcode.BINARY]), PAYLOADS)
CONTROL = st.tuples(st.sampled_from([Opcode.PING, Opcode.PONG, Opcode.CLOSE]), st.binary(max_size=125))
FRAMES = DATA | CONTROL


def parsed(data: bytes, *, mask: bool) -> tuple[Frame, int]:
    """Return the frame that `websockets` reads from these bytes, and how many it leaves."""
    stream = StreamReader()
    stream.feed_data(data)
    reading = Frame.parse(stream.read_exact, mask=mask, max_size=None)
    try:
        next(reading)
    except StopIteration as exc:
        return exc.value, len(stream.buffer)
    raise AssertionError("the frame is not complete")


@given(FRAMES.filter(lambda frame: len(frame[1]) <= 65_535))
def test_what_is_sent_is_a_masked_frame_with_that_payload(sent: tuple[Opcode, bytes]) -> None:
    opcode, payload = sent
    frame, left = parsed(client_frame(opcode, payload), mask=True)
    assert (frame.opcode, frame.data, frame.fin, left) == (opcode, payload, True, 0)


@given(sent=FRAMES, before=st.binary(max_size=20), after=st.binary(max_size=20))
def test_a_frame_is_found_wherever_it_is(sent: tuple[Opcode, bytes], before: bytes, after: bytes) -> None:
    opcode, payload = sent
    data = before + Frame(opcode, payload).serialize(mask=False) + after
    found = server_frame(data, len(before))
    assert found is not None
    assert found[0] == opcode
    assert data[found[1] : found[2]] == payload
    assert found[2] == len(data) - len(after)


@given(payload=PAYLOADS, cut=st.integers(min_value=1))
def test_half_a_frame_is_none(payload: bytes, cut: int) -> None:
    data = Frame(Opcode.BINARY, payload).serialize(mask=False)
    assert server_frame(data[: -(cut % len(data)) or 0], 0) is None


@given(st.binary(max_size=64))
def test_any_bytes_are_a_frame_or_half_of_one_or_refused(data: bytes) -> None:
    try:
        found = server_frame(data, 0)
    except ValueError:
        return
    assert found is None or 2 <= found[1] <= found[2] <= len(data)


@pytest.mark.parametrize("payload", [b"", b"x" * 200])
def test_masked_fragmented_and_compressed_frames_are_refused(payload: bytes) -> None:
    plain = Frame(Opcode.TEXT, payload).serialize(mask=False)
    frames = [
        Frame(Opcode.TEXT, payload).serialize(mask=True),
        Frame(Opcode.TEXT, payload, fin=False).serialize(mask=False),
        bytes([plain[0] | 0x40]) + plain[1:],  # the bit of a compressed message
    ]
    for data in frames:
        with pytest.raises(ValueError, match="not from a gateway"):
            server_frame(data, 0)


class Kept(Handler):
    """Keeps whatever happens on a socket."""

    def __init__(self) -> None:
        self.was_opened = False
        self.messages: list[bytes] = []
        self.end: tuple[int | None, int | None, int | None] | None = None

    def opened(self, socket: LeanSocket) -> None:
        self.was_opened = True

    def message(self, socket: LeanSocket, data: bytes) -> None:
        self.messages.append(data)

    def closed(self, socket: LeanSocket, code: int | None, status: int | None, retry_after_ms: int | None) -> None:
        self.end = code, status, retry_after_ms


@asynccontextmanager
async def echo(encoding: Encoding = Encoding.MSGPACK) -> AsyncIterator[tuple[str, list[ServerConnection]]]:
    """Run the library's own server, which repeats every message; yields its URL and its connections."""
    connections: list[ServerConnection] = []

    async def repeat(connection: ServerConnection) -> None:
        connections.append(connection)
        async for message in connection:
            await connection.send(message)

    subprotocol = Subprotocol(encoding.subprotocol)
    async with serve(repeat, "127.0.0.1", 0, subprotocols=[subprotocol], compression=None, max_size=None) as server:
        port = next(iter(server.sockets)).getsockname()[1]
        yield f"ws://127.0.0.1:{port}/v1/connect", connections


@asynccontextmanager
async def opened(url: str, encoding: Encoding = Encoding.MSGPACK) -> AsyncIterator[tuple[LeanSocket, Kept]]:
    kept = Kept()
    query = {"have": f"{'a' * 64},{'b' * 64}", "since": "17"}
    socket = await open_socket(url, kept, device_opening(url, encoding, "a.b.c", query))
    try:
        yield socket, kept
    finally:
        socket.abort()
        await until(lambda: kept.end, "the end")


@pytest.mark.parametrize("encoding", list(Encoding))
async def test_messages_of_every_size_come_back_as_they_went(encoding: Encoding) -> None:
    payloads = [b"x" * size for size in (0, 1, 125, 126, 127, 5_000, 65_535)]
    async with echo(encoding) as (url, connections), opened(url, encoding) as (socket, kept):
        await until(lambda: kept.was_opened, "the handshake")
        for payload in payloads:
            socket.send(payload, encoding)
        await until(lambda: len(kept.messages) == len(payloads), "the echoes")
        assert kept.messages == payloads
        large = os.urandom(300_000)
        await connections[0].send(large)
        await until(lambda: kept.messages[-1] == large, "a large message")
        request = connections[0].request
        assert request is not None
        assert request.path == f"/v1/connect?have={'a' * 64},{'b' * 64}&since=17"
        assert request.headers["Authorization"] == "Bearer a.b.c"
        assert connections[0].subprotocol == encoding.subprotocol


async def test_pings_are_answered() -> None:
    async with echo() as (url, connections), opened(url):
        await until(lambda: connections, "the connection")
        async with asyncio.timeout(PATIENCE_S):
            await (await connections[0].ping(b"are you there?"))


@pytest.mark.parametrize("code", [1000, 1012, 4000])
async def test_a_close_is_answered_and_its_code_is_told(code: int) -> None:
    async with echo() as (url, connections), opened(url) as (_, kept):
        await until(lambda: connections, "the connection")
        await connections[0].close(code, "because")
        await until(lambda: kept.end, "the close")
        assert kept.end == (code, None, None)
        assert connections[0].close_code == code


async def test_a_refusal_tells_its_status_and_when_to_come_back() -> None:
    def refuse(connection: ServerConnection, request: Request) -> Response:
        response = connection.respond(HTTPStatus.SERVICE_UNAVAILABLE, "full\n")
        response.headers["Retry-After"] = "7"
        return response

    async def never(connection: ServerConnection) -> None:
        raise AssertionError("it was refused")

    async with serve(never, "127.0.0.1", 0, process_request=refuse) as server:
        port = next(iter(server.sockets)).getsockname()[1]
        async with opened(f"ws://127.0.0.1:{port}/") as (_, kept):
            await until(lambda: kept.end, "the refusal")
            assert kept.end == (None, 503, 7_000)
            assert not kept.was_opened


async def test_a_server_that_is_not_there_is_an_os_error() -> None:
    with pytest.raises(OSError):
        await open_socket("ws://127.0.0.1:1/", Kept(), b"")


@pytest.mark.parametrize(
    "answer",
    [b"garbage\r\n\r\n", b"\r\n\r\n", b"HTTP/1.1 one hundred\r\n\r\n", b"SSH-2.0-OpenSSH\r\n\r\n"],
)
async def test_a_server_of_something_else_ends_the_socket(answer: bytes) -> None:
    async def greet(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(answer)
        await reader.read()
        writer.close()

    async with await asyncio.start_server(greet, "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
        async with opened(f"ws://127.0.0.1:{port}/") as (_, kept):
            await until(lambda: kept.end, "the end")
            assert kept.end == (1002, None, None)


@given(st.data())
def test_it_does_not_matter_how_the_bytes_are_cut(data: st.DataObject) -> None:
    payloads = data.draw(st.lists(PAYLOADS, min_size=1, max_size=5))
    kept = Kept()
    socket = LeanSocket(kept, b"")
    socket._open = True  # the handshake is not what this is about
    stream = b"".join(Frame(Opcode.BINARY, payload).serialize(mask=False) for payload in payloads)
    cuts = sorted(data.draw(st.lists(st.integers(0, len(stream)), max_size=8)))
    for start, stop in zip([0, *cuts], [*cuts, len(stream)], strict=True):
        if start < stop:
            socket.data_received(stream[start:stop])
    assert kept.messages == payloads
