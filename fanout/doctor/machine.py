"""Reads a machine's limits out of /proc and /sys/fs/cgroup. Whatever is missing, as on macOS, is unknown: None.

Decides nothing. What a container is given counts, not what its node has: of nested cgroups the tightest.
"""

from __future__ import annotations

import os
import resource
import sys
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path, PurePosixPath
from typing import Final

from fanout.doctor.capacity import UNLIMITED, Limits

_CGROUPS: Final = "sys/fs/cgroup"


def read_limits(root: Path = Path("/"), *, files: tuple[int, int] | None = None, cores: int | None = None) -> Limits:
    """Return the limits of the machine whose file systems are mounted under ``root``.

    Args:
        root: Where proc and sys are.
        files: Soft and hard limit of open files; None asks for this process's.
        cores: Processors this process may run on; None asks.
    """
    soft, hard = files or resource.getrlimit(resource.RLIMIT_NOFILE)
    memory, memory_used = _memory_cgroup(root)
    file_numbers = _numbers(root, "proc/sys/fs/file-nr")
    ports = _numbers(root, "proc/sys/net/ipv4/ip_local_port_range")
    tcp_mem = _numbers(root, "proc/sys/net/ipv4/tcp_mem")
    tracked = _number(root, "proc/sys/net/netfilter/nf_conntrack_count")
    cookies = _number(root, "proc/sys/net/ipv4/tcp_syncookies")
    return Limits(
        files_soft=_files(soft),
        files_hard=_files(hard),
        nr_open=_number(root, "proc/sys/fs/nr_open"),
        files_system=_number(root, "proc/sys/fs/file-max"),
        files_system_used=file_numbers[0] if file_numbers else None,
        memory_available_bytes=_meminfo(root, "MemAvailable"),
        memory_cgroup_bytes=memory,
        memory_cgroup_used_bytes=memory_used,
        ports=ports[1] - ports[0] + 1 if len(ports) == 2 else None,
        source_addresses=_loopback_addresses(root),
        somaxconn=_number(root, "proc/sys/net/core/somaxconn"),
        syn_backlog=None if cookies else _number(root, "proc/sys/net/ipv4/tcp_max_syn_backlog"),
        tcp_pages=tcp_mem[2] if len(tcp_mem) == 3 else None,
        # With the module loaded and no rule that uses it, nothing is tracked and the limit is none.
        conntrack=_number(root, "proc/sys/net/netfilter/nf_conntrack_max") if tracked else None,
        conntrack_used=tracked,
        cores=cores or _cores(),
        cores_quota=_quota(root),
        kubernetes=(root / "var/run/secrets/kubernetes.io").exists() or "KUBERNETES_SERVICE_HOST" in os.environ,
    )


def _files(limit: int) -> int:
    return UNLIMITED if limit == resource.RLIM_INFINITY else limit


def _cores() -> int | None:
    return len(os.sched_getaffinity(0)) if sys.platform == "linux" else os.cpu_count()


def _text(path: Path) -> str:
    """Return a file's content, empty if it is not there or not ours to read."""
    try:
        return path.read_text("ascii", "replace")
    except OSError:
        return ""


def _numbers(root: Path, name: str) -> list[int]:
    words = _text(root / name).split()
    return [int(word) for word in words] if all(word.isdecimal() for word in words) else []


def _number(root: Path, name: str) -> int | None:
    numbers = _numbers(root, name)
    return numbers[0] if len(numbers) == 1 else None


def _meminfo(root: Path, name: str) -> int | None:
    for line in _text(root / "proc/meminfo").splitlines():
        words = line.split()
        if words[:1] == [f"{name}:"] and len(words) == 3 and words[1].isdecimal():
            return int(words[1]) * 1024
    return None


def _loopback_addresses(root: Path) -> int | None:
    """Return how many addresses a connection within the machine can come from: all of 127.0.0.0/8 on Linux."""
    trie = [line.split() for line in _text(root / "proc/net/fib_trie").splitlines()]
    for network, mask in pairwise(trie):
        if network[-1:] == ["127.0.0.0"] and mask[:3] == ["/8", "host", "LOCAL"]:
            return 2**24 - 2
    return 1 if sys.platform == "darwin" else None


# --- Control groups


def _groups(root: Path, controller: str) -> Iterator[Path]:
    """Yield the directories of this process's group and its ancestors, for version 2 and for the controller in 1.

    In a container the path may be the host's, while only the group itself is mounted, at the top: what is not
    there reads as unknown, and the top is always among them.
    """
    for line in _text(root / "proc/self/cgroup").splitlines():
        number, _, rest = line.partition(":")
        names, _, path = rest.partition(":")
        if number == "0" and not names:
            tops = [root / _CGROUPS, root / _CGROUPS / "unified"]
        elif controller in names.split(","):
            tops = [root / _CGROUPS / names, root / _CGROUPS / controller]
        else:
            continue
        inside = PurePosixPath(path.lstrip("/"))
        for top in tops:
            if ".." not in inside.parts:
                yield from (top / each for each in (inside, *inside.parents))
            else:
                yield top


def memory_limit_bytes(root: Path = Path("/")) -> int | None:
    """Return what this process and its children may take: the tightest group's limit, or all the machine has."""
    limits = [
        _number(group, name) for group in _groups(root, "memory") for name in ("memory.max", "memory.limit_in_bytes")
    ]
    known = [limit for limit in (*limits, _meminfo(root, "MemTotal")) if limit is not None and limit < UNLIMITED]
    return min(known, default=None)


def _memory_cgroup(root: Path) -> tuple[int | None, int | None]:
    """Return limit and use of the group that has least left, both None if no group has a limit."""
    found: list[tuple[int, int, int]] = []
    for group in _groups(root, "memory"):
        for limit_name, used_name, cached in (
            ("memory.max", "memory.current", "inactive_file"),
            ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file"),
        ):
            limit = _number(group, limit_name)
            if limit is None or limit >= UNLIMITED:
                continue
            # The page cache counts as used, but makes room for whoever asks.
            used = max(0, (_number(group, used_name) or 0) - _statistic(group, cached))
            found.append((limit - used, limit, used))
    return min(found)[1:] if found else (None, None)


def _statistic(group: Path, name: str) -> int:
    for line in _text(group / "memory.stat").splitlines():
        key, _, value = line.partition(" ")
        if key == name and value.isdecimal():
            return int(value)
    return 0


def _quota(root: Path) -> float | None:
    """Return the processor time a second that the tightest group allows, None without a quota."""
    quotas: list[float] = []
    for group in _groups(root, "cpu"):
        both = _text(group / "cpu.max").split() or [
            *_text(group / "cpu.cfs_quota_us").split(),
            *_text(group / "cpu.cfs_period_us").split(),
        ]
        if len(both) == 2 and both[0].isdecimal() and both[1].isdecimal():
            quotas.append(int(both[0]) / max(1, int(both[1])))
    return min(quotas, default=None)
