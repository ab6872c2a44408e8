"""The load shapes: a ramp, reconnect storms, a night. One class, for locust takes the first it finds.

Locust asks every second how many users there should be. The answer is ``--users`` until the shape's own play, which
runs in a greenlet beside, is over. Knows when to do what; the session knows how.
"""

from __future__ import annotations

import time
from collections.abc import Callable

import gevent
from locust import LoadTestShape

from fanout.errors import FanoutError
from loadtest.locusts.control import Control
from loadtest.locusts.night import Night, campaign_of
from loadtest.locusts.session import Session
from loadtest.locusts.settings import Settings, api_key


class Play:
    """What happens once all users are there.

    Args:
        session: Of this process.
        settings: The test's.
    """

    def __init__(self, session: Session, settings: Settings) -> None:
        self._session = session
        self._settings = settings
        self.greenlet = session.play = gevent.spawn(self._run)

    def _run(self) -> None:
        plays: dict[str, Callable[[], None]] = {"storm": self._storms, "night": self._night}
        try:
            plays[self._settings.shape]()
        except FanoutError as exc:
            self._session.failed = str(exc)
        except Exception as exc:
            self._session.failed = f"a bug: {exc!r}"
            raise

    @property
    def over(self) -> bool:
        return bool(self.greenlet.dead)

    def _everyone(self) -> bool:
        counts, missing = self._session.gathered.total().counts, self._session.gathered.missing
        return counts.get("connected", 0) >= max(1, self._expected() - missing)

    def _expected(self) -> int:
        found = self._session.environment.runner.target_user_classes_count  # type: ignore[union-attr]
        return sum(
            count * (self._settings.swarm_devices if name == "SwarmUser" else 1) for name, count in found.items()
        )

    def _until(self, there: Callable[[], bool], patience_s: float) -> None:
        until_s = time.monotonic() + patience_s
        while not there() and time.monotonic() < until_s:
            self._session.wait()

    def _storms(self) -> None:
        session, settings = self._session, self._settings
        session.phase("connecting")
        self._until(self._everyone, settings.patience_s)
        for number in range(1, settings.storms + 1):
            session.phase(f"storm {number}")
            lost = session.gathered.total().counts.get("lost", 0)
            connected = session.gathered.total().counts.get("connected", 0)
            session.storm()
            self._until(
                lambda before=lost + connected: (  # type: ignore[misc]
                    session.gathered.total().counts.get("lost", 0) >= before and self._everyone()
                ),
                settings.storm_timeout_s,
            )

    def _night(self) -> None:
        session, settings = self._session, self._settings
        control = Control(settings.control_url, api_key())
        try:
            campaign = campaign_of(settings, time.time() * 1000)
            session.night = Night(settings, control, campaign, session.gathered, session.wait)
            session.night.run(self._expected())
        finally:
            control.close()


class FanoutShape(LoadTestShape):
    """The shape that ``--shape`` names."""

    use_common_options = True
    session: Session

    def __init__(self) -> None:
        super().__init__()
        self._play: Play | None = None

    def reset_time(self) -> None:
        super().reset_time()
        self._play = None

    def tick(self) -> tuple[int, float] | None:
        """Return how many users there should be, and how many a second more of them; None: it is over."""
        options = self.session.options
        assert self.runner is not None
        if options.run_time and self.get_run_time() > options.run_time:
            return None
        settings = self.session.settings
        if self.runner.state == "running" and settings.shape != "ramp":
            if self._play is None:
                self._play = Play(self.session, settings)
            elif self._play.over:
                return None
        return options.num_users or 1, options.spawn_rate or 1.0
