"""Starting child processes that never outlive their parent. Knows nothing of what they do."""

from __future__ import annotations

import ctypes
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from types import FrameType
from typing import IO, Any, Final

_PR_SET_PDEATHSIG: Final = 1
# Loaded here, before any fork: the child may not import or allocate much between fork and exec.
_libc = ctypes.CDLL(None) if sys.platform == "linux" else None
_own_pid = os.getpid()


def _die_with_parent() -> None:
    """Ask Linux to end this child if its parent is killed outright; elsewhere an orphan has to be ended by hand."""
    assert _libc is not None
    _libc.prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
    if os.getppid() == 1 and _own_pid != 1:
        os._exit(1)  # the parent died before it could be asked for


preexec: Final[Callable[[], None] | None] = _die_with_parent if _libc is not None else None


def start(
    command: Sequence[str],
    *,
    env: dict[str, str] | None = None,
    stdout: int | IO[Any] | None = None,
    stderr: int | IO[Any] | None = None,
) -> subprocess.Popen[bytes]:
    """Start a child in its own session: Ctrl-C reaches only the parent, which ends its children in order.

    Call it from the main thread: Linux ties a child's life to the thread that started it.

    Raises:
        OSError: The program cannot be run.
    """
    return subprocess.Popen(
        command,
        env=env,
        stdin=subprocess.DEVNULL,
        stdout=stdout,
        stderr=stderr,
        start_new_session=True,
        preexec_fn=preexec,
    )


@contextmanager
def signals_held() -> Iterator[None]:
    """Hold SIGINT and SIGTERM back for the length of a block, then let their handlers hear them.

    A handler that raises may do so between a child's start and the note that it has to be ended: the child is
    running by then, and nobody's. So a child is started, and noted, in such a block.
    """
    if threading.current_thread() is not threading.main_thread():
        yield  # handlers run in the main thread, and raise there alone
        return
    held: list[int] = []

    def hold(number: int, frame: FrameType | None) -> None:
        held.append(number)

    before = {number: signal.signal(number, hold) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
        if held:  # once: the handler is about to raise, and there is one way to end
            signal.raise_signal(held[0])


def stop(child: subprocess.Popen[bytes], grace_s: float) -> int:
    """End a child: SIGTERM, and SIGKILL after ``grace_s`` seconds. Returns its exit code."""
    if child.poll() is None:
        child.terminate()
        try:
            child.wait(grace_s)
        except subprocess.TimeoutExpired:
            child.kill()
    return child.wait()
