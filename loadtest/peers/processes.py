"""The processes of one server: started on one core, weighed, and ended with all their children.

Reads /proc, so it is for Linux. Knows nothing of what the processes do.
"""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Final

from loadtest.bench.processor import cpu_seconds
from loadtest.ports import reserved_ports

# Servers here have nothing to save; what has not ended by then hangs.
_GRACE_S: Final = 20.0
_STARTED_WITHIN_S: Final = 30.0
_POLL_S: Final = 0.02


class NotStarted(Exception):
    """A server that is installed does not come up; the message holds what it said."""


@contextlib.contextmanager
def core(number: int) -> Iterator[None]:
    """Keep this thread, and every process it starts meanwhile, on one core."""
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {number})
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


class Processes:
    """Everything one server runs as."""

    def __init__(self, server_core: int, scratch: Path) -> None:
        self._core = server_core
        self._scratch = scratch
        self._children: list[subprocess.Popen[bytes]] = []

    def start(self, command: Sequence[str], *, pipe: bool = False, **environment: str) -> subprocess.Popen[bytes]:
        """Start a process in its own session: Ctrl-C reaches only us, and we end it in order.

        Args:
            command: Program and arguments.
            pipe: Keep its standard output to read from; otherwise it joins its errors in a file.
            environment: Further variables.
        """
        with core(self._core), self._said(len(self._children)).open("wb") as errors:
            child = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE if pipe else errors,
                stderr=errors,
                env={**os.environ, **environment},
                start_new_session=True,
            )
        self._children.append(child)
        return child

    def start_on_a_port(self, command: Callable[[int], Sequence[str]]) -> int:
        """Start a server that must be told its port; return the port on which it accepts.

        Raises:
            NotStarted: It ends, or does not listen in time.
        """
        with reserved_ports(1) as [port]:
            if _listens(port, self.start(command(port))):
                return port
        said = self._said(len(self._children) - 1).read_text(errors="replace")
        self.stop()
        raise NotStarted(f"it does not listen: {said.strip()[-400:] or 'it said nothing'}")

    def line(self, child: subprocess.Popen[bytes]) -> str:
        """Return the next line a child prints.

        Raises:
            NotStarted: It ended instead.
        """
        assert child.stdout is not None
        line = child.stdout.readline().decode().strip()
        if not line:
            said = self._said(self._children.index(child)).read_text(errors="replace")
            raise NotStarted(f"it ended: {said.strip()[-400:] or 'it said nothing'}")
        return line

    def pids(self) -> list[int]:
        """Return the ids of all processes, children's children too."""
        return _descendants([child.pid for child in self._children if child.poll() is None])

    def resident_bytes(self) -> int:
        """Return the resident memory of all; pages they share count once, as their kernel shares them out."""
        return sum(_resident_bytes(pid) for pid in self.pids())

    def cpu_seconds(self) -> float:
        """Return the processor time all have used."""
        return sum(_cpu_seconds(pid) for pid in self.pids())

    def stop(self) -> None:
        """End them all, the last first, and see that nothing is left."""
        for child in reversed(self._children):
            family = _descendants([child.pid])
            if child.poll() is None:
                child.send_signal(signal.SIGTERM)
            try:
                child.wait(_GRACE_S)
            except subprocess.TimeoutExpired:
                child.kill()
                child.wait()
            for pid in family[1:]:
                _see_off(pid, child.pid)
            if child.stdout is not None:
                child.stdout.close()
        self._children.clear()

    def _said(self, number: int) -> Path:
        return self._scratch / f"said-{number}"


def alive(pid: int) -> bool:
    """Tell whether a process runs; one that only waits to be collected does not."""
    return _stat(pid)[:1] not in ([], ["Z"])


def _see_off(pid: int, session: int) -> None:
    """Wait for an orphan to end by itself, as its parent has told it to; kill it if it does not.

    Args:
        pid: The orphan.
        session: That of its parent's, or its own: a process that has got this id since is somebody else's.
    """
    deadline = time.monotonic() + _GRACE_S
    while alive(pid) and time.monotonic() < deadline:
        time.sleep(_POLL_S)
    if alive(pid) and int(_stat(pid)[3]) in (session, pid):
        os.kill(pid, signal.SIGKILL)


def _stat(pid: int) -> list[str]:
    """Return what follows a process's name in its stat file; nothing if it is gone."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except (FileNotFoundError, ProcessLookupError):
        return []


def _descendants(roots: list[int]) -> list[int]:
    """Return these processes and all that came of them, parents first."""
    children: dict[int, list[int]] = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit() and (fields := _stat(int(entry.name))):
            children.setdefault(int(fields[1]), []).append(int(entry.name))
    found = list(roots)
    for pid in found:
        found += children.get(pid, [])
    return found


def _resident_bytes(pid: int) -> int:
    for line in _lines(Path(f"/proc/{pid}/smaps_rollup")):
        if line.startswith("Pss:"):
            return int(line.split()[1]) * 1024
    return 0  # it has ended since it was listed


def _lines(path: Path) -> list[str]:
    try:
        return path.read_text().splitlines()
    except (FileNotFoundError, ProcessLookupError):
        return []


def _cpu_seconds(pid: int) -> float:
    try:
        return cpu_seconds(pid)
    except ProcessLookupError:
        return 0.0  # it has ended since it was listed


def _listens(port: int, child: subprocess.Popen[bytes]) -> bool:
    """Wait until a child accepts on a port; False if it ends, or time does."""
    deadline = time.monotonic() + _STARTED_WITHIN_S
    while child.poll() is None and time.monotonic() < deadline:
        try:
            socket.create_connection(("127.0.0.1", port), timeout=1).close()
        except OSError:
            time.sleep(_POLL_S)
        else:
            return True
    return False
