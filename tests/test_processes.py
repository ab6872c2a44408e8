"""Laws of child processes: they end when asked, when they refuse, and when their parent is gone."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from support.waiting import until

from fanout import processes

STUBBORN = (
    "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); print('ready', flush=True); time.sleep(600)"
)
# Waits for the signal instead of handling it: a handler can run just before a sleep that then goes on.
ORDERLY = (
    "import signal, sys; signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM});"
    "print('ready', flush=True); signal.sigwait({signal.SIGTERM}); sys.exit(7)"
)
PARENT = (
    "import sys, time; from fanout import processes;"
    "print(processes.start([sys.executable, '-c', 'import time; time.sleep(600)']).pid, flush=True); time.sleep(600)"
)


def started(program: str) -> subprocess.Popen[bytes]:
    """Start a Python program and wait for its first line."""
    child = processes.start([sys.executable, "-c", program], stdout=subprocess.PIPE)
    assert child.stdout is not None
    assert child.stdout.readline() == b"ready\n"
    child.stdout.close()
    return child


def gone(pid: int) -> bool:
    """Tell whether a process has ended, collected by its parent or not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except (FileNotFoundError, ProcessLookupError):
        return True


def test_a_child_that_ends_when_asked_is_not_killed() -> None:
    assert processes.stop(started(ORDERLY), 20) == 7


def test_a_child_that_will_not_end_is_killed() -> None:
    assert processes.stop(started(STUBBORN), 0.1) == -signal.SIGKILL


def test_a_child_that_hangs_is_killed() -> None:
    child = started(ORDERLY)
    os.kill(child.pid, signal.SIGSTOP)
    assert processes.stop(child, 0.1) == -signal.SIGKILL


def test_to_stop_a_child_that_has_ended_gives_its_exit_code() -> None:
    child = processes.start([sys.executable, "-c", "raise SystemExit(3)"])
    child.wait()
    assert processes.stop(child, 20) == processes.stop(child, 20) == 3


def test_a_child_does_not_hear_the_terminals_signals() -> None:
    child = started(ORDERLY)
    try:
        assert os.getpgid(child.pid) != os.getpgid(0)
        assert os.getsid(child.pid) == child.pid
    finally:
        processes.stop(child, 20)


def test_a_program_that_is_not_there_is_an_os_error(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        processes.start([str(tmp_path / "nothing")])


def test_a_child_gets_the_environment_it_was_given() -> None:
    child = processes.start(
        [sys.executable, "-c", "import os; raise SystemExit(int(os.environ['CODE']))"], env={"CODE": "5"}
    )
    assert child.wait() == 5


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux ties a child's life to its parent's")
async def test_a_child_ends_with_a_parent_that_was_killed() -> None:
    parent = processes.start([sys.executable, "-c", PARENT], stdout=subprocess.PIPE)
    assert parent.stdout is not None
    child = int(parent.stdout.readline())
    parent.stdout.close()
    assert not gone(child)
    parent.kill()
    parent.wait()
    await until(lambda: gone(child), "the child to end")


def test_a_signal_that_comes_while_a_child_is_started_is_heard_once_it_has_been_noted() -> None:
    noted: list[str] = []

    def leave(number: int, frame: object) -> None:
        raise InterruptedError(number)

    def start() -> None:
        with processes.signals_held():
            for _ in range(2):
                signal.raise_signal(signal.SIGTERM)
            noted.append("the child")

    before = signal.signal(signal.SIGTERM, leave)
    try:
        with pytest.raises(InterruptedError):
            start()
        assert signal.getsignal(signal.SIGTERM) is leave
    finally:
        signal.signal(signal.SIGTERM, before)
    assert noted, "it was interrupted before the child was noted"
