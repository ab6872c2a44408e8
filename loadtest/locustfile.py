"""``locust -f loadtest/locustfile.py``: devices of fanout as locust users; docs/locust.md says how to run it.

`DeviceUser` is one honest device, `SwarmUser` a process of thousands; ``--shape`` says what happens to them. This
module only ties `loadtest.locusts` to locust's events.
"""

from __future__ import annotations

import sys
from typing import Any

from locust import User, events, task
from locust.argument_parser import LocustArgumentParser
from locust.env import Environment
from locust.runners import MasterRunner, WorkerRunner

from fanout.errors import InvalidInput
from loadtest.locusts import settings as options
from loadtest.locusts.crowd import Crowd
from loadtest.locusts.page import add_page
from loadtest.locusts.session import Session
from loadtest.locusts.shape import FanoutShape

session = Session()
FanoutShape.session = session


class DeviceUser(User):
    """One honest device."""

    def __init__(self, environment: Environment) -> None:
        super().__init__(environment)
        self._device = session.device()

    @task
    def live(self) -> None:
        """Be a device until the end of the test."""
        self._device.run()

    def on_stop(self) -> None:
        """Count among the living no more."""
        session.devices.discard(self._device)


class SwarmUser(User):
    """Thousands of devices on raw sockets, in a process of their own."""

    def __init__(self, environment: Environment) -> None:
        super().__init__(environment)
        self._crowd = Crowd(
            session.settings, session.crowd_name(), options.device_key(), session.ledger, session.told
        )

    @task
    def live(self) -> None:
        """Be a swarm until the end of the test."""
        self._crowd.run()


@events.init_command_line_parser.add_listener
def _options(parser: LocustArgumentParser) -> None:
    options.add_options(parser)


@events.init.add_listener
def _init(environment: Environment, **_: Any) -> None:
    session.begin(environment)
    try:
        if not isinstance(environment.runner, MasterRunner):
            options.device_key()
        if not isinstance(environment.runner, WorkerRunner):  # a worker gets its options from the master
            settings = session.settings
            if settings.shape == "night":
                options.api_key()
            _choose_users(environment, settings)
    except InvalidInput as exc:
        print(f"Error: {exc}", file=sys.stderr)
        sys.exit(2)
    if environment.web_ui is not None:
        ui = environment.web_ui
        base = session.options.web_base_path or ""
        add_page(ui.app, base, ui.auth_required_if_enabled, session.document, session.table)


def _choose_users(environment: Environment, settings: options.Settings) -> None:
    """Leave out the class that nobody is to be of; workers have both, and are told how many of which."""
    users, swarms = session.options.num_users, settings.swarm_users
    if users is not None and swarms > users:
        raise InvalidInput(f"--swarm-users is {swarms}, and there are {users} --users")
    SwarmUser.fixed_count = swarms
    left_out = SwarmUser if not swarms else DeviceUser if users == swarms else None
    environment.user_classes = [each for each in environment.user_classes if each is not left_out]


@events.test_start.add_listener
def _test_start(**_: Any) -> None:
    session.test_start()


@events.test_stopping.add_listener
def _test_stopping(**_: Any) -> None:
    session.test_stopping()


@events.quitting.add_listener
def _quitting(**_: Any) -> None:
    session.quitting()


@events.report_to_master.add_listener
def _report_to_master(data: dict[str, Any], **_: Any) -> None:
    session.report_to_master(data)


@events.worker_report.add_listener
def _worker_report(client_id: str, data: dict[str, Any], **_: Any) -> None:
    session.worker_report(client_id, data)
