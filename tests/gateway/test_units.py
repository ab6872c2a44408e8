"""The small parts of a worker, each by itself: the front door, admission, pacing, the wheel, snapshots, cohorts."""

from __future__ import annotations

import asyncio
import random
from typing import Any

import pytest
from echoing import Echo, Line, close_in, frames_in
from hypothesis import given
from hypothesis import strategies as st
from support.stack import KEY, activated, bundle, prefetched, token
from support.virtual import in_virtual_time
from websockets.datastructures import Headers
from websockets.frames import Opcode
from websockets.http11 import Request, Response

from fanout import wire
from fanout.bus.publication import Cancelled, Closed, Publication, Variant
from gateway.admission import Admission
from gateway.cohorts import Cohort, Cohorts
from gateway.config import GatewayConfig
from gateway.connection import Connection
from gateway.handshake import Admitted, FrontDoor
from gateway.keepalive import TICK_S, Wheel
from gateway.pacing import TICK_S as PACE_S
from gateway.pacing import spread
from gateway.state import Snapshots
from gateway.tokens import secret_verifier


def config(**settings: Any) -> GatewayConfig:
    return GatewayConfig(redis_url="unix:///nowhere", **settings)


def member(cohorts: Cohorts, cohort: Cohort) -> tuple[Connection, Line]:
    """Return a new connection of this cohort; its owner takes it out when it closes."""

    class Owner(Echo):
        def closing(self, connection: Connection, code: int) -> None:
            cohorts.leave(connection)
            self.closings.append(code)

    connection = Connection(Owner())
    line = Line(connection)
    connection.connection_made(line)
    cohorts.join(connection, cohort)
    connection.moves_s = connection.expires_s = 10**9
    return connection, line


def some_cohort(cohorts: Cohorts, encoding: wire.Encoding = wire.Encoding.JSON) -> Cohort:
    topics = frozenset({"t"})
    return cohorts.find(encoding, topics, topics, (("platform", "tv"),), 0)


# --- The front door.


def admit(path: str = wire.PATH, **headers: str | list[str]) -> Admitted | Response:
    """Return the front door's answer; header names are written with underscores, None leaves one out."""
    door = FrontDoor(config(), secret_verifier(KEY.encode(), "fanout", ("platform",)))
    fields = Headers(
        {
            "Host": "x",
            "Upgrade": "websocket",
            "Connection": "Upgrade",
            "Sec-WebSocket-Version": "13",
            "Sec-WebSocket-Key": "dGhlIHNhbXBsZSBub25jZQ==",
        }
    )
    for name, values in {"Sec_WebSocket_Protocol": "fanout.v1.json", **headers}.items():
        for value in [values] if isinstance(values, str) else values:
            fields[name.replace("_", "-")] = value
    request = Request(path, fields)
    return door.check_path(request) or door.admit(request)


def test_a_token_may_travel_in_either_place_and_the_header_wins() -> None:
    good = f"Bearer {token('header')}"
    offers = ["x, fanout.v1.msgpack", f"bearer.{token('browser')}"]
    for answer, device, encoding in (
        (admit(Authorization=good), "header", "json"),
        (admit(Authorization=good.replace("Bearer", "bEARER")), "header", "json"),
        (admit(Sec_WebSocket_Protocol=offers), "browser", "msgpack"),
        (admit(Sec_WebSocket_Protocol=offers, Authorization=good), "header", "msgpack"),
    ):
        assert isinstance(answer, Admitted)
        assert (answer.identity.device_id, answer.encoding.value) == (device, encoding)


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"Authorization": ""},
        {"Authorization": "Bearer"},
        {"Authorization": "Bearer "},
        {"Authorization": f"Basic {token()}"},
        {"Authorization": [f"Bearer {token()}", f"Bearer {token()}"]},
        {"Sec_WebSocket_Protocol": "fanout.v1.json, bearer."},
    ],
)
def test_a_token_in_no_place_or_in_two_is_refused(headers: dict[str, Any]) -> None:
    answer = admit(**headers)
    assert isinstance(answer, Response)
    assert answer.status_code == 401


digests = st.lists(st.binary(min_size=32, max_size=32).map(bytes.hex), max_size=32)


@given(digests, st.integers(0, 10**15), st.sampled_from([",", "%2C"]))
def test_what_a_device_resumes_with_is_read(have: list[str], since: int, comma: str) -> None:
    path = f"{wire.PATH}?other=1&have={comma.join(have)}&since={since}"
    answer = admit(path, Authorization=f"Bearer {token()}")
    assert isinstance(answer, Admitted)
    assert (list(answer.have), answer.since) == (have, since)


