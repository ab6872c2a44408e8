"""Takes the steps that schedules ask for, by pressing the same buttons as people do. What is due is `planning`'s.

A step that is refused, by the gate for instance, is tried again every tick until its instant has passed; why it waits
is kept for people to see. A campaign says itself what has been done, and each version's step has one idempotency key,
so a step is taken once however many leaders there are.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

import structlog
from redis.asyncio import Redis

from fanout import campaign as lifecycle
from fanout import keyspace
from fanout.campaign import Campaign, Schedule
from fanout.connect import store_errors
from fanout.control.actions import Actions
from fanout.control.config import ControlConfig
from fanout.control.pressing import Press
from fanout.control.requests import ActivateRequest, PrefetchRequest
from fanout.control.watching import Watch
from fanout.errors import InvalidInput, OutcomeUnknown, Refused
from fanout.planning import Step, due

# No account and no key can have this name.
SCHEDULER: Final = "(scheduler)"
# Ticks after which a reason to wait is forgotten if nobody has repeated it.
_WAITS_TICKS: Final = 5

log: Final = structlog.get_logger("fanout.control")


class Scheduler:
    """Looks at every schedule and does what is due.

    Args:
        redis: Client of the primary.
        watch: What there is.
        actions: The buttons.
        config: How often it is called.
        failed: Called when a step that is due was not taken.
    """

    def __init__(
        self, redis: Redis, watch: Watch, actions: Actions, config: ControlConfig, failed: Callable[[], None]
    ) -> None:
        # Any: the client's types say bytes or str, and ours always answers in bytes.
        self._redis: Any = redis
        self._watch = watch
        self._actions = actions
        self._failed = failed
        self._waits_ms = int(config.tick_s * _WAITS_TICKS * 1000)

    async def tick(self) -> None:
        """Take every step that is due. Raises StoreUnavailable."""
        now_ms = await self._watch.now_ms()
        for stored in await self._watch.records():
            campaign = lifecycle.advance(stored, now_ms)
            step = due(campaign, now_ms)
            if step is not None and campaign.schedule is not None:
                await self._take(step, campaign, campaign.schedule)

    async def _take(self, step: Step, campaign: Campaign, schedule: Schedule) -> None:
        key = f"{campaign.id}.{step}.{campaign.version}"
        press = Press(SCHEDULER, key, key)
        try:
            if step is Step.PREFETCH:
                window_s = schedule.prefetch_window_ms / 1000
                await self._actions.prefetch(campaign.id, PrefetchRequest(window_s=window_s), press)
            else:
                asked = ActivateRequest(stage=schedule.stage, window_s=schedule.window_ms / 1000, at=schedule.at)
                await self._actions.activate(campaign.id, asked, press)
        except (Refused, InvalidInput, OutcomeUnknown) as exc:
            self._failed()
            log.warning("a scheduled step waits", step=step.value, campaign=campaign.id, why=str(exc))
            with store_errors():
                await self._redis.set(keyspace.waits(campaign.id), f"{step}: {exc}", px=self._waits_ms)
        else:
            with store_errors():
                await self._redis.delete(keyspace.waits(campaign.id))
