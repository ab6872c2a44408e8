"""What is held over the whole walk: the form of everything the device has sent."""

from __future__ import annotations

from collections import Counter

from fanout import wire
from fanout.conformance.scenarios.registry import Stage, scenario
from fanout.conformance.scene import Scene
from fanout.conformance.verdicts import Broken, NotShown


@scenario("handshake", "4, §1", Stage.AFTER)
async def handshake(scene: Scene) -> str:
    """Every handshake offers a known subprotocol and a token outside the URL; `have` and `since` are well-formed."""
    handshakes = scene.gateway.handshakes
    if not handshakes:
        raise NotShown("there was no handshake")
    for number, each in enumerate(handshakes, 1):
        if each.faults:
            raise Broken("a handshake as in section 1", f"number {number}: {each.faults[0]}")
    return f"{len(handshakes)} of them"


@scenario("frames", "§2, §4, §9", Stage.AFTER)
async def frames(scene: Scene) -> str:
    """Every frame from the device is a message in the encoding agreed on, within the limits of section 9."""
    if not scene.gateway.heard:
        raise NotShown("the device said nothing")
    for peer in scene.gateway.peers:
        if peer.faults:
            raise Broken("messages as in section 4", peer.faults[0])
    return f"{len(scene.gateway.heard)} messages"


@scenario("reports-once", "20", Stage.AFTER)
async def reports_once(scene: Scene) -> str:
    """Over the whole walk no `ready` and no `active` is said twice, but with `via: "resume"`."""
    counted = Counter(
        (heard.message.campaign, heard.message.rev, heard.message.kind)
        for _, heard in scene.gateway.heard
        if isinstance(heard.message, wire.Report) and heard.message.via != "resume" and heard.message.kind != "failed"
    )
    if not counted:
        raise NotShown("the device reported nothing")
    (campaign, rev, kind), times = counted.most_common(1)[0]
    if times > 1:
        raise Broken("each once", f"{kind} for rev {rev} of {campaign} {times} times")
    return f"{len(counted)} reports"
