"""Where workers are born: a process that has imported all a worker needs, and forks one whenever it is told to.

A worker that starts from nothing takes 0.4 s of a core and 34 MB that it shares with nobody; forked off here,
0.02 s and 10 MB. Only a process without a loop and without threads may fork like that, so it is not the
supervisor. But it is forked off that one itself, before there is a loop, and so neither loads what both need; one
that has died is replaced by a program of its own. Knows nothing of health, restarts or devices. What a worker says
goes to the supervisor directly, and the end of that pipe is the end of the worker.
"""

from __future__ import annotations

import asyncio
import gc
import json
import os
import signal
import socket
import struct
import subprocess
import sys
import threading
from collections.abc import Callable, Mapping
from typing import Any, Final, NoReturn

import structlog

from fanout import processes, tracing
from fanout.logs import configure_logs

log = structlog.get_logger(__name__)

ORDERS_FD_VARIABLE: Final = "FANOUT_GATEWAY_ORDERS_FD"
# What it is told before all orders: how long the JSON of its environment is, and that.
_LENGTH: Final = struct.Struct("!I")
# One order: a byte, because descriptors do not travel alone, and the pipe its worker is to speak through.
_ORDER: Final = b"w"
# It has nothing to finish, so it is gone long before this, unless it has been stopped from outside.
_EXIT_GRACE_S: Final = 2.0
_OURS: Final = (signal.SIGTERM, signal.SIGINT)


class Seed:
    """A process that is to become a nursery as soon as it is told of what: forked off this one, with all that is
    loaded here, or started anew. It ends when this one does, or lets go of it.

    Attributes:
        orders: Our end of the socket it is told by.
    """

    def __init__(self, orders: socket.socket, pid: int) -> None:
        self.orders = orders
        self._pid = pid
        self._ended = False

    @classmethod
    def forked(cls) -> Seed:
        """Return one forked off this process, which has neither loop nor threads yet."""
        assert threading.active_count() == 1, "a thread that holds a lock now would hold it there for ever"
        ours, theirs = socket.socketpair()
        held = signal.pthread_sigmask(signal.SIG_BLOCK, _OURS)  # or Ctrl-C would reach two of the same program
        pid = os.fork()
        if pid == 0:
            ours.close()
            _end_after(lambda: _sprout(theirs, held))
        signal.pthread_sigmask(signal.SIG_SETMASK, held)
        theirs.close()
        return cls(ours, pid)

    @classmethod
    def started(cls) -> Seed:
        """Return one that is a program of its own. Raises OSError."""
        ours, theirs = socket.socketpair()
        with theirs:
            try:
                child = subprocess.Popen(
                    [sys.executable, "-m", "gateway.nursery"],
                    env={**os.environ, ORDERS_FD_VARIABLE: str(theirs.fileno())},
                    stdin=subprocess.DEVNULL,
                    pass_fds=[theirs.fileno()],
                    start_new_session=True,
                )
            except OSError:
                ours.close()
                raise
        child.returncode = 0  # whoever is asked about it, it is not that object
        return cls(ours, child.pid)

    def __enter__(self) -> Seed:
        return self

    def __exit__(self, *_: object) -> None:
        self.orders.close()

    def ended(self) -> bool:
        """Tell whether it is gone."""
        if not self._ended:
            self._ended = os.waitpid(self._pid, os.WNOHANG)[0] != 0
        return self._ended

    async def end(self) -> None:
        """Let it go, and wait until it is gone."""
        self.orders.setblocking(False)
        try:
            self.orders.shutdown(socket.SHUT_WR)
            async with asyncio.timeout(_EXIT_GRACE_S):
                await asyncio.get_running_loop().sock_recv(self.orders, 1)  # it never says a word: this is its end
        except (OSError, TimeoutError):
            pass
        self.orders.close()
        if not self._ended:
            os.kill(self._pid, signal.SIGKILL)  # at once where it is gone, as it should be
            os.waitpid(self._pid, 0)  # noqa: ASYNC222 - so this takes no time either
            self._ended = True


