"""A process of the product: started by its command, hurt by its id, started again. Knows nothing of what it does."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, Final

from fanout.errors import FanoutError
from loadtest.bench.memory import descendants

# A gateway's drain, and what its supervisor adds.
_END_S: Final = 40.0


class SoakFailed(FanoutError):
    """Something that a soak stands on does not work."""


class Process:
    """One command, and the process it is at the moment.

    Args:
        name: For messages and for the file with what it says.
        words: The command.
        scratch: Where that file is.
        environment: Variables besides this process's own.
    """

    def __init__(self, name: str, words: Sequence[str], scratch: Path, **environment: str) -> None:
        self.name = name
        self.words = tuple(words)
        self._said = scratch / f"{name.replace(' ', '-')}.log"
        self._environment = environment
        self._child: subprocess.Popen[str] | None = None

    @property
    def child(self) -> subprocess.Popen[str]:
        assert self._child is not None, f"{self.name} was not started"
        return self._child

    @property
    def started(self) -> bool:
        """Whether there has ever been one."""
        return self._child is not None

    @property
    def pid(self) -> int:
        return self.child.pid

    def start(self) -> None:
        """Start it, in a session of its own: Ctrl-C reaches us alone, and we end everything in order."""
        with self._said.open("ab") as errors:
            self._child = subprocess.Popen(
                self.words,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=errors,
                text=True,
                env={**os.environ, **self._environment},
                start_new_session=True,
            )

    def line(self) -> dict[str, Any]:
        """Return the JSON it prints once it serves.

        Raises:
            SoakFailed: It ended instead.
        """
        assert self.child.stdout is not None
        line = self.child.stdout.readline()
        if not line:
            self.end()
            raise SoakFailed(f"{self.name} did not start: {self._said.read_text(errors='replace')[-400:].strip()}")
        return dict(json.loads(line))

    def signal(self, number: signal.Signals) -> None:
        """Send it a signal, if it is there."""
        send(self.pid, number)

    def kill(self) -> None:
        """End it as a crash would."""
        self.child.kill()
        self.child.wait()
        self._close()

    def end(self) -> None:
        """End it in good order; kill what does not go."""
        if self._child is None:
            return
        if self.child.poll() is None:
            self.signal(signal.SIGCONT)
            self.child.terminate()
            try:
                self.child.wait(_END_S)
            except subprocess.TimeoutExpired:
                self.child.kill()
                self.child.wait()
        self._close()

    def _close(self) -> None:
        if self.child.stdout is not None:
            self.child.stdout.close()


def fanout(*words: str) -> tuple[str, ...]:
    """Return the command line of a ``fanout`` command."""
    return (sys.executable, "-m", "fanout.cli", *words)


def send(pid: int, number: signal.Signals) -> None:
    """Send a process a signal, if it is there."""
    with suppress(ProcessLookupError):
        os.kill(pid, number)


class Seen:
    """Every process there ever was, to know at the end which of them are left; ids alone are used again."""

    def __init__(self) -> None:
        self._born: dict[int, str] = {}

    def look(self, roots: Sequence[int]) -> None:
        """Note these processes and everything they have started."""
        for pid in (*roots, *(each for root in roots for each in descendants(root))):
            if (since := born(pid)) is not None:
                self._born[pid] = since

    def left(self) -> list[int]:
        """Return which still run."""
        return [pid for pid, since in self._born.items() if born(pid) == since]


def born(pid: int) -> str | None:
    """Return when a process was started, as the kernel writes it; None if it is gone or only its status is left."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    except (FileNotFoundError, ProcessLookupError):
        return None
    return None if fields[0] == "Z" else fields[19]
