"""Waiting for a condition, with a bound: tests never sleep to see whether something happens."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Any, TypeVar

T = TypeVar("T")

# Far beyond what anything here takes, so that a slow machine is no failure; only a real failure waits for it.
PATIENCE_S = 45.0
_POLL_S = 0.01


async def until(
    check: Callable[[], T | Awaitable[T]], what: str = "", timeout_s: float = PATIENCE_S, poll_s: float = _POLL_S
) -> T:
    """Return the first true value of ``check()``, which may be a coroutine function.

    Who asks a server, asks it less often than the usual ``poll_s``: what is asked has little else to run on.

    Raises:
        AssertionError: It did not come in time; the message holds the last value.
    """
    deadline = time.monotonic() + timeout_s
    while True:
        found = check()
        value: T = await found if isinstance(found, Awaitable) else found
        if value:
            return value
        assert time.monotonic() < deadline, f"waited {timeout_s:g} s for {what or check!r}; last: {value!r}"
        await asyncio.sleep(poll_s)


async def settled(ask: Callable[[], Awaitable[T]], good: Callable[[T], Any], poll_s: float) -> T:
    """Return the first answer that is good, or the last one if none was in time: for an assertion that shows it."""
    answers: list[T] = []

    async def come() -> bool:
        answers[:] = [await ask()]
        return bool(good(answers[0]))

    with suppress(AssertionError):
        await until(come, poll_s=poll_s)
    return answers[0]
