"""The whole product on one machine: `stack`, a control plane on the same store, and its buttons.

The control plane runs in the test's own loop; `ControlProcess` is the real command, for tests that kill it.
"""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

import httpx

from fanout import processes
from fanout.client import ControlClient
from fanout.control.config import ControlConfig
from fanout.control.server import serve
from fanout.embedded import EmbeddedValkey
from fanout.roles import Role
from fanout.store.keys import KeyStore
from support.stack import FAST, ROOT, Stack, stack
from support.waiting import PATIENCE_S, until
from support.web import web

STAGES = ("upcoming", "live", "ended")
# Twice for each time that gateways say how many devices they have.
_ASK_S = FAST["presence_interval_s"] / 2
# More than may travel inline, so that devices have to fetch it.
LARGE = 20_000


def definition(campaign: str = "cup", *, padding: int = 0, **fields: Any) -> dict[str, Any]:
    """Return a campaign as it is created, on topic ``t``; ``padding`` makes its bundle larger."""
    stages = {stage: {"title": f"{campaign} {stage}", "padding": "x" * padding} for stage in STAGES}
    return {
        "id": campaign,
        "title": "Cup final",
        "topic": "t",
        "stages": list(STAGES),
        "variants": [{"match": {}, "bundle": {"stages": stages}}],
        **fields,
    }


class Product:
    """What a test holds.

    Attributes:
        stack: Store and gateway.
        control_url: Where the API and the bundles are.
        api: Its caller. It blocks, so tests go through the coroutines here.
    """

    def __init__(self, running: Stack, control_url: str, key: str) -> None:
        self.stack = running
        self.control_url = control_url
        self.api = ControlClient(control_url, key)
        self._key = key

    @property
    def url(self) -> str:
        """Where devices connect."""
        return self.stack.url

    async def create(self, campaign: str = "cup", **fields: Any) -> dict[str, Any]:
        """Create a campaign."""
        made = await asyncio.to_thread(self.api.post, "/v1/campaigns", definition(campaign, **fields))
        return dict(made)

    async def press(self, action: str, campaign: str = "cup", **body: Any) -> dict[str, Any]:
        """Press a button; return the campaign after it."""
        return dict(await asyncio.to_thread(self.api.post, f"/v1/campaigns/{campaign}/{action}", body))

    async def post(self, path: str, body: dict[str, Any], headers: dict[str, str] | None = None) -> httpx.Response:
        """Send one request, whatever the answer."""
        usual = {"Authorization": f"Bearer {self._key}"}
        async with web(base_url=self.control_url) as http:
            return await http.post(path, json=body, headers={**usual, **(headers or {})})

    async def force(self, stage: str, campaign: str = "cup", **body: Any) -> dict[str, Any]:
        """Activate, whoever is ready."""
        return await self.press("activate", campaign, stage=stage, force=True, reason="a test", **body)

    async def show(self, campaign: str = "cup") -> dict[str, Any]:
        """Return the campaign as it is now."""
        return dict(await asyncio.to_thread(self.api.get, f"/v1/campaigns/{campaign}"))

    async def in_phase(self, phase: str, campaign: str = "cup") -> None:
        """Wait until the campaign is in this phase."""

        async def there() -> bool:
            return bool((await self.show(campaign))["phase"] == phase)

        await until(there, f"phase {phase}", poll_s=_ASK_S)

    async def readiness(self, campaign: str = "cup") -> dict[str, Any]:
        """Return who is ready and who has flipped."""
        return dict(await asyncio.to_thread(self.api.get, f"/v1/campaigns/{campaign}/readiness"))

    async def connected(self, devices: int) -> None:
        """Wait until the fleet has this many devices."""

        async def there() -> bool:
            return bool((await asyncio.to_thread(self.api.get, "/v1/fleet"))["devices"] == devices)

        await until(there, f"{devices} devices", poll_s=_ASK_S)

    async def counted(self, campaign: str = "cup", **counts: int) -> dict[str, Any]:
        """Wait until readiness counts this many connected, ready or active devices; return it."""
        found: dict[str, Any] = {}

        async def there() -> bool:
            found.update(await self.readiness(campaign))
            return all(found["total"][name] == count for name, count in counts.items())

        try:
            await until(there, str(counts), poll_s=_ASK_S)
        except AssertionError as exc:
            raise AssertionError(f"{counts} expected, {found.get('total')} counted") from exc
        return found


@asynccontextmanager
async def product(*, key_name: str = "tests", **options: Any) -> AsyncIterator[Product]:
    """Run everything while the context lasts.

    Args:
        key_name: Of its API key; two products on one store need two.
        options: Those of `stack`.
    """
    async with AsyncExitStack() as ends:
        running = await ends.enter_async_context(stack(**options))
        key = await KeyStore(running.redis).create(key_name, Role.ADMIN)
        control_url = await ends.enter_async_context(_control(running.valkey))
        made = Product(running, control_url, key)
        ends.enter_context(made.api)
        yield made


@asynccontextmanager
async def _control(valkey: EmbeddedValkey) -> AsyncIterator[str]:
    port: asyncio.Future[int] = asyncio.get_running_loop().create_future()
    serving = asyncio.create_task(serve(ControlConfig(), valkey.url, "127.0.0.1", 0, port.set_result))
    await asyncio.wait([serving, port], return_when=asyncio.FIRST_COMPLETED, timeout=PATIENCE_S)
    if serving.done():
        serving.result()
    try:
        yield f"http://127.0.0.1:{port.result()}"
    finally:
        serving.cancel()
        await asyncio.wait([serving])


class ControlProcess:
    """``fanout control`` as a process of its own.

    Args:
        options: Words of its command line.
        environment: Variables besides this process's own.

    Attributes:
        url: Where the API is.
    """

    def __init__(self, *options: str, **environment: str) -> None:
        self.process: subprocess.Popen[bytes] = processes.start(
            [sys.executable, "-m", "fanout.cli", "control", "--port", "0", "--json", *options],
            env={**os.environ, "PYTHONPATH": str(ROOT), **environment},
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
        )
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        assert line, "the control plane did not start"
        self.url: str = json.loads(line)["url"]

    def stop(self) -> int:
        """End it in good order; return its exit status."""
        status = processes.stop(self.process, PATIENCE_S)
        assert self.process.stdout is not None
        self.process.stdout.close()
        return status

    def kill(self) -> None:
        """End it as a crash would."""
        self.process.kill()
        self.stop()
