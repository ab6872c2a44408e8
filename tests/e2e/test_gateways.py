"""Gateways die, leave, are full or refuse: devices come back, spread out, and miss nothing."""

from __future__ import annotations

import os
import signal
import tempfile
import time
from pathlib import Path

from support.product import Product, product
from support.stack import FAST, KEY, GatewayProcess, token
from support.viewers import WatchedSwarm, swarm, viewers
from support.waiting import until
from support.web import web

from fanout import wire
from fanout.device import Connected, Connecting, Device, Disconnected
from fanout.tokens import mint
from gateway.config import GatewayConfig
from loadtest.swarm import SwarmDevice

DEVICES = 200
BASE_MS = 1_000


async def test_devices_of_a_killed_worker_come_back_by_full_jitter_and_flip_once() -> None:
    async with product(workers=2, backoff_base_ms=BASE_MS) as made, swarm(made, DEVICES) as crowd:
        assert made.stack.gateway is not None
        await made.create()
        await made.press("prefetch", window_s=0)
        await made.counted(connected=DEVICES, ready=DEVICES)
        pids = [int(pid) for pid in await workers(made.stack.gateway.admin_url)]
        plans = planned_returns(crowd)
        activation = (await made.press("activate", stage="live", window_s=2))["activation"]
        await until(lambda: crowd.tally.activated > DEVICES // 10, "the first flips")
        os.kill(pids[0], signal.SIGKILL)
        await until(lambda: crowd.tally.activated == DEVICES, "every flip")
        await made.counted(connected=DEVICES, ready=DEVICES, active=DEVICES)
        crowd.assert_each_once(activation)
        assert len(crowd.seen) == DEVICES
        # Full jitter: anywhere between at once and the base, not all at one end.
        assert len(plans) > DEVICES // 10, "the worker held hardly any devices"
        waits_ms = sorted(plans.values())
        assert waits_ms[-1] <= BASE_MS
        assert waits_ms[0] < BASE_MS / 4
        assert waits_ms[-1] > BASE_MS * 3 / 4
        now = {int(pid) for pid in await workers(made.stack.gateway.admin_url)}
        assert pids[1] in now, "the other worker is still the same"


async def workers(admin_url: str) -> dict[str, str]:
    """Return the health of each worker, by process id."""
    async with web() as http:
        return dict((await http.get(f"{admin_url}/readyz")).json()["workers"])


def planned_returns(crowd: WatchedSwarm) -> dict[int, float]:
    """Return a dict that gets, for each device that loses its socket, after how many ms it first means to return."""
    plans: dict[int, float] = {}
    connect_at = crowd.connect_at

    def noted(device: SwarmDevice, at_ms: float) -> None:
        plans.setdefault(device.number, at_ms - time.monotonic() * 1000)
        connect_at(device, at_ms)

    crowd.connect_at = noted  # type: ignore[method-assign]
    return plans


async def test_a_gateway_that_leaves_hands_its_devices_over_and_nobody_misses_an_activation() -> None:
    # Time enough to move for devices that are held up, and to press while it goes on.
    leaving = {"drain_s": 4.0, "drain_close_s": 4.0}
    async with product(workers=1, **leaving) as made:
        assert made.stack.gateway is not None
        port = int(made.url.rsplit(":", 1)[1].split("/")[0])
        settings = {**FAST, **leaving, "redis_url": made.stack.valkey.url, "port": port}
        with tempfile.TemporaryDirectory(prefix="fanout-test-") as scratch:
            other = GatewayProcess(Path(scratch), GatewayConfig(**settings))
            try:
                await other.started()
                assert other.url == made.url, "both are behind one address"
                await hand_over(made)
            finally:
                other.stop()


async def hand_over(made: Product) -> None:
    """Have the first gateway leave while devices flip."""
    gateway = made.stack.gateway
    assert gateway is not None
    async with swarm(made, DEVICES) as crowd:
        await made.create()
        await made.press("prefetch", window_s=0)
        await made.counted(connected=DEVICES, ready=DEVICES)
        welcomes = {device.machine.device_id: device.socket for device in crowd.devices}
        gateway.process.send_signal(signal.SIGTERM)
        await until(lambda: any(d.socket is not welcomes[d.machine.device_id] for d in crowd.devices), "a move")
        assert gateway.process.poll() is None, "it is still draining"
        activation = (await made.press("activate", stage="live", window_s=1.5))["activation"]
        assert await gateway.exited() == 0
        await made.counted(connected=DEVICES, ready=DEVICES, active=DEVICES)
        crowd.assert_each_once(activation)
        assert len(crowd.seen) == DEVICES
        moved = sum(device.socket is not welcomes[device.machine.device_id] for device in crowd.devices)
        assert 0 < moved < DEVICES, "both gateways had devices"
        # Make before break: only who was too slow to move when asked is closed.
        assert sum(crowd.tally.closes.values()) < moved / 5, crowd.tally.closes


async def test_a_full_gateway_says_when_to_come_back_and_takes_the_next_one_once_there_is_room() -> None:
    async with product(connections_max=1, retry_after_s=1.0, backoff_base_ms=10, backoff_cap_ms=50) as made:
        async with viewers(made, [1]):
            waiting = Device(made.url, get_token=lambda: token("patient"))
            events = waiting.events()
            await waiting.__aenter__()
            assert isinstance(await anext(events), Connecting)
            refused = await anext(events)
            assert isinstance(refused, Disconnected)
            assert refused.status == 503
            assert refused.retry_in_ms is not None
            assert refused.retry_in_ms >= 1_000, "Retry-After is whole seconds, and jitter comes on top"
        async for event in events:
            if isinstance(event, Connected):
                break
        await waiting.close()


async def test_a_token_that_ends_is_replaced_and_the_device_stays() -> None:
    lives_s = [5, 3_600]  # the first ends within the tests' patience
    asked: list[str] = []

    def get_token() -> str:
        asked.append(mint(KEY.encode(), "tv-1", ["t"], ttl_s=lives_s[len(asked)]))
        return asked[-1]

    # A token is looked at with every beacon.
    async with product(beacon_s=2, lifetime_s=100, backoff_base_ms=10, backoff_cap_ms=50) as made:
        device = Device(made.url, get_token=get_token)
        events = device.events()
        async with device:
            told = [await anext(events) for _ in range(5)]
            assert [type(event) for event in told] == [Connecting, Connected, Disconnected, Connecting, Connected]
            assert isinstance(told[2], Disconnected)
            assert told[2].code == wire.CloseCode.TOKEN_EXPIRED
        assert len(asked) == 2


async def test_a_refused_token_is_replaced_before_the_next_try() -> None:
    tokens = [
        token(exp=int(time.time()) - 60),
        token(key="another key than the gateway's, of 40 bytes"),
        token(),
    ]
    left = list(tokens)
    async with product() as made:
        device = Device(made.url, get_token=lambda: left.pop(0), reconnect=wire.ReconnectPolicy(10, 50))
        events = device.events()
        async with device:
            told = [await anext(events) for _ in range(6)]
        assert [event.status for event in told if isinstance(event, Disconnected)] == [401, 401]
        assert isinstance(told[-1], Connected)
        assert not left
