"""The two engines of real devices, each as the process an operator would start: what they count, and how they end.

Knows no presses and no simulator.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, Final

from msgspec import Struct

import loadtest
from loadtest.agreement.experiment import Engine, Name
from loadtest.bench.fleet import FleetFailed
from loadtest.bench.rig import TOPIC, Product
from loadtest.ports import reserved_ports

_ROOT: Final = Path(loadtest.__file__).parents[1]
_LOCUSTFILES: Final = (_ROOT / "loadtest/locustfile.py", _ROOT / "loadtest/agreement/flipclock.py")
_HERE: Final = "127.0.0.1"
# Where `loadtest.agreement.flipclock` leaves the flips of locust's devices.
FLIPS_FILE: Final = "FANOUT_AGREEMENT_FLIPS"
_COUNTS: Final = ("connected", "ready", "activated")
# Twenty thousand sockets in each of many processes are closed, and the figures gathered once more.
_END_S: Final = 120.0
# The worker writes one small file when it is told to quit.
_WORKER_S: Final = 15.0
_POLL_S: Final = 0.05
# Of what a process that failed said last.
_WORDS_MAX: Final = 600


class Ended(Struct, frozen=True, kw_only=True):
    """What the devices of an engine have seen, all in all.

    Attributes:
        flips: Unix ms → how many flipped then.
        twice: Devices that flipped twice.
        received: Devices that got the activation as it was published.
        last_received_ms: When the last of them had it, ms after the press.
        flip_error_ms: A flip against its device's own slot: percentiles and maximum. Likewise the others.
        lag_ms: How late the engine's own timers were.
    """

    flips: dict[int, int]
    twice: int
    received: int
    last_received_ms: float
    connect_ms: dict[str, float]
    flip_error_ms: dict[str, float]
    lag_ms: dict[str, float]


class Kind(Struct, frozen=True):
    """One kind of engine.

    Attributes:
        prefix: Of its devices' ids; numbers from 0 on follow.
        words: Its command, given the product, devices, workers, the experiment's engine, a file for its figures, and
            a port that nobody else is given.
        read: What its last figures say, and the flips beside them if there is such a file.
    """

    prefix: str
    words: Callable[[Product, int, int, Engine, Path, int], list[str]]
    read: Callable[[dict[str, Any], Path], Ended]


class Running:
    """Real devices, running.

    Args:
        name: Of the engine, for messages.
        kind: Of the engine.
        process: Its first.
        scratch: Where its files are.
    """

    def __init__(self, name: Name, kind: Kind, process: subprocess.Popen[bytes], scratch: Path) -> None:
        self._name = name
        self._kind = kind
        self._process = process
        self._scratch = scratch

    def counts(self) -> dict[str, int]:
        """Return how many are connected, ready, activated. Raises FleetFailed: the engine has ended."""
        if self._process.poll() is not None:
            raise FleetFailed(f"{self._name} ended with status {self._process.returncode}: {self._said()}")
        return {name: int(count) for name, count in self._figures().items() if name in _COUNTS}

    def end(self) -> tuple[Ended, dict[str, Any]]:
        """End them; return what they have seen, and the engine's own figures whole. Raises FleetFailed."""
        self._process.terminate()
        try:
            self._process.wait(_END_S)
        except subprocess.TimeoutExpired as exc:
            raise FleetFailed(f"{self._name} has not ended after {_END_S:g} s: {self._said()}") from exc
        found = self._figures()
        if not found.get("final"):
            raise FleetFailed(f"{self._name} ended without its last figures: {self._said()}")
        return self._kind.read(found, flips_file(self._scratch)), found

    def _figures(self) -> dict[str, Any]:
        try:
            return dict(json.loads(figures_file(self._scratch).read_text("utf-8")))
        except FileNotFoundError:
            return {}

    def _said(self) -> str:
        return " ".join((self._scratch / "said").read_text("utf-8", "replace").split())[-_WORDS_MAX:]


def figures_file(scratch: Path) -> Path:
    """Return where an engine leaves its figures."""
    return scratch / "figures.json"


def flips_file(scratch: Path) -> Path:
    """Return where an engine leaves its flips, if they are not among its figures."""
    return scratch / "flips.json"


