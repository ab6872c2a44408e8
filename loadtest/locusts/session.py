"""A test as locust runs it: which node does what, how reports travel, when figures are final, how the process ends.

A worker keeps a ledger and hands it on; the master (or a locust on its own, which is both) gathers, judges,
writes.
"""

from __future__ import annotations

import functools
import logging
import random
import signal
import sys
import time
from argparse import Namespace
from pathlib import Path
from typing import Any, Final

import gevent
import msgspec
import urllib3
from locust import argument_parser, runners
from locust.env import Environment
from locust.runners import STATE_MISSING, LocalRunner, MasterRunner, WorkerRunner
from rich.console import Console

from fanout.errors import InvalidInput
from loadtest.locusts import figures
from loadtest.locusts.device import Device, Shared
from loadtest.locusts.ledger import Gathered, Ledger, Report
from loadtest.locusts.link import Gateway
from loadtest.locusts.night import Night
from loadtest.locusts.settings import Settings, device_key, settings_of
from loadtest.locusts.slos import Verdict, judge
from loadtest.locusts.turns import Turns
from loadtest.minting import Minter
from loadtest.swarm import attributes

COLLECT: Final = "fanout_collect"
REPORT: Final = "fanout_report"
STORM: Final = "fanout_storm"
_KEY: Final = "fanout"  # of our part in locust's reports
_RUN: Final = "fanout_run"  # among the options, which locust sends to workers
_AUDIENCE: Final = "fanout"
_TOKEN_TTL_S: Final = 24 * 3600.0
# Workers answer within a turn of their loop; one that is stopped takes seconds, one that is dead for ever.
_COLLECT_TIMEOUT_S: Final = 5.0
_WRITE_S: Final = 1.0
# Seconds of silence after which locust takes a worker for dead. Its own 3 are less than what a worker may be late on
# a core that is shared with gateways, and a worker that is given up drags the whole test down with it.
_WORKER_SILENCE_S: Final = 15
# Bundle fetches of a worker under way at once; the others wait for their turn.
_FETCHES_AT_ONCE: Final = 64

log: Final = logging.getLogger("fanout.locust")


