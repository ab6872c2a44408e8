"""A primary, a replica whose link can fail, and a Sentinel over both: the store as production has it.

The Sentinel is the embedded server's own. Its timers are shortened; what it decides is left to it.
"""

from __future__ import annotations

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
from support.waiting import PATIENCE_S, until

from fanout import processes
from fanout.connect import STORE_ERRORS, connect
from fanout.embedded import EmbeddedValkey, server_binary
from loadtest.ports import reserved_ports

NAME: Final = "fanout"
PASSWORD: Final = "only sentinels know"
# After this much silence the primary counts as down, ms: while nothing has failed, a machine that is held up makes no
# failover of it; once something has, nobody need wait.
_PATIENT_MS: Final = 60_000
_DOWN_AFTER_MS: Final = 500
# A choice for which nothing new enough was known is made again after twice this long, ms.
_FAILOVER_MS: Final = 5_000
# An old primary that comes back is told who leads after four times as long, ms: not before `tell_the_old`, and then
# at once.
_SILENT_MS: Final = 60_000
_TELLING_MS: Final = 100
_CONFIG: Final = f"""\
bind 127.0.0.1
protected-mode no
requirepass "{PASSWORD}"
sentinel monitor {NAME} 127.0.0.1 {{primary}} 1
sentinel down-after-milliseconds {NAME} {_PATIENT_MS}
sentinel failover-timeout {NAME} {_FAILOVER_MS}
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
        """Wait until the replica is the primary, and the Sentinel says so; the primary has failed by now."""
        async with Redis(port=self.sentinel_port, password=PASSWORD) as sentinel:
            await sentinel.sentinel_set(NAME, "down-after-milliseconds", _DOWN_AFTER_MS)

            async def leads() -> bool:
                return int((await sentinel.sentinel_masters())[NAME]["port"]) == self.replica_port

            await until(leads, "the replica to lead")
            await sentinel.sentinel_set(NAME, "down-after-milliseconds", _PATIENT_MS)

    async def tell_the_old(self) -> None:
        """Let the Sentinel tell a primary that has come back that it leads no more."""
        async with Redis(port=self.sentinel_port, password=PASSWORD) as sentinel:
            await sentinel.execute_command("SENTINEL", "DEBUG", "PUBLISH-PERIOD", _TELLING_MS)


@asynccontextmanager
async def watched() -> AsyncIterator[Watched]:
    """Run the three while the context lasts, the replica in step and known to the Sentinel."""
    async with AsyncExitStack() as ends:
        primary, port = ends.enter_context(listening())
        replica, replica_port = ends.enter_context(listening())
        link = await ends.enter_async_context(relay(f"redis://127.0.0.1:{port}"))
        async with connect(replica.url, timeout_s=PATIENCE_S) as redis:
            await redis.replicaof("127.0.0.1", str(link.port))
            await until(lambda: in_step(redis), "the replica to follow")
        scratch = Path(ends.enter_context(tempfile.TemporaryDirectory(prefix="fanout-sentinel-")))
        [sentinel_port] = ends.enter_context(reserved_ports(1))
        process = _started(scratch, port, sentinel_port)
        ends.callback(processes.stop, process, 5)
        await _knows_both(sentinel_port)
        # The first Sentinel of the list is gone, as one may be.
        url = f"redis+sentinel://127.0.0.1:9,127.0.0.1:{sentinel_port}/{NAME}?sentinel_password={PASSWORD}"
        yield Watched(url.replace(" ", "%20"), primary, replica, link, replica_port, sentinel_port)


async def in_step(replica: Redis) -> bool:
    """Tell whether a replica follows its primary."""
    return bool((await replica.info("replication"))["master_link_status"] == "up")


def _started(scratch: Path, primary_port: int, port: int) -> subprocess.Popen[bytes]:
    config = scratch / "sentinel.conf"
    config.write_text(_CONFIG.format(primary=primary_port))
    words = [str(config), "--sentinel", "--port", str(port), "--dir", str(scratch)]
    with (scratch / "log").open("wb") as log:
        return processes.start([server_binary(), *words], stdout=log, stderr=log)


async def _knows_both(port: int) -> None:
    async with Redis(port=port, password=PASSWORD) as sentinel:

        async def knows() -> bool:
            try:
                [state] = (await sentinel.sentinel_masters()).values()
            except STORE_ERRORS:
                return False
            return int(state["num-slaves"]) == 1

        await until(knows, "the Sentinel")
        # It asks who leads every ten seconds; a hundredth of that makes a failover a matter of one. On a machine that
        # is held up it would take its own timers for wrong, and do nothing for half a minute.
        for timer, ms in (("INFO-PERIOD", 100), ("PUBLISH-PERIOD", _SILENT_MS), ("TILT-TRIGGER", 60_000)):
            await sentinel.execute_command("SENTINEL", "DEBUG", timer, ms)
