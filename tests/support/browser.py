"""A real Chromium, driven by Playwright: Debian's, or whichever FANOUT_CHROMIUM names."""

from __future__ import annotations

import os
import shutil
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from playwright.async_api import Browser, BrowserContext, Page, async_playwright

AXE = Path(__file__).parents[1] / "console/vendor/axe-4.14.1.min.js"
_NAMES = ("chromium", "chromium-browser", "google-chrome")
# Of people, not of machines: what a page does, it does within this.
PATIENCE_MS = 30_000.0


def chromium() -> str | None:
    """Return where Chromium is, None if there is none."""
    named = os.environ.get("FANOUT_CHROMIUM")
    return named or next((path for name in _NAMES if (path := shutil.which(name))), None)


@asynccontextmanager
async def browser() -> AsyncIterator[Browser]:
    """Run Chromium while the context lasts."""
    found = chromium()
    assert found is not None, "no Chromium is installed"
    async with async_playwright() as playwright:
        # As root, as in a container, Chromium's own sandbox cannot start.
        running = await playwright.chromium.launch(executable_path=found, args=["--no-sandbox"])
        try:
            yield running
        finally:
            await running.close()


@asynccontextmanager
async def person(running: Browser, url: str, **options: Any) -> AsyncIterator[Page]:
    """Open a window of somebody's own; the context fails if a page of theirs reports an error.

    Args:
        running: The browser.
        url: The control plane's.
        options: Of Playwright's contexts: ``viewport``, ``color_scheme``.
    """
    faults: list[str] = []
    context: BrowserContext = await running.new_context(base_url=url, **options)
    context.set_default_timeout(PATIENCE_MS)
    page = await context.new_page()
    page.on("pageerror", lambda error: faults.append(str(error)))
    page.on("console", lambda message: faults.append(message.text) if _is_fault(message) else None)
    try:
        yield page
    finally:
        await context.close()
    assert not faults, f"the page reported: {faults}"


def _is_fault(message: Any) -> bool:
    # A refusal is an answer like any other; the browser's own line about its status is none of our doing.
    return message.type == "error" and not message.text.startswith("Failed to load resource")


async def violations(page: Page, only: Sequence[str] = (), without: Sequence[str] = ()) -> list[str]:
    """Return what axe finds wrong with the page and calls serious or critical.

    Args:
        only: Rules to go by; by default all of them.
        without: Rules to leave out.
    """
    # Handed over by the debugger, for the page's own policy lets no foreign script in.
    await page.evaluate(AXE.read_text("utf-8"))
    options = {
        "resultTypes": ["violations"],
        **({"runOnly": [*only]} if only else {}),
        "rules": {rule: {"enabled": False} for rule in without},
    }
    found = await page.evaluate("options => axe.run(options)", options)
    return [
        f"{each['id']} ({each['impact']}): {node['target']} {node.get('failureSummary', '')}"
        for each in found["violations"]
        if each["impact"] in ("serious", "critical")
        for node in each["nodes"]
    ]
