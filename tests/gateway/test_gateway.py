"""One worker, entire, on a real store, with real clients: what devices are told, and what is refused them."""

from __future__ import annotations

import asyncio
import contextlib
import json
import time
from typing import Any
from urllib.parse import urlsplit

import pytest
import websockets
from support.stack import (
    CONTENT,
    KEY,
    Stack,
    activated,
    bundle,
    closed,
    connecting,
    prefetched,
    receive,
    stack,
    token,
)
from support.waiting import PATIENCE_S, until

from fanout import wire
from fanout.bus.publication import Cancelled, Closed, Variant
from fanout.embedded import EmbeddedValkey
from gateway.config import GatewayConfig
from gateway.process import Health, bind
from gateway.worker import Worker

DIGEST = bundle(CONTENT).sha256


async def refusal(connection: websockets.connect) -> websockets.Response:
    """Return the response that refuses this client."""
    with pytest.raises(websockets.InvalidStatus) as caught:
        await connection
    return caught.value.response


async def raw(url: str, data: bytes) -> bytes:
    """Send bytes, and return everything that comes back until the other side hangs up."""
    parts = urlsplit(url)
    reader, writer = await asyncio.open_connection(parts.hostname, parts.port)
    try:
        async with asyncio.timeout(PATIENCE_S):
            writer.write(data)
            return await reader.read()
    except ConnectionResetError:
        return b""
    finally:
        writer.close()


def upgrade_request() -> bytes:
    """Return a good handshake, for a client that will not behave like one afterwards."""
    return (
        f"GET {wire.PATH} HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        "Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"
        f"Sec-WebSocket-Protocol: fanout.v1.json\r\nAuthorization: Bearer {token()}\r\n\r\n"
    ).encode()


async def alive(socket: websockets.ClientConnection) -> None:
    """Hold that the connection is still served: a sync with nothing new is answered by a beacon alone."""
    await socket.send(json.dumps({"t": "sync", "since": 2**52}))
    assert (await receive(socket))["t"] == "beacon"


def types(messages: list[dict[str, Any]]) -> list[str]:
    return [message["t"] for message in messages]


# --- The door.


async def test_only_a_good_token_opens_the_door() -> None:
    none = token(key="", algorithm="none")
    async with stack() as s:
        for bad in (
            "x",
            "a.b.c",
            none,
            token(key="another key, of thirty-two bytes.."),
            token(exp=int(time.time()) - 1),
            token(aud="elsewhere"),
            token(topics=[]),
            token(sub=None),
            token(exp=None),
        ):
            response = await refusal(connecting(s.url, bad))
            assert response.status_code == 401, bad
            assert bad.encode() not in response.body, "an answer never repeats a token"
        response = await refusal(connecting(s.url, additional_headers={}))
        assert response.status_code == 401
        assert "Bearer" in response.headers["WWW-Authenticate"]
        async with connecting(s.url) as good:
            assert (await receive(good))["t"] == "welcome"


async def test_the_wrong_place_origin_or_offer_is_refused_with_its_own_status() -> None:
    async with stack(origins=("https://tv.example",)) as s:
        base = s.url.removesuffix(wire.PATH)
        for connection, status in (
            (connecting(base + "/v2/connect"), 404),
            (connecting(base + "/"), 404),
            (connecting(s.url, origin="https://evil.example"), 403),
            (connecting(s.url, origin="null"), 403),
            (connecting(s.url, subprotocols=["fanout.v9.json"]), 400),
            (connecting(s.url, subprotocols=None), 400),
            (connecting(s.url + "?have=nothex"), 400),
            (connecting(s.url + "?have=" + ",".join([DIGEST] * 33)), 400),
            (connecting(s.url + "?since=-1"), 400),
            (connecting(s.url + "?since=%D9%A1"), 400),
        ):
            assert (await refusal(connection)).status_code == status
        async with connecting(s.url, origin="https://tv.example") as browser:
            assert (await receive(browser))["t"] == "welcome"


