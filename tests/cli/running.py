"""Running the command: in this process where nothing but words matter, as a process where processes do."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

from click.testing import CliRunner, Result
from support.stack import ROOT
from support.waiting import PATIENCE_S, until

from fanout.cli import cli

DEVICE_KEY = "a device key that only these tests use"


def fanout(*words: str, stdin: str | None = None, **environment: str) -> Result:
    """Run a command in this process, only these FANOUT_ variables are set."""
    clean = {name: None for name in os.environ if name.startswith("FANOUT_")}
    runner = CliRunner()
    return runner.invoke(
        cli,
        list(words),
        input=stdin,
        env={**clean, "COLUMNS": "200", **environment},
        prog_name="fanout",
    )


def good(result: Result) -> str:
    """Return what a command printed; it must have succeeded."""
    assert result.exit_code == 0, result.output
    return result.stdout


def error(result: Result) -> str:
    """Return the one line with which a command failed."""
    assert result.exit_code != 0, result.output
    assert isinstance(result.exception, SystemExit), result.exception
    lines = result.stderr.strip().splitlines()
    said = [line for line in lines if line.startswith("Error: ")]
    # Click shows how a command is used before what was wrong with its use.
    assert lines == said or lines[0].startswith("Usage: "), result.stderr
    assert len(said) == 1, result.stderr
    return said[0]


def environment(**variables: str) -> dict[str, str]:
    """Return this process's environment with only these FANOUT_ variables."""
    clean = {name: value for name, value in os.environ.items() if not name.startswith("FANOUT_")}
    return {**clean, "PYTHONPATH": str(ROOT), **variables}


@contextmanager
def process(
    *words: str, stderr: IO[bytes] | int = subprocess.DEVNULL, **variables: str
) -> Iterator[subprocess.Popen[bytes]]:
    """Run the command as a process of its own; it is killed if it is still there in the end."""
    child = subprocess.Popen(
        [sys.executable, "-m", "fanout.cli", *words],
        env=environment(**variables),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=stderr,
        start_new_session=True,
    )
    try:
        yield child
    finally:
        if child.poll() is None:
            child.kill()
        child.wait()
        assert child.stdout is not None
        child.stdout.close()


def first_line(child: subprocess.Popen[bytes]) -> dict[str, Any]:
    """Return what a server says of itself once it serves."""
    assert child.stdout is not None
    line = child.stdout.readline()
    assert line, f"it ended with status {child.wait()}"
    return dict(json.loads(line))


def ended(child: subprocess.Popen[bytes], number: int = signal.SIGTERM) -> int:
    """Send a signal; return the exit status."""
    child.send_signal(number)
    return child.wait(PATIENCE_S)


class Traces:
    """What processes leave behind: those that are still there, and files.

    Every process that is started with `variables`, and every child of it, keeps its temporary files in one
    directory of ours; so its environment or (a store's, which overwrites that) its command line names it.

    Args:
        directory: An empty one, with a path short enough for sockets in it.
    """

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self.variables = {"TMPDIR": str(directory)}

    @property
    def processes(self) -> dict[int, str]:
        """The command lines of all that are there now."""
        found: dict[int, str] = {}
        name = str(self._directory).encode()
        for each in Path("/proc").iterdir():
            try:
                words = (each / "cmdline").read_bytes() if each.name.isdecimal() else b""
                if words and (name in words or name in (each / "environ").read_bytes()):
                    found[int(each.name)] = words.replace(b"\0", b" ").decode(errors="replace")
            except OSError:
                continue  # it has just ended, or is not ours to read
        return found

    @property
    def files(self) -> list[Path]:
        """Everything temporary that is there now."""
        return list(self._directory.rglob("*"))

    def has(self, word: str) -> bool:
        """Tell whether a process has this word in its command line."""
        return self.count(word) > 0

    def count(self, word: str) -> int:
        """Return how many processes have this word in their command lines."""
        return sum(word in line for line in self.processes.values())

    def assert_none(self) -> None:
        """Hold that nothing is left."""
        left = self.processes
        assert not left, f"still there: {left}"
        assert not self.files, f"still there: {self.files}"


def variable_of(pid: int, name: str) -> str:
    """Return a variable of a process's environment, empty if it is not set."""
    for pair in Path(f"/proc/{pid}/environ").read_bytes().split(b"\0"):
        key, _, value = pair.partition(b"=")
        if key.decode() == name:
            return value.decode()
    return ""


def wait_until(check: Any, what: str) -> Any:
    """Wait for a condition outside of any loop."""
    # Whoever looks through all processes a hundred times a second keeps a core busy.
    return asyncio.run(until(check, what, poll_s=0.05))
