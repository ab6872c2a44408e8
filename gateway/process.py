"""What a supervisor and its workers have in common: words of health, a port they share, files they may open.

Apart from both, so that a supervisor loads nothing of what only its workers need.
"""

from __future__ import annotations

import enum
import resource
import socket
from typing import Final

import msgspec

from gateway.config import GatewayConfig

# Environment name through which the supervisor hands a worker its settings; no secret is among them.
CONFIG_VARIABLE: Final = "FANOUT_GATEWAY_WORKER_CONFIG"
# What a worker opens besides sockets of devices: the store, its pipe, the loop, files of metrics.
OWN_FILES: Final = 128
# Sockets of those who are being let in or refused while a worker is full.
_DOOR_FILES: Final = 384


class Health(enum.StrEnum):
    """What ``/readyz`` says of one worker."""

    UNREADY = "unready"
    DEGRADED = "degraded"
    OK = "ok"


def raise_open_files() -> int:
    """Raise this process's limit on open files to the hard limit; return it."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    return hard


def within_open_files(config: GatewayConfig, files: int) -> GatewayConfig:
    """Return the config with no more connections than the process may open files: better a 503 than EMFILE."""
    connections_max = min(config.connections_max, files - OWN_FILES - _DOOR_FILES)
    return msgspec.structs.replace(config, connections_max=max(1, connections_max))


def bind(host: str, port: int) -> socket.socket:
    """Return a bound socket that several processes may share (SO_REUSEPORT).

    Raises:
        OSError: The address cannot be had.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    sock = socket.socket(family, socket.SOCK_STREAM)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    try:
        sock.bind((host, port))
    except OSError:
        sock.close()
        raise
    sock.setblocking(False)
    return sock
