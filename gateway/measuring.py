"""What a worker's metrics are told of it, once with every presence record. Owns no figure itself."""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import Final

from fanout.bus.reader import Reader
from gateway import metrics
from gateway.config import GatewayConfig
from gateway.server import Server

_STATM: Final = Path("/proc/self/statm")
_PAGE_BYTES: Final = os.sysconf("SC_PAGE_SIZE")


class Meter:
    """Reads one worker's figures.

    Args:
        config: As bounded by what the process may open.
        server: Its devices.
        reader: Its bus.
    """

    def __init__(self, config: GatewayConfig, server: Server, reader: Reader) -> None:
        self._server = server
        self._reader = reader
        self._told = (0, 0, 0)  # of the reader's counts, what the counters have been told
        metrics.CONNECTIONS_LIMIT.set(config.connections_max)
        metrics.ADMIT_RATE_LIMIT.set(config.admit_per_s)

    def read(self) -> None:
        """Hand on what has happened, and how things are."""
        metrics.flush()
        metrics.CONNECTIONS.set(self._server.cohorts.connections)
        metrics.COHORTS.set(len(self._server.cohorts))
        metrics.LOOP_LAG_MAX.set(self._server.loop_lag_ms / 1000)
        metrics.BUS_PROBE_AGE_SECONDS.set(time.monotonic() - self._reader.heard_s)
        metrics.RESIDENT_MEMORY.set(resident_bytes())
        before, self._told = self._told, (self._reader.gaps, self._reader.reloads, self._reader.put_back)
        counters = (metrics.BUS_GAPS, metrics.BUS_RELOADS, metrics.BUS_PUT_BACK)
        for counter, now, then in zip(counters, self._told, before, strict=True):
            counter.inc(now - then)


def resident_bytes() -> int:
    """Return this process's resident memory, 0 where nobody says."""
    try:
        return int(_STATM.read_bytes().split()[1]) * _PAGE_BYTES
    except OSError:
        return 0
