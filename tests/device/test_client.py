"""The asyncio client on real sockets, against a server that the test scripts."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from support.waiting import PATIENCE_S, until

from fanout import wire
from fanout.device import (
    Action,
    Activated,
    Cancelled,
    Closed,
    Connected,
    Connecting,
    Device,
    DeviceMachine,
    Disconnected,
    Ended,
    Error,
    Event,
    FileCache,
    MemoryCache,
    Prefetched,
    Rehearsed,
    Stats,
)
from fanout.device.timing import SystemClock
from fanout.errors import InvalidInput

from .driving import BUNDLE, CONTENT, OTHER_BUNDLE, FixedRandom
from .gateway import FAST, Gateway, gateway, now_ms, token, web_origin


@pytest.fixture
async def server() -> AsyncIterator[Gateway]:
    async with gateway() as scripted:
        yield scripted


def device(server: Gateway, **options: Any) -> Device:
    return Device(server.url, **{"get_token": token, "reconnect": FAST, "rng": FixedRandom(0.0)} | options)


def inline(rev: int, content: str = CONTENT, sha256: str = BUNDLE) -> wire.Prefetch:
    return wire.Prefetch("cup", rev, wire.Bundle(sha256, len(content), inline=content), now_ms(), 0)


def remote(rev: int, url: str | None = None, size: int = len(CONTENT)) -> wire.Prefetch:
    return wire.Prefetch("cup", rev, wire.Bundle(BUNDLE, size, url), now_ms(), 0)


def activate(rev: int, **fields: Any) -> wire.Activate:
    return wire.Activate(
        **{"campaign": "cup", "rev": rev, "stage": "live", "bundle": BUNDLE, "at": now_ms(), "window_ms": 0} | fields
    )


async def next_of(events: AsyncIterator[Event], kind: type[Event]) -> Any:
    async with asyncio.timeout(PATIENCE_S):
        async for event in events:
            if isinstance(event, kind):
                return event
    raise AssertionError(f"the device ended without {kind}")


@pytest.mark.parametrize("encoding", list(wire.Encoding))
async def test_a_device_gets_its_content_flips_from_its_cache_and_reports(
    server: Gateway, encoding: wire.Encoding
) -> None:
    prefetched: list[Prefetched] = []
    activated: list[Activated] = []
    async with device(server, encoding=encoding, on_prefetched=prefetched.append, on_activate=activated.append) as tv:
        peer = await server.peer()
        assert peer.path == "/v1/connect"
        assert peer.query == {}
        assert peer.headers["Authorization"] == f"Bearer {token()}"
        assert "Sec-WebSocket-Extensions" not in peer.headers
        assert peer.encoding is encoding
        await peer.welcome(inline(1))
        assert await peer.hear() == wire.Report("cup", 1, "ready", 0, "inline")
        await tv.wait_connected()
        await peer.say(activate(2))
        report = await peer.hear()
        assert isinstance(report, wire.Report)
        assert (report.rev, report.kind, report.via) == (2, "active", "cache")
        assert [event.sha256 for event in prefetched] == [BUNDLE]
        assert [(event.stage, event.content) for event in activated] == [("live", CONTENT)]


async def test_a_device_that_comes_back_says_what_it_has_and_shows(server: Gateway) -> None:
    async with device(server) as tv:
        events = tv.events()
        peer = await server.peer()
        await peer.welcome(inline(1), activate(2))
        await next_of(events, Activated)
        await peer.socket.close(1012, "restart")
        again = await server.peer()
        assert again.query == {"have": BUNDLE, "since": "2"}
        await again.welcome()
        assert await again.hear() == wire.Report("cup", 2, "active", 0, "resume")
        lost = await next_of(events, Disconnected)
        assert (lost.code, lost.reason) == (1012, "1012 restart")
        await next_of(events, Connected)


async def test_retry_after_is_honoured(server: Gateway) -> None:
    server.refuse = [(503, {"Retry-After": "7"})]
    async with device(server) as tv:
        refused = await next_of(tv.events(), Disconnected)
        assert refused.status == 503
        assert refused.retry_in_ms == pytest.approx(7_000), "the jitter here is none"
        assert len(server.requests) == 1


async def test_a_server_that_is_not_there_is_tried_again(server: Gateway) -> None:
    asked = 0

    def get_token() -> str:
        nonlocal asked
        asked += 1
        return token()

    async with Device("ws://127.0.0.1:1", get_token=get_token, reconnect=FAST) as tv:
        events = tv.events()
        for _ in range(9):
            refused = await next_of(events, Disconnected)
            assert (refused.code, refused.status) == (None, None)
            assert refused.retry_in_ms <= FAST.cap_ms
    assert asked == 1, "an outage of gateways is none of whoever issues tokens"


async def test_a_refused_token_is_replaced_and_a_good_one_is_kept(server: Gateway) -> None:
    asked: list[str] = []

    async def get_token() -> str:
        asked.append(token(serial=len(asked)))
        return asked[-1]

    server.refuse = [(401, {})]
    async with device(server, get_token=get_token):
        peer = await server.peer()
        assert peer.headers["Authorization"] == f"Bearer {asked[1]}"
        await peer.welcome()
        await peer.socket.close(1012)
        peer = await server.peer()
        assert len(asked) == 2
        await peer.welcome()
        await peer.socket.close(wire.CloseCode.TOKEN_EXPIRED)
        await server.peer()
        assert len(asked) == 3


async def test_a_token_that_cannot_be_had_is_asked_for_again(server: Gateway) -> None:
    answers = iter([RuntimeError("down"), "no token at all", token("tv-9")])

    def get_token() -> str:
        answer = next(answers)
        if isinstance(answer, Exception):
            raise answer
        return answer

    errors: list[Error] = []
    async with device(server, get_token=get_token, on_error=errors.append) as tv:
        await server.peer()
        assert tv.machine is not None
        assert tv.machine.device_id == "tv-9"
        assert errors[0].kind == "token"
        assert "down" in errors[0].detail


async def test_an_app_that_fails_or_hangs_on_a_new_token_is_asked_again(
    server: Gateway, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("fanout.device.driver.OPEN_TIMEOUT_S", 0.5)
    asked = 0

    async def get_token() -> str:
        nonlocal asked
        asked += 1
        if asked == 2:
            raise RuntimeError("down")
        if asked == 3:
            await asyncio.Event().wait()
        return token()

    server.refuse = [(401, {})]
    async with device(server, get_token=get_token):
        await server.peer()
        assert asked == 4


async def test_an_opaque_token_needs_a_device_id(server: Gateway) -> None:
    async with device(server, get_token=lambda: "opaque", device_id="tv-3") as tv:
        await server.peer()
        assert tv.machine is not None
        assert tv.machine.device_id == "tv-3"


async def test_a_terminal_code_ends_the_device(server: Gateway) -> None:
    async with device(server) as tv:
        events = tv.events()
        peer = await server.peer()
        await peer.welcome()
        await peer.socket.close(wire.CloseCode.TOPIC_FORBIDDEN)
        lost = await next_of(events, Disconnected)
        assert lost.retry_in_ms is None
        assert [event async for event in events] == []
        with pytest.raises(Ended) as ended:
            await tv.wait_connected()
        assert ended.value.code == wire.CloseCode.TOPIC_FORBIDDEN
        assert tv.state == "ended"
        assert tv.ended is not None
        assert tv.ended.code == wire.CloseCode.TOPIC_FORBIDDEN
        assert [event async for event in tv] == []


async def test_a_device_makes_the_new_connection_before_it_breaks_the_old(server: Gateway) -> None:
    async with device(server) as tv:
        events = tv.events()
        old = await server.peer()
        await old.welcome(inline(1))
        await old.hear()
        await old.say(wire.Reconnect(0))
        new = await server.peer()
        assert old.socket.close_code is None, "the old one holds until the new one is welcomed"
        await old.say(activate(2))
        await next_of(events, Activated)
        assert (await old.hear()).kind == "active"  # type: ignore[union-attr]
        await new.welcome()
        assert await new.hear() == wire.Report("cup", 2, "active", 0, "resume")
        assert await old.gone() == 1000
        await new.say(activate(3, stage="ended"))
        await next_of(events, Activated)
        assert tv.machine is not None
        assert tv.machine.connected
        assert server.peers.empty()


async def test_a_move_that_fails_leaves_the_old_connection_in_place(server: Gateway) -> None:
    async with device(server) as tv:
        old = await server.peer()
        await old.welcome()
        await tv.wait_connected()
        events = tv.events()
        server.refuse = [(503, {}), (503, {})]
        await old.say(wire.Reconnect(0))
        new = await server.peer()
        assert len(server.requests) == 4
        assert old.socket.close_code is None
        await new.welcome()
        assert await old.gone() == 1000
        assert isinstance(await next_of(events, Connected), Connected)


async def test_an_old_connection_lost_during_a_move_does_not_open_a_third(server: Gateway) -> None:
    async with device(server) as tv:
        old = await server.peer()
        await old.welcome()
        await old.say(wire.Reconnect(0))
        new = await server.peer()
        events = tv.events()
        await old.socket.close(1012)
        await next_of(events, Disconnected)
        await new.welcome()
        await next_of(events, Connected)
        await new.say(activate(2, miss="generic"))
        await next_of(events, Activated)
        assert len(server.requests) == 2


async def test_a_bundle_is_fetched_checked_and_tried_again(server: Gateway) -> None:
    wrong = b"x" * len(CONTENT)
    async with web_origin((200, "", wrong), (503, "", b""), (200, "", CONTENT.encode())) as origin:
        async with device(server, origin_url=origin.url) as tv:
            peer = await server.peer()
            await peer.welcome(remote(1))
            report = await peer.hear()
            assert isinstance(report, wire.Report)
            assert (report.kind, report.via) == ("ready", "fetch")
            assert origin.paths == [f"/v1/bundles/{BUNDLE}"] * 3
            assert tv.machine is not None
            assert tv.machine.held == (BUNDLE,)
        assert not any("authorization" in headers for headers in origin.headers), "bundles are public"


async def test_a_bundle_on_another_host_is_fetched_from_there(server: Gateway) -> None:
    async with web_origin((200, "", CONTENT.encode())) as cdn, device(server):
        peer = await server.peer()
        await peer.welcome(remote(1, f"{cdn.url}/some/bundle.json"))
        await peer.hear()
        assert cdn.paths == ["/some/bundle.json"]


async def test_a_bundle_that_never_comes_right_is_reported_failed(server: Gateway) -> None:
    async with web_origin((200, "", CONTENT.encode() * 2)) as origin, device(server, origin_url=origin.url):
        peer = await server.peer()
        await peer.welcome(remote(1))
        assert await peer.hear() == wire.Report("cup", 1, "failed")
        assert len(origin.paths) == 5


async def test_a_device_that_never_prefetched_fetches_when_it_flips(server: Gateway) -> None:
    async with web_origin((200, "", CONTENT.encode())) as origin, device(server, origin_url=origin.url) as tv:
        events = tv.events()
        peer = await server.peer()
        await peer.welcome(activate(2))
        shown = await next_of(events, Activated)
        assert shown.content == CONTENT
        report = await peer.hear()
        assert isinstance(report, wire.Report)
        assert (report.kind, report.via) == ("active", "fetch")


async def test_an_app_that_raises_stops_nothing(server: Gateway, caplog: pytest.LogCaptureFixture) -> None:
    def raises(event: Event) -> None:
        raise RuntimeError(f"the app is broken on {event}")

    async def raises_later(event: Event) -> None:
        raise RuntimeError(f"the app is broken on {event}")

    async with device(
        server, on_prefetched=raises, on_activate=raises_later, on_cancel=raises, on_close=raises
    ) as tv:
        events = tv.events()
        peer = await server.peer()
        await peer.welcome(inline(1), activate(2))
        await next_of(events, Activated)
        await peer.say(activate(3, stage="ended", at=now_ms() + 60_000), wire.Cancel("cup", 4))
        await next_of(events, Cancelled)
        await peer.say(wire.Close("cup", 5))
        await next_of(events, Closed)
        await until(lambda: sum("app" in record.message for record in caplog.records) == 4)


async def test_coroutines_may_be_callbacks(server: Gateway) -> None:
    shown: list[str | None] = []

    async def on_activate(event: Activated) -> None:
        await asyncio.sleep(0)
        shown.append(event.content)

    async with device(server, on_activate=on_activate):
        peer = await server.peer()
        await peer.welcome(activate(2, miss="generic"))
        await until(lambda: shown == [None])


async def test_a_rehearsal_is_an_event_and_no_callback(server: Gateway) -> None:
    shown: list[Activated] = []
    async with device(server, on_activate=shown.append) as tv:
        events = tv.events()
        peer = await server.peer()
        await peer.welcome(inline(1), activate(2, shadow=True))
        assert (await next_of(events, Rehearsed)).stage == "live"
        reports = [await peer.hear(), await peer.hear()]
        assert [report.kind for report in reports if isinstance(report, wire.Report)] == ["ready", "active"]
        assert not shown


@pytest.mark.parametrize("encoding", list(wire.Encoding))
async def test_what_is_no_message_is_as_if_it_had_not_come(
    server: Gateway, encoding: wire.Encoding, caplog: pytest.LogCaptureFixture
) -> None:
    errors: list[Error] = []
    rubbish: list[str | bytes] = [b"\xc1", b"", "", "{", "[" * 10_000, b"\x91" * 10_000, '{"t":7}', '{"t":"beacon"}']
    rubbish += [b"\x82\xa1t\xa6beacon", '{"t":"cancel","campaign":"\\u001b[2J","rev":1' + "0" * 40 + "}"]
    rubbish += ['{"t":"cancel","campaign":"' + "c" * 2**20 + '","rev":1}']
    async with device(server, encoding=encoding, on_error=errors.append) as tv:
        events = tv.events()
        peer = await server.peer()
        began_s = time.monotonic()
        for frame in rubbish:
            await peer.socket.send(frame)
        await peer.welcome()
        for frame in rubbish:
            await peer.socket.send(frame)
        await peer.say(activate(2, miss="generic"))
        await next_of(events, Activated)
        assert len(server.requests) == 1, "the connection holds"
        assert tv.stats().malformed == 2 * len(rubbish)
        assert errors[0].kind == "message"
        assert len(errors) <= 1 + time.monotonic() - began_s, "the app is told at a rate it can bear: once a second"
        assert errors[0].detail.isprintable()
        assert sum("message error" in record.message for record in caplog.records) == 1


async def test_a_name_that_is_hostile_stops_nothing(server: Gateway) -> None:
    names = ["__proto__", "constructor", "a\x00b", "\x1b[2J\r\n", "\u202e"]
    async with device(server) as tv:
        events = tv.events()
        peer = await server.peer()
        await peer.welcome()
        for rev, name in enumerate(names, 1):
            await peer.say(activate(rev, campaign=name, stage=name, miss="generic"))
            assert (await next_of(events, Activated)).campaign == name


@pytest.mark.parametrize("url", ["http://[", "http://\x00/", "file:///etc/passwd", "//", "http://a b/"])
async def test_a_bundle_whose_url_is_hostile_is_a_bundle_that_cannot_be_had(server: Gateway, url: str) -> None:
    async with device(server) as tv:
        peer = await server.peer()
        await peer.welcome(remote(1, url))
        assert await peer.hear() == wire.Report("cup", 1, "failed")
        assert tv.stats().fetches == tv.stats().fetches_failed == 5


async def test_a_server_that_says_only_rubbish_is_left(server: Gateway, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("fanout.device.driver.OPEN_TIMEOUT_S", 0.1)
    async with device(server):
        peer = await server.peer()
        await peer.socket.send(b"\xc1")
        assert await peer.gone() == wire.CloseCode.POLICY


class JumpyClock(SystemClock):
    """A clock that moves only when a test lets it: nothing becomes due before that, however slow the machine is."""

    def __init__(self) -> None:
        self.slept_ms = 0.0  # the monotonic timer stood still for so long
        self.passed_ms = 0.0  # it went on for so long
        self._began_ms = super().mono_ms()

    def mono_ms(self) -> float:
        return self._began_ms + self.passed_ms

    def outer_ms(self) -> float:
        return self.mono_ms() + self.slept_ms


# In both, what is armed has become due when the device looks again.
@pytest.mark.parametrize(
    ("slept_ms", "passed_ms"), [(10_000.0, 1_000.0), (0.0, 10_000.0)], ids=["it slept", "its loop was blocked"]
)
async def test_a_device_that_slept_asks_before_it_acts(server: Gateway, slept_ms: float, passed_ms: float) -> None:
    clock = JumpyClock()
    async with device(server, clock=clock) as tv:
        events = tv.events()
        peer = await server.peer()
        await peer.welcome(activate(2, at=now_ms() + 300, miss="generic"))
        await tv.wait_connected()
        clock.slept_ms, clock.passed_ms = slept_ms, passed_ms
        assert await peer.hear() == wire.Sync(2)
        assert tv.stats().jumps == 1
        past = now_ms() - 1_000  # by the device's clock, too, which stands
        await peer.say(wire.Cancel("cup", 3), wire.Beacon(now_ms(), 3), activate(4, at=past, miss="generic"))
        assert (await next_of(events, Cancelled)).rev == 3
        assert (await next_of(events, Activated)).rev == 4
        assert tv.stats().flips == 1


async def test_a_device_that_slept_notices_by_the_first_message(server: Gateway) -> None:
    clock = JumpyClock()
    async with device(server, clock=clock) as tv:
        peer = await server.peer()
        await peer.welcome()
        await tv.wait_connected()
        clock.slept_ms = 3_600_000.0
        await peer.say(wire.Reconnect(60_000))
        assert await peer.hear() == wire.Sync(0)


async def test_a_device_says_how_it_is(server: Gateway) -> None:
    states: list[Event] = []
    server.refuse = [(503, {})]
    async with device(server, on_state=states.append) as tv:
        assert tv.state == "connecting"
        peer = await server.peer()
        await peer.welcome(inline(1), activate(2))
        await tv.wait_connected()
        await until(lambda: tv.shown("cup") == ("live", BUNDLE))
        assert (tv.state, tv.ended) == ("connected", None)
        await peer.socket.close(1012)
        again = await server.peer()
        await again.welcome()
        await until(lambda: tv.stats().reconnects == 1)
        assert tv.stats() == Stats(messages=2, flips=1, reconnects=1)
    kinds = [type(state) for state in states]
    assert kinds == [Connecting, Disconnected, Connecting, Connected, Disconnected, Connecting, Connected]
    assert [state.attempt for state in states if isinstance(state, Connecting)] == [1, 2, 1]
    assert tv.state == "ended"
    assert tv.ended is not None
    assert tv.ended.code is None


async def test_an_app_that_fails_on_errors_is_not_told_of_that_for_ever(server: Gateway) -> None:
    told: list[Error] = []

    def raises(error: Error) -> None:
        told.append(error)
        raise RuntimeError("the app is broken")

    async with device(server, on_error=raises) as tv:
        peer = await server.peer()
        await peer.socket.send(b"\xc1")
        await peer.welcome()
        await tv.wait_connected()
        assert [error.kind for error in told] == ["message", "callback"]


@pytest.mark.parametrize("topics", [[], [""], ["x"] * 17, ["x" * 65], [7]], ids=repr)
async def test_topics_that_no_gateway_takes_are_refused_at_once(server: Gateway, topics: list[Any]) -> None:
    async with device(server) as tv:
        for change in (tv.subscribe, tv.unsubscribe):
            with pytest.raises(InvalidInput, match="1 to 16 names"):
                change(topics)


async def test_a_message_of_an_unknown_type_is_ignored(server: Gateway) -> None:
    async with device(server, encoding=wire.Encoding.JSON) as tv:
        events = tv.events()
        peer = await server.peer()
        await peer.socket.send('{"t":"fireworks"}')
        await peer.welcome()
        await peer.socket.send('{"t":"fireworks","colour":"red"}')
        await peer.say(activate(2, miss="generic"))
        await next_of(events, Activated)


async def test_a_server_that_does_not_welcome_is_left(server: Gateway, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("fanout.device.driver.OPEN_TIMEOUT_S", 0.05)
    async with device(server):
        peer = await server.peer()
        assert await peer.gone() == wire.CloseCode.POLICY
        await server.peer()


async def test_topics_can_be_changed(server: Gateway) -> None:
    async with device(server) as tv:
        tv.subscribe(["too early"])
        peer = await server.peer()
        await peer.welcome()
        await tv.wait_connected()
        tv.subscribe(["news"])
        tv.unsubscribe(["sport"])
        assert await peer.hear() == wire.Subscribe(["news"])
        assert await peer.hear() == wire.Unsubscribe(["sport"])


class BrokenCache(MemoryCache):
    """An app's cache on a full disk."""

    def put(self, sha256: str, content: str) -> list[str]:
        raise OSError("disk full")

    def get(self, sha256: str) -> str | None:
        raise OSError("disk gone")

    def drop(self, digests: Any) -> None:
        raise OSError("disk gone")


