"""One browser for all tests of a worker; one product and one server of pages for all tests of a module."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator

import pytest
import pytest_asyncio
from playwright.async_api import Browser, async_playwright
from support.browser import chromium
from support.product import Product, product

from browser.homes import FAST_BACKOFF, page_server

# What Playwright switches off so that tests of pages are steady is what devices have to live with.
_AS_PEOPLE_HAVE_IT = [
    "--disable-background-timer-throttling",
    "--disable-backgrounding-occluded-windows",
    "--disable-renderer-backgrounding",
]


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def chrome() -> AsyncIterator[Browser]:
    async with async_playwright() as playwright:
        # As root, as in a container, Chromium's own sandbox cannot start.
        running = await playwright.chromium.launch(
            executable_path=chromium(), args=["--no-sandbox"], ignore_default_args=_AS_PEOPLE_HAVE_IT
        )
        try:
            yield running
        finally:
            await running.close()


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def made() -> AsyncIterator[Product]:
    # Pages have origins, and those here are on no list.
    async with product(origins=("*",), **FAST_BACKOFF) as running:
        yield running


@pytest.fixture(scope="module")
def pages() -> Iterator[str]:
    """The URL of the folder of pages."""
    with page_server() as url:
        yield url
