"""What a run takes of a machine's memory: by processes, without counting shared pages twice, and by the kernel."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path
from typing import Final

from msgspec import Struct

_PAGE_BYTES: Final = os.sysconf("SC_PAGESIZE")
# Socket structures are slab; connections' buffers are counted apart; page tables grow with the processes.
_KERNEL: Final = ("Slab", "PageTables", "KernelStack")


class Memory(Struct, frozen=True):
    """Bytes at one moment.

    Attributes:
        gateways: Proportional set size of the gateway's workers.
        swarm: Of the swarm's processes.
        kernel: Slab, page tables, stacks, and the buffers of TCP.
        available: What the system says could still be had.
    """

    gateways: int
    swarm: int
    kernel: int
    available: int

    def since(self, before: Memory) -> Memory:
        """Return what was taken since then; ``available`` is how much less there is."""
        return Memory(
            self.gateways - before.gateways,
            self.swarm - before.swarm,
            self.kernel - before.kernel,
            before.available - self.available,
        )


def memory(gateways: Iterable[int], swarm: Iterable[int]) -> Memory:
    """Return what these processes and the kernel hold now."""
    lines = Path("/proc/meminfo").read_text().splitlines()
    kilobytes = {name: int(rest.split()[0]) for name, _, rest in (line.partition(":") for line in lines)}
    kernel = sum(kilobytes[name] for name in _KERNEL) * 1024 + tcp_buffer_bytes()
    return Memory(_sum(gateways), _sum(swarm), kernel, kilobytes["MemAvailable"] * 1024)


def descendants(pid: int) -> tuple[int, ...]:
    """Return the processes that a process has started, and theirs."""
    found: list[int] = []
    try:
        for task in Path(f"/proc/{pid}/task").iterdir():
            found += [int(child) for child in (task / "children").read_text().split()]
    except FileNotFoundError:
        return ()  # it has just ended
    return (*found, *(each for child in found for each in descendants(child)))


def _sum(pids: Iterable[int]) -> int:
    return sum(proportional_bytes(pid) for pid in pids)


def proportional_bytes(pid: int) -> int:
    """Return a process's proportional set size; none, if it is gone."""
    try:
        lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    except (FileNotFoundError, ProcessLookupError):
        return 0  # it has just ended
    return sum(int(line.split()[1]) * 1024 for line in lines if line.startswith("Pss:"))


def tcp_buffer_bytes() -> int:
    """Return what the kernel holds of TCP's bytes on their way, all sockets together."""
    for line in Path("/proc/net/sockstat").read_text().splitlines():
        words = line.split()
        if words[0] == "TCP:":
            return int(words[words.index("mem") + 1]) * _PAGE_BYTES
    return 0
