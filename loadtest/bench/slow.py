"""Devices that stop reading: do the others notice, what do they hold on to, are they closed and do they come back?

The same publications twice, with and without them, each to a product of its own. Every one carries an inline bundle
near the limit, and there are enough of them to fill whatever lies between the gateway and a device.
"""

from __future__ import annotations

import asyncio
from typing import Any, Final

from fanout.limits import INLINE_BYTES_MAX
from loadtest.bench.figures import Figure
from loadtest.bench.fleet import Fleet, fleet
from loadtest.bench.memory import tcp_buffer_bytes
from loadtest.bench.rig import STILL, Product, prepare, product, resident_bytes

_SHARE: Final = 0.05
# Until they read again: long after the last publication.
_SLOW_S: Final = 60.0
_PUBLICATIONS: Final = 60
# At either end a device may cost no more than the gateway's write buffer (``write_buffer_bytes_max``).
_DEVICE_BYTES_MAX: Final = 512 * 1024
_PATIENCE_S: Final = 120.0
# The bundle without its title.
_REST_BYTES: Final = 512


async def slow(devices: int) -> list[Figure]:
    """Return how late publications are for those who read, and what those who do not cost."""
    quiet = await asyncio.to_thread(_run, devices, 0.0)
    found = await asyncio.to_thread(_run, devices, _SHARE)
    stopped = max(1, found["slow"].get("stopped", 0))
    # What the slow ones have read when they began again counts as well; they are fewer than one in ten.
    late, usual = (each["prefetch_delivery_ms"]["p90"] for each in (found, quiet))
    back, closed = found["slow"].get("back", 0), found["closed"]
    per_device = max(0, found["kernel_bytes"] - quiet["kernel_bytes"]) / stopped
    return [
        Figure(
            name="slow-delivery",
            what=f"publication to nine in ten devices, while {stopped:,} of {devices:,} do not read",
            unit="ms",
            value=late,
            yardstick=usual,
            against="while all read",
            ratio=late / usual,
            budget="unchanged (<= 1.25)",
            kept=late / usual <= 1.25,
        ),
        Figure(
            name="slow-memory",
            what="worker's memory at its peak, a device that does not read",
            unit="bytes",
            value=max(0, found["worker_bytes"] - quiet["worker_bytes"]) / stopped,
            budget=f"<= {_DEVICE_BYTES_MAX:,}",
            kept=found["worker_bytes"] - quiet["worker_bytes"] <= stopped * _DEVICE_BYTES_MAX,
        ),
        Figure(
            name="slow-kernel",
            what="kernel's buffers at their peak, both ends, a device that does not read",
            unit="bytes",
            value=per_device,
            budget=f"<= {_DEVICE_BYTES_MAX:,}",
            kept=per_device <= _DEVICE_BYTES_MAX,
        ),
        Figure(
            name="slow-back",
            what="devices that did not read, were closed with 4000, and came back",
            unit="share",
            value=min(back, closed) / stopped,
            budget="1",
            kept=back == closed == stopped,
        ),
    ]


def _run(devices: int, share: float) -> dict[str, Any]:
    """Publish to a fleet of which a share does not read; return its tally and the memory it took."""
    flags = "--slow-share", str(share), "--slow-s", str(_SLOW_S), "--connects-per-s", "4000"
    with product(*STILL) as running, fleet(running, devices, *flags) as devices_of:
        devices_of.until("connected", lambda tally: tally["connected"] >= devices, _PATIENCE_S)
        prepare(running, title="x" * (INLINE_BYTES_MAX - _REST_BYTES))
        kernel_bytes = _publish(running, devices_of, devices - round(devices * share))
        worker_bytes = resident_bytes(running.worker, most=True)
        stopped = round(devices * share)
        devices_of.until("back", lambda tally: tally["slow"].get("back", 0) >= stopped, _SLOW_S + _PATIENCE_S)
        # By the gateway's count: of a close frame, a device that does not read hears only if it reads in time.
        closed = running.metric('fanout_gateway_closes_total{code="4000"}')
        return {**devices_of.end(), "worker_bytes": worker_bytes, "kernel_bytes": kernel_bytes, "closed": closed}


def _publish(running: Product, devices: Fleet, readers: int) -> int:
    """Publish again and again, each when the last has been received; return the kernel's buffers at their peak."""
    most = 0
    for _ in range(_PUBLICATIONS):
        _delivered(devices, running.post("/v1/campaigns/bench/prefetch", {"window_s": 0})["rev"], readers)
        most = max(most, tcp_buffer_bytes())
    return most


def _delivered(devices: Fleet, rev: int, readers: int) -> None:
    def received(tally: dict[str, Any]) -> bool:
        return any(each["rev"] == rev and each["received"] >= readers for each in tally["publications"])

    devices.until("received", received, _PATIENCE_S)
