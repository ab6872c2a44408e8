"""A wall of TVs as people have it: a real store and gateway, `fanout control` with a wall, and one window on it."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

from playwright.async_api import Page
from support.browser import browser, person
from support.product import ControlProcess, Product
from support.stack import stack
from support.waiting import until

from fanout.roles import Role
from fanout.store.keys import KeyStore


class Theatre:
    """What a test holds.

    Attributes:
        product: Everything behind the page; the wall listens to topic ``t``.
        page: The window.
    """

    def __init__(self, product: Product, page: Page) -> None:
        self.product = product
        self.page = page

    async def look(self) -> list[dict[str, Any]]:
        """Return every TV as the page has it."""
        found: list[dict[str, Any]] = await self.page.evaluate("wall.look()")
        return found

    async def all_are(self, **wanted: Any) -> list[dict[str, Any]]:
        """Wait until every TV is so; return them."""

        async def there() -> list[dict[str, Any]] | None:
            found = await self.look()
            return found if all(each[name] == value for each in found for name, value in wanted.items()) else None

        found = await until(there, f"every TV {wanted}")
        assert found is not None
        return found


@asynccontextmanager
async def theatre() -> AsyncIterator[Theatre]:
    """Run everything while the context lasts."""
    async with AsyncExitStack() as ends:
        running = await ends.enter_async_context(stack(origins=("*",)))
        api_key = await KeyStore(running.redis).create("tests", Role.ADMIN)
        words = ("--open-console", "--wall-gateway-url", running.url, "--wall-topic", "t")
        control = ControlProcess("--redis-url", running.valkey.url, *words)
        ends.callback(control.stop)
        product = Product(running, control.url, api_key)
        ends.enter_context(product.api)
        chrome = await ends.enter_async_context(browser())
        page = await ends.enter_async_context(
            person(chrome, control.url, viewport={"width": 1280, "height": 720}, color_scheme="dark")
        )
        yield Theatre(product, page)
