"""The product's own swarm in a benchmark: started by its command, read while it runs, ended with its last word."""

from __future__ import annotations

import json
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

from fanout.errors import FanoutError
from loadtest.bench.rig import TOPIC, Product, child

_END_S: Final = 120.0
_POLL_S: Final = 0.1


class FleetFailed(FanoutError):
    """The fleet has ended by itself, or does not get where it is expected."""


class Fleet:
    """A running swarm.

    Args:
        process: ``fanout swarm``.
        file: Where it leaves its figures.
    """

    def __init__(self, process: subprocess.Popen[str], file: Path) -> None:
        self._process = process
        self._file = file

    @property
    def pid(self) -> int:
        """Of the swarm's first process."""
        return self._process.pid

    def tally(self) -> dict[str, Any]:
        """Return what the devices have counted so far."""
        try:
            return dict(json.loads(self._file.read_text()))
        except FileNotFoundError:
            return {}

    def until(
        self, what: str, reached: Callable[[dict[str, Any]], bool], limit_s: float, *, poll_s: float = _POLL_S
    ) -> dict[str, Any]:
        """Wait until the tally says so; return it.

        Raises:
            FleetFailed: It does not within the limit, or the swarm has ended.
        """
        deadline = time.monotonic() + limit_s
        while True:
            tally = self.tally()
            if tally and reached(tally):
                return tally
            if self._process.poll() is not None:
                raise FleetFailed(f"{what}: the swarm ended with status {self._process.returncode}; {tally}")
            if time.monotonic() > deadline:
                raise FleetFailed(f"{what}: not after {limit_s:g} s; {tally}")
            time.sleep(poll_s)

    def end(self) -> dict[str, Any]:
        """End it; return its last figures."""
        self._process.terminate()
        self._process.wait(_END_S)
        return self.tally()


@contextmanager
def fleet(running: Product, devices: int, *flags: str) -> Iterator[Fleet]:
    """Run so many devices against the product, however long it takes them to connect."""
    with tempfile.TemporaryDirectory(prefix="fanout-fleet-") as scratch:
        file = Path(scratch) / "swarm.json"
        words = ["fanout.cli", "swarm", "--url", running.url, "--devices", str(devices), "--topics", TOPIC]
        words += ["--give-up", "0", "--json", str(file), *flags]
        with child(words, FANOUT_DEVICE_KEY=running.key.decode()) as process:
            yield Fleet(process, file)
