"""Servers beside the one every test has: primaries and replicas, and servers that hang."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager

from redis.asyncio import Redis
from support.waiting import until

from fanout.embedded import EmbeddedValkey
from loadtest.ports import reserved_ports


@contextmanager
def frozen(server: EmbeddedValkey) -> Iterator[None]:
    """Stop a server's process as a hanging machine would: its sockets stay open, nothing answers."""
    os.kill(server.pid, signal.SIGSTOP)
    try:
        yield
    finally:
        os.kill(server.pid, signal.SIGCONT)


@contextmanager
def listening(options: dict[str, str] | None = None) -> Iterator[tuple[EmbeddedValkey, int]]:
    """Run a server that replicas can reach; yields it with its port."""
    with reserved_ports(1) as [port]:
        reachable = {"bind": "127.0.0.1", "port": str(port), "repl-diskless-sync-delay": "0"}
        with EmbeddedValkey(options={**reachable, **(options or {})}) as server:
            yield server, port
            server.kill()


async def replicate(redis: Redis, port: int) -> None:
    """Make this store a replica, and wait until it follows."""
    await redis.replicaof("127.0.0.1", str(port))

    async def follows() -> bool:
        return (await redis.info("replication"))["master_link_status"] == "up"

    await until(follows, "the replica to follow")
