"""Beacons, and what a device does when they stop."""

from __future__ import annotations

import asyncio

from fanout import wire
from fanout.conformance.gateway import GRACE_MS
from fanout.conformance.messages import Message
from fanout.conformance.peer import Heard, Peer, mono_ms
from fanout.conformance.scenarios.registry import Stage, scenario
from fanout.conformance.scene import Scene
from fanout.conformance.verdicts import Broken

# Less than the grace: after that a device may ask again.
_PATIENCE_MS = 700
# When what is armed is due, from the last word on: past the grace, before the device takes the socket for dead.
_DUE_MS = (GRACE_MS + 300, GRACE_MS + 600)


@scenario("beacon", "3, 26", Stage.ALONE)
async def beacon(scene: Scene) -> str:
    """A beacon above what the device knows makes it send one `sync` with its `since`; the answer then counts."""
    peer = await scene.peer()
    campaign, bundle = await scene.held()
    known = scene.gateway.ledger.newest
    scene.gateway.beaconing = scene.gateway.answering = False
    activation = scene.activate(campaign, bundle, ahead_ms=2_000, window_ms=0)
    scene.withhold(activation)
    began = mono_ms()
    await scene.gateway.beacon(peer)
    heard = await scene.seen(lambda: next(iter(scene.syncs(began)), None), began, "a sync")
    assert isinstance(heard.message, wire.Sync)
    if heard.message.since != known:
        raise Broken(f"sync with since {known}", f"since {heard.message.since}")
    if await scene.gateway.until(lambda: len(scene.syncs(began)) > 1, began + _PATIENCE_MS):
        raise Broken("one sync", f"{len(scene.syncs(began))} syncs before the answer")
    scene.gateway.behave()
    await scene.gateway.answer(peer, heard.message.since)
    return f"asked after {heard.at_ms - began:.0f} ms, acted {await scene.acts(activation)} ms late"


@scenario("silence", "16, 23, 24", Stage.ALONE)
async def silence(scene: Scene) -> str:
    """After a silence of three `beacon_s` nothing armed acts, and a `sync` is sent; its answer ends the doubt."""
    _, activation, spoke = await _fall_silent(scene, *await scene.held())
    heard = await _doubt(scene, spoke)
    peer = await scene.peer()
    await asyncio.sleep((spoke + _DUE_MS[1] + 200 - mono_ms()) / 1000)
    scene.nothing_active(activation["campaign"], "nothing acts while the device is in doubt")
    scene.gateway.behave()
    answered = mono_ms()
    assert isinstance(heard.message, wire.Sync)
    await scene.gateway.answer(peer, heard.message.since)
    told = await scene.report(activation, "active", answered)
    return f"sync after {heard.at_ms - spoke:.0f} ms; acted {told.at_ms - answered:.0f} ms after the answer"


@scenario("half-open", "23, 24", Stage.ALONE)
async def half_open(scene: Scene) -> str:
    """When the `sync` brings nothing either, a new connection is opened; what was cancelled meanwhile never acts."""
    campaign, bundle = await scene.held()
    _, activation, spoke = await _fall_silent(scene, campaign, bundle)
    scene.withhold(scene.cancel(campaign))
    await _doubt(scene, spoke)
    expected = spoke + 2 * GRACE_MS
    await scene.gateway.until(lambda: scene.handshake_after(spoke), expected + scene.tolerances.late_ms)
    scene.nothing_active(campaign, "nothing acts while the device is in doubt")
    handshake = scene.handshake_after(spoke)
    if handshake is None:
        raise Broken(f"a new connection after {2 * GRACE_MS:.0f} ms of silence", "none")
    scene.on_time(handshake.at_ms, expected, "a new connection")
    scene.gateway.behave()
    await scene.idle_past(activation, "what was cancelled never acts")
    await scene.still(campaign, mono_ms(), "what was cancelled never acts", but=scene.reported(campaign))
    return f"a new connection after {handshake.at_ms - spoke:.0f} ms"


async def _fall_silent(scene: Scene, campaign: str, bundle: str) -> tuple[Peer, Message, float]:
    """Arm something for the time of doubt, say a last word, and nothing more; return when that was."""
    peer = await scene.peer()
    scene.gateway.beaconing = scene.gateway.answering = False
    slot = (int(_DUE_MS[0]) - 1_000, int(_DUE_MS[1]) - 1_000)
    activation = scene.activate(campaign, bundle, ahead_ms=1_000, window_ms=6_000, slot=slot)
    await scene.say(activation)
    spoke = mono_ms()
    await scene.gateway.beacon(peer)
    return peer, activation, spoke


async def _doubt(scene: Scene, spoke: float) -> Heard:
    heard = await scene.seen(
        lambda: next(iter(scene.syncs(spoke)), None), spoke + GRACE_MS, "a sync after the silence"
    )
    scene.on_time(heard.at_ms, spoke + GRACE_MS, "a sync after the silence")
    return heard
