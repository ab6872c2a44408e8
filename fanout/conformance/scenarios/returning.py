"""Coming back: what a device tells, how long it waits, and how it moves from one connection to the next."""

from __future__ import annotations

import asyncio
from functools import partial

from fanout.conformance.gateway import POLICY
from fanout.conformance.peer import Handshake, Peer, mono_ms
from fanout.conformance.scenarios.registry import Stage, scenario
from fanout.conformance.scene import RETURN_MS, Scene
from fanout.conformance.verdicts import Broken, NotShown

# Backoff of the scenario about it. Of a device that keeps the rule, six waits come to less than `_LITTLE_MS` once in
# 250,000 walks, and are all within 50 ms of each other once in a million.
_STEEP = {"base_ms": 50, "cap_ms": 1_200}
_WAITS = 11
_LONGEST_FROM = 5  # 50 ms * 2^5 is past the cap
_LITTLE_MS = 450
_ALIKE_MS = 50
# Refusals in a row, and a backoff for them: a device that waits at random comes back from the first eight within
# `_HAMMER_MS` once in 500,000 walks.
_REFUSED = (*(401,) * 8, 404, 500)
_REFUSED_POLICY = {"base_ms": 200, "cap_ms": 800}
_HAMMER_MS = 450
# What a gateway that is full asks for.
_RETRY_AFTER_S = 1
_WITHIN_MS = 1_200
# The new connection's welcome is kept back for so long, to see what becomes of the old one.
_HESITATE_MS = 500
# A device that may not come back is watched for so long; the longest backoff is over by then.
_WATCH_MS = 2_000


@scenario("resume", "3, 9, 13, 21", Stage.ALONE)
async def resume(scene: Scene) -> str:
    """A connection says `have` and `since`, and acts on the state it is told; what is shown is reported again."""
    shown = await scene.held()
    first = scene.activate(*shown, ahead_ms=200, window_ms=0)
    await scene.say(first)
    await scene.acts(first)
    armed, bundle = await scene.held()
    scene.gateway.beaconing = False
    since = scene.gateway.ledger.newest
    activation = scene.activate(armed, bundle, ahead_ms=2_500)
    scene.withhold(activation)
    dropped = await scene.drop()
    handshake = await scene.back(dropped)
    _resumes(handshake, since, {shown[1], bundle})
    scene.gateway.beaconing = True
    repeat = await scene.seen(
        lambda: next((t for t in scene.all_reports(shown[0]) if t.report.via == "resume"), None),
        mono_ms(),
        f"report active for rev {first['rev']}, via resume, after the welcome",
    )
    if (repeat.report.rev, repeat.report.kind, repeat.report.ms) != (first["rev"], "active", 0):
        raise Broken(f"report active for rev {first['rev']}, via resume, ms 0", str(repeat))
    late = await scene.acts(activation)
    scene.once(armed, "ready")
    return f"since and have right, resumed, acted {late} ms late"


def _resumes(handshake: Handshake, since: int, held: set[str]) -> None:
    """Hold that a handshake tells what the device knows and holds."""
    if handshake.since != since:
        raise Broken(f"since={since}", f"since={handshake.since}")
    if missing := held - set(handshake.have):
        raise Broken("every bundle it holds in have", f"{len(missing)} missing, {len(handshake.have)} named")


@scenario("reconnect", "31", Stage.ALONE, bound_s=20)
async def reconnect(scene: Scene) -> str:
    """On `reconnect` a new connection comes in time; the old one lives until its welcome, then ends with 1000."""
    old = await scene.peer()
    campaign, bundle = await scene.held()
    gateway = scene.gateway

    async def greet(peer: Peer) -> None:
        await asyncio.sleep(_HESITATE_MS / 1000)
        await gateway.welcome(peer)

    gateway.greeting = greet
    told = mono_ms()
    await old.say({"t": "reconnect", "within_ms": _WITHIN_MS})
    handshake = await scene.back(told, _WITHIN_MS + scene.tolerances.late_ms, f"within {_WITHIN_MS} ms")
    _resumes(handshake, gateway.ledger.newest, {bundle})
    if not old.open:
        raise Broken("the old connection to live until the new one's welcome", f"closed with {old.code} before")
    activation = scene.activate(campaign, bundle, ahead_ms=1_500, window_ms=0)
    await scene.say(activation)
    new = await gateway.until(lambda: handshake.peer, mono_ms() + RETURN_MS)
    if new is None or not await gateway.until(lambda: new.welcomed_ms or not old.open, mono_ms() + RETURN_MS):
        raise NotShown("the new connection was not finished")
    if new.welcomed_ms is None:
        raise Broken("the old connection to live until the new one's welcome", f"closed with {old.code} before it")
    await scene.seen(lambda: old.closed_ms, new.welcomed_ms, "the old connection to be closed after the welcome")
    if old.code != 1000:
        raise Broken("the old connection closed with 1000", f"{old.code}")
    await scene.acts(activation)
    if not new.open:
        raise Broken("the new connection to stay", f"closed with {new.code}")
    return f"moved after {handshake.at_ms - told:.0f} ms"


@scenario("reconnect-fails", "32", Stage.ALONE, bound_s=20)
async def reconnect_fails(scene: Scene) -> str:
    """When the new connection is refused, the old one is kept, and another try comes after the usual backoff."""
    old = await scene.peer()
    scene.gateway.refusals.append((503, {}))
    told = mono_ms()
    await old.say({"t": "reconnect", "within_ms": 300})
    refused = await scene.back(told, 300 + scene.tolerances.late_ms, "within 300 ms")
    if refused.status != 503:
        raise NotShown("it came another way")
    again = await scene.back(refused.at_ms, POLICY["cap_ms"] + scene.tolerances.late_ms, "after the refusal")
    if not old.open and (old.closed_ms or 0) < again.at_ms:
        raise Broken("the old connection to be kept", f"closed with {old.code}")
    await scene.seen(lambda: old.closed_ms, again.at_ms, "the old connection to be closed after the welcome")
    return f"again after {again.at_ms - refused.at_ms:.0f} ms, the old one kept meanwhile"


