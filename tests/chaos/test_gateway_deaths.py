"""Workers die, devices vanish, connections grow old: nobody is lost, and nothing counts twice or comes at once."""

from __future__ import annotations

import json
import os
import signal
import time

from support.product import product
from support.rude import rude
from support.stack import activated, connecting, prefetched, receive, stack
from support.viewers import swarm
from support.waiting import until
from support.web import web
from websockets.frames import Frame, Opcode

DEVICES = 2_000
RATE = 300.0


async def workers(admin_url: str) -> dict[int, str]:
    """Return what each worker said last, by process id."""
    async with web() as http:
        said = (await http.get(f"{admin_url}/readyz")).json()["workers"]
    return {int(pid): word for pid, word in said.items()}


async def test_devices_of_a_killed_worker_come_back_no_faster_than_admitted_and_none_is_lost() -> None:
    limits = {"admit_per_s": RATE, "retry_after_s": 1.0, "backoff_base_ms": 100, "backoff_cap_ms": 500}
    async with product(workers=2, **limits) as made, swarm(made, DEVICES) as crowd:
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
        await until(lambda: crowd.tally.connected < DEVICES, "the loss")
        activation = (await made.force("live", window_s=0))["activation"]
        await until(lambda: crowd.tally.connected == DEVICES, "everyone's return")
        took_s = time.monotonic() - killed
        # Two workers' bursts and rates at the most. A slow machine only makes it less.
        assert lost <= 2 * (RATE / 4 + 1) + 2 * RATE * took_s
        await made.counted(connected=DEVICES, ready=DEVICES, active=DEVICES)
        flipped = [seen.device for seen in crowd.seen if seen.flip.rev == activation["rev"]]
        assert sorted(flipped) == sorted(device.machine.device_id for device in crowd.devices), "each once"


async def test_what_a_half_open_device_had_counted_is_taken_back_when_it_is_reaped() -> None:
    settings = {"beacon_s": 0.25, "ping_s": 0.5}
    async with stack(workers=1, **settings) as s, rude(s.url) as gone:
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
            gone.writer.write(Frame(Opcode.TEXT, json.dumps(report).encode()).serialize(mask=True))
        await says(connected=1, ready=1, active=1, failed=1)
        # It vanishes: nothing is answered any more, and nothing tells the gateway so.
        await says(connected=0, ready=0, active=0, failed=0)
        assert await gone.ended() == 4002


async def test_a_connection_that_grows_old_in_a_freeze_is_moved_only_after_it() -> None:
    tail_s, ahead_ms = 0.5, 1_500
    settings = {"beacon_s": 0.25, "ping_s": 5, "lifetime_s": 0.5, "freeze_lead_s": 60, "freeze_tail_s": tail_s}
    async with stack(workers=1, **settings) as s:
        at = int(time.time() * 1000) + ahead_ms
        rev = (await s.publisher.publish(activated(at=at))).rev

        async def told() -> bool:
            return [record.bus_rev for record in await s.records()] == [rev]

        await until(told, "the activation in the worker")
        async with connecting(s.url) as device:
            now, beacons = 0, 0
            while (message := await receive(device))["t"] != "reconnect":
                now = message["now"]
                beacons += message["t"] == "beacon"
        # A beacon goes before it in the same breath, and says the server's time.
        assert now >= at + tail_s * 1000
        assert beacons > 1
        assert s.gateway is not None
        async with web() as http:
            text = (await http.get(f"{s.gateway.admin_url}/metrics")).text
        assert 'fanout_gateway_postponed_total{what="lifetime"}' in text
