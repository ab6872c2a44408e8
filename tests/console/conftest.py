"""One browser for all tests of a worker. Every person in it has a window, cookies and a cache of their own.

And a client of the store that never gives up.
"""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest_asyncio
from playwright.async_api import Browser
from support.browser import browser
from support.patient import redis

__all__ = ["redis"]


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def chrome() -> AsyncIterator[Browser]:
    async with browser() as running:
        yield running
