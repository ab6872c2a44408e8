"""One walk: the scenarios in their order, each with a verdict. Knows the device only as something that connects."""

from __future__ import annotations

import asyncio
import secrets
import time
from collections.abc import Callable, Iterable, Sequence
from itertools import groupby
from typing import Final, Protocol

from fanout.conformance.gateway import ScriptedGateway
from fanout.conformance.peer import mono_ms
from fanout.conformance.scenarios.registry import Scenario, Stage
from fanout.conformance.scene import Scene
from fanout.conformance.verdicts import Broken, Finding, NotShown, Tolerances, Verdict
from fanout.errors import FanoutError, InvalidInput

# An interpreter that has to be loaded on a busy machine; a person who has to type the URL gets longer.
STARTS_WITHIN_S: Final = 30.0

# Between the beginnings of scenarios that run beside each other: an old television hashes each of their bundles.
APART_S: Final = 0.05

Tell = Callable[[Scenario, Verdict | None], None]


class NoDevice(FanoutError):
    """No device connected."""


class Subject(Protocol):
    """The device that is walked."""

    def start(self) -> bool:
        """Start it, or start it afresh; False if that is not in the kit's hands."""
        ...

    def ended(self) -> str | None:
        """Return how it ended, None while it runs."""
        ...


def chosen(scenarios: Sequence[Scenario], names: Iterable[str]) -> list[Scenario]:
    """Return the scenarios that are asked for: by id, or by the number of a rule, or of a section as ``§7``.

    Raises:
        InvalidInput: Nothing is called that.
    """
    wanted = {name.strip() for name in names if name.strip()}
    known = {s.id for s in scenarios} | {rule for s in scenarios for rule in s.rules}
    if unknown := wanted - known:
        raise InvalidInput(
            f"--rules names {', '.join(sorted(unknown))}; fanout check-device --list shows what there is"
        )
    return [s for s in scenarios if not wanted or s.id in wanted or wanted & set(s.rules)]


async def walk(
    gateway: ScriptedGateway,
    subject: Subject,
    scenarios: Iterable[Scenario],
    tolerances: Tolerances,
    tell: Tell,
    *,
    first_within_s: float = STARTS_WITHIN_S,
) -> list[Verdict]:
    """Walk a device through the scenarios.

    Args:
        gateway: Listening.
        subject: It is started here.
        scenarios: In their order.
        tolerances: How late is late.
        tell: Called when a scenario begins, and with its verdict.
        first_within_s: How long to wait for the device at first.
    Raises:
        NoDevice: None came.
    """
    name = secrets.token_hex(3)
    subject.start()
    await _present(gateway, subject, first_within_s)
    verdicts: list[Verdict] = []

    async def judge(each: Scenario, after_s: float = 0) -> None:
        await asyncio.sleep(after_s)
        tell(each, None)
        verdict = await _played(each, Scene(gateway, each.id, name, tolerances))
        verdicts.append(verdict)
        tell(each, verdict)

    for stage, group in groupby(scenarios, key=lambda each: each.stage):
        if stage == Stage.TOGETHER:
            await asyncio.gather(*(judge(each, n * APART_S) for n, each in enumerate(group)))
            continue
        for each in group:
            if stage != Stage.AFTER:
                await _again(gateway, subject, verdicts)
            await judge(each)
    return verdicts


async def _present(gateway: ScriptedGateway, subject: Subject, within_s: float) -> None:
    until = mono_ms() + within_s * 1000
    while not await gateway.until(lambda: gateway.peer, min(until, mono_ms() + 500)):
        if ended := subject.ended():
            raise NoDevice(f"the device ended before it was welcomed: {ended}")
        if mono_ms() >= until:
            met = "; ".join(f"{h.status}: {', '.join(h.faults) or 'refused'}" for h in gateway.handshakes[-3:])
            raise NoDevice(f"no device was welcomed within {within_s:g} s; handshakes: {met or 'none'}")
    try:
        _ = gateway.device_id
    except InvalidInput as exc:
        raise NoDevice(
            "the slots follow from the id in the token, and this one is no JWT; use the kit's own"
        ) from exc


async def _again(gateway: ScriptedGateway, subject: Subject, verdicts: list[Verdict]) -> None:
    """Have a device that is there, if that can be: a scenario may have ended it, or left it beside itself."""
    if gateway.peer is not None and (not verdicts or verdicts[-1].verdict == "kept"):
        return
    began = mono_ms()
    for peer in gateway.peers:
        if peer.open:
            await peer.drop(1001)
    if subject.start():
        await gateway.until(lambda: (p := gateway.peer) and p.handshake.at_ms > began, began + STARTS_WITHIN_S * 1000)


async def _played(each: Scenario, scene: Scene) -> Verdict:
    began = time.monotonic()
    finding: Finding = "kept"
    expected = each.expected
    try:
        async with asyncio.timeout(each.bound_s):
            seen = await each.play(scene)
    except Broken as broken:
        finding, expected, seen = "broken", broken.expected, broken.seen
    except NotShown as why:
        finding, seen = "not shown", str(why)
    except TimeoutError:
        finding, seen = "not shown", f"not over after {each.bound_s:g} s"
    if each.stage != Stage.TOGETHER:
        scene.gateway.behave()
    await scene.end()
    return Verdict(each.id, each.rules, finding, expected, seen, round(time.monotonic() - began, 2))
