"""How many devices fit a machine's limits, at which rates, and which limit binds. Pure.

Every limit allows ``(value - reserved) / per_device`` devices, exactly; the smallest answer binds. A limit that is
unknown or unlimited allows any number. Knows no file, no clock, and nothing of how an answer is worded.
"""

from __future__ import annotations

from collections.abc import Iterable
from fractions import Fraction
from math import ceil, floor
from typing import Final

from msgspec import Struct

from fanout import measured

# At and above this a limit is none: cgroup v1 writes 2**63 minus a page, the kernel's file-max is 2**63 - 1.
UNLIMITED: Final = 2**60
# Files a gateway's worker keeps for itself, and a process of the swarm: both say so, a test compares.
WORKER_FILES: Final = 512
SWARM_FILES: Final = 192
# Longest stall of a worker's loop in which connections only queue up (the budget for handshakes in a broadcast).
STALL_S: Final = 0.05
# A half-open connection waits for one round trip of a device far away.
ROUND_TRIP_S: Final = 0.2
# A broadcast to everybody is to be over within this.
DELIVERY_S: Final = 20
# The kernel looks for a free port from a random place on; in a fuller range that takes long. The swarm's share too.
PORTS_SHARE: Final = Fraction(4, 5)
# Left to everything else that runs, and to the kernel's reclaim.
MEMORY_SHARE: Final = Fraction(9, 10)


