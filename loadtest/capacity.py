"""What one machine lets a swarm have: open files a process, memory, ports an address. Pure, but for reading limits.

A target beyond them is refused before anything starts, with the number asked for, the limit, and the way to
raise it.
"""

from __future__ import annotations

import ipaddress
import resource
import socket
from collections.abc import Sequence
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

from fanout.errors import InvalidInput
from fanout.measured import SOCKET_BYTES, SWARM_DEVICE_BYTES, SWARM_PROCESS_BYTES

# Beside its devices' sockets a process holds its loop's, its libraries' and the origin's connections.
FILES_RESERVED: Final = 192
# A device that moves to another socket holds two ports for a moment.
PORTS_SHARE: Final = 0.8
# Where addresses are free for the taking (127.x), use no more of each one's ports: the kernel searches for a free
# one, and past half of the range a whole run of 30,000 devices took 67 s of processor time instead of 12.
PORTS_SHARE_EASY: Final = 0.25
PROCESSES_MAX: Final = 512
SOURCES_MAX: Final = 4_096
_MEMORY: Final = Path("/proc/meminfo")
_PORT_RANGE: Final = Path("/proc/sys/net/ipv4/ip_local_port_range")
# What Linux has unless it is told otherwise, and what others have is more.
_PORTS_ELSEWHERE: Final = 28_232
# The first that gateways on one machine do not use themselves.
_FIRST_SOURCE: Final = int(ipaddress.IPv4Address("127.0.0.2"))


def raise_files_max() -> int:
    """Raise this process's limit of open files as far as it may; return it."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != hard:
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    return hard if hard != resource.RLIM_INFINITY else 2**31


def ports_per_source() -> int:
    """Return how many ports an address has for connections it opens."""
    try:
        first, last = _PORT_RANGE.read_text().split()
    except OSError:
        return _PORTS_ELSEWHERE
    return int(last) - int(first) + 1


def memory_available_bytes() -> int | None:
    """Return what can be had without swapping; None where the system does not say."""
    try:
        lines = _MEMORY.read_text().splitlines()
    except OSError:
        return None
    found = [line.split() for line in lines if line.startswith("MemAvailable:")]
    return int(found[0][1]) * 1024 if found else None


def shares(devices: int, processes: int) -> list[int]:
    """Return how many devices each process gets; they differ by one at most."""
    each, more = divmod(devices, processes)
    return [each + (number < more) for number in range(processes)]


def check_files(devices: int, processes: int, files_max: int) -> None:
    """Hold that every process may open its devices' sockets.

    Raises:
        InvalidInput: It may not.
    """
    room = files_max - FILES_RESERVED
    most = max(shares(devices, processes))
    if most <= room:
        return
    way_out = f"--processes {-(-devices // room)} or more" if room > 0 else "a higher limit"
    raise InvalidInput(
        f"{most} devices in one process need {most + FILES_RESERVED} open files, the limit is {files_max}; "
        f"use {way_out}, or raise the limit (ulimit -n)"
    )


def check_memory(devices: int, processes: int, available_bytes: int | None) -> None:
    """Hold that there is memory for the devices, their sockets' end in the kernel, and the processes themselves.

    Args:
        devices: In all processes.
        processes: Theirs.
        available_bytes: Of the machine; None if it is unknown.
    Raises:
        InvalidInput: There is not.
    """
    each, own = SWARM_DEVICE_BYTES + SOCKET_BYTES, processes * SWARM_PROCESS_BYTES
    needed = devices * each + own
    if available_bytes is None or needed <= available_bytes:
        return
    most = max(0, int((available_bytes - own) / each))
    way_out = f"--devices {most} or fewer" if most else "fewer --processes"
    raise InvalidInput(
        f"{devices} devices in {processes} processes need {needed / 1e9:.2f} GB ({each:,.0f} bytes a device with its "
        f"socket, {SWARM_PROCESS_BYTES / 1e6:g} MB a process), {available_bytes / 1e9:.2f} GB are available; "
        f"use {way_out}, or a machine with more (fanout doctor says how much)"
    )


def parse_sources(words: Sequence[str]) -> tuple[str, ...]:
    """Return the addresses that words such as ``127.0.0.2-127.0.0.9`` or ``10.0.0.5`` name, without repeats.

    Raises:
        InvalidInput: No IPv4 addresses, or the wrong way round, or far too many.
    """
    found: dict[str, None] = {}
    for word in words:
        first, dash, last = word.partition("-")
        try:
            begin = int(ipaddress.IPv4Address(first.strip()))
            end = int(ipaddress.IPv4Address(last.strip())) if dash else begin
        except ValueError as exc:
            raise InvalidInput(
                f"--source is {word!r}; send an IPv4 address or a range such as 127.0.0.2-127.0.0.9"
            ) from exc
        if not 0 <= end - begin < SOURCES_MAX:
            raise InvalidInput(
                f"--source {word!r} holds {end - begin + 1} addresses; send 1 to {SOURCES_MAX}, smaller first"
            )
        found.update((str(ipaddress.IPv4Address(address)), None) for address in range(begin, end + 1))
    return tuple(found)


def choose_sources(devices: int, urls: Sequence[str], given: Sequence[str], ports: int) -> tuple[str, ...]:
    """Return the addresses devices connect from, in turn; empty leaves it to the system.

    Args:
        devices: In all processes.
        urls: The gateways'.
        given: Addresses that were asked for.
        ports: Of one address.
    Raises:
        InvalidInput: There are not enough ports.
    """
    usable = int(ports * PORTS_SHARE)
    if given:
        # A port that is bound before its destination is known serves one connection, whatever the gateways.
        if devices > usable * len(given):
            raise InvalidInput(
                f"{devices} devices need {devices} ports, {len(given)} addresses have {usable * len(given)} "
                f"({usable} each); name {-(-devices // usable)} addresses with --source"
            )
        return tuple(given)
    if all(_is_loopback(url) for url in urls):
        count = -(-devices // int(ports * PORTS_SHARE_EASY))
        return tuple(str(ipaddress.IPv4Address(_FIRST_SOURCE + number)) for number in range(count))
    if devices > usable * len(urls):
        raise InvalidInput(
            f"{devices} devices need {devices} ports, one address has {usable * len(urls)} towards "
            f"{len(urls)} gateway addresses; name {-(-devices // usable)} addresses of this machine with --source, "
            f"or more gateways with --url"
        )
    return ()  # the system may use a port once for every destination


def check_sources(sources: Sequence[str]) -> None:
    """Hold that this machine has these addresses.

    Raises:
        InvalidInput: It lacks one.
    """
    for source in sources:
        with socket.socket() as probe:
            try:
                probe.bind((source, 0))
            except OSError as exc:
                raise InvalidInput(
                    f"cannot connect from {source}: {exc.strerror}; name addresses of this machine with --source"
                ) from exc


def _is_loopback(url: str) -> bool:
    host = urlsplit(url).hostname or ""
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return host == "localhost"
    return address.version == 4 and address.is_loopback
