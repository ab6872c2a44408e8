"""The buttons of a soak: pressed every few seconds, sent again under the same key until there is an answer.

Keeps the log of what was accepted, from which `loadtest.soak.law` says what every device has to show. Knows
nothing of what is broken meanwhile, only that any answer may fail to come.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections import Counter
from typing import Any, Final

import httpx
from msgspec import Struct

from loadtest.soak.faults import paused
from loadtest.soak.processes import SoakFailed
from loadtest.soak.system import TOPIC, System

# One more than `Presses._news` may have to leave out.
STAGES: Final = ("one", "two", "three", "four", "five", "six")
# How far ahead the instant of an activation lies that is to be taken back; far enough that whatever breaks
# is whole again before (`loadtest.soak.law`).
AHEAD_S: Final = 12.0
_PATH: Final = "/v1/campaigns"
_PAUSE_S: Final = (1.0, 4.0)
_WINDOW_S: Final = 1.0
# Share of the cancels after which nothing is pressed until the instant they took back is over.
_LEFT_ALONE: Final = 0.5
# An answer comes within the control plane's own limits, or not at all.
_ANSWER_S: Final = 10.0
_PATIENCE_S: Final = 60.0
_RETRY_S: Final = 0.25
# The phase has moved on, or the record has: nothing was published.
_REFUSED: Final = 409


class Pressed(Struct, frozen=True):
    """An activation, a retract or a cancel that was accepted; named as in `fanout.wire.Activate`.

    Attributes:
        at: Unix ms of its instant; 0 for a cancel.
    """

    kind: str
    rev: int
    at: int = 0
    window_ms: int = 0
    share: float = 1.0


class Presses:
    """Presses buttons of one campaign.

    Attributes:
        log: What was accepted and concerns stages, in order.
        accepted: How often, by kind; ``refused`` likewise.
        again: Requests that had to be sent again.
        slowest_s: Longest from the first try to the answer.
    """

    def __init__(self, system: System, seed: int) -> None:
        self._system = system
        self._rng = random.Random(f"presses {seed}")
        self._number = 0
        self._shown: dict[str, Any] = {}  # the campaign, as of the last answer
        self.log: list[Pressed] = []
        self.accepted: Counter[str] = Counter()
        self.refused: Counter[str] = Counter()
        self.again = 0
        self.slowest_s = 0.0
        headers = {"Authorization": f"Bearer {system.admin_key}"}
        self._http = httpx.AsyncClient(headers=headers, trust_env=False, timeout=_ANSWER_S)

    async def close(self) -> None:
        """Let go of the connections."""
        await self._http.aclose()

    async def prepare(self) -> None:
        """Create the campaign, and have it prefetched."""
        content = {"stages": {stage: {"title": stage} for stage in STAGES}}
        variants = [{"match": {}, "bundle": content}]
        body = {"id": TOPIC, "title": "soak", "topic": TOPIC, "stages": STAGES, "variants": variants}
        await self._send("create", _PATH, body)
        await self._press("prefetch", {"window_s": _WINDOW_S})

    async def press(self, stop: asyncio.Event) -> None:
        """Press one button after the other until told to stop."""
        deeds = (self._activate, self._arm, self._arm_and_cancel, self._arm_and_move, self._retract, self._prefetch)
        while not await paused(stop, self._rng.uniform(*_PAUSE_S)):
            await self._rng.choice(deeds)(stop)

    # --- What may be pressed.

    async def _activate(self, _: asyncio.Event) -> None:
        await self.activate()

    async def activate(self, in_s: float = 0.0) -> int | None:
        """Activate a stage that nobody shows; return the revision, None if it was refused."""
        body = {"stage": self._news(), "window_s": _WINDOW_S, "in_s": in_s}
        # Those that are away lower the coverage, and what is asked here is whether they come to it all the same.
        return await self._press("activate", {**body, "force": True, "reason": "soak"})

    def _news(self) -> str:
        """Return a stage that no device may show by now: a device that shows it already would not flip."""
        before = [self._shown.get(name) or {} for name in ("activation", "begun")]
        may = {self._shown.get("stage"), *(each.get(name) for each in before for name in ("stage", "before"))}
        return self._rng.choice([stage for stage in STAGES if stage not in may])

    async def _arm(self, _: asyncio.Event) -> None:
        await self.activate(in_s=self._rng.uniform(1, 3))

    async def _arm_and_cancel(self, stop: asyncio.Event) -> None:
        if await self.activate(in_s=AHEAD_S) is not None:
            await asyncio.sleep(self._rng.uniform(0, 1))
            await self._press("cancel", {})
            if self._rng.random() < _LEFT_ALONE:
                # The next activation would take it back as well, and hide from us that the cancel did not.
                await paused(stop, AHEAD_S + _WINDOW_S)

    async def _arm_and_move(self, _: asyncio.Event) -> None:
        if await self.activate(in_s=AHEAD_S) is not None:
            await asyncio.sleep(self._rng.uniform(0, 1))
            await self.activate()

    async def _retract(self, _: asyncio.Event) -> None:
        await self._press("retract", {"reason": "soak", "window_s": _WINDOW_S})

    async def _prefetch(self, _: asyncio.Event) -> None:
        await self._press("prefetch", {"window_s": _WINDOW_S})

    # --- How.

    async def _press(self, action: str, body: dict[str, Any]) -> int | None:
        found = await self._send(action, f"{_PATH}/{TOPIC}/{action}", body)
        if found is None:
            return None
        self._shown = found
        rev, activation = int(found["rev"]), found.get("activation")
        if action == "cancel":
            self.log.append(Pressed(action, rev))
        elif action in ("activate", "retract"):
            if activation is None or activation["rev"] != rev:
                raise SoakFailed(f"{action} was answered with revision {rev} and the activation {activation}")
            self.log.append(Pressed(action, rev, activation["at"], activation["window_ms"]))
        return rev

    async def _send(self, kind: str, path: str, body: dict[str, Any]) -> dict[str, Any] | None:
        """Send a request until it is answered for good; return what it says, None if it is refused.

        Raises:
            SoakFailed: No answer came within the limit, or one that says that this is no request at all.
        """
        self._number += 1
        headers = {"Idempotency-Key": f"soak-{self._number}"}
        began_s = time.monotonic()
        last = ""
        while time.monotonic() - began_s < _PATIENCE_S:
            url = self._rng.choice(self._system.controls).url + path
            try:
                response = await self._http.post(url, json=body, headers=headers)
            except httpx.HTTPError as exc:
                last = repr(exc)
            else:
                last = f"{response.status_code}: {response.text[:400]}"
                if response.status_code == _REFUSED:
                    self.refused[kind] += 1
                    return None
                if response.is_success:
                    self.accepted[kind] += 1
                    self.slowest_s = max(self.slowest_s, time.monotonic() - began_s)
                    return dict(response.json())
                if response.status_code < 500:
                    break
            self.again += 1
            await asyncio.sleep(_RETRY_S)
        raise SoakFailed(f"{kind} was not answered: {last}")
