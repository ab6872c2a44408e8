"""One client's connection to the API: uvicorn's, with an end to its patience.

On its own it waits for ever for a request's head, for a body that nobody will read, and for a client that does not
read its answer; each holds a file and memory, and needs no key. Bodies that are read have a limit in
`fanout.control.bodies`.
"""

from __future__ import annotations

import asyncio
from typing import Any

from uvicorn.protocols.http.h11_impl import H11Protocol


class Connection(H11Protocol):
    """A connection on which a request must come within a time, and answers be read within another.

    Args:
        head_timeout_s: From the connection's start, or from the last answer, to the end of the next request's head.
        answer_timeout_s: How long the peer may leave unread what it was sent.
        more: What uvicorn gives.
    """

    def __init__(self, *, head_timeout_s: float, answer_timeout_s: float, **more: Any) -> None:
        super().__init__(**more)
        self._head_timeout_s = head_timeout_s
        self._answer_timeout_s = answer_timeout_s
        self._to_ask: asyncio.TimerHandle | None = None
        self._to_read: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._expect_request()

    def on_response_complete(self) -> None:
        super().on_response_complete()
        self._expect_request()

    def pause_writing(self) -> None:
        super().pause_writing()
        self._expect_reading()

    def resume_writing(self) -> None:
        super().resume_writing()
        _cancel(self._to_read)

    def connection_lost(self, exc: Exception | None) -> None:
        super().connection_lost(exc)
        _cancel(self._to_ask)
        _cancel(self._to_read)

    def _expect_request(self) -> None:
        _cancel(self._to_ask)
        self._to_ask = self.loop.call_later(self._head_timeout_s, self._no_request)

    def _expect_reading(self) -> None:
        _cancel(self._to_read)
        self._to_read = self.loop.call_later(self._answer_timeout_s, self.transport.abort)

    def _no_request(self) -> None:
        if self.cycle is not None and not self.cycle.response_complete:
            return  # one is in work; its answer begins the next wait
        self.transport.close()
        # Closing waits for what is still to be sent, for ever if need be.
        if not self.flow.write_paused:
            self._expect_reading()


def _cancel(timer: asyncio.TimerHandle | None) -> None:
    if timer is not None:
        timer.cancel()
