"""The server's clock: far from the wall's, heard late, stepping."""

from __future__ import annotations

import asyncio

from fanout.conformance.scenarios.registry import Stage, scenario
from fanout.conformance.scene import Scene

_HOUR_MS = 3_600_000
_BEHIND_MS = 900  # less than what looks like a step back (rule 6)
_DELAYED = 5  # beacons in a row that come so late; fewer than a device has to remember
_STEP_BACKS = 4  # after three of them the device starts again
_BETWEEN_S = 0.05


@scenario("clock-delayed", "5", Stage.ALONE)
async def clock_delayed(scene: Scene) -> str:
    """Beacons that were 900 ms on their way do not make the device late: the largest sample counts."""
    peer = await scene.peer()
    await scene.gateway.beacon(peer)
    campaign, bundle = await scene.held()
    scene.gateway.beaconing = False
    activation = scene.activate(campaign, bundle, ahead_ms=200, window_ms=800)
    await scene.say(activation)
    for _ in range(_DELAYED):
        await scene.gateway.beacon(peer, _BEHIND_MS)
    return f"late by {await scene.acts(activation)} ms"


@scenario("clock-ahead", "5, 7", Stage.ALONE)
async def clock_ahead(scene: Scene) -> str:
    """When the server's clock steps three hours ahead of the wall's, the device follows at once."""
    return await _stepped(scene, 3 * _HOUR_MS, 1)


@scenario("clock-back", "6, 7", Stage.ALONE)
async def clock_back(scene: Scene) -> str:
    """When the server's clock steps back by two hours, the device follows after three beacons."""
    return await _stepped(scene, -2 * _HOUR_MS, _STEP_BACKS)


async def _stepped(scene: Scene, by_ms: int, beacons: int) -> str:
    gateway = scene.gateway
    campaign, bundle = await scene.held()
    peer = await scene.peer()
    gateway.skew_ms += by_ms
    for _ in range(beacons):
        await gateway.beacon(peer)
        await asyncio.sleep(_BETWEEN_S)
    activation = scene.activate(campaign, bundle)
    await scene.say(activation)
    return f"late by {await scene.acts(activation)} ms"