class Nursery:
    """The supervisor's end: has the process become a nursery when it is first needed, or when one has died.

    Args:
        environment: Added to that of the process, and so of every worker.
        seed: What becomes the first nursery; None starts that one, too.
    """

    def __init__(self, environment: Mapping[str, str], seed: Seed | None = None) -> None:
        self._environment = environment
        self._seed = seed
        self._told = False

    async def bear(self, pipe: int) -> None:
        """Have a worker born that writes to this pipe; the caller still closes its own end.

        Raises:
            OSError: The process cannot be started, or has just died; the next call starts another.
        """
        if self._seed is None or self._seed.ended():
            if self._seed is not None:
                self._seed.orders.close()
            self._seed, self._told = Seed.started(), False
        if not self._told:
            said = json.dumps(dict(self._environment)).encode()
            self._seed.orders.sendall(_LENGTH.pack(len(said)) + said)
            self._told = True
        socket.send_fds(self._seed.orders, [_ORDER], [pipe])

    async def close(self) -> None:
        """End the process; workers that still run are told to leave by their own parent's death."""
        if self._seed is not None:
            await self._seed.end()


def main(orders: socket.socket) -> None:
    """Become a nursery, and fork workers until the supervisor closes its end, on purpose or because it has died."""
    # When workers leave is the supervisor's decision, also where everyone is sent the same signal.
    for number in _OURS:
        signal.signal(number, signal.SIG_IGN)
    signal.signal(signal.SIGCHLD, _reap)
    if not (length := orders.recv(_LENGTH.size, socket.MSG_WAITALL)):
        return
    (size,) = _LENGTH.unpack(length)
    os.environ.update(json.loads(orders.recv(size, socket.MSG_WAITALL)))
    # Not before: the metrics' library looks at the environment when it is loaded.
    from gateway import worker

    tracing.preload()
    # A collection writes to what it looks at, and a page that is written to is shared no longer.
    gc.collect()
    gc.freeze()
    own_pid = os.getpid()
    while pipes := socket.recv_fds(orders, len(_ORDER), 1)[1]:
        try:
            if os.fork() == 0:
                orders.close()
                _settle(own_pid)
                worker.main(pipes[0])
                return
        except OSError as exc:
            log.error("worker not forked", error=str(exc))
        os.close(pipes[0])


def _sprout(orders: socket.socket, mask: set[int | signal.Signals]) -> None:
    """Be the nursery, in a child of a supervisor that has just begun."""
    for number in _OURS:
        signal.signal(number, signal.SIG_IGN)
    signal.pthread_sigmask(signal.SIG_SETMASK, mask)
    os.setsid()
    with open(os.devnull, "rb") as nothing:  # noqa: PTH123 - a descriptor is wanted
        os.dup2(nothing.fileno(), 0)
    main(orders)


def _end_after(work: Callable[[], None]) -> NoReturn:
    """Do this, and end the process: what has called is the parent's, and so is all that it has left to do."""
    status = 1
    try:
        work()
        status = 0
    except SystemExit as exc:
        if isinstance(exc.code, str):
            print(exc.code, file=sys.stderr)
        else:
            status = exc.code if isinstance(exc.code, int) else 0
    except BaseException:  # noqa: BLE001 - it ends here, as it would at the end of a program
        sys.excepthook(*sys.exc_info())
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(status)


def _settle(parent_pid: int) -> None:
    """Be no nursery any more, in the child that is to be a worker."""
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGCHLD):
        signal.signal(number, signal.SIG_DFL)
    # Linux shares the cores among sessions before it shares them among processes (sched(7), autogroup): in one
    # session all workers together would get what a single process beside them gets.
    os.setsid()
    if processes.preexec is not None:
        processes.preexec()
        if os.getppid() != parent_pid:
            os._exit(1)  # it died before it could be told to tell


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
    configure_logs()
    with socket.socket(fileno=int(os.environ[ORDERS_FD_VARIABLE])) as told:
        main(told)
