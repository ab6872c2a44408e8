"""One browser for all tests of a worker. Every person in it has a window, cookies and a cache of their own."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest_asyncio
from playwright.async_api import Browser
from support.browser import browser


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def chrome() -> AsyncIterator[Browser]:
    async with browser() as running:
        yield running
