"""What strangers and browsers may send to the API: slow, endless, crooked. It is refused, and nothing is stored."""

from __future__ import annotations

import asyncio
import json
import socket
from pathlib import Path
from typing import Any

import pytest
from redis.asyncio import Redis
from support.waiting import until

from chaos.control_serving import Desk, desk
from fanout import keyspace
from fanout.embedded import EmbeddedValkey

STAGES = ["upcoming", "live"]


def definition(campaign: str = "cup", **fields: Any) -> dict[str, Any]:
    bundle = {"stages": {stage: {"title": stage} for stage in STAGES}}
    return {
        "id": campaign,
        "title": "Cup final",
        "topic": "t",
        "stages": STAGES,
        "variants": [{"bundle": bundle}],
        **fields,
    }


async def stored(redis: Redis) -> dict[bytes, Any]:
    """Return everything the store holds, but who leads: that is renewed whatever is asked."""
    names = [name async for name in redis.scan_iter() if name != keyspace.LEADER.encode()]
    return {name: await redis.dump(name) for name in names}


async def drip(control: Desk, head: bytes, byte: bytes) -> bytes:
    """Send a head, then one byte again and again until the server has had enough; return what it said."""
    reader, writer = await asyncio.open_connection("127.0.0.1", control.port)
    said = b""

    async def listen() -> None:
        nonlocal said
        try:
            while data := await reader.read(65_536):
                said += data
        except ConnectionError:
            pass

    listening = asyncio.create_task(listen())
    try:
        writer.write(head)

        async def ended() -> bool:
            if not listening.done():
                writer.write(byte)
            return listening.done()

        await until(ended, "the server's end of the connection")
    finally:
        listening.cancel()
        writer.close()
    return said


# --- Slow clients.


async def test_a_body_that_trickles_in_has_one_limit_as_a_whole(valkey: EmbeddedValkey, redis: Redis) -> None:
    async with desk(valkey, redis, body_timeout_s=0.3) as control:
        before = await stored(redis)
        said = await drip(control, control.head("POST", "/v1/bundles", "Content-Length: 1000000"), b" ")
        assert said.startswith(b"HTTP/1.1 408 ")
        assert await stored(redis) == before


async def test_a_request_whose_head_does_not_come_holds_no_connection(valkey: EmbeddedValkey, redis: Redis) -> None:
    async with desk(valkey, redis, head_timeout_s=1.0) as control:
        assert await control.raw(b"") == b""
        assert await control.raw(b"GET /healthz HTTP/1.1\r\nHo") == b""
        assert await drip(control, b"GET /healthz HTTP/1.1\r\nX: ", b"x") == b""
        # After an answer too: the first request is no ticket for the next.
        said = await drip(control, control.head("GET", "/healthz"), b"x")
        assert said.startswith(b"HTTP/1.1 200 ")
        assert said.count(b"HTTP/1.1") == 1


async def test_without_a_key_a_body_is_never_waited_for(valkey: EmbeddedValkey, redis: Redis) -> None:
    head = b"POST /v1/bundles HTTP/1.1\r\nHost: x\r\nContent-Length: 100000000\r\n\r\n"
    async with desk(valkey, redis, head_timeout_s=1.0, body_timeout_s=3600) as control:
        assert (await drip(control, head, b" ")).startswith(b"HTTP/1.1 401 ")


async def test_who_does_not_read_the_answers_loses_the_connection(valkey: EmbeddedValkey, redis: Redis) -> None:
    def open_here() -> bool:
        rows = [line.split() for line in Path("/proc/net/tcp").read_text().splitlines()[1:]]
        return any(row[1].endswith(f":{control.port:04X}") and row[3] == "01" for row in rows)

    async with desk(valkey, redis, head_timeout_s=1.0, answer_timeout_s=1.0) as control:
        made = await control.post("/v1/bundles", {"stages": {"live": {"text": "x" * 1_000_000}}})
        await control.http.aclose()
        await until(lambda: not open_here(), "the end of the first connection")
        with socket.socket() as lazy:
            lazy.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            lazy.connect(("127.0.0.1", control.port))
            lazy.sendall(control.head("GET", made.headers["location"]) * 20)
            await until(open_here, "the connection")
            await until(lambda: not open_here(), "the server's end of the connection")


# --- Crooked requests.

