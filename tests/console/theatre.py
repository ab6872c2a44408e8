"""A wall of TVs as people have it: a real store and gateway, `fanout control` with a wall, and one window on it."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

from playwright.async_api import CDPSession, Page
from support.browser import browser, person
from support.product import ControlProcess, Product
from support.stack import stack
from support.waiting import until

from fanout.roles import Role
from fanout.store.keys import KeyStore

# Counts what flips cost the browser, in figures that do not depend on the machine: changes of the document, and what
# is animated, looked at in every frame.
_COUNT = """() => {
  window.work = { mutations: 0, most: 0, animated: {} };
  new MutationObserver((changes) => { work.mutations += changes.length; })
    .observe(document.body, { subtree: true, childList: true, attributes: true, characterData: true });
  const frame = () => {
    const animations = document.getAnimations();
    work.most = Math.max(work.most, animations.length);
    for (const { effect } of animations) {
      const what = effect.target.matches(".panel") ? "panel" : effect.target.outerHTML.slice(0, 99);
      const keyframes = effect.getKeyframes().flatMap((keyframe) => Object.keys(keyframe));
      work.animated[what] = [...new Set([...(work.animated[what] ?? []), ...keyframes])];
    }
    requestAnimationFrame(frame);
  };
  frame();
}"""


class Work:
    """What the browser has had to do for a page since `begin`."""

    def __init__(self, page: Page, cdp: CDPSession) -> None:
        self._page = page
        self._cdp = cdp
        self._layouts = 0

    async def begin(self) -> None:
        await self._cdp.send("Performance.enable")
        await self._page.evaluate(_COUNT)
        self._layouts = await self._layouts_so_far()

    async def done(self) -> dict[str, Any]:
        """Return `mutations`, `layouts`, `most` animations at once, and `animated`: properties by what has them."""
        layouts = await self._layouts_so_far() - self._layouts
        return {**await self._page.evaluate("work"), "layouts": layouts}

    async def _layouts_so_far(self) -> int:
        told = await self._cdp.send("Performance.getMetrics")
        return int(next(metric["value"] for metric in told["metrics"] if metric["name"] == "LayoutCount"))


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

    async def work(self) -> Work:
        """Begin to count what the browser has to do for the page."""
        work = Work(self.page, await self.page.context.new_cdp_session(self.page))
        await work.begin()
        return work

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
