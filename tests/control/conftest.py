"""A control plane on a real store, with a caller for every role.

Presence is written through the function that gateways write theirs with.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import httpx
import pytest
from redis.asyncio import Redis
from support.patient import redis
from support.waiting import PATIENCE_S

from fanout.bus import presence
from fanout.bus.presence import CampaignGauge, Group, WorkerRecord
from fanout.control.config import ControlConfig
from fanout.control.http import create_app
from fanout.roles import Role
from fanout.store.keys import KeyStore

__all__ = ["redis"]

STAGES = ["upcoming", "live", "ended"]


def content(text: str = "x") -> dict[str, Any]:
    return {"stages": {stage: {"title": f"{stage} {text}"} for stage in STAGES}}


def definition(campaign_id: str = "cup", **fields: Any) -> dict[str, Any]:
    return {
        "id": campaign_id,
        "title": "Cup final",
        "topic": "sport",
        "stages": STAGES,
        "variants": [
            {"match": {"region": "jp"}, "bundle": content("jp")},
            {"bundle": content()},
        ],
        **fields,
    }


class Api:
    """The app, called by each role.

    Args:
        app: ASGI app.
        keys: API key by role.
    """

    def __init__(self, app: Any, keys: dict[Role, str]) -> None:
        self.app = app
        self.keys = keys
        self.http = httpx.AsyncClient(transport=httpx.ASGITransport(app=app), base_url="http://control")

    async def call(
        self,
        method: str,
        path: str,
        body: Any = None,
        *,
        role: Role | None = Role.PUBLISHER,
        headers: dict[str, str] | None = None,
    ) -> httpx.Response:
        all_headers = dict(headers or {})
        if role is not None:
            all_headers["Authorization"] = f"Bearer {self.keys[role]}"
        return await self.http.request(method, path, json=body, headers=all_headers)

    async def get(self, path: str, **options: Any) -> httpx.Response:
        return await self.call("GET", path, **options)

    async def post(self, path: str, body: Any = None, **options: Any) -> httpx.Response:
        return await self.call("POST", path, body, **options)

    async def create(self, campaign_id: str = "cup", *, role: Role = Role.PUBLISHER, **fields: Any) -> dict[str, Any]:
        answer = await self.post("/v1/campaigns", definition(campaign_id, **fields), role=role)
        assert answer.status_code == 201, answer.text
        return answer.json()

    async def prefetch(self, campaign_id: str = "cup") -> int:
        answer = await self.post(f"/v1/campaigns/{campaign_id}/prefetch", {"window_s": 0})
        assert answer.status_code == 200, answer.text
        return int(answer.json()["rev"])


Present = Callable[..., Awaitable[None]]


@pytest.fixture
def config() -> ControlConfig:
    return ControlConfig(safe_timeout_s=PATIENCE_S)


@pytest.fixture
async def api(redis: Redis, config: ControlConfig) -> AsyncIterator[Api]:
    keys = KeyStore(redis)
    secrets = {role: await keys.create(f"test-{role}", role) for role in Role}
    api = Api(create_app(redis, config), secrets)
    yield api
    await api.http.aclose()


@pytest.fixture
def present(redis: Redis, monkeypatch: pytest.MonkeyPatch) -> Present:
    """Write a worker's record: so many devices of a campaign, so many of them ready.

    A gateway writes its record anew every second, and one that is written once has to last as long as the test.
    """
    monkeypatch.setattr(presence, "TTL_S", 3600.0)

    async def write(
        connected: int = 100,
        ready: int = 100,
        *,
        campaign: str = "cup",
        prefetch_rev: int = 0,
        activate_rev: int = 0,
        active: int = 0,
        failed: int = 0,
        lags_ms: list[int] | None = None,
        worker: str = "gw-1",
        attrs: dict[str, str] | None = None,
        bus_rev: int = 0,
        health: str = "ok",
    ) -> None:
        histogram = presence.lag_histogram()
        for lag_ms in lags_ms or []:
            histogram.record_value(lag_ms)
        groups = [Group(attrs or {"platform": "tv", "region": "jp"}, connected, ready, active)]
        gauge = CampaignGauge(
            prefetch_rev, activate_rev, groups, failed, histogram.encode().decode() if lags_ms else ""
        )
        await presence.write(
            redis,
            WorkerRecord(
                worker=worker,
                started_ms=1,
                now_ms=2,
                health=health,
                bus_rev=bus_rev,
                connections=connected,
                connects_per_s=1.5,
                sends_per_s=10.0,
                loop_lag_ms=0.5,
                groups=groups,
                campaigns={campaign: gauge},
            ),
        )

    return write
