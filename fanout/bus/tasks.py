"""Ending a task for certain, although a cancellation can get lost. Knows nothing of what the task does."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any, Final

# Closing two connections takes milliseconds; a task that has not ended after this has lost a cancellation.
_CANCEL_AGAIN_S: Final = 1.0


async def until_ended(work: Coroutine[Any, Any, None]) -> None:
    """Run this in a task of its own; if we are cancelled, cancel it until it has ended.

    Once may not be enough, see `cancelled`. And a task group that fails leaves its own task marked as cancelled
    (Python 3.11), which must not be taken for a cancellation of ours.
    """
    task = asyncio.create_task(work)
    try:
        await asyncio.wait([task])
    finally:
        while not task.done():
            task.cancel()
            await asyncio.wait([task], timeout=_CANCEL_AGAIN_S)
        if not task.cancelled():
            task.exception()  # looked at, so that nobody reports it as overlooked
    task.result()


def cancelled() -> bool:
    """Tell whether this task has been cancelled, even if that was lost.

    It is lost when a part fails while its group is being cancelled, for the group then raises that failure;
    and, before Python 3.12, in `asyncio.wait_for`, which the client uses.
    """
    task = asyncio.current_task()
    return task is not None and task.cancelling() > 0