@contextmanager
def engine(name: Name, running: Product, devices: int, workers: int, asked: Engine) -> Iterator[Running]:
    """Run so many devices against the product; they and all processes of theirs are ended afterwards."""
    with tempfile.TemporaryDirectory(prefix="fanout-agreement-") as directory, reserved_ports(1) as [port]:
        scratch, kind = Path(directory), KINDS[name]
        words = kind.words(running, devices, workers, asked, figures_file(scratch), port)
        kept = {name: value for name, value in os.environ.items() if not name.startswith(("FANOUT_", "LOCUST_"))}
        kept["PYTHONPATH"] = os.pathsep.join([str(_ROOT), *filter(None, [os.environ.get("PYTHONPATH")])])
        kept |= {"FANOUT_DEVICE_KEY": running.key.decode(), FLIPS_FILE: str(flips_file(scratch))}
        with (scratch / "said").open("wb") as said:
            process = subprocess.Popen(
                [sys.executable, "-m", *words],
                stdin=subprocess.DEVNULL,
                stdout=said,
                stderr=subprocess.STDOUT,
                env=kept,
                start_new_session=True,  # Ctrl-C reaches us alone, and we end it in order
            )
        try:
            yield Running(name, kind, process, scratch)
        finally:
            process.terminate()
            try:
                process.wait(_END_S)
            except subprocess.TimeoutExpired:
                pass
            # Whoever is left of its session.
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()


def _swarm_words(running: Product, devices: int, workers: int, asked: Engine, file: Path, port: int) -> list[str]:
    del port  # nobody has to find its processes
    words = ["fanout.cli", "swarm", "--url", running.url, "--devices", str(devices), "--topics", TOPIC]
    words += ["--processes", str(workers), "--connects-per-s", str(asked.connects_per_s), "--give-up", "0"]
    # Everyone's activation is read before anyone's is thought about.
    return [*words, "--act-after-s", str(asked.ahead_s / 3), "--json", str(file)]


def _swarm_read(found: dict[str, Any], flips: Path) -> Ended:
    del flips  # they are among the figures
    told = [each for each in found["publications"] if each["kind"] == "activate"]
    return Ended(
        flips={int(ms): count for ms, count in found["flips"].items()},
        twice=found["flipped_twice"],
        received=sum(each["received"] for each in told),
        last_received_ms=max((each["last_ms"] for each in told), default=0.0),
        **{name: found[name] for name in ("connect_ms", "flip_error_ms", "lag_ms")},
    )


def _locust_words(running: Product, devices: int, workers: int, asked: Engine, file: Path, port: int) -> list[str]:
    del workers  # of the gateway; these devices are one process, so that their ids are one run of numbers
    words = ["locust", "-f", ",".join(map(str, _LOCUSTFILES)), "--headless", "--only-summary", "--shape", "ramp"]
    words += ["--users", str(devices), "--spawn-rate", str(asked.connects_per_s), "--fanout-json", str(file)]
    # One worker, and the master beside it: adding up what is reported takes tenths of a second, and in the devices'
    # own process none of them could have flipped meanwhile.
    words += ["--processes", "1", "--master-bind-host", _HERE]
    words += ["--master-bind-port", str(port), "--master-port", str(port)]
    return [*words, "--gateway-url", running.url, "--origin", running.control_url, "--topics", TOPIC]


def _locust_read(found: dict[str, Any], flips: Path) -> Ended:
    until_s = time.monotonic() + _WORKER_S
    while not flips.exists():  # by the worker, which the master does not wait for
        if time.monotonic() > until_s:
            raise FleetFailed(f"locust's worker has not left its flips after {_WORKER_S:g} s")
        time.sleep(_POLL_S)
    timed = found["timings_ms"]
    return Ended(
        flips={int(ms): count for ms, count in json.loads(flips.read_text("utf-8")).items()},
        twice=int(found["twice"]),
        received=sum(each["received"] for each in found["publications"] if each["kind"] == "activate"),
        last_received_ms=timed.get("delivery", {}).get("max", 0.0),
        connect_ms=timed.get("connect", {}),
        flip_error_ms=timed.get("flip_error", {}),
        lag_ms=timed.get("lag", {}),
    )


KINDS: Final[dict[Name, Kind]] = {
    "locust": Kind("locust-0-", _locust_words, _locust_read),
    "swarm": Kind("device-", _swarm_words, _swarm_read),
}
