"""fanout itself, started by its command line: store, control plane, and a gateway with one worker."""

from __future__ import annotations

import asyncio
import json
import secrets
import sys
from typing import Any, ClassVar, Final

import httpx

import fanout
from fanout.tokens import mint
from fanout.wire import Encoding
from loadtest.lean import device_opening
from loadtest.peers.peer import Peer

_TOPIC: Final = "peers"
# Liveness is off for everyone, and admission is to refuse nobody here.
_STILL: Final = (
    *("--beacon-s", "1000", "--ping-s", "3000", "--lifetime-s", "9000"),
    # The peers turn nobody away, so neither does it.
    *("--admit-per-s", "100000", "--loop-lag-max-ms", "10000"),
)


class Fanout(Peer):
    """The product. Its control plane and store are weighed with it and share its core."""

    name: ClassVar = "fanout"
    install: ClassVar = "pip install -e ."
    settings: ClassVar = (
        "gateway with one worker, control plane and embedded Valkey all on the server's core and in its figures; "
        f"{' '.join(_STILL)}; published as an activation through the HTTP API, logged and synced before the answer"
    )
    joining: ClassVar = "upgrade, token check (HS256), cohort, welcome with state"
    ready_mark: ClassVar = b"welcome"

    @classmethod
    def installed(cls) -> bool:
        return True

    async def start(self) -> None:
        admin_key, self._device_key = secrets.token_urlsafe(32), secrets.token_hex(32)
        self._stages = 0
        self.version = fanout.__version__
        # In the main thread: a child may be bound to the life of the thread that starts it.
        command = [sys.executable, "-m", "fanout.cli"]
        control = self.processes.start(
            [*command, "control", "--port", "0", "--json", "--data-dir", str(self.scratch)],
            pipe=True, FANOUT_ADMIN_KEY=admin_key, FANOUT_REDIS_URL="embedded",
        )  # fmt: skip
        told = json.loads(await asyncio.to_thread(self.processes.line, control))
        most = ("--connections-max", str(self.connections + 100))
        gateway = self.processes.start(
            [*command, "gateway", "--port", "0", "--admin-port", "0", "--json", "--drain-s", "0", *_STILL, *most],
            pipe=True, FANOUT_REDIS_URL=told["redis_url"], FANOUT_DEVICE_KEY=self._device_key,
        )  # fmt: skip
        self.url = json.loads(await asyncio.to_thread(self.processes.line, gateway))["url"]
        headers = {"Authorization": f"Bearer {admin_key}"}
        self._api = httpx.AsyncClient(base_url=told["url"], headers=headers, trust_env=False, timeout=60)

    def opening(self, number: int) -> bytes:
        token = mint(self._device_key.encode(), f"peers-{number}", [_TOPIC], {"platform": "tv"})
        return device_opening(self.url, Encoding.MSGPACK, token)

    async def prepare(self) -> None:
        content = {"stages": {"on": {"title": "on"}, "off": {"title": "off"}}}
        body = {"id": "peers", "title": "peers", "topic": _TOPIC, "stages": ["on", "off"],
                "variants": [{"match": {}, "bundle": content}]}  # fmt: skip
        await self._post("/v1/campaigns", body)
        await self._post("/v1/campaigns/peers/prefetch", {"window_s": 0})

    async def publish(self) -> None:
        stage = ("off", "on")[self._stages % 2]
        self._stages += 1
        # These devices report nothing, so the gate has to be forced.
        body = {"stage": stage, "window_s": 0, "force": True, "reason": "measuring"}
        await self._post("/v1/campaigns/peers/activate", body)

    async def _post(self, path: str, body: dict[str, Any]) -> None:
        (await self._api.post(path, json=body)).raise_for_status()

    async def close(self) -> None:
        if hasattr(self, "_api"):
            await self._api.aclose()
        await super().close()
