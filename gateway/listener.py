"""The worker's listening socket: many at a time come in, and none while the process has no open file left.

Knows nothing of who connects. The loop accepts one connection a turn from each socket it listens on (libuv's choice),
so a storm would be let in one by one, each with a turn of the loop to itself. Therefore it is given the one socket
several times over. Measured, and with them answered together (`gateway.reception`), a handshake takes 107 µs instead
of 185.

Without the pause, what the loop does depends on luck. As long as it has the spare
file it keeps for this, it accepts and hangs up; once that file is gone (another thread was quicker, or the whole
machine has run out) it asks the kernel again at once, for ever: measured, 98 % of a core, without a word in the log.
While it pauses, who connects waits in the kernel's queue.
"""

from __future__ import annotations

import asyncio
import os
import socket
from collections.abc import Callable
from typing import Final

import structlog

from gateway import metrics

log = structlog.get_logger(__name__)

# As long as a core may be lost to it. A look is two system calls.
LOOK_S: Final = 0.25
# How often the loop has the socket, which is how many connections it accepts a turn. Four of them bring half of what
# there is to gain, and 32 no more than these; a lone connection costs nothing extra.
ACCEPTS_A_TURN: Final = 16
# Connections the kernel holds until they are accepted: half a second of what a core can take.
_BACKLOG: Final = 4096


class Listener:
    """Accepts connections.

    Args:
        sock: Bound; closed together with this.
        factory: Makes a protocol for each connection.
    """

    def __init__(self, sock: socket.socket, factory: Callable[[], asyncio.Protocol]) -> None:
        self._socket = sock
        self._factory = factory
        self._servers: list[asyncio.Server] = []

    async def open(self) -> None:
        """Accept from now on. Raises OSError."""
        try:
            for _ in range(ACCEPTS_A_TURN):
                self._servers.append(await self._serve())
        except OSError:
            self._pause()
            raise

    async def _serve(self) -> asyncio.Server:
        # The loop closes what it is given, and the queue of those who wait must outlive a pause.
        own = self._socket.dup()
        try:
            return await asyncio.get_running_loop().create_server(self._factory, sock=own, backlog=_BACKLOG)
        except OSError:
            own.close()
            raise

    async def run(self) -> None:
        """Pause and go on as files run out and come back, until cancelled."""
        while True:
            await asyncio.sleep(LOOK_S)
            await self._look()

    async def _look(self) -> None:
        if self._servers and not files_left(1):
            self._pause()
            metrics.PAUSES.inc()
            log.error("no open files left: not accepting")
        # One more than it takes itself, or it would pause again at once.
        elif not self._servers and files_left(ACCEPTS_A_TURN + 1):
            try:
                await self.open()
            except OSError:
                return  # it was the last one; the next look tries again
            log.warning("accepting again")

    def close(self) -> None:
        """Accept nobody any more; who waits in the queue is reset."""
        self._pause()
        self._socket.close()

    def _pause(self) -> None:
        for server in self._servers:
            server.close()
        self._servers.clear()


def files_left(count: int) -> bool:
    """Tell whether this process can open so many more files."""
    opened: list[int] = []
    try:
        for _ in range(count):
            opened.append(os.open(os.devnull, os.O_RDONLY | os.O_CLOEXEC))
    except OSError:
        return False
    finally:
        for each in opened:
            os.close(each)
    return True
