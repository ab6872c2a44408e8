"""Ports for servers that have to be told theirs, before they start and again after every restart."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager


@contextmanager
def reserved_ports(count: int) -> Iterator[list[int]]:
    """Yield ports of 127.0.0.1, all different, which nobody else is given while the context lasts.

    Each is bound here and not listened on. Linux lets a server that asks for this very port have it (SO_REUSEADDR,
    which servers set), but hands it to nobody who asks for any; a port that was merely free a moment ago may be
    somebody else's by the time the server starts.
    """
    with ExitStack() as held:
        sockets = [held.enter_context(socket.socket()) for _ in range(count)]
        for each in sockets:
            each.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            each.bind(("127.0.0.1", 0))
        yield [each.getsockname()[1] for each in sockets]
