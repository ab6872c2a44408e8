"""Frames: what a device has to take, and what it must not fall over."""

from __future__ import annotations

from typing import Any

from fanout import limits, wire
from fanout.conformance.messages import Message, encoded
from fanout.conformance.peer import Peer, mono_ms
from fanout.conformance.scenarios.registry import Stage, scenario
from fanout.conformance.scene import Scene
from fanout.conformance.verdicts import Broken

# Of padding in a welcome: a megabyte and a half of the two a device has to take.
_PADDING_BYTES = 1_500_000
assert _PADDING_BYTES < limits.TO_DEVICE_BYTES_MAX

# What is said in pieces: so many that every field of it is cut somewhere.
_PIECES = 9

# Known types with wrong fields, no maps, no types.
_WRONG: tuple[Any, ...] = (
    [],
    7,
    None,
    "activate",
    {},
    {"t": 5},
    {"t": None},
    {"t": "activate"},
    {"t": "beacon", "now": "soon", "rev": 1},
    {"t": "beacon", "now": None, "rev": None},
    {"t": "prefetch", "campaign": "x", "rev": 1, "bundle": "none", "from": 1, "window_ms": 1},
    {"t": "activate", "campaign": "x", "rev": [], "stage": {}, "bundle": 1, "at": True, "window_ms": "1"},
    {"t": "cancel", "campaign": 5, "rev": "9"},
    {"t": "close"},
    {"t": "reconnect", "within_ms": "now"},
)
_GARBAGE = {wire.Encoding.JSON: ("{", '{"t":', "\x00", "undefined"), wire.Encoding.MSGPACK: (b"\xc1", b"\x81", b"")}


@scenario("ping", "25")
async def ping(scene: Scene) -> str:
    """A WebSocket ping is answered."""
    peer = await scene.peer()
    began = mono_ms()
    if not await peer.ping(1 + scene.tolerances.late_ms / 1000):
        raise Broken("a pong", "none")
    return f"after {mono_ms() - began:.0f} ms"


@scenario("unknown", "§2, §10", Stage.ALONE)
async def unknown(scene: Scene) -> str:
    """Unknown fields and messages of unknown types change nothing; the connection stays."""
    peer = await scene.peer()
    campaign, bundle = await scene.held(colour="red", deep={"a": [1, {"b": None}]})
    await peer.say({"t": "hologram", "campaign": campaign, "rev": 1})
    await peer.say({"t": "prefetched", "n": -1.5})
    activation = scene.activate(campaign, bundle, shadow=False, share=1, miss="fetch", glow=[1.5, None])
    await scene.say(dict(reversed(activation.items())))
    late = await scene.acts(activation)
    _same(scene, peer)
    return f"late by {late} ms"


@scenario("malformed", "§8", Stage.ALONE)
async def malformed(scene: Scene) -> str:
    """What cannot be decoded, or has wrong fields, is as if it had not come; the connection stays."""
    peer = await scene.peer()
    campaign, bundle = await scene.held()
    activation = scene.activate(campaign, bundle)
    await scene.say(activation)
    for frame in _GARBAGE[peer.encoding]:
        await peer.send(frame)
    for message in _WRONG:
        await peer.send(encoded(message, peer.encoding))
    late = await scene.acts(activation)
    _same(scene, peer)
    return f"late by {late} ms"


@scenario("fragments", "§2", Stage.ALONE)
async def fragments(scene: Scene) -> str:
    """A message in several WebSocket fragments is put together."""
    peer = await scene.peer()
    campaign, bundle = await scene.held()
    activation = scene.activate(campaign, bundle, window_ms=0)
    scene.withhold(activation)
    await peer.say(activation, _PIECES)
    late = await scene.acts(activation)
    _same(scene, peer)
    return f"late by {late} ms"


@scenario("large-welcome", "§9", Stage.ALONE)
async def large_welcome(scene: Scene) -> str:
    """A welcome of a megabyte and a half is taken, and its state with it."""
    campaign, bundle = await scene.held()
    padding: Message = {"padding": "x" * _PADDING_BYTES}

    async def greet(peer: Peer) -> None:
        await scene.gateway.welcome(peer, more=padding)

    scene.gateway.greeting = greet
    dropped = await scene.drop()
    activation = scene.activate(campaign, bundle, ahead_ms=2_000, window_ms=0)
    scene.withhold(activation)
    await scene.back(dropped)
    late = await scene.acts(activation)
    return f"late by {late} ms"


def _same(scene: Scene, peer: Peer) -> None:
    if not peer.open:
        raise Broken("the connection to stay", f"the device closed it with {peer.code}")