@given(st.text(st.characters(min_codepoint=33, max_codepoint=126), max_size=40))
def test_any_query_is_understood_or_refused(query: str) -> None:
    answer = admit(f"{wire.PATH}?{query}", Authorization=f"Bearer {token()}")
    assert isinstance(answer, Admitted) or answer.status_code == 400


# --- Admission.


@given(st.lists(st.floats(0, 0.5), min_size=1, max_size=300), st.integers(1, 50))
def test_no_second_admits_more_than_the_rate_and_a_burst(waits: list[float], rate: int) -> None:
    admission = Admission(config(admit_per_s=rate), random.Random(1))
    now_s, admitted = 1_000.0, []
    for wait_s in waits:
        now_s += wait_s
        if admission.refuses(now_s, 0, 0) is None:
            admitted.append(now_s)
    burst = max(1.0, rate / 4)
    for number, start_s in enumerate(admitted):
        for later, end_s in enumerate(admitted[number:], 1):
            assert later <= burst + rate * (end_s - start_s) + 1e-6 + 1


def test_what_is_refused_uses_up_nothing_and_the_jitter_is_bounded() -> None:
    admission = Admission(config(admit_per_s=4, connections_max=10, loop_lag_max_ms=100), random.Random(1))
    for _ in range(10):
        assert "10 devices" in (admission.refuses(5, 10, 0) or "")
        assert "101 ms late" in (admission.refuses(5, 0, 101) or "")
    assert admission.refuses(5, 9, 100) is None
    assert "4 handshakes a second" in (admission.refuses(5, 0, 0) or "")
    assert {admission.retry_after_s() for _ in range(500)} <= set(range(2, 9))


# --- Pacing.


@given(st.integers(0, 200), st.floats(0, 30), st.integers(1, 64))
def test_work_is_spread_evenly_and_each_is_done_once(count: int, over_s: float, slice_max: int) -> None:
    async def work() -> tuple[bool, float]:
        clock = asyncio.get_running_loop().time

        def act(index: int) -> None:
            done.append(index)
            assert over_s == 0 or clock() >= over_s or len(done) <= count * clock() / over_s

        finished = await spread(count, over_s, act, slice_max=slice_max)
        return finished, clock()

    done: list[int] = []
    finished, took_s = in_virtual_time(work())
    assert finished
    assert done == list(range(count))
    assert took_s <= (over_s + 2 * PACE_S if count else 0)


def test_work_ends_early_when_it_is_told_to() -> None:
    done: list[int] = []
    assert not in_virtual_time(spread(100, 10, done.append, slice_max=8, go_on=lambda: len(done) < 50))
    assert done == list(range(50))


# --- The wheel.


@given(st.integers(1, 40), st.sampled_from([0.3, 1.0, 7.5, 25.0]), st.integers(1, 3))
def test_the_wheel_visits_everyone_once_a_turn(count: int, beacon_s: float, turns: int) -> None:
    cohorts = Cohorts(10)
    cohort = some_cohort(cohorts)
    cohort.rev = 7
    lines = [member(cohorts, cohort)[1] for _ in range(count)]
    wheel = Wheel(cohorts, config(beacon_s=beacon_s), lambda: 1_000)
    most = 0
    for _ in range(round(turns * beacon_s / TICK_S)):
        before = sum(len(line.pieces) for line in lines)
        wheel.tick(0, frozen=False)
        most = max(most, sum(len(line.pieces) for line in lines) - before)
    exact = round(turns * beacon_s / TICK_S) * TICK_S / beacon_s
    for line in lines:
        assert abs(len(line.pieces) - exact) <= 1
        for frame in frames_in(bytes(line.sent)):
            beacon = wire.decode_to_device(bytes(frame.data), wire.Encoding.JSON)
            assert beacon == wire.Beacon(now=1_000, rev=7)
    assert most <= count * TICK_S / beacon_s + 1, "never all at once"


@given(st.randoms(use_true_random=False), st.integers(1, 30))
def test_the_wheel_reaches_those_who_stay_while_others_come_and_go(rng: random.Random, count: int) -> None:
    cohorts = Cohorts(10)
    cohort = some_cohort(cohorts)
    stay = [member(cohorts, cohort)[1] for _ in range(count)]
    guests: list[Connection] = []
    wheel = Wheel(cohorts, config(beacon_s=2), lambda: 1_000)
    departures = 0
    ticks = 8 * 6
    for _ in range(ticks):
        wheel.tick(0, frozen=False)
        if guests and rng.random() < 0.3:
            cohorts.leave(guests.pop(rng.randrange(len(guests))))
            departures += 1
        if rng.random() < 0.3:
            guests.append(member(cohorts, cohort)[0])
    # A departure may move one member to where the wheel has just been, and that one waits for the next turn.
    missed = sum(max(0, 6 - 1 - len(line.pieces)) for line in stay)
    assert missed <= departures


