"""A real Prometheus scrapes the running product, and wakes somebody when its store falls silent."""

from __future__ import annotations

import os
import signal
from pathlib import Path

from support.product import product
from support.stack import connecting, receive
from support.waiting import until

from .rules import needs_prometheus, runbook_of
from .server import prometheus

# Of the alerts that have to wait, as little as tells a lasting state from one bad scrape.
FOR = "500ms"
_ASK_S = 0.1


@needs_prometheus
async def test_a_store_that_falls_silent_wakes_somebody_and_lets_them_sleep_once_it_answers(tmp_path: Path) -> None:
    async with product(workers=1) as running, connecting(running.url) as device:
        await receive(device)
        assert running.stack.gateway is not None
        jobs = {
            "fanout-gateway": (running.stack.gateway.admin_url, "250ms"),
            # It waits for the store before it says that there is none.
            "fanout-control": (running.control_url, "4s"),
        }
        async with prometheus(tmp_path, jobs, FOR) as server:

            async def seen() -> bool:
                return await server.up() == set(jobs) and await server.evaluated()

            await until(seen, "a scrape of both, and an evaluation", poll_s=_ASK_S)
            assert not await server.broken_rules()

            async def quiet() -> bool:
                return not await server.firing()

            await until(quiet, "nothing to fire while all is well", poll_s=_ASK_S)

            os.kill(running.stack.valkey.pid, signal.SIGSTOP)
            try:

                async def woken() -> bool:
                    return await server.firing() >= {"FanoutBusWedged", "FanoutStoreDown"}

                await until(woken, "the alerts", poll_s=_ASK_S)
                alerts = await server.alerts()
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

            await until(quiet, "silence, once the store answers", poll_s=_ASK_S)