async def test_a_cache_that_fails_stops_nothing(server: Gateway) -> None:
    errors: list[Error] = []
    async with device(server, cache=BrokenCache(), on_error=errors.append) as tv:
        events = tv.events()
        peer = await server.peer()
        await peer.welcome(inline(1), activate(2))
        assert (await next_of(events, Activated)).content is None
        await peer.say(wire.Close("cup", 3))
        await next_of(events, Closed)
        assert {error.kind for error in errors} == {"storage"}


async def test_a_cache_on_disk_is_named_and_used_by_the_next_life(server: Gateway, tmp_path: Path) -> None:
    async with device(server, cache=FileCache(tmp_path)):
        peer = await server.peer()
        await peer.welcome(inline(1))
        await peer.hear()
    async with device(server, cache=FileCache(tmp_path)) as tv:
        events = tv.events()
        peer = await server.peer()
        assert peer.query == {"have": BUNDLE}
        await peer.welcome(activate(2))
        assert (await next_of(events, Activated)).content == CONTENT
        await peer.say(wire.Close("cup", 3))
        await next_of(events, Closed)
        assert not list(FileCache(tmp_path).digests())


async def test_what_an_app_cached_in_an_earlier_life_is_named_and_used(server: Gateway) -> None:
    cache = MemoryCache()
    cache.put(BUNDLE, CONTENT)
    async with device(server, cache=cache) as tv:
        events = tv.events()
        peer = await server.peer()
        assert peer.query == {"have": BUNDLE}
        await peer.welcome(activate(2))
        assert (await next_of(events, Activated)).content == CONTENT