class Costs(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What a device costs and a core can do. Measured on Linux 6, x86-64; `--calibrate` replaces the first three."""

    device_bytes: float = measured.DEVICE_BYTES  # resident in the worker, idle; BENCH.md
    connects_per_core_s: float = measured.HANDSHAKES_PER_S  # with token, welcome and state; BENCH.md
    sends_per_core_s: float = measured.SENDS_PER_S  # activations, the kernel's send included; BENCH.md
    socket_bytes: float = measured.SOCKET_BYTES  # in the kernel, a socket; docs/million.md
    swarm_device_bytes: float = measured.SWARM_DEVICE_BYTES  # of the swarm after both phases, beyond its process
    swarm_connects_per_core_s: float = 4_000  # of the swarm, its side of a handshake; make million
    worker_bytes: float = measured.WORKER_BYTES + 5e6  # before its first device, and 5 MB it shares at first
    gateway_bytes: float = 100e6  # its supervisor, and the process that workers are forked from
    swarm_process_bytes: float = measured.SWARM_PROCESS_BYTES  # a process of the swarm before its first device
    buffer_pages: float = 0.25  # one device in twenty is behind by an inline bundle of 16 KiB, five pages


class Plan(Struct, frozen=True, kw_only=True):
    """How the product would be run.

    Attributes:
        workers: Processes of the gateway, >= 1.
        processes: Processes of the swarm, >= 1.
        connections_max: The gateway's own limit, devices a worker.
        admit_per_s: The gateway's own limit, handshakes a second and worker.
    """

    workers: int
    processes: int
    connections_max: int
    admit_per_s: float


class Limits(Struct, frozen=True, kw_only=True):
    """What a machine says of itself; None is unknown, or not in force.

    Attributes:
        files_soft: Open files of a process. The gateway raises it to the hard limit itself.
        files_system_used: Of all processes, now.
        memory_available_bytes: What can be had without swapping.
        memory_cgroup_bytes: The tightest limit of the cgroups around this process,
        memory_cgroup_used_bytes: and what is used there and cannot be reclaimed.
        ports: In the range for outgoing connections.
        source_addresses: Loopback addresses these can come from.
        somaxconn: Longest queue of connections not accepted yet.
        syn_backlog: Longest queue of half-open connections; None if SYN cookies take over when it is full.
        tcp_pages: Third number of tcp_mem: pages in all sockets' buffers.
        conntrack: Connections tracked at most; None if none are.
        cores: Processors this process may run on.
        cores_quota: Processor seconds a second that its cgroups allow.
        kubernetes: Whether this is a container there: it is said what to change in other words.
    """

    files_soft: int | None = None
    files_hard: int | None = None
    nr_open: int | None = None
    files_system: int | None = None
    files_system_used: int | None = None
    memory_available_bytes: int | None = None
    memory_cgroup_bytes: int | None = None
    memory_cgroup_used_bytes: int | None = None
    ports: int | None = None
    source_addresses: int | None = None
    somaxconn: int | None = None
    syn_backlog: int | None = None
    tcp_pages: int | None = None
    conntrack: int | None = None
    conntrack_used: int | None = None
    cores: int | None = None
    cores_quota: float | None = None
    kubernetes: bool = False


class Bound(Struct, frozen=True):
    """What one limit allows.

    Attributes:
        limit: Its name.
        value: Its value, None if unknown or not in force.
        per_unit: What one more unit of it allows; 0 if it does not matter here.
        reserved: Units that are gone before the first device.
    """

    limit: str
    value: Fraction | None
    per_unit: Fraction
    reserved: Fraction = Fraction(0)

    @property
    def allows(self) -> int | None:
        """Devices, or a second's connects or sends; None is any number."""
        if self.value is None or self.value >= UNLIMITED or not self.per_unit:
            return None
        return max(0, floor((self.value - self.reserved) * self.per_unit))

    def needed(self, amount: int) -> int:
        """Return the value, a whole number, at which this limit allows so many."""
        assert self.per_unit
        return ceil(amount / self.per_unit + self.reserved)


class Quantity(Struct, frozen=True):
    """The smallest of what several limits allow."""

    bounds: tuple[Bound, ...]

    @property
    def binding(self) -> Bound | None:
        """The limit that allows least, the first of equals; None if nothing is known."""
        known = [(bound.allows, place) for place, bound in enumerate(self.bounds) if bound.allows is not None]
        return self.bounds[min(known)[1]] if known else None

    @property
    def total(self) -> int | None:
        return None if self.binding is None else self.binding.allows

    def too_small_for(self, amount: int) -> list[Bound]:
        """Return every limit that does not allow so many, the tightest first."""
        short = [bound for bound in self.bounds if bound.allows is not None and bound.allows < amount]
        return sorted(short, key=lambda bound: bound.allows or 0)


class Verdict(Struct, frozen=True):
    """What a machine can do for one purpose.

    Attributes:
        with_swarm: Whether the devices run on the same machine.
    """

    with_swarm: bool
    devices: Quantity
    connects_per_s: Quantity
    sends_per_s: Quantity


def one_a_core(limits: Limits) -> int:
    """Return how many processes keep the processors busy without waiting for each other, >= 1."""
    cores = [value for value in (limits.cores, limits.cores_quota) if value is not None]
    return max(1, floor(min(cores, default=1)))


def judge(limits: Limits, plan: Plan, costs: Costs, *, with_swarm: bool = False) -> Verdict:
    """Return how many devices a machine holds, and how fast they can connect and be told.

    Args:
        limits: The machine's.
        plan: How the product would be run on it.
        costs: What a device costs.
        with_swarm: The devices run on this machine too, and take half of its cores and their own memory.
    """
    return Verdict(
        with_swarm,
        Quantity(tuple(_devices(limits, plan, costs, with_swarm))),
        Quantity(tuple(_connects(limits, plan, costs, with_swarm))),
        Quantity(tuple(_sends(limits, plan, costs, with_swarm))),
    )


def _devices(limits: Limits, plan: Plan, costs: Costs, both: bool) -> Iterable[Bound]:
    ends = 2 if both else 1
    crew = min(plan.workers, plan.processes) if both else plan.workers
    files = plan.workers * WORKER_FILES + (plan.processes * SWARM_FILES if both else 0)
    base = costs.gateway_bytes + plan.workers * costs.worker_bytes
    base += plan.processes * costs.swarm_process_bytes if both else 0
    each = costs.device_bytes + costs.socket_bytes + (costs.swarm_device_bytes + costs.socket_bytes if both else 0)
    per_byte, base_bytes = MEMORY_SHARE / Fraction(each), Fraction(base) / MEMORY_SHARE
    yield Bound("files", _exact(limits.files_hard), Fraction(crew), Fraction(WORKER_FILES))
    yield Bound("nr_open", _exact(limits.nr_open), Fraction(crew), Fraction(WORKER_FILES))
    yield Bound("connections_max", Fraction(plan.connections_max), Fraction(plan.workers))
    used = limits.files_system_used or 0
    yield Bound("files_system", _exact(limits.files_system), Fraction(1, ends), Fraction(files + used))
    yield Bound("memory", _exact(limits.memory_available_bytes), per_byte, base_bytes)
    spent = base_bytes + (limits.memory_cgroup_used_bytes or 0)
    yield Bound("memory_cgroup", _exact(limits.memory_cgroup_bytes), per_byte, spent)
    yield Bound("tcp_mem", _exact(limits.tcp_pages), 1 / Fraction(costs.buffer_pages))
    yield Bound("conntrack", _exact(limits.conntrack), Fraction(1), Fraction(limits.conntrack_used or 0))
    known = limits.ports is not None and limits.source_addresses is not None
    ports = (limits.ports or 0) * (limits.source_addresses or 0)
    # A gateway answers from one port: only who connects uses up others.
    yield Bound("ports", Fraction(ports) if known else None, PORTS_SHARE if both else Fraction(0))
    told = Fraction(costs.sends_per_core_s) * DELIVERY_S / ends
    yield Bound("cores", _exact(limits.cores), told)
    yield Bound("cores_quota", _exact(limits.cores_quota), told)
    yield Bound("workers", Fraction(plan.workers), told * ends)


def _connects(limits: Limits, plan: Plan, costs: Costs, both: bool) -> Iterable[Bound]:
    alone = Fraction(costs.connects_per_core_s)
    # One core has to do either end of each.
    shared = 1 / (1 / alone + 1 / Fraction(costs.swarm_connects_per_core_s))
    yield from _processors(limits, plan, alone, shared if both else alone)
    yield Bound("admit_per_s", Fraction(plan.admit_per_s), Fraction(plan.workers))
    yield Bound("somaxconn", _exact(limits.somaxconn), plan.workers / Fraction(STALL_S).limit_denominator())
    yield Bound("syn_backlog", _exact(limits.syn_backlog), plan.workers / Fraction(ROUND_TRIP_S).limit_denominator())


def _sends(limits: Limits, plan: Plan, costs: Costs, both: bool) -> Iterable[Bound]:
    alone = Fraction(costs.sends_per_core_s)
    # To receive costs about as much as to send.
    yield from _processors(limits, plan, alone, alone / 2 if both else alone)


def _processors(limits: Limits, plan: Plan, of_worker: Fraction, of_core: Fraction) -> Iterable[Bound]:
    """Yield what processors allow; a worker never uses more than one, and the swarm may use what is left of it."""
    yield Bound("cores", _exact(limits.cores), of_core)
    yield Bound("cores_quota", _exact(limits.cores_quota), of_core)
    yield Bound("workers", Fraction(plan.workers), of_worker)


def _exact(value: float | None) -> Fraction | None:
    return None if value is None else Fraction(value)
