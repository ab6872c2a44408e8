"""How to raise each limit: the command on a machine of one's own, the field in Kubernetes. Knows no arithmetic."""

from __future__ import annotations

from collections.abc import Callable
from math import ceil
from typing import Final

from msgspec import Struct

from fanout.doctor.capacity import WORKER_FILES, Bound, Limits, Plan

_NODE: Final = "on the node, no field of a Pod: "


class Advice(Struct, frozen=True):
    """How to raise a limit.

    Attributes:
        command: On a machine of one's own.
        kubernetes: The field of a Pod, or what to do on its node.
    """

    command: str
    kubernetes: str


class Need(Struct, frozen=True):
    """What is to be had.

    Attributes:
        value: What the limit must be.
        amount: For so many devices, or a second's connects or sends.
        with_swarm: Whether the devices run on this machine too.
    """

    value: int
    amount: int
    limits: Limits
    plan: Plan
    with_swarm: bool


def advise(bound: Bound, amount: int, limits: Limits, plan: Plan, *, with_swarm: bool) -> Advice:
    """Return what to change so that a limit allows ``amount`` devices (or a second's connects or sends)."""
    return _ADVICE[bound.limit](Need(bound.needed(amount), amount, limits, plan, with_swarm))


def _sysctl(name: str) -> Callable[[Need], Advice]:
    return lambda need: Advice(f"sysctl -w {name}={need.value}", f"{_NODE}sysctl -w {name}={need.value}")


def _flag(name: str) -> Callable[[Need], Advice]:
    variable = f"FANOUT_GATEWAY_{name.replace('-', '_').upper()}"
    return lambda need: Advice(
        f"fanout gateway --{name} {need.value}", f'spec.containers[].env: {variable}="{need.value}"'
    )


def _connections_max(need: Need) -> Advice:
    crew = ceil(need.amount / need.plan.connections_max)
    return Advice(
        f"fanout gateway --connections-max {need.value}, or --workers {crew}",
        f'spec.containers[].env: FANOUT_GATEWAY_CONNECTIONS_MAX="{need.value}", or FANOUT_GATEWAY_WORKERS="{crew}"',
    )


def _files(need: Need) -> Advice:
    """More files a process, or more processes; a process cannot be given more than fs.nr_open."""
    nr_open, room = need.limits.nr_open, (need.limits.files_hard or 0) - WORKER_FILES
    first = f"sysctl -w fs.nr_open={need.value}; " if nr_open is not None and nr_open < need.value else ""
    more = ""
    if room > 0:
        crew = ceil(need.amount / room)
        more = f", or fanout gateway --workers {crew}"
        more += f" and fanout swarm --processes {crew}" if need.with_swarm else ""
    return Advice(
        f"{first}ulimit -Hn {need.value} as root, or LimitNOFILE={need.value} in its systemd unit{more}",
        f"{_NODE}{first}LimitNOFILE={need.value} in containerd's systemd unit{more}",
    )


def _memory(need: Need) -> Advice:
    size = f"{ceil(need.value / 2**30)} GiB"
    return Advice(f"a machine with {size} free", f"a node with {size} free, and spec.containers[].resources.requests")


def _memory_cgroup(need: Need) -> Advice:
    mebi = ceil(need.value / 2**20)
    return Advice(
        f"systemctl set-property UNIT MemoryMax={mebi}M (docker: --memory {mebi}m)",
        f"spec.containers[].resources.limits.memory: {mebi}Mi",
    )


def _tcp_mem(need: Need) -> Advice:
    command = f'sysctl -w net.ipv4.tcp_mem="{need.value // 2} {need.value * 3 // 4} {need.value}"'
    return Advice(command, _NODE + command)


def _conntrack(need: Need) -> Advice:
    command = f"sysctl -w net.netfilter.nf_conntrack_max={need.value}"
    return Advice(
        f"{command}, or a NOTRACK rule for the port", f"{_NODE}{command}; kube-proxy --conntrack-min {need.value}"
    )


def _ports(need: Need) -> Advice:
    name, value = "net.ipv4.ip_local_port_range", '"1024 65535"'
    # Where that is not enough either, only more addresses help.
    more = ", and more source addresses" if need.value > 64_512 * (need.limits.source_addresses or 1) else ""
    return Advice(
        f"sysctl -w {name}={value}{more}", f"spec.securityContext.sysctls: name {name}, value {value} (safe){more}"
    )


def _cores(need: Need) -> Advice:
    more = f" and fanout gateway --workers {need.value}" if need.value > need.plan.workers else ""
    return Advice(f"a machine with {need.value} cores{more}", f"more Pods, or a node with {need.value} cores{more}")


def _cores_quota(need: Need) -> Advice:
    more = f" and fanout gateway --workers {need.value}" if need.value > need.plan.workers else ""
    return Advice(
        f"systemctl set-property UNIT CPUQuota={need.value * 100}% (docker: --cpus {need.value}){more}",
        f'spec.containers[].resources.limits.cpu: "{need.value}", or none{more}',
    )


def _somaxconn(need: Need) -> Advice:
    name = "net.core.somaxconn"
    return Advice(
        f"sysctl -w {name}={need.value}",
        f'spec.securityContext.sysctls: name {name}, value "{need.value}" (kubelet --allowed-unsafe-sysctls={name})',
    )


def _syn_backlog(need: Need) -> Advice:
    name = "net.ipv4.tcp_max_syn_backlog"
    return Advice(
        f"sysctl -w {name}={need.value}, or net.ipv4.tcp_syncookies=1",
        'spec.securityContext.sysctls: name net.ipv4.tcp_syncookies, value "1" (safe)',
    )


_ADVICE: Final[dict[str, Callable[[Need], Advice]]] = {
    "files": _files,
    "nr_open": _sysctl("fs.nr_open"),
    "connections_max": _connections_max,
    "files_system": _sysctl("fs.file-max"),
    "memory": _memory,
    "memory_cgroup": _memory_cgroup,
    "tcp_mem": _tcp_mem,
    "conntrack": _conntrack,
    "ports": _ports,
    "cores": _cores,
    "cores_quota": _cores_quota,
    "workers": _flag("workers"),
    "admit_per_s": _flag("admit-per-s"),
    "somaxconn": _somaxconn,
    "syn_backlog": _syn_backlog,
}
