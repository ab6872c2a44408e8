"""The device as a child process, or as somebody else's business."""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Mapping, Sequence
from typing import Final

from fanout import processes
from fanout.errors import InvalidInput

# Long enough for a device to close its socket.
_GRACE_S: Final = 3.0


class Started:
    """A device that the kit starts itself.

    Args:
        command: Its words; ``{url}``, ``{token}``, ``{origin}`` in them are replaced.
        facts: What to replace them with; also put into its environment as ``FANOUT_URL`` and so on.
    """

    def __init__(self, command: Sequence[str], facts: Mapping[str, str]) -> None:
        self._command = [_filled(word, facts) for word in command]
        self._env = {**os.environ, **{f"FANOUT_{name.upper()}": value for name, value in facts.items()}}
        self._child: subprocess.Popen[bytes] | None = None

    def start(self) -> bool:
        self.stop()
        try:
            self._child = processes.start(self._command, env=self._env, stdout=subprocess.DEVNULL)
        except OSError as exc:
            raise InvalidInput(f"{self._command[0]} cannot be started: {exc}") from exc
        return True

    def ended(self) -> str | None:
        if self._child is None or self._child.poll() is None:
            return None
        return f"exit status {self._child.returncode}"

    def stop(self) -> None:
        """End it, and whatever it has started in its own session."""
        if self._child is None:
            return
        processes.stop(self._child, _GRACE_S)
        try:
            os.killpg(self._child.pid, signal.SIGKILL)
        except (ProcessLookupError, PermissionError):
            pass  # nobody is left
        self._child = None


class Awaited:
    """A device that somebody starts and stops elsewhere."""

    def start(self) -> bool:
        return False

    def ended(self) -> str | None:
        return None

    def stop(self) -> None:
        """Leave it alone."""


def _filled(word: str, facts: Mapping[str, str]) -> str:
    for name, value in facts.items():
        word = word.replace(f"{{{name}}}", value)
    return word
