"""Runs the control plane on uvicorn until it is told to stop. Owns the listening socket and its errors."""

from __future__ import annotations

import asyncio
import logging
import signal
import socket
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from functools import partial
from typing import Any, Final

import uvicorn

from fanout.bus.tasks import until_ended
from fanout.connect import connect
from fanout.console.app import routes
from fanout.control.config import ControlConfig, is_loopback
from fanout.control.connections import Connection
from fanout.control.http import create_app
from fanout.control.services import Services
from fanout.errors import InvalidInput

# Devices after a prefetch and a load balancer's pool may all connect at once; the kernel caps it anyway.
_BACKLOG: Final = 4096
# Requests in work when told to stop: a publication takes at most its safe timeout, seconds.
_GRACE_S: Final = 5
_SIGNALS: Final = (signal.SIGINT, signal.SIGTERM)


class _Server(uvicorn.Server):
    """Uvicorn without its own signal handlers, which end the process by the signal instead of returning."""

    def __init__(self, config: uvicorn.Config, started: Callable[[], None], ending: asyncio.Event) -> None:
        super().__init__(config)
        self._on_started = started
        self._ending = ending

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        if self.started:
            self._on_started()

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        # Open pages hold a stream each, and it would be waited for.
        self._ending.set()
        await super().shutdown(sockets)


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
    if config.open_console and not is_loopback(host):
        raise InvalidInput(
            f"an open console on {host} would make everybody who reaches it an admin; choose a --host of this "
            "machine's own, such as 127.0.0.1, or leave out --open-console"
        )
    redis = connect(redis_url)
    try:
        listener = _listen(host, port)
        bound = int(listener.getsockname()[1])
        connection: Any = partial(
            Connection, head_timeout_s=config.head_timeout_s, answer_timeout_s=config.answer_timeout_s
        )
        app = create_app(redis, config, routes)
        settings = uvicorn.Config(
            app,
            http=connection,
            ws="none",
            lifespan="off",
            log_config=None,
            # Below it, every request that is no HTTP is a line, and anybody can send those.
            log_level=logging.ERROR,
            access_log=False,
            server_header=False,
            timeout_graceful_shutdown=_GRACE_S,
        )
        server = _Server(settings, lambda: on_started(bound), app.state.ending)
        try:
            with _signals(server):
                async with _beside(app.state.services):
                    await _run(server, listener)
        finally:
            listener.close()
    finally:
        await redis.aclose()


@asynccontextmanager
async def _beside(services: Services) -> AsyncIterator[None]:
    """Take part in the election while the server runs, and do what is to be done at its start."""
    tasks = [asyncio.create_task(until_ended(services.leading.run()))]
    tasks += [asyncio.create_task(until_ended(each())) for each in services.at_start]
    try:
        yield
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.wait(tasks)


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


def check_address(host: str, port: int) -> None:
    """Hold that one can listen there, before anything else is begun. Raises InvalidInput."""
    _listen(host, port).close()


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