class Session:
    """What the locustfile of one process holds.

    Attributes:
        ledger: What this process's devices did.
        gathered: What all did; on workers it stays empty.
        devices: Of this process, the living ones.
        night: The night under way, if there is one.
        play: What a shape does beside its users, if it does.
        failed: Why that could not go on, "" if it did.
    """

    def __init__(self) -> None:
        self.ledger = Ledger()
        self.gathered = Gathered()
        self.devices: set[Device] = set()
        self.night: Night | None = None
        self.play: gevent.Greenlet | None = None
        self.failed = ""
        self._environment: Environment | None = None
        self._shared: Shared | None = None
        self._made = 0
        self._final = False
        self._phase = "waiting"
        self._answered: set[str] = set()

    @property
    def environment(self) -> Environment:
        """Locust's."""
        assert self._environment is not None, "locust has not begun"
        return self._environment

    @property
    def options(self) -> Namespace:
        """Locust's options, with ours among them."""
        options = self.environment.parsed_options
        assert isinstance(options, Namespace), "locust was started from its command line"
        return options

    @property
    def settings(self) -> Settings:
        """The options as they are now: the page may have changed them. Raises InvalidInput."""
        return settings_of(self.options)

    def begin(self, environment: Environment) -> None:
        """Take locust's place in hand, once it has a runner."""
        self._environment = environment
        runner = environment.runner
        if isinstance(runner, MasterRunner):
            runners.HEARTBEAT_LIVENESS = _WORKER_SILENCE_S // runners.HEARTBEAT_INTERVAL
            runner.register_message(REPORT, self._hear)
        elif isinstance(runner, WorkerRunner):
            runner.register_message(COLLECT, lambda **_: runner.send_message(REPORT, self._taken()))
            runner.register_message(STORM, lambda **_: self.storm())
            # For each spawn message, one a second, a worker asks for locust's defaults once per option, and each time
            # a whole parser is made to read them from: 0.3 s of a core, in which nothing else runs. Where cores are
            # shared that is more than the second, and there is no end of it: no user, no heartbeat.
            argument_parser.default_args_dict = functools.cache(argument_parser.default_args_dict)
        if not isinstance(runner, WorkerRunner):
            gevent.spawn(self._keep_writing)
            if self.options.headless:
                gevent.signal_handler(signal.SIGTERM, self._told_to_stop)

    def _told_to_stop(self) -> None:
        """End in good order: while a shape runs headless, locust itself has no ear for SIGTERM yet."""
        runner = self.environment.runner
        if runner is None or runner.shape_greenlet is None:
            sys.exit(1)
        runner.shape_greenlet.kill(block=False)

    # --- A test begins and ends.

    def test_start(self) -> None:
        """Forget the last test; on a worker, with the run that the master has named."""
        options, runner = self.options, self.environment.runner
        if not isinstance(runner, WorkerRunner):
            setattr(options, _RUN, time.time())
            self.gathered.clear(getattr(options, _RUN))
            self.night, self.play, self.failed = None, None, ""
            self._final, self._phase = False, "ramp"
        self.ledger.clear(getattr(options, _RUN, 0.0))
        self._shared, self._made = None, 0

    def test_stopping(self) -> None:
        """Take the last reports in before users go, and judge."""
        if isinstance(self.environment.runner, WorkerRunner) or self._final:
            return
        if self.play is not None:
            self.play.kill(block=False)  # whoever stops a night does not want it to press on
        self.collect(_COLLECT_TIMEOUT_S)
        self.gathered.gone |= set(self.gathered.latest) - self._answered
        self._final = True
        self._write()

    def quitting(self) -> None:
        """Tell how it went, and end the process accordingly."""
        if isinstance(self.environment.runner, WorkerRunner) or not self._final:
            return
        settings, verdicts = self.settings, self._verdicts()
        words = f"{settings.shape}: {self._why() or (self.night.phase if self.night else self._phase)}"
        figures.show(Console(stderr=True, width=120), self.gathered, verdicts, words)
        failed = self._why() or self.gathered.total().counts.get("errors", 0)
        if failed or not all(each.kept for each in verdicts):
            self.environment.process_exit_code = 1
        elif verdicts:
            self.environment.process_exit_code = 0

    def _why(self) -> str:
        """Return why the test failed whatever it measured, "" if it did not."""
        return self.failed or (self.night.failed if self.night else "")

    # --- Reports.

    def _taken(self) -> dict[str, Any]:
        return dict(msgspec.to_builtins(self.ledger.take()))

    def report_to_master(self, data: dict[str, Any]) -> None:
        """Add our part to a worker's report."""
        data[_KEY] = self._taken()

    def worker_report(self, client_id: str, data: dict[str, Any]) -> None:
        """Take our part of a worker's report in."""
        if _KEY in data and not self._final:
            self.gathered.add(client_id, msgspec.convert(data[_KEY], Report, strict=False))

    def _hear(self, *, environment: Environment, msg: Any) -> None:
        del environment
        self._answered.add(msg.node_id)
        self.worker_report(msg.node_id, {_KEY: msg.data})

    def collect(self, timeout_s: float = 1.0) -> None:
        """Have every worker report now, and wait for those that are there, but not long."""
        runner = self.environment.runner
        if isinstance(runner, MasterRunner):
            self._answered = set()
            asked = {client.id for client in runner.clients.all if client.state != STATE_MISSING}
            runner.send_message(COLLECT)
            until_s = time.monotonic() + timeout_s
            while not asked <= self._answered and time.monotonic() < until_s:
                gevent.sleep(0.02)
            self.gathered.gone = {
                name
                for name in self.gathered.latest
                if name not in runner.clients or runner.clients[name].state == STATE_MISSING
            }
        elif isinstance(runner, LocalRunner) and not self._final:
            self._answered = {runner.client_id}
            self.gathered.add(runner.client_id, self.ledger.take())

    def wait(self) -> None:
        """Let a moment pass, and have newer reports after it."""
        gevent.sleep(0.5)
        self.collect()

    # --- Devices of this process.

    def device(self) -> Device:
        """Return a device more. Raises InvalidInput: without a gateway or a key there are none."""
        index, number = self._index(), self._made
        self._made += 1
        made = Device(self._share(), f"locust-{index}-{number}", number, attributes(number))
        self.devices.add(made)
        self.ledger.counts["devices"] += 1
        return made

    def crowd_name(self) -> str:
        """Return a name for a swarm more."""
        self._made += 1
        return f"swarm-{self._index()}-{self._made}"

    def _index(self) -> int:
        return int(getattr(self.environment.runner, "worker_index", 0))

    def _share(self) -> Shared:
        if self._shared is None:
            settings = self.settings
            self._shared = Shared(
                gateways=tuple(map(Gateway, settings.gateways)),
                origin=settings.origin,
                minter=Minter(device_key(), settings.topics, ttl_s=_TOKEN_TTL_S, audience=_AUDIENCE),
                ledger=self.ledger,
                turns=Turns(lambda late_ms: self.ledger.time("lag", late_ms), self._failed),
                http=urllib3.PoolManager(maxsize=_FETCHES_AT_ONCE, block=True),
                rng=random.Random(self._index()),
                told=self.told,
            )
        return self._shared

    def told(self, name: str, ms: float, wrong: Exception | None) -> None:
        """Have locust's own table count this as a request, too."""
        self.environment.events.request.fire(
            request_type="fanout", name=name, response_time=ms, response_length=0, exception=wrong, context={}
        )

    def _failed(self, exc: Exception) -> None:
        log.error("a device failed: %r", exc, exc_info=exc)
        self.ledger.counts["errors"] += 1

    def storm(self) -> None:
        """Have every device lose its socket, here and on all workers."""
        runner = self.environment.runner
        if isinstance(runner, MasterRunner):
            runner.send_message(STORM)
        for device in tuple(self.devices):
            device.drop()

    # --- Figures.

    def phase(self, name: str) -> None:
        """Say where the test is."""
        self._phase = name

    def document(self) -> dict[str, Any]:
        """Return the figures as they stand."""
        night, settings = self.night, self.settings
        return figures.document(
            self.gathered,
            self._verdicts(),
            shape=settings.shape,
            phase=night.phase if night else self._phase,
            failed=self._why(),
            presses=night.said if night else [],
            final=self._final,
            workers=self._workers(),
        )

    def table(self) -> str:
        """Return the figures as CSV."""
        return figures.as_csv(self.gathered)

    def _workers(self) -> list[dict[str, Any]]:
        told: list[dict[str, Any]] = []
        for name, report in sorted(self.gathered.latest.items()):
            gone = name in self.gathered.gone
            connected = 0 if gone else report.counts.get("connected", 0)
            state = "missing" if gone else "here"
            told.append(
                {"name": name, "devices": report.counts.get("devices", 0), "connected": connected, "state": state}
            )
        return told

    def _verdicts(self) -> list[Verdict]:
        return judge(self.settings.slos, self.gathered.figures())

    def _keep_writing(self) -> None:
        while True:
            gevent.sleep(_WRITE_S)
            if not self._final:
                if isinstance(self.environment.runner, LocalRunner):
                    self.collect()
                self._write()

    def _write(self) -> None:
        try:
            if self.settings.json_file:
                figures.write(Path(self.settings.json_file), self.document())
            prefix = self.options.csv_prefix
            if prefix and self._final:
                Path(f"{prefix}_fanout.csv").write_text(self.table(), "utf-8")
        except (OSError, InvalidInput) as exc:
            log.error("the figures cannot be written: %s", exc)
