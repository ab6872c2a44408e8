"""What the operations of one app share, made once."""

from __future__ import annotations

from typing import Any

from redis.asyncio import Redis

from fanout.connect import store_errors
from fanout.control.actions import Actions
from fanout.control.config import ControlConfig
from fanout.control.metrics import Metrics
from fanout.store.bundles import BundleStore
from fanout.store.keys import KeyStore
from fanout.store.replies import ReplyStore


class Services:
    """The parts of one control plane.

    Args:
        redis: Client of the primary; whoever made it closes it.
        config: Limits.
        openapi: The document, ready to send.
    """

    def __init__(self, redis: Redis, config: ControlConfig, openapi: bytes) -> None:
        self._redis: Any = redis
        self.config = config
        self.openapi = openapi
        self.bundles = BundleStore(redis)
        self.actions = Actions(redis, config, self.bundles)
        self.keys = KeyStore(redis)
        self.replies = ReplyStore(redis)
        self.metrics = Metrics()

    async def ping(self) -> None:
        """Raise StoreUnavailable unless the store answers."""
        with store_errors():
            await self._redis.ping()
