"""Which messages count: repeated, overtaken, superseded, cancelled, closed."""

from __future__ import annotations

import asyncio

from fanout.conformance import messages
from fanout.conformance.peer import mono_ms
from fanout.conformance.scenarios.registry import scenario
from fanout.conformance.scene import Scene

_NOTHING = "nothing acts"


@scenario("duplicate", "1, 14, 20")
async def duplicate(scene: Scene) -> str:
    """Messages that come three times, and again after the flip, are ready once and act once."""
    campaign = scene.campaign()
    content = messages.content_of(campaign)
    fetch = scene.prefetch(campaign, content, inline=content)
    activation = scene.activate(campaign, messages.sha256(content))
    await scene.say(fetch, fetch, activation, activation, fetch, activation)
    await scene.acts(activation)
    await scene.say(fetch, activation, activation)
    await asyncio.sleep(scene.tolerances.late_ms / 1000)  # to the end of which a second report would have come
    for kind in ("ready", "active"):
        scene.once(campaign, kind)
    return "ready once, active once"


@scenario("reorder", "1, 12")
async def reorder(scene: Scene) -> str:
    """A cancel or a moved event that overtakes what it strikes strikes it all the same."""
    moved, cancelled = await scene.held(), await scene.held()
    old = scene.activate(*moved)
    new = scene.activate(*moved, ahead_ms=1_000)
    struck = scene.activate(*cancelled)
    cancel = scene.cancel(cancelled[0])
    await scene.say(new, old, cancel, struck)
    await scene.acts(new)
    scene.only(moved[0], new)
    await scene.idle_past(struck, _NOTHING)
    return "the same as in order"


@scenario("old-prefetch", "1")
async def old_prefetch(scene: Scene) -> str:
    """A prefetch that is older than the newest changes nothing."""
    campaign = scene.campaign()
    old_content, content = messages.content_of(campaign + "-old"), messages.content_of(campaign)
    old = scene.prefetch(campaign, old_content, inline=old_content)
    new = scene.prefetch(campaign, content, inline=content)
    await scene.say(new, old)
    await scene.ready(new, "inline")
    await scene.still(campaign, mono_ms(), "no report for the older prefetch", but=[new["rev"]])
    return "left alone"


@scenario("cancel", "12")
async def cancel(scene: Scene) -> str:
    """What is cancelled before its `at` never acts."""
    campaign, bundle = await scene.held()
    activation = scene.activate(campaign, bundle)
    await scene.say(activation, scene.cancel(campaign))
    await scene.idle_past(activation, _NOTHING)
    return "did not act"


@scenario("cancel-begun", "12")
async def cancel_begun(scene: Scene) -> str:
    """What had begun when the cancel was published acts at its slot."""
    campaign, bundle = await scene.held()
    activation = scene.activate(campaign, bundle, ahead_ms=-50)
    await scene.say(activation, scene.cancel(campaign))
    return f"late by {await scene.acts(activation)} ms"


@scenario("moved", "12")
async def moved(scene: Scene) -> str:
    """When the event moves, only the newer activation acts."""
    campaign, bundle = await scene.held()
    old = scene.activate(campaign, bundle)
    new = scene.activate(campaign, bundle, ahead_ms=1_200)
    await scene.say(old, new)
    await scene.acts(new)
    scene.only(campaign, new)
    return "only the newer acted"


@scenario("begun-and-newer", "12, 15")
async def begun_and_newer(scene: Scene) -> str:
    """What had begun acts at its slot, and a newer activation at its own, later one."""
    campaign, bundle = await scene.held()
    first = scene.activate(campaign, bundle, ahead_ms=-50, stage="upcoming")
    second = scene.activate(campaign, bundle, ahead_ms=1_400)
    await scene.say(first, second)
    return f"late by {await scene.acts(first)} ms and {await scene.acts(second)} ms"


@scenario("fallen", "12")
async def fallen(scene: Scene) -> str:
    """What fell to a newer activation stays down when that is cancelled, in whatever order they come."""
    forwards, backwards = await scene.held(), await scene.held()
    for (campaign, bundle), reverse in ((forwards, False), (backwards, True)):
        first = scene.activate(campaign, bundle)
        second = scene.activate(campaign, bundle, ahead_ms=700)
        script = [first, second, scene.cancel(campaign)]
        await scene.say(*(reversed(script) if reverse else script))
    await scene.idle_past(second, _NOTHING)
    scene.nothing_active(forwards[0], _NOTHING)
    return "did not act"


@scenario("overtaken", "14")
async def overtaken(scene: Scene) -> str:
    """An activation older than the newest that has acted never acts, however late it comes."""
    campaign, bundle = await scene.held()
    # It had begun when the newer one was published, so nothing else strikes it.
    old = scene.activate(campaign, bundle, ahead_ms=-50, slot=(1_100, 1_500), stage="upcoming")
    new = scene.activate(campaign, bundle, ahead_ms=100, window_ms=0)
    await scene.say(new)
    await scene.acts(new)
    await scene.say(old)
    await scene.idle_past(old, "nothing older acts", but=new)
    return "did not act"


@scenario("close", "2")
async def close(scene: Scene) -> str:
    """A close drops what is armed; older messages that come late do not bring the campaign back, newer ones do."""
    campaign, bundle = await scene.held()
    before = scene.reported(campaign)
    content = messages.content_of(campaign)
    armed, late = scene.activate(campaign, bundle), scene.activate(campaign, bundle)
    old = scene.prefetch(campaign, content, inline=content)
    await scene.say(armed, scene.close(campaign))
    await scene.say(late, old)
    await scene.still(campaign, scene.due_ms(late), "nothing after a close", but=before)
    new = scene.prefetch(campaign, content, inline=content)
    again = scene.activate(campaign, bundle, ahead_ms=300, window_ms=0)
    await scene.say(new, again)
    await scene.ready(new, "inline")
    await scene.acts(again)
    return "closed, and opened by a newer revision"


@scenario("shadow", "15, 20")
async def shadow(scene: Scene) -> str:
    """A rehearsal is prefetched and activated as always, and reports as always."""
    campaign, bundle = await scene.held(shadow=True)
    activation = scene.activate(campaign, bundle, shadow=True)
    await scene.say(activation)
    return f"late by {await scene.acts(activation)} ms"
