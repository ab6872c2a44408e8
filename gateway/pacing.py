"""Spreading work evenly over time, a little every tick. Knows nothing of what the work is."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Final

# Fine enough that devices see a flat rate, coarse enough to cost nothing.
TICK_S: Final = 0.02


async def spread(
    count: int,
    over_s: float,
    act: Callable[[int], None],
    *,
    slice_max: int,
    go_on: Callable[[], bool] = lambda: True,
) -> bool:
    """Call ``act(0) … act(count - 1)`` at an even rate.

    Args:
        count: How many there are.
        over_s: Seconds they are spread over; 0 means as fast as the slices allow.
        act: Does one. Must not block.
        slice_max: Most calls before the loop gets its turn.
        go_on: Asked before every slice; False ends the work early.
    Returns:
        True if all was done.
    """
    clock = asyncio.get_running_loop().time
    started = clock()
    done = 0
    while done < count:
        elapsed = clock() - started
        due = count if elapsed >= over_s else int(count * elapsed / over_s)
        if done < due:
            if not go_on():
                return False
            until = min(due, done + slice_max)
            for index in range(done, until):
                act(index)
            done = until
        await asyncio.sleep(0 if done < due else TICK_S)
    return True
