"""Row 15: a device's wall clock is wrong by an hour, or steps. `tests/device/test_clock.py` has the estimate alone,
and in `test_model.py` every device's timer begins elsewhere and drifts."""

from __future__ import annotations

import time
from contextlib import AsyncExitStack

import pytest
from support.product import product
from support.stack import KEY
from support.viewers import Viewer, viewers
from support.waiting import until

from fanout.slots import slot_ms
from fanout.tokens import mint

HOUR_S = 3_600
WINDOW_MS = 1_000
DEVICES = 8
# The server's clock is estimated twice, by the gateway and by the device: off by half a round trip, which may be long
# on a busy machine, not by an hour.
ESTIMATE_MS = 500


async def test_a_device_whose_wall_clock_is_wrong_and_steps_flips_at_its_slot_all_the_same(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    true_s, true_ns = time.time, time.time_ns
    wrong_by_s = 0
    monkeypatch.setattr(time, "time", lambda: true_s() + wrong_by_s)
    monkeypatch.setattr(time, "time_ns", lambda: true_ns() + wrong_by_s * 10**9)
    # The gateway is a process of its own, with the right clock.
    async with product(workers=1) as made, AsyncExitStack() as ends:
        await made.create()
        tokens = [mint(KEY.encode(), f"viewer-{number}", ["t"]) for number in range(DEVICES)]
        wrong_by_s = -HOUR_S
        crowd: list[Viewer] = []
        for number, token in enumerate(tokens):
            crowd += await ends.enter_async_context(viewers(made, [number], get_token=lambda token=token: token))
        await made.press("prefetch", window_s=0)
        await made.counted(ready=DEVICES)
        activation = (await made.press("activate", stage="live", window_s=WINDOW_MS / 1000, in_s=4))["activation"]
        machines = [viewer.device.machine for viewer in crowd]
        await until(lambda: all(m and m.resume().since == activation["rev"] for m in machines), "the arming")
        wrong_by_s = HOUR_S
        seen_ms: dict[str, float] = {}

        def all_flipped() -> bool:
            for viewer in crowd:
                if viewer.flips:
                    seen_ms.setdefault(viewer.id, true_s() * 1000)
            return len(seen_ms) == DEVICES

        await until(all_flipped, "every flip")
        for viewer in crowd:
            viewer.assert_flipped_in_window(activation)
            slot = slot_ms(viewer.id, activation["rev"], WINDOW_MS)
            assert seen_ms[viewer.id] >= activation["at"] + slot - ESTIMATE_MS, "by the true clock, it was early"
            assert viewer.stages == ["live"]
