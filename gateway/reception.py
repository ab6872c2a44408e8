"""Requests that came together are answered together: each step is done for all of them before the next step begins.

A handshake goes through much code that has nothing in common: a parser, a signature, a cohort, a welcome, the kernel.
One after the other, each finds the processor's caches full of what the last one needed. Measured without the network,
a handshake costs 98 µs alone and 64 in company; `make bench` has the figure with it.

Knows the order of the steps and whose turn it is; what a step decides is its owner's business.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, Final, Generic, TypeVar

import structlog

from gateway.connection import Answer, Connection
from gateway.precedents import Upgradable

log = structlog.get_logger(__name__)

# Handshakes in one go: eight are nearly as cheap, and these take the loop for less than ten milliseconds.
AT_ONCE: Final = 64

Judged = TypeVar("Judged")
Before = TypeVar("Before")
After = TypeVar("After")


class Reception(Generic[Judged]):
    """Those who have asked to come in and are yet to be answered.

    Args:
        recognise: Returns the request that bytes begin with, and where it ends; None if it takes the library.
        judge: Decides about a request.
        answer: Makes an answer of that. It may count the device in.
        soon: Calls something after what comes in meanwhile: the loop's ``call_soon``.
        early_bytes_max: How much a client may say, request included, that goes on talking before it is answered.
    """

    def __init__(
        self,
        recognise: Callable[[bytes], tuple[Upgradable, int] | None],
        judge: Callable[[Upgradable], Judged],
        answer: Callable[[Connection, Judged], Answer],
        soon: Callable[[Callable[[], None]], Any],
        early_bytes_max: int,
    ) -> None:
        self._recognise = recognise
        self._judge = judge
        self._answer = answer
        self._soon = soon
        self._early_bytes_max = early_bytes_max
        self._waiting: dict[Connection, bytes] = {}

    def add(self, connection: Connection, data: bytes) -> None:
        """Have a connection answered soon; what it says meanwhile comes here, too."""
        before = self._waiting.get(connection)
        if before is None:
            self._waiting[connection] = data
            if len(self._waiting) == 1:
                self._soon(self._next)
        elif len(before) + len(data) <= self._early_bytes_max:
            self._waiting[connection] = before + data
        else:
            self.forget(connection)
            connection.abort()

    def answer_now(self, connection: Connection) -> None:
        """Answer a connection that will say no more, if it waits for that."""
        if (data := self._waiting.pop(connection, None)) is not None:
            self._answer_all([(connection, data)])

    def forget(self, connection: Connection) -> None:
        """Answer a connection no more."""
        self._waiting.pop(connection, None)

    def _next(self) -> None:
        batch = [*self._waiting.items()][:AT_ONCE]
        for connection, _ in batch:
            del self._waiting[connection]
        if self._waiting:
            self._soon(self._next)
        self._answer_all(batch)

    def _answer_all(self, batch: Iterable[tuple[Connection, bytes]]) -> None:
        asked = _each(self._read, batch)
        judged = _each(lambda _, asks: (self._judge(asks[0]), asks[1]), asked)
        answers = _each(lambda connection, is_: (self._answer(connection, is_[0]), is_[1]), judged)
        _each(lambda connection, told: connection.answer(*told), answers)

    def _read(self, connection: Connection, data: bytes) -> tuple[Upgradable, bytes] | None:
        if (found := self._recognise(data)) is None:
            connection.read(data)
            return None
        request, end = found
        return request, data[end:]


def _each(
    step: Callable[[Connection, Before], After | None], batch: Iterable[tuple[Connection, Before]]
) -> list[tuple[Connection, After]]:
    """Take a step for all; who gets no further is left out."""
    done: list[tuple[Connection, After]] = []
    for connection, before in batch:
        try:
            after = step(connection, before)
        except Exception:
            log.exception("a request could not be answered")
            connection.abort()
        else:
            if after is not None:
                done.append((connection, after))
    return done
