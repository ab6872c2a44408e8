"""Activations that come late, and those whose bundle is not there."""

from __future__ import annotations

from collections import deque

from fanout import wire
from fanout.conformance import messages
from fanout.conformance.gateway import Answer
from fanout.conformance.peer import mono_ms
from fanout.conformance.scenarios.registry import scenario
from fanout.conformance.scene import WINDOW_MS, Scene
from fanout.conformance.verdicts import Broken


@scenario("late-open", "16, 22")
async def late_open(scene: Scene) -> str:
    """A device that learns of an open window after its slot acts at once."""
    campaign, bundle = await scene.held()
    activation = scene.activate(campaign, bundle, ahead_ms=-1_500, window_ms=4_000, slot=(200, 600))
    await scene.say(activation)
    told = await scene.report(activation, "active", mono_ms())
    return f"after {scene.on_time(told.at_ms, scene.sent_ms(activation), 'the flip')} ms"


@scenario("late-over", "17, 18")
async def late_over(scene: Scene) -> str:
    """Of several windows that are over only the newest acts, at a slot in the catch-up from then on."""
    campaign, bundle = await scene.held()
    long_ago = {"ahead_ms": -20_000, "window_ms": WINDOW_MS}
    older = scene.activate(campaign, bundle, slot=(500, 700), stage="upcoming", **long_ago)
    newer = scene.activate(campaign, bundle, slot=(900, 1_400), **long_ago)
    await scene.say(older, newer)
    due = scene.sent_ms(newer) + scene.slot_of(newer, min(wire.CATCH_UP_MS, WINDOW_MS))
    late = await scene.acts(newer, due)
    scene.only(campaign, newer)
    return f"late by {late} ms"


@scenario("miss-fetch", "19")
async def miss_fetch(scene: Scene) -> str:
    """Without the bundle, `fetch` gets it at the device's slot, then acts with `via: "fetch"`."""
    campaign = scene.campaign()
    path, digest = _serve(scene, campaign)
    activation = scene.activate(campaign, digest, miss="fetch")
    await scene.say(activation)
    due = scene.due_ms(activation)
    get = await scene.seen(lambda: next(iter(scene.gets(path)), None), due, f"GET {path} at its slot")
    scene.on_time(get.at_ms, due, "the fetch")
    told = await scene.report(activation, "active", get.at_ms)
    if told.report.via != "fetch":
        raise Broken("via fetch", str(told))
    return f"fetched and shown {told.at_ms - due:.0f} ms after its slot"


@scenario("miss-generic", "19")
async def miss_generic(scene: Scene) -> str:
    """Without the bundle, `generic` acts at the slot with `via: "generic"` and fetches nothing."""
    campaign = scene.campaign()
    path, digest = _serve(scene, campaign)
    activation = scene.activate(campaign, digest, miss="generic")
    await scene.say(activation)
    late = await scene.acts(activation, via="generic")
    _not_asked(scene, path)
    return f"late by {late} ms"


@scenario("miss-silent", "19")
async def miss_silent(scene: Scene) -> str:
    """Without the bundle, `silent` shows nothing, fetches nothing and reports `failed` at the slot."""
    campaign = scene.campaign()
    path, digest = _serve(scene, campaign)
    activation = scene.activate(campaign, digest, miss="silent")
    await scene.say(activation)
    told = await scene.report(activation, "failed", scene.due_ms(activation))
    scene.on_time(told.at_ms, scene.due_ms(activation), "the report")
    _not_asked(scene, path)
    return "failed"


def _serve(scene: Scene, campaign: str) -> tuple[str, str]:
    """Put a bundle where a device looks for one it was told nothing of; return path and digest."""
    content = messages.content_of(campaign)
    digest = messages.sha256(content)
    path = wire.BUNDLE_PATH + digest
    scene.gateway.shelf[path] = deque([Answer(content.encode())])
    return path, digest


def _not_asked(scene: Scene, path: str) -> None:
    if scene.gets(path):
        raise Broken("no fetch", f"GET {path}")
