"""Runs the control plane on uvicorn until it is told to stop. Owns the listening socket and its errors."""

from __future__ import annotations

import asyncio
import signal
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Final

import uvicorn

from fanout.connect import connect
from fanout.control.config import ControlConfig
from fanout.control.http import create_app
from fanout.errors import InvalidInput

# Devices after a prefetch and a load balancer's pool may all connect at once; the kernel caps it anyway.
_BACKLOG: Final = 4096
# Requests in work when told to stop: a publication takes at most its safe timeout, seconds.
_GRACE_S: Final = 5
_SIGNALS: Final = (signal.SIGINT, signal.SIGTERM)


class _Server(uvicorn.Server):
    """Uvicorn without its own signal handlers, which end the process by the signal instead of returning."""

    def __init__(self, config: uvicorn.Config, started: Callable[[], None]) -> None:
        super().__init__(config)
        self._on_started = started

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        if self.started:
            self._on_started()


async def serve(
    config: ControlConfig, redis_url: str, host: str, port: int, on_started: Callable[[int], None]
) -> None:
    """Serve until SIGINT, SIGTERM or cancellation, then finish what is in work.

    Args:
        config: Limits.
        redis_url: The store; it need not answer yet.
        host: Address or name to listen on.
        port: 0 for any that is free.
        on_started: Called with the port once connections are accepted.
    Raises:
        InvalidInput: The address or the URL cannot be used; one line says why.
    """
    redis = connect(redis_url)
    try:
        listener = _listen(host, port)
        bound = int(listener.getsockname()[1])
        settings = uvicorn.Config(
            create_app(redis, config),
            http="h11",
            ws="none",
            lifespan="off",
            log_config=None,
            access_log=False,
            server_header=False,
            timeout_graceful_shutdown=_GRACE_S,
        )
        server = _Server(settings, lambda: on_started(bound))
        try:
            with _signals(server):
                await _run(server, listener)
        finally:
            listener.close()
    finally:
        await redis.aclose()


async def _run(server: _Server, listener: socket.socket) -> None:
    running = asyncio.create_task(server.serve(sockets=[listener]))
    try:
        await asyncio.shield(running)
    except asyncio.CancelledError:
        server.should_exit = True
        await running
        raise


@contextmanager
def _signals(server: _Server) -> Iterator[None]:
    """Let the signals that end a process end the server, where this is the thread that gets them."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    loop = asyncio.get_running_loop()

    def stop() -> None:
        server.should_exit = True

    for number in _SIGNALS:
        loop.add_signal_handler(number, stop)
    try:
        yield
    finally:
        for number in _SIGNALS:
            loop.remove_signal_handler(number)


def _listen(host: str, port: int) -> socket.socket:
    # getaddrinfo would take 70000 for 4464.
    if not 0 <= port <= 65535:
        raise InvalidInput(f"cannot listen on {host}:{port}; choose a --port from 0 (any free one) to 65535")
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        listener = socket.socket(family, kind, protocol)
    except OSError as exc:
        raise InvalidInput(f"cannot listen on {host}:{port}: {exc}; choose another --host or --port") from exc
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(address)
        listener.listen(_BACKLOG)
        listener.setblocking(False)
    except OSError as exc:
        listener.close()
        raise InvalidInput(f"cannot listen on {host}:{port}: {exc}; choose another --host or --port") from exc
    return listener