async def test_what_is_no_websocket_request_gets_an_http_answer() -> None:
    host = b"Host: x\r\n"
    async with stack() as s:
        for request, status in (
            (b"POST /v1/connect HTTP/1.1\r\n" + host + b"\r\n", b"405"),
            (b"POST /v1/connect HTTP/1.1\r\n" + host + b"Content-Length: 3\r\n\r\nabc", b"405"),
            (b"GET /v1/connect HTTP/1.1\r\n" + host + b"\r\n", b"426"),
            (b"GET /other HTTP/1.1\r\n" + host + b"\r\n", b"404"),
            (b"\x16\x03\x01\x02\x00\x01\x00\r\n\r\n", b"400"),
            (b"GET /v1/connect HTTP/1.1\r\n" + b"A: " + b"x" * 9000 + b"\r\n\r\n", b"431"),
        ):
            answer = await raw(s.url, request)
            assert answer.startswith(b"HTTP/1.1 " + status), (request[:40], answer[:60])
        endless = b"GET /v1/connect HTTP/1.1\r\n" + b"".join(b"A%d: %s\r\n" % (i, b"x" * 500) for i in range(60))
        assert await raw(s.url, endless) == b""


async def test_a_browser_sends_its_token_as_a_second_subprotocol() -> None:
    async with stack() as s:
        offers = ["fanout.v1.json", "bearer." + token()]
        async with connecting(s.url, additional_headers={}, subprotocols=offers) as browser:
            assert browser.subprotocol == "fanout.v1.json"
            assert (await receive(browser))["t"] == "welcome"


async def test_compression_is_declined() -> None:
    async with stack() as s, connecting(s.url, compression="deflate") as device:
        assert device.response is not None
        assert "Sec-WebSocket-Extensions" not in device.response.headers


async def test_a_socket_that_stays_silent_is_closed() -> None:
    # Long enough for the device, whose own handshake is under it too.
    async with stack(handshake_timeout_s=2) as s, connecting(s.url) as device:
        await receive(device)
        silent = (raw(s.url, sent) for sent in (b"", b"GET /v1/connect HTTP/1.1\r\nHost: x\r\n"))
        assert await asyncio.gather(*silent) == [b"", b""]
        await alive(device)


async def test_a_flood_of_silent_sockets_keeps_no_device_out() -> None:
    # Ten of them have a place until their time is up, which is long enough for the device, too.
    async with stack(admit_per_s=5, handshake_timeout_s=2) as s:
        parts = urlsplit(s.url)
        silent = [await asyncio.open_connection(parts.hostname, parts.port) for _ in range(30)]
        async with connecting(s.url) as device:
            assert (await receive(device))["t"] == "welcome"
        async with asyncio.timeout(PATIENCE_S):
            for reader, writer in silent:
                with contextlib.suppress(ConnectionResetError):
                    assert await reader.read() == b""
                writer.close()


async def test_a_peer_that_does_not_hang_up_is_cut_off() -> None:
    async with stack(close_timeout_s=0.3) as s:
        parts = urlsplit(s.url)
        reader, writer = await asyncio.open_connection(parts.hostname, parts.port)
        writer.write(b"GET /nowhere HTTP/1.1\r\nHost: x\r\n\r\n")
        async with asyncio.timeout(PATIENCE_S):
            assert (await reader.read()).startswith(b"HTTP/1.1 404 ")

        async def cut_off() -> bool:
            writer.write(b"and another thing")
            try:
                await writer.drain()
            except ConnectionError:
                return True
            return False

        await until(cut_off, "the reset")
        writer.close()


async def test_a_gateway_that_leaves_lets_nobody_in() -> None:
    async with stack(drain_s=1, drain_close_s=0) as s, connecting(s.url) as device:
        await receive(device)
        parts = urlsplit(s.url)
        reader, writer = await asyncio.open_connection(parts.hostname, parts.port)
        assert s.worker is not None
        s.worker.stop()
        await until(lambda: s.said[-1] is Health.UNREADY, "the drain")
        writer.write(upgrade_request())
        async with asyncio.timeout(PATIENCE_S):
            answer = await reader.read()
        writer.close()
        assert answer.startswith(b"HTTP/1.1 503 ")
        assert b"Retry-After" in answer
        assert await closed(device) == 1012


