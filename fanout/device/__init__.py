"""The Python device SDK.

    async with Device("wss://gateway.example", get_token=fetch_token) as device:
        async for event in device:
            match event:
                case Activated(stage=stage, content=content):
                    show(stage, json.loads(content) if content else GENERIC)

`Device` is the asyncio client. `DeviceMachine` is the same device without any I/O, for other event loops, load
generators and tests; it does not load the client, whose HTTP and WebSocket libraries take 17 MB a process.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from fanout.device.actions import (
    Action,
    Cancelled,
    Closed,
    Drop,
    Fetch,
    Flip,
    Prefetched,
    Reopen,
    Send,
    Store,
)
from fanout.device.cache import Cache, MemoryCache
from fanout.device.events import (
    Activated,
    Connected,
    Connecting,
    Disconnected,
    Error,
    Event,
    Events,
    Rehearsed,
    Stats,
)
from fanout.device.filecache import FileCache
from fanout.device.machine import DeviceMachine, Resume

if TYPE_CHECKING:
    from fanout.device.client import Device, Ended

__all__ = [
    "Action",
    "Activated",
    "Cache",
    "Cancelled",
    "Closed",
    "Connected",
    "Connecting",
    "Device",
    "DeviceMachine",
    "Disconnected",
    "Drop",
    "Ended",
    "Error",
    "Event",
    "Events",
    "Fetch",
    "FileCache",
    "Flip",
    "MemoryCache",
    "Prefetched",
    "Rehearsed",
    "Reopen",
    "Resume",
    "Send",
    "Stats",
    "Store",
]


def __getattr__(name: str) -> Any:
    if name in ("Device", "Ended"):
        from fanout.device import client

        return getattr(client, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
