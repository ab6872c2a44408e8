"""Which of several replicas does what must be done by one: the schedule and the flight recorder.

The lease says who should, not who may: whatever a leader does is safe to do twice, so two of them, while one has not
noticed yet that it is no longer the leader, repeat nothing and lose nothing.
"""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, Final

import structlog
from redis.asyncio import Redis

from fanout import keyspace
from fanout.connect import store_errors
from fanout.control.config import ControlConfig
from fanout.errors import FanoutError, StoreUnavailable

log: Final = structlog.get_logger("fanout.control")

_KEEP: Final = """
local holder = redis.call('GET', KEYS[1])
if holder and holder ~= ARGV[1] then return 0 end
redis.call('SET', KEYS[1], ARGV[1], 'PX', ARGV[2])
return 1
"""
_LEAVE: Final = "if redis.call('GET', KEYS[1]) == ARGV[1] then redis.call('DEL', KEYS[1]) end"

Duty = Callable[[], Awaitable[None]]


class Leading:
    """One replica's part in the election.

    Args:
        redis: Client of the primary.
        config: How long a lease lasts, and how often duties are done.
        duties: Each is called every tick while this replica leads; they are safe to do twice.
        failed: Called when a duty was not done.
    """

    def __init__(
        self, redis: Redis, config: ControlConfig, duties: Sequence[Duty], failed: Callable[[], None]
    ) -> None:
        # Any: the client's types say bytes or str, and ours always answers in bytes.
        self._keep: Any = redis.register_script(_KEEP)
        self._leave: Any = redis.register_script(_LEAVE)
        self._config = config
        self._duties = duties
        self._failed = failed
        self._name = secrets.token_hex(8)
        self._leads = False

    @property
    def leads(self) -> bool:
        """Whether this replica leads, as far as it knows."""
        return self._leads

    async def run(self) -> None:
        """Do the duties while leading, until cancelled; then make room at once."""
        try:
            while True:
                await self.tick()
                await asyncio.sleep(self._config.tick_s)
        finally:
            if self._leads:
                await self._make_room()

    async def tick(self) -> None:
        """Ask for the lease, and do the duties if it is ours."""
        try:
            leads = await self._holds()
        except StoreUnavailable as exc:
            if self._leads:
                log.warning("no longer leading", why=str(exc))
            self._leads = False
            return
        if leads != self._leads:
            log.info("leading" if leads else "no longer leading", replica=self._name)
        self._leads = leads
        for duty in self._duties if leads else ():
            try:
                await duty()
            except FanoutError as exc:
                self._failed()
                log.warning("a duty was not done", why=str(exc))
            except Exception:
                self._failed()
                log.exception("a duty failed")

    async def _holds(self) -> bool:
        with store_errors():
            held = await self._keep(keys=[keyspace.LEADER], args=[self._name, int(self._config.lease_s * 1000)])
        return int(held) == 1

    async def _make_room(self) -> None:
        try:
            with store_errors():
                await self._leave(keys=[keyspace.LEADER], args=[self._name])
        except StoreUnavailable:
            pass  # the lease ends by itself
