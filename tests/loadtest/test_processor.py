"""The clock that benchmarks tell a server's processor time by."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time

import pytest

from loadtest.bench.processor import cpu_seconds

_WORK = """
import sys, time
for line in sys.stdin:
    until = time.process_time() + float(line)
    while time.process_time() < until:
        pass
    print(time.process_time(), flush=True)
"""


def test_what_a_process_used_is_told_between_what_it_tells_itself_just_before_and_just_after() -> None:
    with subprocess.Popen([sys.executable, "-c", _WORK], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as child:

        def used_after(work_s: bytes) -> float:
            assert child.stdin is not None
            assert child.stdout is not None
            child.stdin.write(work_s + b"\n")
            child.stdin.flush()
            return float(child.stdout.readline())

        for _ in range(3):
            before, told, after = used_after(b"0.002"), cpu_seconds(child.pid), used_after(b"0")
            # Meanwhile it writes its answer and waits for the next line: a fraction of a millisecond, or more on a
            # machine that has other things to do.
            assert before <= told <= after
        child.stdin.close()


def test_threads_that_have_ended_count() -> None:
    def work() -> None:
        until = time.thread_time() + 0.002
        while time.thread_time() < until:
            pass

    before = cpu_seconds(os.getpid())
    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert cpu_seconds(os.getpid()) - before >= 0.002


def test_a_process_that_is_gone_has_no_clock() -> None:
    child = subprocess.Popen([sys.executable, "-c", "pass"])
    child.wait()
    with pytest.raises(ProcessLookupError):
        cpu_seconds(child.pid)