def visited(clock_s: int, *, frozen: bool = False, **settings: Any) -> tuple[Connection, Line]:
    """Return a connection after one visit at that time."""
    cohorts = Cohorts(10)
    cohort = some_cohort(cohorts)
    connection, line = member(cohorts, cohort)
    connection.expires_s = settings.pop("expires_s", 10**9)
    connection.moves_s = settings.pop("moves_s", 10**9)
    wheel = Wheel(cohorts, config(beacon_s=TICK_S, ping_s=100, lifetime_s=1_000, **settings), lambda: 1_000)
    wheel.tick(clock_s, frozen=frozen)
    wheel.tick(clock_s, frozen=frozen)
    return connection, line


def opcodes(line: Line) -> list[Opcode]:
    return [frame.opcode for frame in frames_in(bytes(line.sent))]


def test_silence_is_answered_by_pings_and_then_by_a_close() -> None:
    assert opcodes(visited(99)[1]) == [Opcode.TEXT, Opcode.TEXT]
    assert opcodes(visited(100)[1]) == [Opcode.TEXT, Opcode.PING] * 2
    assert opcodes(visited(200)[1]) == [Opcode.TEXT, Opcode.PING] * 2
    for clock_s, expires_s, code in ((201, 10**9, 4002), (50, 50, 4001)):
        connection, line = visited(clock_s, expires_s=expires_s)
        goodbye = close_in(bytes(line.sent))
        assert goodbye is not None
        assert goodbye.code == code
        assert connection.cohort is None


def test_a_connection_is_asked_to_move_once_and_never_in_a_freeze() -> None:
    connection, line = visited(50, moves_s=50)
    asked = [wire.decode_to_device(bytes(f.data), wire.Encoding.JSON) for f in frames_in(bytes(line.sent))]
    assert [type(message) for message in asked] == [wire.Beacon, wire.Reconnect, wire.Beacon]
    assert connection.moves_s == 1_050
    connection, line = visited(50, moves_s=50, frozen=True)
    assert len(line.pieces) == 2
    assert connection.moves_s == 50


# --- Cohorts.


@given(st.data())
def test_the_cohorts_books_balance_whatever_comes_and_goes(data: st.DataObject) -> None:
    # As many as there are sets of topics: with their attributes folded, all of them still fit.
    cohorts, here = Cohorts(7), list[Connection]()
    for _ in range(data.draw(st.integers(0, 40))):
        what = data.draw(st.sampled_from(["join", "leave", "move", "sweep"]))
        topics = frozenset(data.draw(st.sets(st.sampled_from("tuv"), min_size=1)))
        attrs = (("platform", data.draw(st.sampled_from("abcdef"))),)
        if what == "join":
            connection = Connection(Echo())
            cohorts.join(connection, cohorts.find(wire.Encoding.JSON, topics, topics, attrs, 5))
            here.append(connection)
        elif what == "sweep":
            cohorts.sweep()
        elif here:
            connection = data.draw(st.sampled_from(here))
            cohorts.leave(connection)
            if what == "move":
                cohorts.join(connection, cohorts.find(wire.Encoding.JSON, topics, topics, attrs, 5))
            else:
                here.remove(connection)
                assert connection.cohort is None
        for cohort in cohorts:
            assert [m.index for m in cohort.members] == list(range(len(cohort.members)))
            assert all(m.cohort is cohort for m in cohort.members)
        assert cohorts.connections == len(here) == sum(len(cohort.members) for cohort in cohorts)
        for topic in "tuv":
            listening = [m for cohort in cohorts.listening(topic) for m in cohort.members]
            assert len(listening) == sum(m.cohort is not None and topic in m.cohort.topics for m in here)
        # Beyond the limit, attributes are folded away, so only topics make further cohorts.
        assert sum(cohort.attrs != () for cohort in cohorts) <= 7
    cohorts.sweep()
    assert all(cohort.members for cohort in cohorts)


def test_a_cohort_that_fills_again_starts_from_what_stands() -> None:
    cohorts = Cohorts(10)
    cohort = some_cohort(cohorts)
    connection, _ = member(cohorts, cohort)
    cohorts.leave(connection)
    topics = frozenset({"t"})
    assert cohorts.find(wire.Encoding.JSON, topics, topics, (("platform", "tv"),), 9) is cohort
    assert cohort.rev == 9
    member(cohorts, cohort)
    assert cohorts.find(wire.Encoding.JSON, topics, topics, (("platform", "tv"),), 12).rev == 9