TRICKS = (
    "..",
    "%2e%2e",
    "%2E%2E%2ffleet",
    "..%2f..%2fapi-keys",
    "%2e%2e/%2e%2e/api-keys",
    "cup%00",
    "%00",
    "cup%2f..%2fother",
    "cup%0d%0aX-Injected:%20yes",
    "%ff%fe",
    "%F0%9F%92%A9",
    "c%75p%20",
    "cup:",
    "CUP",
    "%c0%ae%c0%ae",
    "cup;x=1",
    "*",
    "{fanout}:api-keys",
    "a" * 4000,
    "%",
)


async def test_an_id_in_a_path_is_that_campaigns_name_or_nothing(valkey: EmbeddedValkey, redis: Redis) -> None:
    async with desk(valkey, redis) as control:
        assert (await control.post("/v1/campaigns", definition())).status_code == 201
        before = await stored(redis)
        for trick in TRICKS:
            for method, path, body in (
                ("GET", f"/v1/campaigns/{trick}", b""),
                ("GET", f"/v1/campaigns/{trick}/readiness", b""),
                ("GET", f"/v1/bundles/{trick}", b""),
                ("POST", f"/v1/campaigns/{trick}/prefetch", b'{"window_s": 0}'),
                ("POST", f"/v1/campaigns/{trick}/close", b"{}"),
            ):
                length = f"Content-Length: {len(body)}"
                said = await control.raw(control.head(method, path, length, "Connection: close") + body)
                status = int(said.split(b" ", 2)[1])
                assert status in (404, 405), (path, said[:200])
                head, _, problem = said.partition(b"\r\n\r\n")
                assert b"application/problem+json" in head
                assert b"injected" not in head.lower()
                assert len(problem) < 1000
        assert await stored(redis) == before


@pytest.mark.parametrize(
    "data",
    [
        b"GARBAGE\r\n\r\n",
        b"GET /<script>alert(1)</script> HTTP/1.1\r\nBad Header\r\n\r\n",
        b"POST /v1/bundles HTTP/1.1\r\nHost: x\r\nContent-Length: -1\r\n\r\n",
        b"POST /v1/bundles HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n",
        b"GET /healthz HTTP/1.1\r\nHost: x\r\nX: " + b"x" * 200_000 + b"\r\n\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(600),
    ],
    ids=lambda data: data[:40].decode("latin1"),
)
async def test_what_is_no_request_is_refused_in_plain_text_without_a_line_in_the_log(
    valkey: EmbeddedValkey, redis: Redis, capfd: pytest.CaptureFixture[str], data: bytes
) -> None:
    async with desk(valkey, redis) as control:
        said = await control.raw(data)
        # A reset may overtake the answer to what was too long to be read.
        if said or len(data) < 100_000:
            assert said.startswith(b"HTTP/1.1 400 ")
            assert b"content-type: text/plain" in said.lower()
        assert b"script" not in said
    out, err = capfd.readouterr()
    assert "Invalid HTTP" not in out + err


# --- What people write, and what browsers make of it.


@pytest.mark.parametrize("char", ["\0", "\x1b", "\r", "\n", "\x7f", "\x9b", "\u2028", "\u202e", "\u2066"])
async def test_a_title_or_a_reason_that_would_change_how_others_look_is_refused(
    valkey: EmbeddedValkey, redis: Redis, char: str
) -> None:
    async with desk(valkey, redis) as control:
        before = await stored(redis)
        answer = await control.post("/v1/campaigns", definition(title=f"Cup{char}[31m final"))
        assert answer.status_code == 422
        assert char not in answer.text
        match = [{"match": {"region": f"j{char}p"}, "bundle": {"sha256": "0" * 64, "bytes": 1, "url": "http://x/"}}]
        sent = definition(variants=match + definition()["variants"])
        assert (await control.post("/v1/campaigns", sent)).status_code == 422
        assert await stored(redis) == before

        await control.post("/v1/campaigns", definition())
        await control.post("/v1/campaigns/cup/prefetch", {"window_s": 0})
        press = {"stage": "live", "window_s": 0, "force": True, "reason": f"because{char}of"}
        status = (await control.post("/v1/campaigns/cup/activate", press)).status_code
        assert status == (200 if char == "\n" else 422)


