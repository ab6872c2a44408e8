"""A primary, a replica whose link can fail, and a Sentinel over both: the store as production has it.

The Sentinel is the embedded server's own. Its timers are shortened; what it decides is left to it.
"""

from __future__ import annotations

import socket
import subprocess
import tempfile
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from bus.servers import listening
from redis.asyncio import Redis
from support.relay import Relay, relay
from support.waiting import until

from fanout import processes
from fanout.connect import STORE_ERRORS, connect
from fanout.embedded import EmbeddedValkey, server_binary

NAME: Final = "fanout"
PASSWORD: Final = "only sentinels know"
# After this much silence the primary counts as down, ms.
_DOWN_AFTER_MS: Final = 500
_CONFIG: Final = f"""\
bind 127.0.0.1
protected-mode no
requirepass "{PASSWORD}"
sentinel monitor {NAME} 127.0.0.1 {{primary}} 1
sentinel down-after-milliseconds {NAME} {_DOWN_AFTER_MS}
sentinel failover-timeout {NAME} 60000
"""


@dataclass
class Watched:
    """A store that Sentinel watches.

    Attributes:
        url: Of its primary, whichever that is; as the product is given it.
        primary: The first primary.
        replica: Its replica, the next one.
        link: Between the two: what is held here only the primary has.
        replica_port: Its port.
        sentinel_port: The Sentinel's.
    """

    url: str
    primary: EmbeddedValkey
    replica: EmbeddedValkey
    link: Relay
    replica_port: int
    sentinel_port: int

    def lag(self) -> None:
        """Let the replica hear nothing more; its link stays up."""
        self.link.blackhole()

    async def failed_over(self) -> None:
        """Wait until the replica is the primary, and the Sentinel says so."""
        async with Redis(port=self.sentinel_port, password=PASSWORD) as sentinel:

            async def leads() -> bool:
                return int((await sentinel.sentinel_masters())[NAME]["port"]) == self.replica_port

            await until(leads, "the replica to lead")


@asynccontextmanager
async def watched() -> AsyncIterator[Watched]:
    """Run the three while the context lasts, the replica in step and known to the Sentinel."""
    async with AsyncExitStack() as ends:
        primary, port = ends.enter_context(listening())
        replica, replica_port = ends.enter_context(listening())
        link = await ends.enter_async_context(relay(f"redis://127.0.0.1:{port}"))
        async with connect(replica.url) as redis:
            await redis.replicaof("127.0.0.1", str(link.port))
            await until(lambda: in_step(redis), "the replica to follow")
        scratch = Path(ends.enter_context(tempfile.TemporaryDirectory(prefix="fanout-sentinel-")))
        process, sentinel_port = _started(scratch, port)
        ends.callback(processes.stop, process, 5)
        await _knows_both(sentinel_port)
        # The first Sentinel of the list is gone, as one may be.
        url = f"redis+sentinel://127.0.0.1:9,127.0.0.1:{sentinel_port}/{NAME}?sentinel_password={PASSWORD}"
        yield Watched(url.replace(" ", "%20"), primary, replica, link, replica_port, sentinel_port)


async def in_step(replica: Redis) -> bool:
    """Tell whether a replica follows its primary."""
    return bool((await replica.info("replication"))["master_link_status"] == "up")


def _started(scratch: Path, primary_port: int) -> tuple[subprocess.Popen[bytes], int]:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    config = scratch / "sentinel.conf"
    config.write_text(_CONFIG.format(primary=primary_port))
    words = [str(config), "--sentinel", "--port", str(port), "--dir", str(scratch)]
    with (scratch / "log").open("wb") as log:
        return processes.start([server_binary(), *words], stdout=log, stderr=log), port


async def _knows_both(port: int) -> None:
    async with Redis(port=port, password=PASSWORD) as sentinel:

        async def knows() -> bool:
            try:
                [state] = (await sentinel.sentinel_masters()).values()
            except STORE_ERRORS:
                return False
            return int(state["num-slaves"]) == 1

        await until(knows, "the Sentinel")
        # It asks who leads once a second; a tenth of that makes a failover a matter of one. An old primary that comes
        # back is told after four of the last, which are eight seconds in production.
        for timer, ms in (("INFO-PERIOD", 100), ("PING-PERIOD", 100), ("PUBLISH-PERIOD", 500)):
            await sentinel.execute_command("SENTINEL", "DEBUG", timer, ms)
