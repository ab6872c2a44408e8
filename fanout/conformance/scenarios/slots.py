"""Slots and shares: does it act, and when?"""

from __future__ import annotations

import asyncio

from fanout.conformance.peer import mono_ms
from fanout.conformance.scenarios.registry import scenario
from fanout.conformance.scene import WINDOW_MS, Scene
from fanout.slots import share_point

# Around the device's own point: wide of what a wrong division would move it by.
_SHARE_STEP = 0.02
# All over the window, and so many that one who hashes something else is not right by chance.
_SLOTS = ((0, 150), (200, 400), (500, 700), (800, 1_000), (1_100, 1_300), (1_400, 1_599))


@scenario("slots", "7, 13, 22, §5")
async def slots(scene: Scene) -> str:
    """Every activation acts at its `at` plus the slot of its own revision, and says so with `active`."""
    activations = []
    for slot in _SLOTS:
        campaign, bundle = await scene.held()
        activation = scene.activate(campaign, bundle, slot=slot)
        await scene.say(activation)
        activations.append(activation)
    late = await asyncio.gather(*map(scene.acts, activations))
    return f"late by {', '.join(f'{ms} ms' for ms in late)}"


@scenario("no-window", "13, §5")
async def no_window(scene: Scene) -> str:
    """With a window of 0 everyone acts at `at`."""
    campaign, bundle = await scene.held()
    activation = scene.activate(campaign, bundle, window_ms=0)
    await scene.say(activation)
    return f"late by {await scene.acts(activation)} ms"


@scenario("share", "12, 13, §5")
async def share(scene: Scene) -> str:
    """A device whose point is below the share acts, one whose point is not below it does not."""
    inside, outside = await scene.held(), await scene.held()
    device_id = scene.gateway.device_id
    yes = scene.activate(*inside, share=min(1.0, share_point(device_id, inside[0]) + _SHARE_STEP))
    no = scene.activate(*outside, share=max(0.0, share_point(device_id, outside[0]) - _SHARE_STEP))
    await scene.say(yes, no)
    await scene.acts(yes)
    await scene.still(outside[0], scene.due_ms(no), "no report outside the share", but=scene.reported(outside[0]))
    return "acted inside, not outside"


@scenario("share-widened", "12, 15, 20")
async def share_widened(scene: Scene) -> str:
    """When a share is widened, those who were outside act, and those inside report the new revision once."""
    inside, outside = await scene.held(), await scene.held()
    first = scene.activate(*inside, window_ms=0, share=1.0)
    none = scene.activate(*outside, window_ms=0, share=0.0)
    await scene.say(first, none)
    await scene.acts(first)
    again, all_of_it = scene.activate(*inside), scene.activate(*outside)
    await scene.say(again, all_of_it)
    await asyncio.gather(scene.acts(again), scene.acts(all_of_it))
    await scene.still(outside[0], mono_ms(), "one activation", but=[*scene.reported(outside[0]), all_of_it["rev"]])
    return f"each once, {WINDOW_MS} ms wide"
