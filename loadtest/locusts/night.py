"""A night of a live event, pressed by the master once the fleet is there: prefetch, wait, arm, activate, close.

Each step waits for what the devices themselves report, within its window and some patience; a step that takes longer
is left behind, for the SLOs to judge. A press that is refused ends the night. Knows the API and the figures, nothing
of locust: how to wait and what to wait for are arguments.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

from fanout.errors import InvalidInput
from loadtest.locusts.control import Control, Pressed
from loadtest.locusts.ledger import Gathered, Rev
from loadtest.locusts.settings import Settings

# The control plane counts who is ready from the gateways' records, one a second: it may be a moment behind.
_GATE_RETRY_S: Final = 1.0
_GATE_REFUSED: Final = 409
_BUILT_IN_STAGES: Final = ("upcoming", "live", "ended")


def campaign_of(settings: Settings, now_ms: float) -> dict[str, Any]:
    """Return the campaign to create: the file's, or a built-in one with a name of its own.

    Raises:
        InvalidInput: The file holds none.
    """
    if settings.campaign:
        try:
            made = json.loads(Path(settings.campaign).read_text("utf-8"))
        except (OSError, ValueError) as exc:
            raise InvalidInput(f"--campaign {settings.campaign!r} cannot be read as JSON: {exc}") from exc
        if not isinstance(made, dict) or not isinstance(made.get("id"), str):
            raise InvalidInput(f"--campaign {settings.campaign!r} is no campaign: an object with an id is expected")
        return made
    padding = "x" * settings.bundle_bytes
    stages = list(dict.fromkeys((*_BUILT_IN_STAGES, *settings.stages)))
    return {
        "id": f"locust-{now_ms:.0f}",
        "title": "A night by locust",
        "topic": settings.topics[0],
        "stages": stages,
        "variants": [
            {"match": {}, "bundle": {"stages": {each: {"title": each, "padding": padding} for each in stages}}}
        ],
    }


class Night:
    """One night.

    Args:
        settings: Windows, stages, patience.
        control: Where to press.
        campaign: What to create.
        gathered: What devices report.
        wait: Waits a moment for newer reports.

    Attributes:
        phase: Where it is: connecting, prefetching, armed, activating, closing, over or failed.
        failed: Why it ended early, "" if it did not.
        said: What was pressed, and when, for the report.
    """

    def __init__(
        self,
        settings: Settings,
        control: Control,
        campaign: dict[str, Any],
        gathered: Gathered,
        wait: Callable[[], None],
    ) -> None:
        self._settings = settings
        self._control = control
        self._campaign = campaign
        self._gathered = gathered
        self._wait = wait
        self.phase = "connecting"
        self.failed = ""
        self.said: list[dict[str, Any]] = []

    def run(self, devices: int) -> None:
        """Press through the night with a fleet of this many devices."""
        settings, path = self._settings, f"/v1/campaigns/{self._campaign['id']}"
        try:
            self._until(lambda: self._count("connected") >= self._there(devices), settings.patience_s)
            self._press("create", "/v1/campaigns", self._campaign)
            self.phase = "prefetching"
            self._press("prefetch", f"{path}/prefetch", {"window_s": settings.prefetch_window_s})
            self._until(
                lambda: self._count("ready") >= self._there(devices), settings.prefetch_window_s + settings.patience_s
            )
            for stage in settings.stages:
                self._activate(path, stage, devices)
            self.phase = "closing"
            rev = self._press("close", f"{path}/close", {})
            self._until(lambda: self._rev(rev).received >= self._count("connected"), settings.patience_s)
            self.phase = "over"
        except Pressed as exc:
            self.phase, self.failed = "failed", str(exc)

    def _activate(self, path: str, stage: str, devices: int) -> None:
        settings = self._settings
        body = {"stage": stage, "window_s": settings.activate_window_s, "in_s": settings.arm_s}
        rev = self._press_when_ready(f"activate {stage}", f"{path}/activate", body)
        self._gathered.pressed.append(rev)
        self.phase = "armed"
        armed_s = time.monotonic() + settings.arm_s
        while time.monotonic() < armed_s:
            self._wait()
        self.phase = "activating"
        patience_s = settings.activate_window_s + settings.patience_s
        self._until(lambda: self._rev(rev).flipped >= self._there(devices), patience_s)

    def _press_when_ready(self, name: str, path: str, body: dict[str, Any]) -> int:
        """Press, and again while the gate refuses and patience lasts."""
        until_s = time.monotonic() + self._settings.patience_s
        while True:
            try:
                return self._press(name, path, body)
            except Pressed as exc:
                if exc.status != _GATE_REFUSED or time.monotonic() > until_s:
                    raise
            self._until(lambda: False, _GATE_RETRY_S)

    def _press(self, name: str, path: str, body: dict[str, Any]) -> int:
        """Press something; return the revision of what it published, 0 if that is nothing."""
        answer = self._control.post(path, body)
        rev = int(answer.get("rev", 0))
        self.said.append({"press": name, "rev": rev, "at_ms": int(time.time() * 1000)})
        return rev

    def _until(self, there: Callable[[], bool], patience_s: float) -> None:
        until_s = time.monotonic() + patience_s
        while not there() and time.monotonic() < until_s:
            self._wait()

    def _there(self, devices: int) -> int:
        """Return how many can be waited for: nobody waits for those of a worker that has died."""
        return devices - self._gathered.missing

    def _count(self, name: str) -> int:
        return self._gathered.total().counts.get(name, 0)

    def _rev(self, rev: int) -> Rev:
        return self._gathered.total().revs.get(rev, Rev())
