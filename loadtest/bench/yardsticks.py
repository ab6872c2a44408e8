"""What the product is measured against, each a process of its own.

``bare``: a loop of ``send()`` over accepted sockets, the least any server can do. ``stock``: the server of
the websockets library, as its documentation starts one, without compression.

Run as ``python -m loadtest.bench.yardsticks bare|stock``: prints its port, then answers each line on standard
input with a line: ``send <hex>`` with the seconds it took to send those bytes to every socket, ``count`` with
the number of sockets. ``drain PORT N`` is the bare server's other end: N sockets that read and throw away.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import sys
import threading
import time
from collections.abc import Callable

import uvloop
import websockets
from websockets.asyncio.server import ServerConnection, serve


def _answer(send: Callable[[bytes], float], count: Callable[[], int]) -> None:
    for line in sys.stdin:
        word, _, rest = line.strip().partition(" ")
        print(send(bytes.fromhex(rest)) if word == "send" else count(), flush=True)


def bare() -> None:
    """Accept for ever; send to all when told."""
    listener = socket.create_server(("127.0.0.1", 0), backlog=4096)
    sockets: list[socket.socket] = []
    print(listener.getsockname()[1], flush=True)

    def accept() -> None:
        while True:
            connection, _ = listener.accept()
            connection.setblocking(False)
            sockets.append(connection)

    def send(data: bytes) -> float:
        started = time.perf_counter()
        for connection in sockets:
            connection.send(data)
        return time.perf_counter() - started

    threading.Thread(target=accept, daemon=True).start()
    _answer(send, lambda: len(sockets))


def stock() -> None:
    """Hold connections; broadcast with the library's own function when told."""
    connections: set[ServerConnection] = set()
    started = threading.Event()
    port = 0
    loop = uvloop.new_event_loop()

    async def hold(connection: ServerConnection) -> None:
        connections.add(connection)
        with contextlib.suppress(websockets.ConnectionClosed):
            await connection.wait_closed()
        connections.discard(connection)

    async def run() -> None:
        nonlocal port
        async with serve(hold, "127.0.0.1", 0, compression=None, ping_interval=None, backlog=4096) as server:
            port = next(iter(server.sockets)).getsockname()[1]
            started.set()
            await asyncio.get_running_loop().create_future()

    async def broadcast(data: bytes) -> float:
        began = time.perf_counter()
        websockets.broadcast(connections, data)
        return time.perf_counter() - began

    threading.Thread(target=loop.run_until_complete, args=(run(),), daemon=True).start()
    started.wait()
    print(port, flush=True)
    _answer(
        lambda data: asyncio.run_coroutine_threadsafe(broadcast(data), loop).result(),
        lambda: len(connections),
    )


class _Drain(asyncio.Protocol):
    """Reads and throws away."""


def drain(port: int, count: int) -> None:
    """Hold so many sockets to a port of this machine, for ever."""

    async def run() -> None:
        loop = asyncio.get_running_loop()
        for _ in range(count):
            await loop.create_connection(_Drain, "127.0.0.1", port)
        print("connected", flush=True)
        await loop.create_future()

    uvloop.run(run())


if __name__ == "__main__":
    if sys.argv[1] == "drain":
        drain(int(sys.argv[2]), int(sys.argv[3]))
    else:
        {"bare": bare, "stock": stock}[sys.argv[1]]()