async def test_an_evicted_bundle_is_named_no_more(server: Gateway) -> None:
    other = '{"live":{"title":"Other"}}'
    async with device(server, cache=MemoryCache(bundles_max=1)) as tv:
        peer = await server.peer()
        await peer.welcome(inline(1), inline(2, other, OTHER_BUNDLE))
        await peer.hear()
        await peer.hear()
        assert tv.machine is not None
        assert tv.machine.held == (OTHER_BUNDLE,)


async def test_closing_leaves_the_gateway_and_nothing_running(server: Gateway) -> None:
    before = asyncio.all_tasks()
    tv = device(server)
    async with tv:
        events = tv.events()
        peer = await server.peer()
        await peer.welcome()
        await tv.wait_connected()
        ours = asyncio.all_tasks() - before
    assert await peer.gone() == 1000
    assert not [task for task in ours if "fanout" in repr(task.get_coro()) and not task.done()]
    assert isinstance([event async for event in events][-1], Connected)


async def test_closing_may_be_cancelled_and_repeated(server: Gateway) -> None:
    tv = device(server)
    await tv.__aenter__()
    peer = await server.peer()
    await peer.welcome()
    await tv.wait_connected()
    closing = asyncio.create_task(tv.close())
    await asyncio.sleep(0)
    closing.cancel()
    with pytest.raises(asyncio.CancelledError):
        await closing
    await tv.close()
    assert await peer.gone() == 1000


async def test_a_device_with_nothing_to_do_does_nothing(server: Gateway, monkeypatch: pytest.MonkeyPatch) -> None:
    calls = 0
    due = DeviceMachine.due

    def counted(machine: DeviceMachine, mono_ms: float) -> list[Action]:
        nonlocal calls
        calls += 1
        return due(machine, mono_ms)

    monkeypatch.setattr(DeviceMachine, "due", counted)
    async with device(server) as tv:
        peer = await server.peer()
        await peer.welcome(inline(1), activate(2, at=now_ms() + 60_000))
        await tv.wait_connected()
        await peer.hear()
        for _ in range(100):
            await asyncio.sleep(0)
        assert calls < 10


@pytest.mark.parametrize("url", ["http://example", "ws://", "example:80", "ws://example?x=1", ""])
def test_a_url_that_is_no_gateways_is_refused_at_once(url: str) -> None:
    with pytest.raises(InvalidInput, match="ws://host:port"):
        Device(url, get_token=token)


def test_an_origin_that_is_none_is_refused_at_once() -> None:
    with pytest.raises(InvalidInput, match="http://host:port"):
        Device("ws://example", get_token=token, origin_url="cdn.example")
