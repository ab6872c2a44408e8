"""The control room as people have it: a real store and gateway, `fanout control` as a process, and real Chromium."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager

import pytest
from argon2 import PasswordHasher
from playwright.async_api import Browser, Locator, Page, Route, expect
from support.browser import PATIENCE_MS, chromium
from support.product import ControlProcess, Product
from support.stack import Stack, stack
from support.waiting import until

from fanout.roles import Role
from fanout.store.accounts import AccountStore
from fanout.store.keys import KeyStore
from loadtest.ports import reserved_ports

PASSWORD = "correct horse battery"
# The least the algorithm allows: what is tested is who may press, not how slow a hash is.
QUICK = PasswordHasher(time_cost=1, memory_cost=8, parallelism=1)

# Whether the pointer has gone down on a button since; looked for by its name, should the page make it anew.
_TOUCHED = """button => {
  const touched = {yes: false};
  document.addEventListener("pointerdown", event => {
    touched.yes ||= event.target.closest("[data-press]")?.dataset.press === button.dataset.press;
  }, true);
  return touched;
}"""

expect.set_options(timeout=PATIENCE_MS)
needs_chromium = pytest.mark.skipif(chromium() is None, reason="no Chromium; install Debian's package chromium")
# The browser lives in one loop, so whoever shares it lives there too.
beside_chrome = pytest.mark.asyncio(loop_scope="session")


class Room:
    """What a test holds.

    Attributes:
        product: Everything behind the pages; its API key is named ``tests``.
        browser: Chromium; `support.browser.person` opens a window.
    """

    def __init__(self, running: Stack, options: tuple[str, ...], key: str, chrome: Browser) -> None:
        self._options = options
        self._control = ControlProcess(*options)
        self.product = Product(running, self._control.url, key)
        self.browser = chrome

    @property
    def url(self) -> str:
        return self.product.control_url

    def kill(self) -> None:
        """End the control plane as a crash would."""
        self._control.kill()

    def start(self) -> None:
        """Start it again where it was."""
        self._control = ControlProcess(*self._options)

    def stop(self) -> None:
        """End it in good order."""
        self._control.stop()


@asynccontextmanager
async def room(chrome: Browser, *, open_console: bool = True, **people: Role) -> AsyncIterator[Room]:
    """Run everything but the browser while the context lasts.

    Args:
        chrome: The browser.
        open_console: Nobody has to sign in.
        people: Accounts; all have the same password.
    """
    async with AsyncExitStack() as ends:
        running = await ends.enter_async_context(stack())
        accounts = AccountStore(running.redis, QUICK)
        for name, role in people.items():
            await accounts.create(name, role, PASSWORD)
        key = await KeyStore(running.redis).create("tests", Role.ADMIN)
        # Its own, so that it can come back where it was.
        [port] = ends.enter_context(reserved_ports(1))
        words = ("--redis-url", running.valkey.url, "--port", str(port))
        options = (*words, *(("--open-console",) if open_console else ()))
        made = Room(running, options, key, chrome)
        ends.callback(made.stop)
        ends.enter_context(made.product.api)
        yield made


async def sign_in(page: Page, name: str, path: str = "/campaigns") -> None:
    """Sign in as somebody, on the way to a page."""
    await page.goto(path)
    await page.get_by_label("Name").fill(name)
    await page.get_by_label("Password").fill(PASSWORD)
    await page.get_by_role("button", name="Sign in", exact=True).click()
    await page.wait_for_url(f"**{path}")


async def take_hold(page: Page, button: Locator) -> None:
    """Begin to hold a button with the pointer."""
    await button.scroll_into_view_if_needed()
    touched = await button.evaluate_handle(_TOUCHED)

    async def down() -> bool:
        # A forecast that comes between the two moves the button from under the pointer; a person aims again.
        await page.mouse.up()
        await button.hover()
        await page.mouse.down()
        return bool(await touched.evaluate("touched => touched.yes"))

    await until(down, "the pointer on the button")


async def hold(page: Page, button: Locator) -> None:
    """Hold a button with the pointer until its press has been sent."""
    await take_hold(page, button)
    await expect(button).not_to_have_class(re.compile("holding"))
    await page.mouse.up()


async def keep_back(page: Page, path: str) -> asyncio.Event:
    """Keep back what the page sends there, until this is set."""
    let_go = asyncio.Event()

    async def later(route: Route) -> None:
        await let_go.wait()
        await route.continue_()

    await page.route(path, later)
    return let_go


async def fill(page: Page, form: str, **values: str) -> None:
    """Fill in fields of one of the campaign page's forms."""
    for name, value in values.items():
        await page.locator(f"#{form} [name={name}]").fill(value)


def press(page: Page, button: str) -> Locator:
    """Return a button of the campaign's page."""
    return page.locator(f"[data-press={button}]")


def outcome(page: Page) -> Locator:
    """Return what was told last."""
    return page.locator(".outcome").last
