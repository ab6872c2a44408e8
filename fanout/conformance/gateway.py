"""A gateway and an origin on one port, which do what a scenario tells them to.

Left alone they behave: devices are welcomed and told what they lack, beacons come, syncs are answered, bundles
are served. A scenario turns single things off or replaces them. Every handshake, message and fetch is kept with the
instant at which it came.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Awaitable, Callable, Coroutine, Mapping
from http import HTTPStatus
from types import TracebackType
from typing import Any, Final, NamedTuple, TypeVar

from websockets.asyncio.server import Server, ServerConnection, serve
from websockets.datastructures import Headers
from websockets.exceptions import ConnectionClosed
from websockets.http11 import Request, Response
from websockets.typing import Subprotocol

from fanout import limits, slots, wire
from fanout.conformance.messages import Ledger, Message
from fanout.conformance.peer import Handshake, Heard, Peer, mono_ms

# Short, so that three of them are soon over; a device may be slow, it must not be late for it.
BEACON_S: Final = 0.5
GRACE_MS: Final = wire.GRACE_BEACONS * BEACON_S * 1000
# Backoff of the walk: scenarios that are not about it should not wait for it.
POLICY: Final = {"base_ms": 50, "cap_ms": 400}
_CLOSE_TIMEOUT_S: Final = 1.0

T = TypeVar("T")


class Answer(NamedTuple):
    """What the origin says to one request."""

    body: bytes
    status: int = 200
    headers: Mapping[str, str] = {}


class Get(NamedTuple):
    """A request to the origin, and when it came, monotonic ms."""

    at_ms: float
    path: str


class ScriptedGateway:
    """The server's side of a walk; use it as an async context manager.

    Args:
        host: Where to listen.
        port: 0 takes any that is free.
        encodings: Which to accept.
    """

    def __init__(self, host: str, port: int, encodings: tuple[wire.Encoding, ...]) -> None:
        self._host = host
        self._port = port
        self._subprotocols = [encoding.subprotocol for encoding in encodings]
        self._server: Server | None = None
        self._tasks: set[asyncio.Task[None]] = set()
        self._news = asyncio.Event()  # set, and replaced, whenever something has come
        self._epoch_ms = time.time() * 1000 - mono_ms()
        self._last_rev = 0
        self._opening: dict[ServerConnection, Handshake] = {}  # accepted, not served yet
        self.skew_ms = 0.0  # the server's clock, against the wall's
        self.ledger = Ledger()
        self.handshakes: list[Handshake] = []
        self.peers: list[Peer] = []
        self.heard: list[tuple[Peer, Heard]] = []
        self.gets: list[Get] = []
        self.shelf: dict[str, deque[Answer]] = {}  # by path; the last answer stays
        self.behave()

    def behave(self) -> None:
        """Let it be a good gateway again."""
        self.refusals: deque[tuple[int, Mapping[str, str]]] = deque()  # answers to the next handshakes
        self.greeting: Callable[[Peer], Awaitable[None]] = self.welcome
        self.beaconing = True
        self.answering = True  # syncs

    # --- Serving

    async def __aenter__(self) -> ScriptedGateway:
        self._server = await serve(
            self._serve,
            self._host,
            self._port,
            process_request=self._request,
            select_subprotocol=self._select,
            compression=None,
            ping_interval=None,
            close_timeout=_CLOSE_TIMEOUT_S,
            max_size=limits.TO_DEVICE_BYTES_MAX,
        )
        self._port = next(iter(self._server.sockets)).getsockname()[1]
        self.spawn(self._beacons())
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, trace: TracebackType | None
    ) -> None:
        assert self._server is not None
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        self._server.close()
        await self._server.wait_closed()

    @property
    def authority(self) -> str:
        host = f"[{self._host}]" if ":" in self._host else self._host
        return f"{host}:{self._port}"

    @property
    def url(self) -> str:
        return f"ws://{self.authority}{wire.PATH}"

    @property
    def origin(self) -> str:
        return f"http://{self.authority}"

    def spawn(self, work: Coroutine[Any, Any, None]) -> None:
        """Run something beside the walk; it ends with it."""
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def _request(self, socket: ServerConnection, request: Request) -> Response | None:
        path = request.path.partition("?")[0]
        if path != wire.PATH:
            return self._fetch(request.path)
        handshake = Handshake(request)
        self.handshakes.append(handshake)
        # A device that met another gateway before may know a later revision.
        self._last_rev = max(self._last_rev, handshake.since)
        status, headers = self._verdict(handshake, request)
        handshake.status = status
        self._tell()
        if status == HTTPStatus.SWITCHING_PROTOCOLS:
            self._opening[socket] = handshake
            return None
        response = socket.respond(HTTPStatus(status), f"{HTTPStatus(status).phrase}\n")
        response.headers.update(headers)
        return response

    def _verdict(self, handshake: Handshake, request: Request) -> tuple[int, Mapping[str, str]]:
        if request.headers.get("Upgrade", "").lower() != "websocket":
            return 426, {}
        if self.refusals:
            return self.refusals.popleft()
        if not handshake.token:
            return 401, {}
        known = any(offer in self._subprotocols for offer in handshake.offers)
        return (101 if known else 400), {}

    def _select(self, socket: ServerConnection, offers: object) -> Subprotocol | None:
        offered = self._opening[socket].offers
        return next((Subprotocol(offer) for offer in offered if offer in self._subprotocols), None)

    def _fetch(self, path: str) -> Response:
        self.gets.append(Get(mono_ms(), path))
        answers = self.shelf.get(path, deque([Answer(b"nothing here\n", 404)]))
        answer = answers.popleft() if len(answers) > 1 else answers[0]
        self._tell()
        headers = {
            "Content-Length": str(len(answer.body)),
            "Content-Type": "application/json",
            "Connection": "close",
            "Access-Control-Allow-Origin": "*",
            **answer.headers,
        }
        return Response(answer.status, HTTPStatus(answer.status).phrase, Headers(headers), answer.body)

    async def _serve(self, socket: ServerConnection) -> None:
        handshake = self._opening.pop(socket)
        peer = handshake.peer = Peer(socket, handshake)
        self.peers.append(peer)
        self._tell()
        self.spawn(self._greet(peer))
        try:
            async for frame in socket:
                if heard := peer.read(frame):
                    self.heard.append((peer, heard))
                    if isinstance(heard.message, wire.Sync) and self.answering:
                        await self.answer(peer, heard.message.since)
                self._tell()
        except ConnectionClosed:
            pass
        finally:
            peer.closed_ms = mono_ms()
            self._tell()

    async def _greet(self, peer: Peer) -> None:
        await self.greeting(peer)
        self._tell()

    async def _beacons(self) -> None:
        while True:
            await asyncio.sleep(BEACON_S)
            if self.beaconing and (peer := self.peer) is not None:
                await self.beacon(peer)

    # --- What a gateway says

    async def welcome(
        self, peer: Peer, policy: Mapping[str, int] = POLICY, more: Mapping[str, Any] | None = None
    ) -> None:
        """Welcome a connection with everything that device lacks."""
        state = self.ledger.missing(peer.handshake.since, peer.handshake.have)
        peer.welcomed_ms = mono_ms()
        said: Message = {"t": "welcome", "session": "check", "now": self.now_ms(), "beacon_s": BEACON_S}
        await peer.say({**said, "reconnect": dict(policy), "state": state, **(more or {})})
        self._tell()

    async def beacon(self, peer: Peer, behind_ms: int = 0) -> None:
        """Send a beacon, as old as if it had been on its way for so long."""
        await peer.say({"t": "beacon", "now": self.now_ms() - behind_ms, "rev": self.ledger.newest})

    async def answer(self, peer: Peer, since: int) -> None:
        """Answer a sync."""
        for message in self.ledger.missing(since, ()):
            await peer.say(message)
        await self.beacon(peer)

    # --- Time and revisions

    def now_ms(self) -> int:
        """Return the server's clock, Unix ms."""
        return int(mono_ms() + self._epoch_ms + self.skew_ms)

    def mono_of(self, server_ms: float) -> float:
        """Return the monotonic instant at which the server's clock shows this."""
        return server_ms - self._epoch_ms - self.skew_ms

    def rev(self, window_ms: int = 0, between: tuple[int, int] | None = None) -> int:
        """Return the next revision; if asked to, the next with which the device's slot lies between these."""
        rev = max(self._last_rev + 1, self.now_ms())
        while between and not between[0] <= slots.slot_ms(self.device_id, rev, window_ms) <= between[1]:
            rev += 1
        self._last_rev = rev
        return rev

    # --- Who is there

    @property
    def peer(self) -> Peer | None:
        """The newest connection that was welcomed and is still open."""
        return next((peer for peer in reversed(self.peers) if peer.welcomed_ms is not None and peer.open), None)

    @property
    def device_id(self) -> str:
        """The device's id, from the last token that was let in. Raises InvalidInput if it cannot be read."""
        return next(handshake for handshake in reversed(self.handshakes) if handshake.peer).device_id

    def _tell(self) -> None:
        self._news.set()
        self._news = asyncio.Event()

    async def until(self, check: Callable[[], T | None], until_ms: float) -> T | None:
        """Return what ``check`` finds as soon as it finds something, None if nothing came until then."""
        while not (found := check()):
            left_s = (until_ms - mono_ms()) / 1000
            if left_s <= 0:
                return None
            try:
                async with asyncio.timeout(left_s):
                    await self._news.wait()
            except TimeoutError:
                pass
        return found