async def test_a_full_gateway_says_when_to_come_back() -> None:
    async with stack(connections_max=1) as s:
        async with connecting(s.url) as inside:
            await receive(inside)
            response = await refusal(connecting(s.url))
            assert response.status_code == 503
            assert int(response.headers["Retry-After"]) >= 1

        async def let_in() -> bool:
            try:
                async with connecting(s.url):
                    return True
            except websockets.InvalidStatus:
                return False

        await until(let_in, "the place that became free")


# --- Bad messages.


@pytest.mark.parametrize(
    ("encoding", "message", "code"),
    [
        ("json", "x" * 4097, 1009),
        ("msgpack", b"\xc0" * 4097, 1009),
        ("json", "not json", 1007),
        ("json", "[]", 1007),
        ("json", "{}", 1007),
        ("json", '{"t":"sync"}', 1007),
        ("json", '{"t":"sync","since":"1"}', 1007),
        ("json", '{"t":"sync","since":-1}', 1007),
        ("json", '{"t":"report","campaign":"c","rev":1,"kind":"%s"}' % ("ぁ" * 300), 1007),
        ("json", '{"t":"x","deep":' + "[" * 4000, 1007),
        ("msgpack", b"\xc1", 1007),
        ("msgpack", b"\x82\xa1t\xa4sync\xa5since\xa11", 1007),
        ("msgpack", b"\x91" * 4000, 1007),
        ("json", b"{}", 1003),
        ("msgpack", "{}", 1003),
        ("json", '{"t":"subscribe","topics":["t","forbidden"]}', 4500),
        ("json", '{"t":"subscribe","topics":["%s"]}' % ("試" * 64), 4500),
    ],
)
async def test_a_bad_message_is_answered_with_its_close_code(encoding: str, message: str | bytes, code: int) -> None:
    async with stack() as s, connecting(s.url, encoding=encoding) as bad, connecting(s.url) as bystander:
        await receive(bad)
        await receive(bystander)
        await bad.send(message)
        assert await closed(bad) == code
        await alive(bystander)


async def test_what_a_gateway_does_not_know_it_ignores() -> None:
    async with stack() as s, connecting(s.url) as device:
        await receive(device)
        for message in (
            {"t": "dance"},
            {"t": "welcome", "session": "no"},
            {"t": "report", "campaign": "unknown", "rev": 1, "kind": "ready"},
            {"t": "report", "campaign": "unknown", "rev": 0, "kind": "failed", "more": [1]},
            {"t": "unsubscribe", "topics": ["elsewhere"]},
        ):
            await device.send(json.dumps(message))
        await alive(device)


# --- What devices are told.


async def test_devices_of_both_encodings_are_told_the_same() -> None:
    async with stack() as s, connecting(s.url) as a, connecting(s.url, encoding="msgpack") as b:
        await receive(a)
        await receive(b)
        told = []
        for publication in (
            prefetched(),
            activated(),
            Cancelled(campaign="c", topic="t", key="k1"),
            Closed(campaign="c", topic="t", key="k2"),
        ):
            await s.publisher.publish(publication)
            # One after the other: of a prefetch and a close that are read together, the close alone is told.
            told.append(await receive(a))
            assert await receive(b) == told[-1]
        assert types(told) == ["prefetch", "activate", "cancel", "close"]
        assert told[0]["bundle"]["inline"] == CONTENT


