"""Leaving in good order: devices are asked to reconnect, a few at a time, and only then closed."""

from __future__ import annotations

from typing import Final

from fanout.wire import CloseCode, Encoding, Reconnect
from gateway.broadcaster import message_frame
from gateway.cohorts import Cohorts
from gateway.config import GatewayConfig
from gateway.pacing import spread

# The drain has paced the messages already; within this a device opens its new socket.
_WITHIN_MS: Final = 1_000


async def drain(cohorts: Cohorts, config: GatewayConfig) -> None:
    """Ask every device to reconnect, spread over ``drain_s``; then close the rest over ``drain_close_s``.

    Publications go on being broadcast meanwhile: nobody misses an activation that falls into a drain.
    """
    asked = {encoding: message_frame(Reconnect(_WITHIN_MS), encoding) for encoding in Encoding}
    members = [(connection, asked[cohort.encoding]) for cohort in cohorts for connection in cohort.members]

    def ask(index: int) -> None:
        connection, data = members[index]
        connection.write(data)

    await spread(len(members), config.drain_s, ask, slice_max=config.slice_sends)
    rest = [connection for cohort in cohorts for connection in cohort.members]
    await spread(
        len(rest),
        config.drain_close_s,
        lambda index: rest[index].close(CloseCode.SERVICE_RESTART, "this gateway is leaving; reconnect"),
        slice_max=config.slice_sends,
    )
