"""One publication to everyone, in virtual time: encoded once, in slices, what matters first."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from itertools import pairwise
from typing import Any

import msgspec
from echoing import Echo, Line, frames_in
from support.stack import CONTENT, activated, bundle, prefetched
from support.virtual import in_virtual_time

from fanout import wire
from fanout.bus.publication import Publication, Variant
from gateway.broadcaster import Broadcaster
from gateway.cohorts import Cohort, Cohorts
from gateway.config import GatewayConfig
from gateway.connection import Connection

JSON, MSGPACK = wire.Encoding.JSON, wire.Encoding.MSGPACK


class Hall:
    """A broadcaster, its audience, and a store's clock that is the loop's."""

    def __init__(self, **settings: Any) -> None:
        self.cohorts = Cohorts(100)
        self.superseded = False
        self.broadcaster = Broadcaster(
            self.cohorts,
            GatewayConfig(redis_url="unix:///nowhere", **settings),
            lambda: int(asyncio.get_running_loop().time() * 1000),
            lambda prefetch: self.superseded,
        )
        self.lines: list[Line] = []
        self.connections: list[Connection] = []

    def seat(self, count: int, encoding: wire.Encoding = JSON, *, topic: str = "t", **attrs: str) -> list[Line]:
        """Let some devices in; returns their lines."""
        topics, pairs = frozenset({topic}), tuple(sorted(attrs.items()))
        for _ in range(count):
            connection = Connection(Echo())
            line = Line(connection)
            connection.connection_made(line)
            self.cohorts.join(connection, self.cohorts.find(encoding, topics, topics, pairs, 0))
            self.connections.append(connection)
            self.lines.append(line)
        return self.lines[-count:]

    @property
    def sent(self) -> int:
        return sum(len(line.pieces) for line in self.lines)

    def revs(self) -> set[int]:
        return {cohort.rev for cohort in self.cohorts}


def held(hall: Hall, script: Callable[[], Awaitable[None]]) -> None:
    """Run the script beside the hall's broadcaster, in virtual time."""

    async def both() -> None:
        running = asyncio.create_task(hall.broadcaster.run())
        try:
            await script()
        finally:
            running.cancel()
            await asyncio.gather(running, return_exceptions=True)

    in_virtual_time(both())


def at_rev(publication: Publication, rev: int) -> Publication:
    return msgspec.structs.replace(publication, rev=rev)


def told(line: Line, encoding: wire.Encoding = JSON) -> list[Any]:
    return [wire.decode_to_device(bytes(frame.data), encoding) for frame in frames_in(bytes(line.sent))]


def test_a_publication_is_encoded_once_for_each_kind_of_cohort() -> None:
    hall = Hall()
    variants = (Variant({"platform": "tv"}, bundle('{"a":1}')), Variant({"platform": "phone"}, bundle('{"b":1}')))

    async def script() -> None:
        for encoding in (JSON, MSGPACK):
            for platform in ("tv", "phone", "fridge"):
                for region in ("jp", "us"):
                    hall.seat(5, encoding, platform=platform, region=region)
        hall.seat(5, topic="elsewhere", platform="tv")
        assert len(hall.cohorts) == 13
        hall.broadcaster.submit(at_rev(activated(variants=variants), 7))
        await asyncio.sleep(1)

    held(hall, script)
    pieces = [piece for line in hall.lines for piece in line.pieces]
    assert len(pieces) == 40, "whoever matches no variant, or listens elsewhere, hears nothing"
    assert len({id(piece) for piece in pieces}) == 4
    assert hall.broadcaster.sent == 40
    (message,) = told(hall.lines[0])
    assert message.bundle == variants[0].bundle.sha256
    assert told(hall.lines[30], MSGPACK) == [message]


def test_a_broadcast_gives_way_after_every_slice() -> None:
    hall = Hall(slice_sends=10)

    async def script() -> None:
        hall.seat(95)
        hall.broadcaster.submit(at_rev(activated(), 7))
        seen = [0]
        while seen[-1] < 95:
            await asyncio.sleep(0)
            seen.append(hall.sent)
        assert max(b - a for a, b in pairwise(seen)) == 10

    held(hall, script)


def test_small_cohorts_share_a_slice() -> None:
    hall = Hall(slice_sends=10)

    async def script() -> None:
        for number in range(31):
            hall.seat(3, platform=f"p{number}")
        hall.broadcaster.submit(at_rev(activated(), 7))
        seen = [0]
        while seen[-1] < 93:
            await asyncio.sleep(0)
            seen.append(hall.sent)
        assert {b - a for a, b in pairwise(seen) if b > a} == {10, 3}, "full slices, and the rest"

    held(hall, script)


def test_a_rate_limit_stretches_a_broadcast() -> None:
    hall = Hall(slice_sends=10, sends_per_s_max=50)

    async def script() -> None:
        hall.seat(100)
        hall.broadcaster.submit(at_rev(activated(), 7))
        await asyncio.sleep(1.05)
        assert 50 <= hall.sent <= 60
        assert hall.revs() == {0}, "it is not complete"
        await asyncio.sleep(1)
        assert hall.sent == 100
        assert hall.revs() == {7}

    held(hall, script)