async def test_text_comes_back_as_it_was_written_and_no_browser_will_run_it(
    valkey: EmbeddedValkey, redis: Redis
) -> None:
    titles = ["<script>alert(1)</script>", "\"><img src=x onerror='x'>", "{{7*7}} ${7*7}", "👩‍👩‍👧 عربي", "試合"]
    async with desk(valkey, redis) as control:
        for n, title in enumerate(titles):
            stages = {stage: {"title": title} for stage in STAGES}
            sent = definition(f"c{n}", title=title, variants=[{"bundle": {"stages": stages}}])
            made = await control.post("/v1/campaigns", sent)
            shown = await control.get(f"/v1/campaigns/c{n}")
            content = await control.http.get(made.json()["variants"][0]["bundle"]["url"])
            assert shown.json()["title"] == title
            assert json.loads(content.content)["stages"]["live"]["title"] == title
            for answer in (made, shown, content):
                assert answer.headers["content-type"] == "application/json"
                assert answer.headers["x-content-type-options"] == "nosniff"
                policy = answer.headers["content-security-policy"]
                assert policy == "default-src 'none'; frame-ancestors 'none'"


async def test_another_sites_page_can_send_nothing_that_counts_and_read_nothing_but_bundles(
    valkey: EmbeddedValkey, redis: Redis
) -> None:
    """There is no cookie to ride on: what makes a call count is a header that no page can add unasked."""
    site = {"Origin": "https://evil.example", "Sec-Fetch-Site": "cross-site"}
    async with desk(valkey, redis) as control:
        made = await control.post("/v1/campaigns", definition())
        before = await stored(redis)
        asked = {**site, "Access-Control-Request-Method": "POST", "Access-Control-Request-Headers": "authorization"}
        for path in ("/v1/campaigns", "/v1/campaigns/cup/activate", "/v1/bundles"):
            preflight = await control.http.options(path, headers=asked)
            assert preflight.status_code == 405
            assert not [name for name in preflight.headers if name.startswith("access-control-")]
        for media_type in ("application/x-www-form-urlencoded", "multipart/form-data; boundary=x", "text/plain"):
            simple = {**site, "Content-Type": media_type, "Cookie": f"key={control.key}"}
            body = b'{"stage": "live", "window_s": 0}'
            sent = await control.http.post("/v1/campaigns/cup/activate", content=body, headers=simple)
            assert sent.status_code == 401
            keyed = {**simple, "Authorization": f"Bearer {control.key}"}
            sent = await control.http.post("/v1/campaigns/cup/activate", content=body, headers=keyed)
            assert sent.status_code == 415
        assert await stored(redis) == before
        for answer in (made, preflight, sent, await control.get("/v1/campaigns", **site)):
            assert "set-cookie" not in answer.headers
            assert "access-control-allow-origin" not in answer.headers
            assert answer.headers["cross-origin-resource-policy"] == "same-origin"
        bundle = await control.http.get(made.json()["variants"][0]["bundle"]["url"], headers=site)
        assert bundle.headers["access-control-allow-origin"] == "*"
        assert "access-control-allow-credentials" not in bundle.headers
        assert bundle.headers["cross-origin-resource-policy"] == "cross-origin"


async def test_behind_tls_every_answer_tells_browsers_to_stay_there(valkey: EmbeddedValkey, redis: Redis) -> None:
    async with desk(valkey, redis, key_tries_max=1, key_tries_per_min=0.001) as control:
        for path, key, status in (
            ("/v1/campaigns", None, 200),
            ("/v1/campaigns/nope", None, 404),
            (f"/v1/bundles/{'0' * 64}", None, 404),
            ("/nowhere", None, 404),
            ("/v1/campaigns", "f" * 50, 401),
            ("/v1/campaigns", "e" * 50, 429),
        ):
            answer = await control.get(path, key, **{"X-Forwarded-Proto": "https"})
            assert answer.status_code == status
            assert answer.headers["strict-transport-security"] == "max-age=31536000"
            assert answer.headers["cache-control"] == "no-store"
            assert answer.headers["x-content-type-options"] == "nosniff"
            assert answer.headers["referrer-policy"] == "no-referrer"
        plain = await control.get("/v1/campaigns")
        assert "strict-transport-security" not in plain.headers


async def test_what_was_refused_never_reached_the_log_of_publications(valkey: EmbeddedValkey, redis: Redis) -> None:
    async with desk(valkey, redis) as control:
        await control.post("/v1/campaigns", definition())
        for stage, window_s in (("..", 0), ("live\0", 0), ("live", 1e300), ("live", -1), ("<b>", 0)):
            body = {"stage": stage, "window_s": window_s, "force": True, "reason": "x"}
            assert (await control.post("/v1/campaigns/cup/activate", body)).status_code in (409, 422)
        assert await redis.xlen(keyspace.LOG) == 0
        assert await redis.hlen(keyspace.RETAINED) == 0
