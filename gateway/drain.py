"""Leaving in good order: devices are asked to reconnect, a few at a time, and only then closed."""

from __future__ import annotations

import asyncio
from typing import Final

from fanout.wire import CloseCode, Encoding, Reconnect
from gateway.broadcaster import message_frame
from gateway.cohorts import Cohorts
from gateway.config import GatewayConfig
from gateway.pacing import TICK_S, spread

# The drain has paced the messages already; within this a device opens its new socket.
_WITHIN_S: Final = 1.0


async def drain(cohorts: Cohorts, config: GatewayConfig) -> None:
    """Ask every device to reconnect and let it, within ``drain_s``; then close the rest over ``drain_close_s``.

    Publications go on being broadcast meanwhile: nobody misses an activation that falls into a drain.
    """
    # The last ones asked need their time too: make before break.
    within_s = min(_WITHIN_S, config.drain_s / 2)
    message = Reconnect(int(within_s * 1000))
    asked = {encoding: message_frame(message, encoding) for encoding in Encoding}
    members = [(connection, asked[cohort.encoding]) for cohort in cohorts for connection in cohort.members]

    def ask(index: int) -> None:
        connection, data = members[index]
        connection.write(data)

    await spread(len(members), config.drain_s - within_s, ask, slice_max=config.slice_sends)
    await _emptied(cohorts, within_s)
    rest = [connection for cohort in cohorts for connection in cohort.members]
    await spread(
        len(rest),
        config.drain_close_s,
        lambda index: rest[index].close(CloseCode.SERVICE_RESTART, "this gateway is leaving; reconnect"),
        slice_max=config.slice_sends,
    )


async def _emptied(cohorts: Cohorts, limit_s: float) -> None:
    """Wait until everyone has left, or the time is up."""
    until = asyncio.get_running_loop().time() + limit_s
    while cohorts.connections and asyncio.get_running_loop().time() < until:  # noqa: ASYNC110 - rare, and bounded
        await asyncio.sleep(TICK_S)
