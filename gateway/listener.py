"""The worker's listening socket: it pauses while the process has no open file left, and goes on by itself.

Knows nothing of who connects. Without the pause, what the loop does depends on luck. As long as it has the spare
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
        self._server: asyncio.Server | None = None

    async def open(self) -> None:
        """Accept from now on. Raises OSError."""
        # The loop closes what it is given, and the queue of those who wait must outlive a pause.
        own = self._socket.dup()
        try:
            loop = asyncio.get_running_loop()
            self._server = await loop.create_server(self._factory, sock=own, backlog=_BACKLOG)
        except OSError:
            own.close()
            raise

    async def run(self) -> None:
        """Pause and go on as files run out and come back, until cancelled."""
        while True:
            await asyncio.sleep(LOOK_S)
            await self._look()

    async def _look(self) -> None:
        left = files_left()
        if self._server is not None and not left:
            self._server.close()
            self._server = None
            metrics.PAUSES.inc()
            log.error("no open files left: not accepting")
        elif self._server is None and left:
            try:
                await self.open()
            except OSError:
                return  # it was the last one; the next look tries again
            log.warning("accepting again")

    def close(self) -> None:
        """Accept nobody any more; who waits in the queue is reset."""
        if self._server is not None:
            self._server.close()
        self._socket.close()


def files_left() -> bool:
    """Tell whether this process can open another file."""
    try:
        os.close(os.open(os.devnull, os.O_RDONLY | os.O_CLOEXEC))
    except OSError:
        return False
    return True