async def test_a_topic_and_a_variant_reach_whom_they_are_for() -> None:
    variants = (
        Variant({"platform": "tv"}, bundle('{"for":"tv"}')),
        Variant({"region": "jp"}, bundle('{"for":"jp"}')),
    )
    async with (
        stack() as s,
        connecting(s.url, token("tv")) as tv,
        connecting(s.url, token("jp", attrs={"platform": "phone", "region": "jp"})) as jp,
        connecting(s.url, token("us", attrs={"platform": "phone"})) as us,
        connecting(s.url, token("elsewhere", topics=["u"])) as elsewhere,
    ):
        for device in (tv, jp, us, elsewhere):
            await receive(device)
        await s.publisher.publish(prefetched(variants=variants))
        assert (await receive(tv))["bundle"]["inline"] == '{"for":"tv"}'
        assert (await receive(jp))["bundle"]["inline"] == '{"for":"jp"}'
        await alive(us)
        await alive(elsewhere)


async def test_the_welcome_holds_what_the_device_lacks() -> None:
    async with stack() as s:
        first = await s.publisher.publish(prefetched())
        second = await s.publisher.publish(activated())

        async def state(query: str) -> list[dict[str, Any]]:
            async with connecting(s.url + query) as device:
                return list((await receive(device))["state"])

        async def both() -> bool:
            return types(await state("")) == ["prefetch", "activate"]

        await until(both, "both publications in the welcome")
        everything = await state("")
        assert everything[0]["bundle"]["inline"] == CONTENT
        assert [m["rev"] for m in everything] == [first.rev, second.rev]
        assert await state(f"?have={DIGEST}&since={second.rev}") == []
        assert types(await state(f"?have={DIGEST}&since={first.rev}")) == ["activate"]
        # Whatever since says, a prefetch that was lost heals.
        assert types(await state(f"?since={second.rev}")) == ["prefetch"]
        held = await state(f"?have={DIGEST}")
        assert types(held) == ["prefetch", "activate"]
        assert held[0]["bundle"].get("inline") is None


async def test_a_sync_and_a_subscription_tell_what_stands_then_a_beacon() -> None:
    async with stack() as s, connecting(s.url, token(topics=["t", "u"])) as device:
        await receive(device)
        await device.send(json.dumps({"t": "unsubscribe", "topics": ["t"]}))
        await alive(device)
        mine = await s.publisher.publish(activated())
        other = await s.publisher.publish(activated("d", topic="u"))
        assert (await receive(device))["campaign"] == "d"
        await device.send(json.dumps({"t": "subscribe", "topics": ["t"]}))
        assert (await receive(device))["rev"] == mine.rev
        beacon = await receive(device)
        assert (beacon["t"], beacon["rev"]) == ("beacon", other.rev)
        await device.send(json.dumps({"t": "sync", "since": mine.rev}))
        assert types([await receive(device), await receive(device)]) == ["activate", "beacon"]


async def test_beacons_say_what_was_broadcast() -> None:
    async with stack(beacon_s=0.3) as s, connecting(s.url) as device:
        await receive(device)
        rev = (await s.publisher.publish(activated())).rev
        while (message := await receive(device))["t"] == "beacon":
            assert message["rev"] < rev
        assert (message["t"], message["rev"]) == ("activate", rev)
        beacon = await receive(device)
        assert (beacon["t"], beacon["rev"]) == ("beacon", rev)
        assert abs(beacon["now"] - time.time() * 1000) < 60_000


# --- What devices tell.


async def report(socket: websockets.ClientConnection, kind: str, rev: int, **more: Any) -> None:
    await socket.send(json.dumps({"t": "report", "campaign": "c", "rev": rev, "kind": kind, **more}))


async def shows(s: Stack, *counts: int) -> None:
    async def as_expected() -> bool:
        return await s.counts() == counts

    await until(as_expected, f"presence of {counts}")


