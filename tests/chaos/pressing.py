"""Pressing buttons while the store fails, as a caller who reads the answers. Knows nothing of the faults."""

from __future__ import annotations

from typing import Any

import httpx
from support.product import Product
from support.viewers import WatchedSwarm
from support.waiting import until


async def ask(made: Product, action: str, key: str, **body: Any) -> httpx.Response:
    """Press once, and again if there is no answer at all; return the answer, whatever it is."""

    found: list[httpx.Response] = []

    async def answered() -> bool:
        try:
            found.append(await made.post(f"/v1/campaigns/cup/{action}", body, {"Idempotency-Key": key}))
        except httpx.TimeoutException:
            return False
        return True

    await until(answered, f"an answer to {action}")
    return found[0]


async def insist(made: Product, action: str, key: str, **body: Any) -> dict[str, Any]:
    """Press again with the same key for as long as the answer is 503; return what is accepted."""
    found: dict[str, Any] = {}

    async def accepted() -> bool:
        answer = await ask(made, action, key, **body)
        assert answer.status_code in (200, 503), answer.text
        found.update(answer.json())
        return answer.status_code == 200

    await until(accepted, f"{action} to be accepted")
    return found


async def ready(made: Product, devices: int) -> None:
    """Take a campaign to the point where every device holds its bundle."""
    await made.create()
    await made.press("prefetch", window_s=0)
    await made.counted(connected=devices, ready=devices)


def assert_once_each(crowd: WatchedSwarm, *presses: dict[str, Any]) -> None:
    """Hold that every device flipped once for each of these, and for nothing else.

    When, is not asked: a gateway that was away during the window has its devices catch up.
    """
    everyone = sorted(device.machine.device_id for device in crowd.devices)
    for pressed in presses:
        assert sorted(seen.device for seen in crowd.seen if seen.flip.rev == pressed["rev"]) == everyone
    assert len(crowd.seen) == len(presses) * len(everyone)
    assert crowd.tally.flipped_twice == 0
