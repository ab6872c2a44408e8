"""Pages that hold devices: the server they come from, tabs that really hide, and what their devices told.

Knows nothing of what a device should do; the tests hold that.
"""

from __future__ import annotations

import asyncio
import functools
import itertools
import json
import threading
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest
from playwright.async_api import Browser, CDPSession, Page, Request
from support.browser import PATIENCE_MS, chromium
from support.product import Product
from support.stack import ROOT, token
from support.waiting import PATIENCE_S, until

from fanout.slots import slot_ms

ESM = ROOT / "fanout/console/static/vendor/fanout-device.mjs"
UMD = ROOT / "sdk/js/dist/fanout-device.umd.min.js"
MSGPACK = ROOT / "sdk/js/node_modules/@msgpack/msgpack/dist.umd/msgpack.min.js"
# The page's clock and the server's are one machine's; both give whole milliseconds.
ROUNDING_MS = 2
# Chromium lets a page's WebSockets wait before they connect, twice as long for each that is connecting already: from
# sixteen on, up to 5 s.
AT_ONCE = 10
# Who loses its gateway is back before a test grows old.
FAST_BACKOFF = {"backoff_base_ms": 100, "backoff_cap_ms": 500}

needs_umd = pytest.mark.skipif(not UMD.exists(), reason="no built SDK; run `make sdk`, which needs Node")
needs_msgpack = pytest.mark.skipif(
    not MSGPACK.exists(), reason="no @msgpack/msgpack; run `make sdk`, which needs Node"
)
# The browser lives in one loop, so whoever shares it lives there too.
in_chromium = [
    pytest.mark.skipif(chromium() is None, reason="no Chromium; install Debian's package chromium"),
    pytest.mark.skipif(not ESM.exists(), reason=f"no {ESM.relative_to(ROOT)}; run `make sdk`, which needs Node"),
    pytest.mark.asyncio(loop_scope="session"),
]


# --- Where pages come from.


class _Handler(SimpleHTTPRequestHandler):
    """Serves this repository as it lies, to whatever origin asks."""

    def end_headers(self) -> None:
        self.send_header("Access-Control-Allow-Origin", "*")
        self.send_header("Cache-Control", "no-store")
        super().end_headers()

    def log_message(self, *said: Any) -> None:
        """Say nothing."""


