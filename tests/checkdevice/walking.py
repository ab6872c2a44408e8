"""Walking a device that lives in this process."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Iterable

from support.waiting import PATIENCE_S

from fanout import wire
from fanout.conformance.gateway import ScriptedGateway
from fanout.conformance.scenarios.catalogue import ALL
from fanout.conformance.scenarios.registry import Scenario, Stage
from fanout.conformance.verdicts import Tolerances, Verdict
from fanout.conformance.walk import walk
from fanout.device import Device
from fanout.tokens import mint

# A fault shows by more than this, which is what a busy machine may take.
CLOSE = Tolerances(late_ms=600)
# Many devices share this process with their gateways, and the machine with other tests: being late is no fault there.
PATIENT = Tolerances(late_ms=5_000)
BY_ID = {scenario.id: scenario for scenario in ALL}


class Inside:
    """The Python SDK as a subject."""

    def __init__(self, gateway: ScriptedGateway, device_id: str, encoding: wire.Encoding) -> None:
        self._gateway = gateway
        self._token = mint(b"a key that only these tests know, 32 bytes", device_id, ["check"])
        self._encoding = encoding
        # The same in every run: of all the waits that may be drawn, some look as if nobody had waited.
        self._rng = random.Random(device_id)
        self._living: asyncio.Task[None] | None = None

    def start(self) -> bool:
        if self._living is not None:
            self._living.cancel()
        self._living = asyncio.create_task(self._live())
        return True

    def ended(self) -> str | None:
        return None

    async def stop(self) -> None:
        if self._living is not None:
            self._living.cancel()
            await asyncio.wait([self._living])

    async def _live(self) -> None:
        url, origin = self._gateway.url, self._gateway.origin
        async with Device(
            url, get_token=lambda: self._token, origin_url=origin, encoding=self._encoding, rng=self._rng
        ) as device:
            async for _ in device:
                pass


async def walked(
    scenarios: Iterable[Scenario],
    device_id: str,
    tolerances: Tolerances,
    encoding: wire.Encoding = wire.Encoding.MSGPACK,
) -> list[Verdict]:
    """Walk a device with this id through these, on a port of its own."""
    async with ScriptedGateway("127.0.0.1", 0, (encoding,)) as gateway:
        inside = Inside(gateway, device_id, encoding)
        try:
            return await walk(
                gateway, inside, scenarios, tolerances, lambda scenario, verdict: None, first_within_s=PATIENCE_S
            )
        finally:
            await inside.stop()


def with_what_it_reads(scenario_id: str) -> list[Scenario]:
    """Return a scenario; before one that reads what others have brought, one that brings something."""
    scenario = BY_ID[scenario_id]
    return [BY_ID["duplicate"], scenario] if scenario.stage == Stage.AFTER else [scenario]
