"""What this product was measured to take and to do, on the hardware that BENCH.md names. Figures, and nothing else.

Here once, for everyone who reckons with them: `fanout plan`, `fanout doctor`, the simulator, the swarm. The first
three can be given others (`--calibrate`). A test holds each to the page it is from, and fails when that was measured
anew and differs: then it is changed here, and `python -m tests.test_limits_page` puts it into docs/limits.md.
"""

from __future__ import annotations

from typing import Final

# --- BENCH.md: one gateway worker on one core.

# A broadcast, the kernel's part included: 15,000 in 126 ms.
SENDS_PER_S: Final = 119_000.0
# With token, welcome and state.
HANDSHAKES_PER_S: Final = 8_700.0
# Of the worker's memory, for an idle device.
DEVICE_BYTES: Final = 1_424.0
# Of its core's time, for an idle device and minute.
IDLE_CPU_US_PER_MIN: Final = 65.0
# To an idle device, headers included.
IDLE_BYTES_PER_MIN: Final = 197.0

# --- BENCH.md: the store's one thread, in us; rounded up.

# For a worker and second: probe and presence.
STORE_WORKER_US_PER_S: Final = 128.0
# What is left of that on a primary where workers read from a replica.
STORE_WRITTEN_US_PER_S: Final = 128.0
# And on that replica.
STORE_READ_US_PER_S: Final = 65.0
# A publication, for each subscriber.
STORE_PUBLISH_US: Final = 1.8

# --- docs/million.md.

# Of the kernel's memory, a socket: half of what both ends of a connection took, page tables included.
SOCKET_BYTES: Final = 5_151.0
# A gateway worker before its first device.
WORKER_BYTES: Final = 11e6
# A device of the swarm after both phases: its part of what its process holds beyond what that held before the first
# device (`bytes_per_device` of `fanout swarm`). The table's 2,411 bytes have the processes in them.
SWARM_DEVICE_BYTES: Final = 1_700.0
# A process of the swarm before its first device.
SWARM_PROCESS_BYTES: Final = 25e6