# --- Snapshots.


def at_rev(publication: Publication, rev: int) -> Publication:
    import msgspec

    return msgspec.structs.replace(publication, rev=rev)


TV, PHONE = bundle('{"for":"tv"}'), bundle('{"for":"all"}')
VARIANTS = (Variant({"platform": "tv"}, TV), Variant({}, PHONE))
RETAINED: dict[str, list[Publication]] = {
    "c": [
        at_rev(prefetched("c", variants=VARIANTS), 10),
        at_rev(activated("c", variants=VARIANTS), 40),
        at_rev(Cancelled(campaign="c", topic="t"), 50),
    ],
    "d": [at_rev(prefetched("d", topic="u"), 20), at_rev(activated("d", topic="u"), 30)],
    "e": [at_rev(Closed(campaign="e", topic="t"), 35)],
    "f": [at_rev(prefetched("f", topic="t", variants=(Variant({"platform": "fridge"}, TV),)), 60)],
}
have_sets = st.sets(st.sampled_from([TV.sha256, PHONE.sha256, "0" * 64]))


@given(st.sampled_from(wire.Encoding), st.sampled_from(["tv", "phone"]), st.integers(0, 70), have_sets)
def test_a_welcome_tells_a_device_what_it_lacks_and_nothing_else(
    encoding: wire.Encoding, platform: str, since: int, have: set[str]
) -> None:
    snapshots = Snapshots(RETAINED, 25, wire.ReconnectPolicy(500, 20_000))
    topics = frozenset({"t"})
    cohort = Cohort(encoding, topics, topics, (("platform", platform),))
    (frame,) = frames_in(snapshots.welcome(cohort, "s1", 99, since, tuple(have)))
    assert frame.opcode is (Opcode.TEXT if encoding is wire.Encoding.JSON else Opcode.BINARY)
    welcome = wire.decode_to_device(bytes(frame.data), encoding)
    assert isinstance(welcome, wire.Welcome)
    assert (welcome.session, welcome.now, welcome.beacon_s) == ("s1", 99, 25)
    mine = TV if platform == "tv" else PHONE
    held = mine.sha256 in have
    expected = [rev for rev in (35, 40, 50) if rev > since]
    if not held or since < 10:
        expected = [10, *expected]
        prefetch = welcome.state[0]
        assert isinstance(prefetch, wire.Prefetch)
        assert prefetch.bundle.sha256 == mine.sha256
        assert prefetch.bundle.inline == (None if held else mine.inline)
    assert [message.rev for message in welcome.state] == expected
    assert [type(message) for message in welcome.state if message.rev == 35] == [wire.Close] * (since < 35)
    assert snapshots.newest(topics) == 60
    assert snapshots.newest(frozenset()) == 0


@given(st.lists(st.sets(st.sampled_from(sorted(RETAINED))), max_size=4), st.integers(0, 70), have_sets)
def test_what_was_told_before_is_told_again_only_to_who_asks_the_same_of_the_same_state(
    states: list[set[str]], since: int, have: set[str]
) -> None:
    retained: dict[str, list[Publication]] = {}
    policy = wire.ReconnectPolicy(500, 20_000)
    seasoned = Snapshots(retained, 25, policy)
    cohorts = [
        Cohort(encoding, topics, topics, (("platform", platform),))
        for encoding in wire.Encoding
        for topics in (frozenset({"t"}), frozenset({"t", "u"}))
        for platform in ("tv", "phone")
    ]
    for standing in [set(RETAINED), *states]:
        retained.clear()
        retained.update({campaign: RETAINED[campaign] for campaign in sorted(standing)})
        seasoned.changed()
        fresh = Snapshots(retained, 25, policy)
        for cohort in cohorts * 2:
            assert seasoned.newest(cohort.topics) == fresh.newest(cohort.topics)
            for revision, held in ((0, ()), (since, ()), (since, tuple(have)), (0, tuple(have))):
                expected = Snapshots(retained, 25, policy).welcome(cohort, "s", 1, revision, held)
                assert seasoned.welcome(cohort, "s", 1, revision, held) == expected


def test_each_message_is_encoded_once_for_all_devices_of_a_kind() -> None:
    snapshots = Snapshots(RETAINED, 25, wire.ReconnectPolicy(500, 20_000))
    topics = frozenset({"t"})
    for encoding in wire.Encoding:
        a = Cohort(encoding, topics, topics, (("platform", "tv"),))
        b = Cohort(encoding, topics, topics | {"x"}, (("platform", "tv"), ("region", "jp")))
        for one, other in zip(snapshots.state(a, topics, 0, ()), snapshots.state(b, topics, 0, ()), strict=True):
            assert one is other
