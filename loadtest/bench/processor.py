"""The processor time of a process, by the kernel's own clock of it: to the nanosecond, ended threads included.

Neither of /proc's files will do: ``stat`` counts hundredths of a second, in which a core opens a hundred connections,
and ``schedstat`` is not there on every kernel.
"""

from __future__ import annotations

import ctypes
import functools
import os
import time
from typing import Any


def cpu_seconds(pid: int) -> float:
    """Return the processor time that a process has used.

    Raises:
        ProcessLookupError: It is gone.
    """
    clock = ctypes.c_int()
    failed = _libc().clock_getcpuclockid(ctypes.c_int(pid), ctypes.byref(clock))
    if failed:
        raise ProcessLookupError(failed, os.strerror(failed))
    try:
        return time.clock_gettime_ns(clock.value) / 1e9
    except OSError as exc:  # it has ended in between
        raise ProcessLookupError(exc.errno, exc.strerror) from exc


@functools.cache
def _libc() -> Any:
    return ctypes.CDLL(None)