@scenario("backoff", "27, 30", Stage.ALONE, bound_s=60)
async def backoff(scene: Scene) -> str:
    """Waits are random, within spans that double to the cap; a welcome alone does not shorten them, a life does."""
    gateway, late_ms = scene.gateway, scene.tolerances.late_ms

    async def slam(peer: Peer) -> None:
        await gateway.welcome(peer, _STEEP)
        await peer.drop(1011)

    gateway.greeting = slam
    at = await scene.drop(1011)
    waits = []
    for n in range(_WAITS):
        longest = min(_STEEP["cap_ms"], _STEEP["base_ms"] * 2**n) if n else POLICY["cap_ms"]
        handshake = await scene.back(at, longest + late_ms, f"within the span of {longest} ms, number {n}")
        waits.append(handshake.at_ms - at)
        if n == _WAITS - 1:
            gateway.greeting = partial(gateway.welcome, policy=_STEEP)
        peer = await _settled(scene, handshake)
        at = peer.dropped_ms or mono_ms()
    longest_waits = waits[_LONGEST_FROM:]
    words = ", ".join(f"{wait:.0f}" for wait in waits)
    if sum(longest_waits) <= _LITTLE_MS:
        raise Broken(f"waits that grow to {_STEEP['cap_ms']} ms", f"waits of {words} ms")
    if max(longest_waits) - min(longest_waits) <= _ALIKE_MS:
        raise Broken("a fresh random wait each time", f"waits of {words} ms")
    await asyncio.sleep((_STEEP["cap_ms"] + 100) / 1000)
    dropped = await scene.drop(1011)
    await scene.back(dropped, _STEEP["base_ms"] + late_ms, f"within {_STEEP['base_ms']} ms after a good connection")
    return f"waits of {words} ms"


async def _settled(scene: Scene, handshake: Handshake) -> Peer:
    """Wait until the connection of a handshake has been greeted, whatever that means."""

    def greeted() -> Peer | None:
        peer = handshake.peer
        done = peer is not None and (peer.dropped_ms or peer.closed_ms or scene.gateway.peer is peer)
        return peer if done else None

    peer = await scene.gateway.until(greeted, mono_ms() + RETURN_MS)
    if peer is None:
        raise NotShown("a handshake was not finished")
    return peer


@scenario("retry-after", "29, §1", Stage.ALONE)
async def retry_after(scene: Scene) -> str:
    """A 503 with `Retry-After: 1` is left alone for that second, and for the usual backoff on top."""
    scene.gateway.refusals.append((503, {"Retry-After": str(_RETRY_AFTER_S)}))
    refused = await scene.back(await scene.drop())
    longest = _RETRY_AFTER_S * 1000 + POLICY["cap_ms"]
    again = await scene.back(refused.at_ms, longest + scene.tolerances.late_ms, f"within {longest} ms")
    waited = again.at_ms - refused.at_ms
    if waited < _RETRY_AFTER_S * 1000 - scene.tolerances.early_ms:
        raise Broken(f"{_RETRY_AFTER_S} s of peace", f"back after {waited:.0f} ms")
    return f"back after {waited:.0f} ms"


@scenario("refused", "27, 28, §1", Stage.ALONE)
async def refused(scene: Scene) -> str:
    """After 401, 404 and 500 the device comes back, after random waits; after a 401 with a new token if it can."""
    scene.gateway.greeting = partial(scene.gateway.welcome, policy=_REFUSED_POLICY)
    await scene.back(await scene.drop())
    await scene.peer()
    scene.gateway.refusals.extend((status, {}) for status in _REFUSED)
    seen = [await scene.back(await scene.drop())]
    for status in _REFUSED:
        longest = _REFUSED_POLICY["cap_ms"]
        why = f"within {longest} ms of {status}"
        seen.append(await scene.back(seen[-1].at_ms, longest + scene.tolerances.late_ms, why))
    if (took := seen[8].at_ms - seen[0].at_ms) < _HAMMER_MS:
        raise Broken("random waits between 0 and spans that grow", f"nine handshakes in {took:.0f} ms")
    tokens = len({handshake.token for handshake in seen})
    return "came back each time, with " + ("other tokens" if tokens > 1 else "the same token, which its app gave")


@scenario("codes", "§7", Stage.ALONE)
async def codes(scene: Scene) -> str:
    """After any close code below 4500 the device comes back, also after one it does not know."""
    for code in (1000, 1001, 1013, 4000, 4002, 4321):
        dropped = await scene.drop(code)
        longest = POLICY["cap_ms"] + scene.tolerances.late_ms
        await scene.back(dropped, longest, f"within {POLICY['cap_ms']} ms after {code}")
    return "came back each time"


@scenario("forbidden", "§7", Stage.ENDING)
async def forbidden(scene: Scene) -> str:
    """After 4500 the device does not come back by itself."""
    return await _gone(scene, 4500)


@scenario("terminal", "§7", Stage.ENDING)
async def terminal(scene: Scene) -> str:
    """After an unknown code from 4500 on the device does not come back by itself either."""
    return await _gone(scene, 4777)


async def _gone(scene: Scene, code: int) -> str:
    dropped = await scene.drop(code)
    if await scene.gateway.until(lambda: scene.handshake_after(dropped), dropped + _WATCH_MS):
        raise Broken(f"no connection after {code}", f"one, {mono_ms() - dropped:.0f} ms later")
    return f"stayed away for {_WATCH_MS} ms"
