"""What the operations of one app share, made once."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from typing import Any

from redis.asyncio import Redis

from fanout.bus.publisher import Publisher
from fanout.connect import store_errors
from fanout.control.actions import Actions
from fanout.control.config import ControlConfig
from fanout.control.guesses import Guesses
from fanout.control.leading import Leading
from fanout.control.metrics import Metrics
from fanout.control.observe import Observer
from fanout.control.plans import Plans
from fanout.control.pressing import Presser
from fanout.control.recorder import Recorder
from fanout.control.sampling import Sampler
from fanout.control.scheduler import Scheduler
from fanout.control.watching import Watch
from fanout.store.accounts import AccountStore
from fanout.store.audit import AuditStore
from fanout.store.bundles import BundleStore
from fanout.store.campaigns import CampaignStore
from fanout.store.flights import FlightStore
from fanout.store.keys import KeyStore
from fanout.store.replies import ReplyStore
from fanout.store.sessions import SessionStore


class Services:
    """The parts of one control plane.

    Args:
        redis: Client of the primary; whoever made it closes it.
        config: Limits.
        openapi: The document, ready to send.
        webhook_key: What calls of the production's schedule are signed with, None for none.
    """

    def __init__(self, redis: Redis, config: ControlConfig, openapi: bytes, webhook_key: bytes | None = None) -> None:
        self._redis: Any = redis
        self.config = config
        self.openapi = openapi
        self.bundles = BundleStore(redis)
        campaigns, audit, observer = CampaignStore(redis), AuditStore(redis), Observer(redis)
        publisher = Publisher(redis, safe_timeout_s=config.safe_timeout_s)
        presser = Presser(campaigns, audit, publisher, config)
        self.watch = Watch(redis, campaigns, audit, publisher, observer, config)
        self.plans = Plans(presser, self.watch, self.bundles, config)
        self.actions = Actions(presser, observer, self.bundles, config)
        self.flights = FlightStore(redis, config.flights_max)
        self.metrics = Metrics()
        failed = self.metrics.scheduler_failures.inc
        scheduler = Scheduler(redis, self.watch, self.actions, config, failed)
        duties = (scheduler.tick, Recorder(self.watch, self.flights).tick)
        self.leading = Leading(redis, config, duties, failed)
        self.sampler = Sampler(self.watch, self.leading, self.metrics)
        self.keys = KeyStore(redis)
        self.guesses = Guesses.of_addresses(config)
        self.accounts = AccountStore(redis)
        self.account_guesses = Guesses.of_accounts(config)
        self.sessions = SessionStore(redis, config.session_s)
        self.audit = audit
        # What is done once, beside serving, when a server starts.
        self.at_start: list[Callable[[], Coroutine[Any, Any, None]]] = []
        self.replies = ReplyStore(redis)
        self.webhook_key = webhook_key

    async def ping(self) -> None:
        """Raise StoreUnavailable unless the store answers."""
        with store_errors():
            await self._redis.ping()
