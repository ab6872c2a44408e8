"""Browsers at a console on a real store: each keeps its own cookies and follows no redirect by itself."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import httpx
from argon2 import PasswordHasher
from redis.asyncio import Redis
from starlette.applications import Starlette

from fanout.console import signin
from fanout.control.config import ControlConfig
from fanout.control.http import create_app
from fanout.roles import Role
from fanout.store.accounts import AccountStore

PASSWORD = "correct horse battery"
# The least the algorithm allows: what is tested is what we do with hashes, not how slow they are.
QUICK = PasswordHasher(time_cost=1, memory_cost=8, parallelism=1)


class Browser:
    """One person's browser.

    Args:
        app: The console.
        address: Where it calls from.
        base_url: What it has typed.
    """

    def __init__(self, app: Starlette, address: str = "192.0.2.1", base_url: str = "http://localhost") -> None:
        transport = httpx.ASGITransport(app=app, client=(address, 50_000))
        self.http = httpx.AsyncClient(transport=transport, base_url=base_url)

    async def form(self, next: str = "/") -> dict[str, str]:
        """Open the form; return what it holds."""
        page = await self.http.get("/login", params={"next": next})
        assert page.status_code == 200, page.text
        return dict(re.findall(r'<input type="hidden" name="(\w+)" value="([^"]*)">', page.text))

    async def sign_in(self, name: str = "mia", password: str = PASSWORD, next: str = "/") -> httpx.Response:
        """Open the form, fill it in and send it."""
        return await self.http.post("/login", data={**await self.form(next), "name": name, "password": password})


class Desk:
    """A console, and the browsers that were opened."""

    def __init__(self, app: Starlette) -> None:
        self.app = app
        self.accounts: AccountStore = app.state.services.accounts
        self.browsers: list[Browser] = []

    def browser(self, *at: Any, **more: Any) -> Browser:
        """Open a browser."""
        self.browsers.append(Browser(self.app, *at, **more))
        return self.browsers[-1]


@asynccontextmanager
async def desk(redis: Redis, **settings: Any) -> AsyncIterator[Desk]:
    """Make a console where mia is a publisher; settings are those of `ControlConfig`."""
    app = create_app(redis, ControlConfig(**settings), signin.routes)
    app.state.services.accounts = AccountStore(redis, QUICK)
    made = Desk(app)
    await made.accounts.create("mia", Role.PUBLISHER, PASSWORD)
    try:
        yield made
    finally:
        for browser in made.browsers:
            await browser.http.aclose()
