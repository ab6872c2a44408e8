"""The way to a gateway: where it is, and what every device says when it opens a socket there. Knows no socket."""

from __future__ import annotations

import socket
from urllib.parse import urlsplit

from fanout import wire
from fanout.device.machine import DeviceMachine
from loadtest.lean import device_opening


class Route:
    """The way to a gateway in one encoding: its address, and all of the opening handshake that is the same.

    Args:
        url: The gateway's.
        encoding: Of the messages.
        family: Of the address, and so of the socket.
    Raises:
        OSError: The host has no address.
    """

    __slots__ = ("_after", "_before", "address", "family")

    def __init__(self, url: str, encoding: wire.Encoding, family: int) -> None:
        parts = urlsplit(url)
        found = socket.getaddrinfo(parts.hostname, parts.port or 80, family, socket.SOCK_STREAM)
        self.family = found[0][0]
        host, port, *_ = found[0][4]
        self.address = str(host), int(port)
        before, after = device_opening(url, encoding, "TOKEN").decode().split(" HTTP/1.1", 1)
        self._before, self._after = before, " HTTP/1.1" + after

    def request(self, token: str, machine: DeviceMachine) -> bytes:
        """Return a device's opening handshake."""
        query = "&".join(f"{name}={value}" for name, value in machine.resume().query().items())
        return (self._before + ("?" + query if query else "") + self._after.replace("TOKEN", token, 1)).encode()
