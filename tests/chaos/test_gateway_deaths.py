"""Workers die, devices vanish, connections grow old: nobody is lost, and nothing counts twice or comes at once."""

from __future__ import annotations

import json
import os
import signal
import time

from support.product import product
from support.stack import activated, closed, connecting, prefetched, receive, stack
from support.viewers import swarm
from support.waiting import until
from support.web import web

DEVICES = 2_000
RATE = 300.0


async def workers(admin_url: str) -> dict[int, str]:
    """Return what each worker said last, by process id."""
    async with web() as http:
        said = (await http.get(f"{admin_url}/readyz")).json()["workers"]
    return {int(pid): word for pid, word in said.items()}


async def test_devices_of_a_killed_worker_come_back_no_faster_than_admitted_and_none_is_lost() -> None:
    limits = {"admit_per_s": RATE, "retry_after_s": 1.0, "backoff_base_ms": 100, "backoff_cap_ms": 500}
    async with product(workers=2, rebalance_s=0, **limits) as made, swarm(made, DEVICES) as crowd:
        gateway = made.stack.gateway
        assert gateway is not None
        await made.create()
        await made.press("prefetch", window_s=0)
        await made.counted(connected=DEVICES, ready=DEVICES)
        victim = min(await workers(gateway.admin_url))
        shares = {int(r.worker.split("-")[-2]): r.connections for r in await made.stack.records()}
        lost = shares[victim]
        assert lost > DEVICES / 10, "it held hardly any devices"
        killed = time.monotonic()
        os.kill(victim, signal.SIGKILL)
        # All of it: a dead process's sockets are closed one by one; the first devices may be back before the last.
        await until(lambda: sum(crowd.tally.closes.values()) >= lost, "the loss")
        activation = (await made.force("live", window_s=0))["activation"]
        await until(lambda: crowd.tally.connected == DEVICES, "everyone's return")
        took_s = time.monotonic() - killed
        # Two workers' bursts and rates at the most. A slow machine only makes it less.
        assert lost <= 2 * (RATE / 4 + 1) + 2 * RATE * took_s
        await made.counted(connected=DEVICES, ready=DEVICES, active=DEVICES)
        flipped = [seen.device for seen in crowd.seen if seen.flip.rev == activation["rev"]]
        assert sorted(flipped) == sorted(device.machine.device_id for device in crowd.devices), "each once"


async def test_what_a_half_open_device_had_counted_is_taken_back_when_it_is_reaped() -> None:
    # It answers every ping until it vanishes, and has seconds for that.
    settings = {"beacon_s": 0.25, "ping_s": 2}
    own = {"ping_interval": None, "max_queue": None}  # it pings nobody, and reads whether anyone takes it or not
    async with stack(workers=1, **settings) as s, connecting(s.url, **own) as gone:
        first = (await s.publisher.publish(prefetched())).rev
        second = (await s.publisher.publish(activated())).rev

        async def said() -> dict[str, int]:
            records = await s.records()
            if not records or "c" not in records[0].campaigns:
                return {}
            record, gauge = records[0], records[0].campaigns["c"]
            return {
                "revs": (gauge.prefetch_rev, gauge.activate_rev) == (first, second),
                "connected": record.connections,
                "ready": sum(group.ready for group in gauge.groups),
                "active": sum(group.active for group in gauge.groups),
                "failed": gauge.failed,
            }

        async def says(**counts: int) -> None:
            async def so() -> bool:
                found = await said()
                return bool(found) and all(found[name] == count for name, count in counts.items())

            await until(so, str(counts))

        await says(revs=1)
        for kind, rev in (("ready", first), ("active", second), ("failed", second), ("failed", second)):
            report = {"t": "report", "campaign": "c", "rev": rev, "kind": kind, "ms": 1}
            await gone.send(json.dumps(report))
        await says(connected=1, ready=1, active=1, failed=1)
        # It vanishes: nothing is answered any more, and nothing tells the gateway so.
        gone.transport.pause_reading()
        await says(connected=0, ready=0, active=0, failed=0)
        gone.transport.resume_reading()
        assert await closed(gone) == 4002


async def test_a_connection_that_grows_old_in_a_freeze_is_moved_only_after_it() -> None:
    tail_s = 2
    settings = {"beacon_s": 0.25, "ping_s": 60, "lifetime_s": 0.5, "freeze_lead_s": 600, "freeze_tail_s": tail_s}
    async with stack(workers=1, **settings) as s:
        assert s.gateway is not None
        admin_url = s.gateway.admin_url
        # So far ahead that the connection grows old in the freeze, however long that takes.
        rev = (await s.publisher.publish(activated(at=int(time.time() * 1000) + 500_000))).rev

        async def told() -> bool:
            return [record.bus_rev for record in await s.records()] == [rev]

        async def postponed() -> bool:
            async with web() as http:
                text = (await http.get(f"{admin_url}/metrics")).text
            return 'fanout_gateway_postponed_total{what="lifetime"}' in text

        await until(told, "the activation in the worker")
        async with connecting(s.url) as device:
            await until(postponed, "a move put off")
            # The event is moved, to an instant that no clock here takes for one to come: its freeze has an end.
            at = int(time.time() * 1000) - 1_000
            await s.publisher.publish(activated(at=at))
            now, beacons = 0, 0
            while (message := await receive(device))["t"] != "reconnect":
                now = message.get("now", now)
                beacons += message["t"] == "beacon"
        # A beacon goes before it in the same breath, and says the server's time.
        assert now >= at + tail_s * 1000
        assert beacons > 1, "one more than when it was put off"
