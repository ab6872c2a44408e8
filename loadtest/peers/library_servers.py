"""Broadcast servers on the ``websockets`` and ``picows`` libraries, as their documentation builds them.

Run as ``python -m loadtest.peers.library_servers websockets|picows``: prints its port, then holds connections.
What a client of the path ``/publish`` sends goes to every other one.
"""

from __future__ import annotations

import asyncio
import contextlib
import importlib
import sys
from typing import Any, Final

import uvloop
import websockets
from websockets.asyncio.server import ServerConnection, serve

_BACKLOG: Final = 4096
_PUBLISH: Final = "/publish"
# No client sends more than one message; the default of 16 KiB would be all that is measured.
_PICOWS_READ_BUFFER_BYTES: Final = 1024


async def stock() -> None:
    """Serve with the websockets library, by its own broadcast()."""
    subscribers: set[ServerConnection] = set()

    async def handle(connection: ServerConnection) -> None:
        assert connection.request is not None
        with contextlib.suppress(websockets.ConnectionClosed):
            if connection.request.path == _PUBLISH:
                async for message in connection:
                    websockets.broadcast(subscribers, message)
                return
            subscribers.add(connection)
            try:
                await connection.wait_closed()
            finally:
                subscribers.discard(connection)

    async with serve(
        handle, "127.0.0.1", 0, compression=None, ping_interval=None, open_timeout=60, backlog=_BACKLOG,
        server_header=None,
    ) as server:  # fmt: skip
        print(next(iter(server.sockets)).getsockname()[1], flush=True)
        await asyncio.get_running_loop().create_future()


async def fast() -> None:
    """Serve with picows: its core API, a loop of send()."""
    # Imported by name, for it is no dependency: whoever wants it measured installs it.
    picows: Any = importlib.import_module("picows")
    subscribers: set[Any] = set()

    class Subscriber(picows.WSListener):  # type: ignore[misc]
        def on_ws_connected(self, transport: Any) -> None:
            subscribers.add(transport)

        def on_ws_disconnected(self, transport: Any) -> None:
            subscribers.discard(transport)

    class Publisher(picows.WSListener):  # type: ignore[misc]
        def on_ws_frame(self, transport: Any, frame: Any) -> None:
            if frame.msg_type == picows.WSMsgType.BINARY:
                message = frame.get_payload_as_bytes()
                for each in subscribers:
                    each.send(picows.WSMsgType.BINARY, message)

    def listener(request: Any) -> Any:
        return Publisher() if request.path == _PUBLISH.encode() else Subscriber()

    server = await picows.ws_create_server(
        listener, "127.0.0.1", 0, websocket_handshake_timeout=60, enable_auto_ping=False,
        read_buffer_init_size=_PICOWS_READ_BUFFER_BYTES, backlog=_BACKLOG,
    )  # fmt: skip
    print(server.sockets[0].getsockname()[1], flush=True)
    await asyncio.get_running_loop().create_future()


if __name__ == "__main__":
    uvloop.run({"websockets": stock, "picows": fast}[sys.argv[1]]())