@contextmanager
def page_server() -> Iterator[str]:
    """Serve the pages while the context lasts; give the URL of their folder."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(_Handler, directory=str(ROOT)))
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}/tests/browser/page/"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


# --- A page's devices.


class Home:
    """A page that holds devices, in a tab of either kind.

    Args:
        evaluate: Runs JavaScript in the page; waits for a promise; returns the value.

    Attributes:
        asked: Paths of the bundles that the page has asked for; only a Playwright page fills it.
    """

    def __init__(self, evaluate: Callable[[str], Awaitable[Any]]) -> None:
        self._evaluate = evaluate
        self.asked: list[str] = []

    def noted(self, request: Request) -> None:
        """Note what the page asks for."""
        if "/v1/bundles/" in request.url:
            self.asked.append(request.url)

    async def evaluate(self, script: str) -> Any:
        async with asyncio.timeout(PATIENCE_S):
            return await self._evaluate(script)

    async def call(self, function: str, *values: Any) -> Any:
        """Call a function of ``home``."""
        return await self.evaluate(f"home.{function}({', '.join(json.dumps(value) for value in values)})")

    async def hold(
        self, product: Product, names: Sequence[str], topics: Sequence[str], *, url: str = "", **options: Any
    ) -> None:
        """Start devices of these names, which are their ids too, and wait until all are connected.

        Args:
            product: Where they connect, unless `url` says otherwise, and fetch.
            names: Of devices that this page does not hold yet.
            topics: Of their tokens.
            options: What else ``hold`` of devices.js takes.
        """
        usual = {"url": url or product.url, "originUrl": product.control_url}
        wanted = [{"name": name, "token": token(name, topics=list(topics)), **usual, **options} for name in names]
        before = await self.call("count", "connected")
        for start in range(0, len(wanted), AT_ONCE):
            slice_ = wanted[start : start + AT_ONCE]
            await self.call("hold", slice_)
            await self.reached("connected", before + start + len(slice_))

    async def reached(self, what: str, count: int) -> None:
        """Wait until all devices together were told this so often."""
        try:
            await self.call("reached", what, count)
        except TimeoutError as exc:
            found = await self.call("seen", None)
            raise AssertionError(f"{what} {count} times expected; told last: {found[-5:]}") from exc

    async def seen(self, what: str, campaign: str | None = None) -> list[dict[str, Any]]:
        """Return what devices were told, in order."""
        found: list[dict[str, Any]] = await self.call("seen", what)
        return [event for event in found if campaign in (None, event.get("campaign"))]

    async def settled(self) -> None:
        """Hold that nothing was thrown into the page."""
        faults = await self.call("faults")
        assert not faults, faults


@asynccontextmanager
async def home(chrome: Browser, url: str, *, before: str = "") -> AsyncIterator[tuple[Home, Page]]:
    """Open a page in a window of its own; the context fails if anything was thrown into it.

    Args:
        url: The page's.
        before: JavaScript that runs before the page's own.
    """
    context = await chrome.new_context()
    context.set_default_timeout(PATIENCE_MS)
    if before:
        await context.add_init_script(before)
    page = await context.new_page()
    made = Home(page.evaluate)
    page.on("request", made.noted)
    try:
        await page.goto(url)
        yield made, page
        await made.settled()
    finally:
        await context.close()


def slots(names: Sequence[str], start: int, published: dict[str, Any]) -> dict[str, int]:
    """Return when each device is to act in a window that starts then, Unix ms."""
    return {name: start + slot_ms(name, published["rev"], published["window_ms"]) for name in names}


def assert_once_at_slots(flips: Sequence[dict[str, Any]], names: Sequence[str], activation: dict[str, Any]) -> None:
    """Hold that each device acted once on this activation, due at its own slot, and not before it was due.

    One that learned of it, or could trust it again, when the window was over is due after that, as latecomers are.
    """
    own = [flip for flip in flips if flip["rev"] == activation["rev"]]
    assert sorted(flip["device"] for flip in own) == sorted(names)
    due = slots(names, activation["at"], activation)
    over = activation["at"] + activation["window_ms"]
    for flip in own:
        late = flip["due_ms"] >= over - ROUNDING_MS
        assert late or flip["due_ms"] == due[flip["device"]], f"{flip['device']} took another slot"
        early_ms = flip["due_ms"] - flip["at"]
        assert early_ms <= ROUNDING_MS, f"{flip['device']} flipped {early_ms} ms early"


# --- Tabs that hide.


class Tab:
    """A tab that is driven by the bare protocol.

    Playwright keeps every page of its own visible, whatever is in front of it, and a visible page cannot be frozen.
    """

    def __init__(self, browser: CDPSession, target: str, session: str) -> None:
        self._browser = browser
        self._target = target
        self._session = session
        self._numbers = itertools.count(1)
        self._asked: dict[int, asyncio.Future[dict[str, Any]]] = {}
        browser.on("Target.receivedMessageFromTarget", self._received)

    def _received(self, event: dict[str, Any]) -> None:
        message = json.loads(event["message"])
        if event["sessionId"] == self._session and message.get("id") in self._asked:
            self._asked.pop(message["id"]).set_result(message)

    async def send(self, method: str, **params: Any) -> dict[str, Any]:
        """Call a method of the protocol."""
        number = next(self._numbers)
        answer = self._asked[number] = asyncio.get_running_loop().create_future()
        said = json.dumps({"id": number, "method": method, "params": params})
        await self._browser.send("Target.sendMessageToTarget", {"sessionId": self._session, "message": said})
        found = await answer
        assert "error" not in found, found
        return dict(found["result"])

    async def evaluate(self, script: str) -> Any:
        found = await self.send("Runtime.evaluate", expression=script, returnByValue=True, awaitPromise=True)
        assert "exceptionDetails" not in found, found
        return found["result"].get("value")

    async def show(self) -> None:
        """Put it in front of all other tabs of its window."""
        await self._browser.send("Target.activateTarget", {"targetId": self._target})

    async def freeze(self) -> None:
        """Let nothing run in it. It has to be hidden."""
        await self.send("Page.setWebLifecycleState", state="frozen")

    async def thaw(self) -> None:
        await self.send("Page.setWebLifecycleState", state="active")


@asynccontextmanager
async def hiding_home(chrome: Browser, url: str) -> AsyncIterator[tuple[Home, Tab, Tab]]:
    """Open a page in a tab, and another tab in its window; both may be shown, which hides the other."""
    session = await chrome.new_browser_cdp_session()
    window = (await session.send("Target.createBrowserContext"))["browserContextId"]

    async def tab(page: str) -> Tab:
        opened = await session.send("Target.createTarget", {"url": page, "browserContextId": window})
        attached = await session.send("Target.attachToTarget", {"targetId": opened["targetId"]})
        return Tab(session, opened["targetId"], attached["sessionId"])

    try:
        other = await tab("about:blank")
        own = await tab(url)
        await own.show()
        made = Home(own.evaluate)

        async def loaded() -> bool:
            return bool(await own.evaluate("Boolean(window.home && window.Fanout)"))

        await until(loaded, "the page")
        yield made, own, other
        await made.settled()
    finally:
        await session.send("Target.disposeBrowserContext", {"browserContextId": window})
        await session.detach()
