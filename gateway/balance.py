"""Evening out: a worker with more devices than the others has asks the surplus to reconnect.

A device chooses at random where it comes back, so the gateway that a rolling restart replaced last would stay empty
until lifetimes end. Nobody is told where to go: a surplus that moves again and again ends up spread evenly. Asking is
the wheel's work (`Server.shed`), paced as lifetimes are, and like them never near an activation.
"""

from __future__ import annotations

import asyncio
import math
import random
from typing import Final

import structlog

from fanout.bus import presence
from fanout.bus.presence import Average
from fanout.connect import STORE_ERRORS, Commands
from gateway import metrics
from gateway.config import GatewayConfig
from gateway.server import Server

log: Final = structlog.get_logger(__name__)


def surplus(connections: int, average: Average, tolerance: float) -> int:
    """Return how many devices a worker should part with.

    Args:
        connections: Its own.
        average: The fleet's.
        tolerance: Share over the mean that is left alone. So is the mean's square root: that far apart are workers
            that were filled at random, and moving devices about would change nothing.
    Returns:
        What it has over the mean, 0 if that is within the tolerance.
    """
    if average.workers < 2:
        return 0
    mean = average.connections / average.workers
    over = connections - mean
    return int(over) if over > max(tolerance * mean, math.sqrt(mean)) else 0


class Balance:
    """Looks, again and again, whether this worker has too many.

    Args:
        config: How often, how much, how fast.
        redis: The store, for the fleet's average.
        server: Whose devices they are.
    """

    def __init__(self, config: GatewayConfig, redis: Commands, server: Server) -> None:
        self._config = config
        self._redis = redis
        self._server = server
        # After a round each device asked has been visited and has moved; only then is the next one worth a look.
        self._period_s = max(config.rebalance_s, config.beacon_s + config.lifetime_spread_ms / 1000)

    async def run(self) -> None:
        """Look once a period, with jitter, until cancelled."""
        if not self._config.rebalance_s:
            await asyncio.Event().wait()
        rng = random.Random()
        task = asyncio.current_task()
        assert task is not None
        # The Redis client can lose a cancellation (`Worker._announce`).
        while not task.cancelling():
            await asyncio.sleep(self._period_s * rng.uniform(0.9, 1.1))
            if not (self._server.draining or self._server.frozen):
                await self._look()

    async def _look(self) -> None:
        try:
            average = await presence.average(self._redis, self._period_s / 4)
        except STORE_ERRORS as exc:
            log.warning("the fleet's average cannot be read, devices stay where they are", error=str(exc))
            return
        config = self._config
        count = surplus(self._server.cohorts.connections, average, config.rebalance_tolerance)
        count = min(count, int(config.rebalance_per_s * config.beacon_s))
        if count:
            self._server.shed(count)
            metrics.REBALANCED.inc(count)
            log.info("asking devices to move", count=count, workers=average.workers, devices=average.connections)
