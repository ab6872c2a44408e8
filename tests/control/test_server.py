"""The real server on a real port."""

from __future__ import annotations

import asyncio
import os
import signal
import socket

import pytest
from support.waiting import PATIENCE_S
from support.web import web

from fanout.connect import connect
from fanout.control.config import ControlConfig
from fanout.control.server import serve
from fanout.embedded import EmbeddedValkey
from fanout.errors import InvalidInput
from fanout.roles import Role
from fanout.store.keys import KeyStore

from .conftest import content


async def started(valkey: EmbeddedValkey, config: ControlConfig | None = None) -> tuple[int, asyncio.Task[None]]:
    port: asyncio.Future[int] = asyncio.get_running_loop().create_future()
    task = asyncio.create_task(serve(config or ControlConfig(), valkey.url, "127.0.0.1", 0, port.set_result))
    await asyncio.wait([task, port], return_when=asyncio.FIRST_COMPLETED, timeout=PATIENCE_S)
    assert port.done(), "the server did not start"
    return port.result(), task


async def stopped(task: asyncio.Task[None]) -> None:
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


async def test_the_server_answers_on_the_port_it_names_and_frees_it_when_cancelled(
    valkey: EmbeddedValkey,
) -> None:
    redis = connect(valkey.url)
    key = await KeyStore(redis).create("pat", Role.EDITOR)
    port, task = await started(valkey)
    base = f"http://127.0.0.1:{port}"
    async with web(base_url=base, headers={"Authorization": f"Bearer {key}"}) as http:
        assert (await http.get("/healthz")).json() == {"status": "ok"}
        assert (await http.get("/readyz")).json() == {"status": "ok"}
        made = await http.post("/v1/bundles", json=content())
        assert made.status_code == 201
        assert "server" not in made.headers
        got = await http.get(made.headers["location"])
        again = await http.get(made.headers["location"], headers={"If-None-Match": got.headers["etag"]})
        assert (got.status_code, again.status_code) == (200, 304)
        assert (await http.head(made.headers["location"])).content == b""
    await stopped(task)
    with pytest.raises(OSError):
        await asyncio.open_connection("127.0.0.1", port)
    await redis.aclose()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
async def test_a_signal_ends_the_server_in_good_order(valkey: EmbeddedValkey, number: signal.Signals) -> None:
    before = signal.getsignal(number)
    port, task = await started(valkey)
    os.kill(os.getpid(), number)
    await asyncio.wait_for(task, PATIENCE_S)
    with pytest.raises(OSError):
        await asyncio.open_connection("127.0.0.1", port)
    assert signal.getsignal(number) in (before, signal.SIG_DFL, signal.default_int_handler)


async def test_a_port_in_use_is_one_clear_line(valkey: EmbeddedValkey) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with pytest.raises(InvalidInput, match=f"127.0.0.1:{port}") as caught:
            await serve(ControlConfig(), valkey.url, "127.0.0.1", port, lambda _: None)
    assert "\n" not in str(caught.value)
    assert "--port" in str(caught.value)
    for host, bad_port in (("192.0.2.1", 0), ("127.0.0.1", 70_000)):
        with pytest.raises(InvalidInput, match="cannot listen"):
            await serve(ControlConfig(), valkey.url, host, bad_port, lambda _: None)


async def test_a_body_that_never_ends_is_given_up(valkey: EmbeddedValkey) -> None:
    redis = connect(valkey.url)
    key = await KeyStore(redis).create("pat", Role.EDITOR)
    port, task = await started(valkey, ControlConfig(body_timeout_s=0.05))
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(
        b"POST /v1/bundles HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"
        b"Authorization: Bearer " + key.encode() + b"\r\nContent-Length: 500\r\n\r\n{"
    )
    answer = await asyncio.wait_for(reader.read(), PATIENCE_S)
    assert answer.startswith(b"HTTP/1.1 408 ")
    writer.close()
    await writer.wait_closed()
    await stopped(task)
    await redis.aclose()


async def test_too_long_a_body_is_refused_before_it_is_sent(valkey: EmbeddedValkey) -> None:
    redis = connect(valkey.url)
    key = await KeyStore(redis).create("pat", Role.EDITOR)
    port, task = await started(valkey)
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(
        b"POST /v1/bundles HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"
        b"Authorization: Bearer " + key.encode() + b"\r\nContent-Length: 999999999\r\n\r\n"
    )
    answer = await asyncio.wait_for(reader.read(), PATIENCE_S)
    assert answer.startswith(b"HTTP/1.1 413 ")
    writer.close()
    await writer.wait_closed()
    await stopped(task)
    await redis.aclose()