def test_an_inline_prefetch_is_paced_over_its_window_and_an_activation_overtakes_it() -> None:
    hall = Hall()

    async def script() -> None:
        hall.seat(60)
        hall.seat(40, MSGPACK)
        hall.broadcaster.submit(at_rev(prefetched(from_ms=2_000, window_ms=10_000), 5))
        await asyncio.sleep(1.9)
        assert hall.sent == 0
        await asyncio.sleep(5.1)
        assert 48 <= hall.sent <= 51
        hall.broadcaster.submit(at_rev(activated(), 6))
        await asyncio.sleep(0.05)
        assert 148 <= hall.sent <= 152, "the activation has reached all, at once"
        assert hall.revs() == {6}
        await asyncio.sleep(4.9)
        assert hall.sent <= 199
        await asyncio.sleep(0.2)
        assert hall.sent == 200

    held(hall, script)
    for number, line in enumerate(hall.lines):
        messages = told(line, JSON if number < 60 else MSGPACK)
        assert sorted(type(message).__name__ for message in messages) == ["Activate", "Prefetch"]
        assert next(m for m in messages if isinstance(m, wire.Prefetch)).bundle.inline == CONTENT


def test_a_prefetch_waits_while_something_critical_is_being_written() -> None:
    hall = Hall(slice_sends=10, sends_per_s_max=50)

    async def script() -> None:
        hall.seat(100)
        hall.broadcaster.submit(at_rev(prefetched(window_ms=4_000), 5))
        await asyncio.sleep(1.01)
        before = hall.sent
        hall.broadcaster.submit(at_rev(activated(), 6))
        await asyncio.sleep(1.98)
        assert hall.sent == before + 100
        assert all(len(line.pieces) <= 2 for line in hall.lines)
        await asyncio.sleep(1.1)
        assert hall.sent == 200, "it has caught up, within its own window"

    held(hall, script)


def test_a_prefetch_without_content_is_not_held_back() -> None:
    hall = Hall()

    async def script() -> None:
        hall.seat(100)
        variants = (Variant({}, bundle(CONTENT, inline=False)),)
        hall.broadcaster.submit(at_rev(prefetched(window_ms=60_000, variants=variants), 5))
        await asyncio.sleep(0.1)
        assert hall.sent == 100
        assert hall.revs() == {5}

    held(hall, script)


def test_a_prefetch_that_stands_no_longer_stops() -> None:
    hall = Hall()

    async def script() -> None:
        hall.seat(100)
        hall.broadcaster.submit(at_rev(prefetched(window_ms=10_000), 5))
        await asyncio.sleep(3)
        hall.superseded = True
        await asyncio.sleep(60)
        assert 28 <= hall.sent <= 31

    held(hall, script)


def test_who_comes_later_is_not_told_and_who_has_left_is_not_written_to() -> None:
    hall = Hall(slice_sends=10, sends_per_s_max=10)

    async def script() -> None:
        hall.seat(30)
        hall.broadcaster.submit(at_rev(activated(), 7))
        await asyncio.sleep(0)
        late = hall.seat(3)
        gone = hall.connections[25]
        hall.cohorts.leave(gone)
        gone.connection_lost(None)
        await asyncio.sleep(10)
        assert [line.pieces for line in late] == [[], [], []], "the state in their welcome has told them"
        assert hall.lines[25].pieces == []
        assert hall.sent == 29

    held(hall, script)


def test_critical_publications_go_out_in_order() -> None:
    hall = Hall(slice_sends=1)

    async def script() -> None:
        hall.seat(7)
        for rev in range(1, 6):
            hall.broadcaster.submit(at_rev(activated(stage=f"s{rev}"), rev))
        await asyncio.sleep(1)

    held(hall, script)
    for line in hall.lines:
        assert [message.rev for message in told(line)] == [1, 2, 3, 4, 5]


def test_a_broadcast_survives_connections_that_close_under_it() -> None:
    hall = Hall(write_buffer_bytes_max=300_000)
    seen: list[Cohort] = []

    async def script() -> None:
        hall.seat(20)
        for connection, line in zip(hall.connections[::2], hall.lines[::2], strict=True):
            line.set_write_buffer_limits(high=10)
            line.stuck = True
            assert connection.cohort is not None
            seen.append(connection.cohort)
        for rev in (1, 2, 3):
            hall.broadcaster.submit(at_rev(activated(), rev))
        await asyncio.sleep(1)

    held(hall, script)
    assert [len(line.pieces) for line in hall.lines[1::2]] == [3] * 10
    assert [len(line.pieces) for line in hall.lines[::2]] == [2] * 10, "the message and the goodbye"
    assert all(line.eof for line in hall.lines[::2])


def test_how_fast_it_writes_is_known_after_a_broadcast_that_is_large_enough_to_tell() -> None:
    hall = Hall()

    async def script() -> None:
        hall.seat(10)
        hall.broadcaster.submit(at_rev(activated(), 1))
        await asyncio.sleep(1)
        assert hall.broadcaster.per_s == 0
        hall.seat(1_200)
        hall.broadcaster.submit(at_rev(activated(), 2))
        await asyncio.sleep(1)
        assert hall.broadcaster.per_s > 0

    held(hall, script)
