"""Sockets by the ten thousand, as small as they come: file descriptors in one epoll set, and who minds them.

A transport of an event loop takes more memory than all that a device knows. Here a socket is its number: it is
opened from a given address, watched, written to and closed by it. The event loop waits for the set as a whole, so
timers and HTTP go on as ever. Knows nothing of what is said on a socket. Linux alone has epoll.
"""

from __future__ import annotations

import asyncio
import os
import select
import socket
import struct
from collections.abc import Callable
from contextlib import suppress
from typing import Final, Protocol

# Sockets read before timers get their turn.
_EVENTS_AT_ONCE: Final = 256
# More stays in the kernel until the next turn; nearly every message is shorter.
_READ_BYTES: Final = 16_384
# Takes the port when the destination is known: one port then serves once for each of them. linux/in.h
_IP_BIND_ADDRESS_NO_PORT: Final = 24
_RESET: Final = struct.pack("ii", 1, 0)

Address = tuple[str, int]


class Minder(Protocol):
    """What minds a socket."""

    def data_received(self, data: bytes) -> None:
        """Bytes came."""

    def connection_lost(self) -> None:
        """The socket is gone, and it was not us who closed it."""


class Sockets:
    """All sockets of a process.

    Args:
        failed: Called with what a minder raises; nothing is read any more then.
    """

    def __init__(self, failed: Callable[[Exception], None]) -> None:
        self._failed = failed
        self._epoll = select.epoll()
        self._minders: list[Minder | None] = []  # by file descriptor
        self._unsent: dict[int, bytes] = {}  # what the kernel has not taken yet
        self._paused: set[int] = set()
        self._loop: asyncio.AbstractEventLoop | None = None

    def start(self) -> None:
        """Have the running event loop read them."""
        self._loop = asyncio.get_running_loop()
        self._loop.add_reader(self._epoll.fileno(), self._ready)

    def stop(self) -> None:
        """Reset every socket: none of them is to hold its port for a minute as a closed one does."""
        if self._loop is not None:
            self._loop.remove_reader(self._epoll.fileno())
            self._loop = None
        for number, minder in enumerate(self._minders):
            if minder is not None:
                with suppress(OSError), socket.socket(socket.AF_INET, socket.SOCK_STREAM, 0, number) as reset:
                    reset.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
        self._minders.clear()
        self._unsent.clear()
        self._paused.clear()
        self._epoll.close()

    def open(self, family: int, address: Address, source: str | None, first: bytes, minder: Minder) -> int:
        """Open a socket and write its first bytes once it is connected; whether it will be, the minder is told.

        Args:
            family: Of the address.
            address: Where to; the host is a number, no name.
            source: Address to connect from.
            first: What to write.
            minder: Who reads what comes.
        Raises:
            OSError: It cannot even be tried: refused at once, no ports, no files.
        """
        with socket.socket(family, socket.SOCK_STREAM | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC) as made:
            made.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            if source is not None:
                made.setsockopt(socket.IPPROTO_IP, _IP_BIND_ADDRESS_NO_PORT, 1)
                made.bind((source, 0))
            with suppress(BlockingIOError):
                made.connect(address)
            number = made.fileno()
            self._epoll.register(number, select.EPOLLIN)
            made.detach()
        if number >= len(self._minders):
            self._minders.extend([None] * (number + 1 - len(self._minders)))
        self._minders[number] = minder
        self.write(number, first)
        return number

    def mind(self, number: int, minder: Minder) -> None:
        """Hand a socket over to another minder."""
        self._minders[number] = minder

    def write(self, number: int, data: bytes) -> None:
        """Write bytes after all that came before; on a socket that is broken nothing happens but that it is lost."""
        if number in self._unsent:
            self._unsent[number] += data
            return
        try:
            written = os.write(number, data)
        except BlockingIOError:
            written = 0
        except OSError:
            return  # reading tells its minder, who may be in the midst of something now
        if written < len(data):
            self._unsent[number] = data[written:]
            if number not in self._paused:
                self._epoll.modify(number, self._events(number))

    def close(self, number: int) -> None:
        """Close a socket; its minder hears no more of it."""
        self._minders[number] = None
        self._unsent.pop(number, None)
        self._paused.discard(number)
        os.close(number)

    def pause(self, number: int) -> None:
        """Read no more of it, and do not even look whether it is still there."""
        self._paused.add(number)
        self._epoll.unregister(number)

    def resume(self, number: int) -> None:
        """Read it again, if it is paused."""
        if number in self._paused:
            self._paused.remove(number)
            self._epoll.register(number, self._events(number))

    def local(self, number: int) -> Address:
        """Return the address and port a socket was opened from."""
        with socket.socket(fileno=os.dup(number)) as copy:
            host, port, *_ = copy.getsockname()
        return host, port

    def _ready(self) -> None:
        minders, read = self._minders, os.read
        try:
            for number, events in self._epoll.poll(0, _EVENTS_AT_ONCE):
                minder = minders[number]
                if minder is None:
                    continue  # an earlier one of these has closed it
                if events & select.EPOLLOUT:
                    self._write_more(number)
                    if events == select.EPOLLOUT:
                        continue
                try:
                    data = read(number, _READ_BYTES)
                except BlockingIOError:
                    continue  # the event was for a closed socket that had the same number
                except OSError:
                    data = b""
                if data:
                    minder.data_received(data)
                else:
                    self.close(number)
                    minder.connection_lost()
        except Exception as exc:  # noqa: BLE001 - a bug must end the run, not one callback of the loop
            self._failed(exc)

    def _write_more(self, number: int) -> None:
        data = self._unsent.pop(number, b"")
        self._epoll.modify(number, self._events(number))
        if data:
            self.write(number, data)

    def _events(self, number: int) -> int:
        return select.EPOLLIN | select.EPOLLOUT if number in self._unsent else select.EPOLLIN
