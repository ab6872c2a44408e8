"""Devices whose every flip is kept: the SDK's `Device` as an app uses it, and the whole swarm."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any, NamedTuple

import httpx

from fanout import wire
from fanout.device import Activated, Closed, Device, DeviceMachine, Flip
from fanout.slots import slot_ms
from loadtest.swarm import Swarm, SwarmConfig, SwarmDevice
from support.product import Product
from support.stack import KEY, token
from support.waiting import PATIENCE_S, until
from support.web import web

# Instants are whole milliseconds.
EXACT_MS = 1
# A device's clock is an estimate, which a later message may correct. On a busy machine, where everything here
# takes turns in one loop, it may be off by as much as a turn takes.
CLOCK_MS = 250


def mono_ms() -> float:
    """Return the timer that devices read."""
    return time.monotonic() * 1000


def server_ms(machine: DeviceMachine | None, at_ms: float) -> float:
    """Return the server's clock as this device estimates it, Unix ms.

    What a device does is judged by that, exactly: how good the estimate is, is another matter.
    """
    estimate = machine.server_ms(at_ms) if machine else None
    assert estimate is not None, "it has never been welcomed"
    return estimate


class Viewer:
    """An app on the SDK.

    Attributes:
        flips: When, by its own estimate of the server's clock, it was told to show what.
        joined: Between which instants (monotonic ms) it was welcomed.
        closed: Campaigns it was told are over.
    """

    def __init__(self, product: Product, number: int, http: httpx.AsyncClient, **options: Any) -> None:
        self.id = f"viewer-{number}"
        self.flips: list[tuple[float, Activated]] = []
        self.joined: tuple[float, float] = (0.0, 0.0)
        self.closed: list[Closed] = []
        # Both encodings in one topic.
        encoding = list(wire.Encoding)[number % 2]
        usual = {
            "url": product.url,
            "get_token": lambda: token(self.id),
            "origin_url": product.control_url,
            "encoding": encoding,
            "http": http,
        }
        self.device = Device(
            **{**usual, **options},
            on_activate=lambda event: self.flips.append((server_ms(self.device.machine, mono_ms()), event)),
            on_close=self.closed.append,
        )

    async def join(self, since_ms: float) -> None:
        """Wait until a gateway has welcomed it; ``since_ms`` is from when on that was possible."""
        async with asyncio.timeout(PATIENCE_S):
            await self.device.wait_connected()
        self.joined = (since_ms, mono_ms())

    @property
    def stages(self) -> list[str]:
        return [event.stage for _, event in self.flips]

    @property
    def due_ms(self) -> float:
        """The instant its last flip was due, by the same clock."""
        flipped_ms, event = self.flips[-1]
        return flipped_ms - event.late_ms

    def assert_flipped_in_window(self, activation: dict[str, Any]) -> None:
        """Hold that the last flip was due at the device's own slot in the activation's window."""
        slot = slot_ms(self.id, activation["rev"], activation["window_ms"])
        off_ms = self.due_ms - (activation["at"] + slot)
        # The app is told a moment after the decision, and that moment is in it.
        assert -EXACT_MS <= off_ms < CLOCK_MS, f"{self.id} was due {off_ms} ms off its slot"
        assert self.flips[-1][1].late_ms >= 0

    def assert_flipped_late(self, activation: dict[str, Any]) -> None:
        """Hold that the last flip was due at its own slot in a window that began when it was welcomed."""
        window_ms = min(wire.CATCH_UP_MS, activation["window_ms"])
        learned_ms = self.due_ms - slot_ms(self.id, activation["rev"], window_ms)
        first_ms, last_ms = (server_ms(self.device.machine, at_ms) for at_ms in self.joined)
        assert first_ms - CLOCK_MS <= learned_ms <= last_ms + CLOCK_MS


@asynccontextmanager
async def viewers(product: Product, numbers: Sequence[int], **options: Any) -> AsyncIterator[list[Viewer]]:
    """Run these devices, all connected; they leave when the context ends."""
    async with AsyncExitStack() as ends:
        http = await ends.enter_async_context(web())
        made = [Viewer(product, number, http, **options) for number in numbers]
        began_ms = mono_ms()
        for viewer in made:
            await ends.enter_async_context(viewer.device)
        await asyncio.gather(*(viewer.join(began_ms) for viewer in made))
        yield made


def together(instants: Sequence[float], window_ms: int) -> float:
    """Return the largest share of the instants in any tenth of the window: 0.1 if perfectly spread."""
    width = window_ms / 10
    most = max(sum(start <= other < start + width for other in instants) for start in instants)
    return most / len(instants)


class Seen(NamedTuple):
    """A flip of a swarm's device: who, when by its own estimate of the server's clock, and what was asked."""

    device: str
    at_ms: float
    flip: Flip


class WatchedSwarm(Swarm):
    """The real swarm, which also keeps who flipped when."""

    def __init__(self, config: SwarmConfig) -> None:
        super().__init__(config, KEY.encode())
        self.seen: list[Seen] = []
        self._moments: list[tuple[int, Callable[[], None]]] = []

    def flipped(self, device: SwarmDevice, action: Flip) -> None:
        self.seen.append(Seen(device.machine.device_id, server_ms(device.machine, mono_ms()), action))
        super().flipped(device, action)
        self._look()

    def once_activated(self, devices: int, act: Callable[[], None]) -> None:
        """Have this done when so many devices have activated, before another one does.

        Who waits for a count finds that all have, if the machine was held up meanwhile.
        """
        self._moments.append((devices, act))
        self._look()

    def _look(self) -> None:
        come = [moment for moment in self._moments if moment[0] <= self.tally.activated]
        self._moments = [moment for moment in self._moments if moment not in come]
        for _, act in come:
            act()

    def all_here(self) -> bool:
        """Tell whether every device is connected, or has been if some always leave."""
        if self.config.churn_per_min:
            return all(each.machine.server_ms(mono_ms()) is not None for each in self.devices)
        return self.tally.connected == self.config.devices

    def knows(self, rev: int) -> bool:
        """Tell whether every device has received this revision."""
        return all(device.machine.resume().since >= rev for device in self.devices)

    def shows(self, campaign: str = "cup") -> set[str | None]:
        """Return which stages the devices show, None for one that shows nothing."""
        shown = (device.machine.shown(campaign) for device in self.devices)
        return {None if look is None else look[0] for look in shown}

    def assert_each_once(self, activation: dict[str, Any]) -> None:
        """Hold that every device flipped once for this activation, at its own slot or after, never before."""
        flips = [seen for seen in self.seen if seen.flip.rev == activation["rev"]]
        assert sorted(seen.device for seen in flips) == sorted(d.machine.device_id for d in self.devices)
        self.assert_slots(flips, activation)

    def assert_slots(self, flips: Sequence[Seen], activation: dict[str, Any]) -> None:
        """Hold that these flips were due at the devices' own slots, and came no earlier.

        On a machine that was held up, some may hear of it when its window is over. Their slots are the latecomers',
        counted from then on.
        """
        over_ms = activation["at"] + activation["window_ms"]
        for device, at_ms, flip in flips:
            slot = slot_ms(device, activation["rev"], activation["window_ms"])
            short_ms = min(wire.CATCH_UP_MS, activation["window_ms"])
            heard_ms = flip.due_ms - slot_ms(device, activation["rev"], short_ms)
            in_time = flip.due_ms == activation["at"] + slot
            assert in_time or heard_ms >= over_ms, f"{device} was due {flip.due_ms}"
            assert at_ms >= flip.due_ms - EXACT_MS, f"{device} flipped {flip.due_ms - at_ms} ms early"


@asynccontextmanager
async def swarm(product: Product, devices: int, **options: Any) -> AsyncIterator[WatchedSwarm]:
    """Run a swarm in this loop, all connected; if some always leave, all that have been."""
    usual: dict[str, Any] = {"urls": (product.url,), "origin": product.control_url, "topics": ("t",)}
    config = SwarmConfig(devices=devices, **{**usual, **options})
    made = WatchedSwarm(config)
    running = asyncio.create_task(made.run())
    try:
        await until(lambda: made.all_here() or running.done(), "the swarm")
        yield made
        assert not running.done(), running
    finally:
        running.cancel()
        await asyncio.wait([running])
