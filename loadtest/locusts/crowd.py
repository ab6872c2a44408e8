"""A SwarmUser's devices: the dense swarm's own process (`loadtest.member`), its reports poured into this ledger.

The swarm reads its sockets in an epoll set of its own and needs an event loop to itself; beside gevent's, the one
would keep the other from its timers, and honest devices in the same worker would look late. So it is a process, and
what it reports every quarter of a second is all that crosses over.
"""

from __future__ import annotations

import logging
import os
import sys
from base64 import b64encode
from collections.abc import Callable
from pathlib import Path
from typing import Final

import gevent
import gevent.subprocess
import msgspec

from loadtest.capacity import check_files, choose_sources, ports_per_source, raise_files_max
from loadtest.locusts.crowd_counts import counted
from loadtest.locusts.ledger import Ledger, Report
from loadtest.locusts.settings import Settings
from loadtest.member import Orders
from loadtest.swarm import SwarmConfig
from loadtest.tally import Report as MemberReport

_REPORT_S: Final = 0.25
# Requests handed to locust before sockets get their turn.
_TOLD_AT_ONCE: Final = 256
_STOP_GRACE_S: Final = 5.0

log: Final = logging.getLogger("fanout.locust")


class Crowd:
    """The devices of one SwarmUser.

    Args:
        settings: Where they connect, and how many.
        name: Unique over the test; their ids begin with it.
        key: Secret to mint their tokens with.
        ledger: Takes their figures.
        told: Told of everything that is timed.
    Raises:
        InvalidInput: This machine cannot hold them.
    """

    def __init__(
        self,
        settings: Settings,
        name: str,
        key: bytes,
        ledger: Ledger,
        told: Callable[[str, float, Exception | None], None],
    ) -> None:
        devices = settings.swarm_devices
        check_files(devices, 1, raise_files_max())
        everybody = devices * max(1, settings.swarm_users)
        config = SwarmConfig(
            urls=settings.gateways,
            origin=settings.origin,
            devices=devices,
            topics=settings.topics,
            connects_per_s=settings.swarm_pace,
            sources=choose_sources(everybody, settings.gateways, (), ports_per_source()),
            prefix=name,
        )
        self._orders = Orders(config, b64encode(key).decode(), _REPORT_S)
        self._name = name
        self._ledger = ledger
        self._told = told
        ledger.parts[name] = Report(counts={"devices": devices})

    def run(self) -> None:
        """Live until killed. A process that dies is an error, and its devices stay away."""
        root = str(Path(__file__).parents[2])
        path = os.pathsep.join([root, *filter(None, [os.environ.get("PYTHONPATH")])])
        child = gevent.subprocess.Popen(
            [sys.executable, "-m", "loadtest.member"],
            stdin=gevent.subprocess.PIPE,
            stdout=gevent.subprocess.PIPE,
            env={**os.environ, "PYTHONPATH": path},
            start_new_session=True,
        )
        try:
            child.stdin.write(msgspec.json.encode(self._orders) + b"\n")
            child.stdin.flush()
            said = child.stdout.readline()  # its devices are made
            if said:
                child.stdin.write(b"go\n")
                child.stdin.flush()
            while line := child.stdout.readline():
                self._hear(msgspec.json.decode(line, type=MemberReport))
            log.error("the swarm %s ended with status %s", self._name, child.wait())
            self._ledger.counts["errors"] += 1
            self._ledger.parts[self._name].counts["connected"] = 0
            gevent.get_hub().join()  # until killed
        finally:
            self._end(child)

    @staticmethod
    def _end(child: gevent.subprocess.Popen) -> None:
        if child.poll() is None:
            child.terminate()
            try:
                child.wait(_STOP_GRACE_S)
            except gevent.subprocess.TimeoutExpired:
                child.kill()
        child.wait()
        child.stdin.close()
        child.stdout.close()

    def _hear(self, report: MemberReport) -> None:
        """Take a report in: counts as they stand, and the timings since the last one."""
        self._ledger.parts[self._name] = counted(report.tally)
        told = 0
        for name, encoded in report.histograms.items():
            for ms, times in self._ledger.time_many(name, encoded):
                for _ in range(times if name != "lag" else 0):
                    self._told(name, ms, None)
                    told += 1
                    if told % _TOLD_AT_ONCE == 0:
                        gevent.sleep(0)
