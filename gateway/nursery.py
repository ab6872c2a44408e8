"""Where workers are born: a process that has imported all a worker needs, and forks one whenever it is told to.

A worker that starts from nothing takes 0.4 s of a core and 34 MB that it shares with nobody; forked off here,
0.02 s and 10 MB. Only a process without a loop and without threads may fork like that, so it is not the
supervisor. Knows nothing of health, restarts or devices. What a worker says goes to the supervisor directly,
and the end of that pipe is the end of the worker.
"""

from __future__ import annotations

import asyncio
import gc
import os
import signal
import socket
import sys
from collections.abc import Mapping
from typing import Any, Final

import structlog

from fanout import processes, tracing
from fanout.logs import configure_logs
from gateway import worker

log = structlog.get_logger(__name__)

ORDERS_FD_VARIABLE: Final = "FANOUT_GATEWAY_ORDERS_FD"
# One order: a byte, because descriptors do not travel alone, and the pipe its worker is to speak through.
_ORDER: Final = b"w"
# It has nothing to finish, so it is gone long before this, unless it has been stopped from outside.
_EXIT_GRACE_S: Final = 2.0


class Nursery:
    """The supervisor's end: starts the process when it is first needed, or when it has died.

    Args:
        environment: Of the process, and so of every worker.
    """

    def __init__(self, environment: Mapping[str, str]) -> None:
        self._environment = environment
        self._starting = asyncio.Lock()
        self._process: asyncio.subprocess.Process | None = None
        self._orders: socket.socket | None = None

    async def bear(self, pipe: int) -> None:
        """Have a worker born that writes to this pipe; the caller still closes its own end.

        Raises:
            OSError: The process cannot be started, or has just died; the next call starts another.
        """
        async with self._starting:
            if self._process is None or self._process.returncode is not None:
                await self._start()
        assert self._orders is not None
        socket.send_fds(self._orders, [_ORDER], [pipe])

    async def _start(self) -> None:
        if self._orders is not None:
            self._orders.close()
        self._orders, theirs = socket.socketpair()
        with theirs:
            self._process = await asyncio.create_subprocess_exec(
                sys.executable,
                "-m",
                "gateway.nursery",
                env={**self._environment, ORDERS_FD_VARIABLE: str(theirs.fileno())},
                stdin=asyncio.subprocess.DEVNULL,
                pass_fds=[theirs.fileno()],
                start_new_session=True,
            )

    async def close(self) -> None:
        """End the process; workers that still run are told to leave by their own parent's death."""
        if self._process is None or self._orders is None:
            return
        self._orders.close()
        try:
            await asyncio.wait_for(self._process.wait(), _EXIT_GRACE_S)
        except TimeoutError:
            self._process.kill()
            await self._process.wait()


def main() -> None:
    """Fork workers until the supervisor closes its end, on purpose or because it has died."""
    configure_logs()
    # When workers leave is the supervisor's decision, also where everyone is sent the same signal.
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, signal.SIG_IGN)
    signal.signal(signal.SIGCHLD, _reap)
    tracing.preload()
    # A collection writes to what it looks at, and a page that is written to is shared no longer.
    gc.collect()
    gc.freeze()
    with socket.socket(fileno=int(os.environ[ORDERS_FD_VARIABLE])) as orders:
        while pipes := socket.recv_fds(orders, len(_ORDER), 1)[1]:
            try:
                if os.fork() == 0:
                    orders.close()
                    _live(pipes[0])
                    return
            except OSError as exc:
                log.error("worker not forked", error=str(exc))
            os.close(pipes[0])


def _live(pipe: int) -> None:
    """Be a worker, in the child."""
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGCHLD):
        signal.signal(number, signal.SIG_DFL)
    # Linux shares the cores among sessions before it shares them among processes (sched(7), autogroup): in one
    # session all workers together would get what a single process beside them gets.
    os.setsid()
    if processes.preexec is not None:
        processes.preexec()
    worker.main(pipe)


def _reap(*_: Any) -> None:
    """Take note of every worker that has ended; the supervisor knows already, but not why."""
    while True:
        try:
            pid, status = os.waitpid(-1, os.WNOHANG)
        except ChildProcessError:
            return
        if pid == 0:
            return
        if code := os.waitstatus_to_exitcode(status):
            log.error("worker ended", pid=pid, exit_code=code)


if __name__ == "__main__":
    main()
