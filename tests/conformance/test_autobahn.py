"""The gateway's own connection class before Autobahn's cases, all of them, as `kosoku` runs them.

The cases need a peer that sends back what it gets, so an echo owns the connections, with the limits that the
largest case needs. What is judged is `gateway.connection`: the opening handshake, frames, and the way out.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Sequence
from typing import TYPE_CHECKING, Final

import pytest
from kosoku import FailureError, run_fuzzingclient
from support.waiting import until
from websockets.typing import Subprotocol

from gateway.connection import Connection, Handshake
from tests.gateway.echoing import Echo

if TYPE_CHECKING:
    from kosoku._kosoku import CaseResult

# Cases 9.1.6 and 9.2.6 send 16 MiB in one message, and so does the echo.
MESSAGE_BYTES_MAX: Final = 16 * 1024 * 1024
# Most of the cases that take time wait for what must not come.
CASES_AT_ONCE: Final = 8
# As many as this version of the suite has: a suite that runs nothing has shown nothing.
CASES: Final = 517

OK: Final = ("OK", "OK")
# Verdicts other than that, by the beginning of the case's name; nothing else may differ, and these must.
DIFFERENT: Final = {
    # Bad UTF-8 in a fragment fails the message when it is whole, not at once: a message is 4 KB at the most.
    "6.4.": ("NON-STRICT", "OK"),
    # A goodbye amid a fragmented message is a protocol error to `websockets`, deliberately: it answers 1002.
    "7.1.5": ("FAILED", "WRONG CODE"),
    # The standard leaves it open: messages right before a goodbye, and close codes beyond 4999.
    "7.1.6": ("INFORMATIONAL", "INFORMATIONAL"),
    "7.13.": ("INFORMATIONAL", "INFORMATIONAL"),
    # Compression is never negotiated: it would cost memory per connection and forbid sharing one encoded frame.
    "12.": ("UNIMPLEMENTED", "OK"),
    "13.": ("UNIMPLEMENTED", "OK"),
}


class Peer(Echo):
    """An echo without a subprotocol that takes messages of any size the cases have."""

    def __init__(self) -> None:
        # Twice, for one echo may still be on its way when the next is written.
        super().__init__(write_buffer_bytes_max=2 * MESSAGE_BYTES_MAX)
        self.message_bytes_max = MESSAGE_BYTES_MAX

    def handshake(self) -> Handshake:
        return Handshake(None, _no_subprotocol, MESSAGE_BYTES_MAX)  # type: ignore[arg-type]


def _no_subprotocol(offered: Sequence[Subprotocol]) -> Subprotocol | None:
    assert not offered
    return None


@pytest.fixture
async def port() -> AsyncIterator[int]:
    """A port on which the gateway's connections echo."""
    owner = Peer()
    server = await asyncio.get_running_loop().create_server(lambda: Connection(owner), "127.0.0.1", 0)
    yield server.sockets[0].getsockname()[1]
    server.close()
    await until(lambda: owner.losses == len(owner.connections), "every connection to end")


# The cases leave the files open that they send.
@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:unclosed file:ResourceWarning")
async def test_a_connection_keeps_the_standard(port: int) -> None:
    results = await verdicts(port)
    print("cases by verdict, and by that on the close:")
    for (told, on_close), count in Counter(map(verdict, results)).most_common():
        print(f"{count:6}  {told}, {on_close}")
    assert len(results) == CASES
    if again := [result.case_id for result in results if verdict(result) != expected(result)]:
        # The cases have time limits of their own, some of a second: on a busy machine they are heard again, alone.
        results = await verdicts(port, again, at_once=1)
    assert not [
        f"{result.case_id} is {verdict(result)} instead of {expected(result)}: {result.result} {result.result_close}"
        for result in results
        if verdict(result) != expected(result)
    ]


async def verdicts(port: int, cases: list[str] | None = None, at_once: int = CASES_AT_ONCE) -> list[CaseResult]:
    """Run these cases, or all of them."""
    try:
        return await run_fuzzingclient(f"ws://127.0.0.1:{port}", cases, concurrency=at_once)
    except FailureError as exc:
        return exc.results  # of the good ones, too


def verdict(result: CaseResult) -> tuple[str, str]:
    return result.behavior.value, result.behavior_close.value


def expected(result: CaseResult) -> tuple[str, str]:
    return next((told for name, told in DIFFERENT.items() if result.case_id.startswith(name)), OK)
