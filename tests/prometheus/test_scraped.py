"""A real Prometheus scrapes the running product, and wakes somebody when its store falls silent."""

from __future__ import annotations

import os
import signal
from pathlib import Path
from typing import Any

from support.product import product
from support.stack import connecting, receive
from support.waiting import until

from .rules import needs_prometheus, runbook_of
from .server import prometheus

# Of the alerts that have to wait, as little as tells a lasting state from one bad scrape.
FOR = "1s"
_ASK_S = 0.2
WOKEN = {"FanoutBusWedged", "FanoutStoreDown"}
# What says that the machine is busy, and a machine that runs tests is.
_OF_THE_MACHINE = {"FanoutLoopLag"}


@needs_prometheus
async def test_a_store_that_falls_silent_wakes_somebody_and_lets_them_sleep_once_it_answers(tmp_path: Path) -> None:
    async with product(workers=1) as running, connecting(running.url) as device:
        await receive(device)
        assert running.stack.gateway is not None
        jobs = {
            "fanout-gateway": (running.stack.gateway.admin_url, "500ms"),
            # It waits for the store before it says that there is none.
            "fanout-control": (running.control_url, "4s"),
        }
        async with prometheus(tmp_path, jobs, FOR) as server:

            async def seen() -> bool:
                return await server.up() == set(jobs) and await server.evaluated()

            await until(seen, "a scrape of both, and an evaluation", poll_s=_ASK_S)
            assert not await server.broken_rules()

            async def calm() -> bool:
                return not (await server.active()) - _OF_THE_MACHINE

            # Until then each was a target that had never answered.
            await until(calm, "nothing to be wrong while all is well", poll_s=_ASK_S)

            os.kill(running.stack.valkey.pid, signal.SIGSTOP)
            try:

                async def woken() -> list[dict[str, Any]]:
                    alerts = await server.alerts()
                    return alerts if {alert["labels"]["alertname"] for alert in alerts} >= WOKEN else []

                # All are of one moment: in the next, a scrape that comes too late may end one of them for a while.
                alerts = await until(woken, "the alerts", poll_s=_ASK_S)
                [wedged] = [alert for alert in alerts if alert["labels"]["alertname"] == "FanoutBusWedged"]
                assert wedged["labels"]["state"] == "degraded"
                assert wedged["labels"]["job"] == "fanout-gateway"
                assert wedged["labels"]["severity"] == "critical"
                for alert in alerts:
                    assert "<error" not in "".join(alert["annotations"].values()), alert
                    named = alert["annotations"]["runbook_url"]
                    assert named.endswith(runbook_of(alert["labels"]["alertname"]).name)
            finally:
                os.kill(running.stack.valkey.pid, signal.SIGCONT)

            async def quiet() -> bool:
                return not await server.firing() & WOKEN

            await until(quiet, "silence, once the store answers", poll_s=_ASK_S)