async def test_reports_become_gauges_that_fall_with_the_connection() -> None:
    async with stack() as s, connecting(s.url) as stays:
        await receive(stays)
        async with connecting(s.url) as leaves:
            await receive(leaves)
            first = (await s.publisher.publish(prefetched())).rev
            for device in (stays, leaves):
                assert (await receive(device))["rev"] == first
                await report(device, "ready", first, via="inline")
                await report(device, "ready", first, via="inline")
            await shows(s, 2, 2, 0)
            second = (await s.publisher.publish(activated())).rev
            for device in (stays, leaves):
                assert (await receive(device))["rev"] == second
                await report(device, "active", second, ms=3)
            await shows(s, 2, 2, 2)
        await shows(s, 1, 1, 1)
        # What a device says it has on connecting counts at once, without a report.
        async with connecting(f"{s.url}?have={DIGEST}&since={second}") as back:
            assert (await receive(back))["state"] == []
            await shows(s, 2, 2, 1)
            await report(back, "active", second, via="resume")
            await shows(s, 2, 2, 2)
        # A new prefetch starts counting anew.
        third = (await s.publisher.publish(prefetched(content="{}"))).rev
        assert (await receive(stays))["rev"] == third
        await shows(s, 1, 0, 1)


async def test_reports_about_a_campaign_of_another_topic_count_nothing_and_harm_nobody() -> None:
    async with stack() as s, connecting(s.url) as mine:
        await receive(mine)
        rev = (await s.publisher.publish(prefetched())).rev
        assert (await receive(mine))["rev"] == rev
        async with connecting(s.url, token("liar", topics=["u"])) as liar:
            await receive(liar)
            await report(liar, "ready", rev)
            await alive(liar)
            again = (await s.publisher.publish(prefetched())).rev
            assert (await receive(mine))["rev"] == again
        last = (await s.publisher.publish(activated())).rev
        assert (await receive(mine))["rev"] == last
        await shows(s, 1, 0, 0)

        async def one_left() -> bool:
            return [record.connections for record in await s.records()] == [1]

        await until(one_left, "the liar's leaving")


# --- Time runs out.


async def test_a_token_that_ends_and_a_connection_that_grows_old_are_told_so() -> None:
    async with stack(beacon_s=0.3, lifetime_s=0.5) as s:
        # Good for long enough to come in with. Its end is rounded down to the worker's coarse clock, so it is soon.
        async with connecting(s.url, token(exp=int(time.time()) + 6)) as device:
            assert await closed(device) == 4001
        async with connecting(s.url) as device:
            while (message := await receive(device))["t"] != "reconnect":
                assert message["t"] in ("welcome", "beacon")
            assert message["within_ms"] > 0
            await alive_among_beacons(device)


async def alive_among_beacons(socket: websockets.ClientConnection) -> None:
    """Hold that nobody was cut off: beacons go on."""
    while (await receive(socket))["t"] != "beacon":
        pass


async def test_a_device_that_answers_no_pings_is_closed() -> None:
    # So long that it is visited, and pinged, between the one silence and the other.
    async with stack(beacon_s=0.25, ping_s=2) as s:
        parts = urlsplit(s.url)
        reader, writer = await asyncio.open_connection(parts.hostname, parts.port)
        writer.write(upgrade_request())
        async with asyncio.timeout(PATIENCE_S):
            everything = await reader.read()
        writer.close()
        assert b"\x89\x00" in everything
        assert everything[-200:].count((4002).to_bytes(2, "big")) == 1


# --- The store comes and goes.


async def test_nobody_is_let_in_before_the_first_look_at_the_store(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FANOUT_DEVICE_KEY", KEY)
    store = EmbeddedValkey()
    server_socket = bind("127.0.0.1", 0)
    port = server_socket.getsockname()[1]
    said: list[Health] = []
    # A probe that a slow machine holds up would be said, too.
    config = GatewayConfig(redis_url=store.url, drain_s=0, drain_close_s=0, probe_timeout_s=PATIENCE_S)
    worker = Worker(config, server_socket, said.append)
    running = asyncio.create_task(worker.run())
    try:
        with pytest.raises(ConnectionRefusedError):
            await connecting(f"ws://127.0.0.1:{port}{wire.PATH}")
        assert said == []
        store.start()
        await until(lambda: said == [Health.OK], "the worker")
        async with connecting(f"ws://127.0.0.1:{port}{wire.PATH}") as device:
            assert (await receive(device))["t"] == "welcome"
    finally:
        worker.stop()
        await running
        server_socket.close()
        store.stop()
    assert said == [Health.OK, Health.UNREADY]
