"""What an app or a peer may do wrong, on real sockets: the client goes on, and gives nothing away."""

from __future__ import annotations

import gc
import weakref
from collections.abc import AsyncIterator
from typing import Any

import httpx
import msgspec
import pytest
from support.waiting import until

from fanout import wire
from fanout.device import Activated, Connected, Device, Disconnected, Error, Event

from .driving import BUNDLE, FixedRandom
from .gateway import FAST, Gateway, gateway, now_ms, token


@pytest.fixture
async def server() -> AsyncIterator[Gateway]:
    async with gateway() as scripted:
        yield scripted


def device(server: Gateway, **options: Any) -> Device:
    return Device(server.url, **{"get_token": token, "reconnect": FAST, "rng": FixedRandom(0.0)} | options)


def activate(rev: int) -> wire.Activate:
    return wire.Activate("cup", rev, "live", BUNDLE, now_ms(), 0, miss="generic")


async def test_a_redirect_is_a_refusal_and_is_not_followed(server: Gateway) -> None:
    told: list[Event] = []
    async with gateway() as elsewhere:
        server.refuse = [(302, {"Location": elsewhere.url})]
        async with device(server, on_state=told.append):
            await server.peer()
        assert elsewhere.requests == []
    assert [event.status for event in told if isinstance(event, Disconnected)] == [302]


async def test_an_http_client_that_fails_is_a_bundle_that_cannot_be_had(server: Gateway) -> None:
    closed = httpx.AsyncClient()
    await closed.aclose()
    async with device(server, http=closed) as tv:
        peer = await server.peer()
        await peer.welcome(wire.Prefetch("cup", 1, wire.Bundle(BUNDLE, 2), now_ms(), 0))
        assert await peer.hear() == wire.Report("cup", 1, "failed")
        assert tv.stats().fetches == tv.stats().fetches_failed == 5
        await peer.say(activate(2))
        said = await peer.hear()
        assert isinstance(said, wire.Report)
        # How late, is another matter: it is the machine's.
        assert msgspec.structs.replace(said, ms=0) == wire.Report("cup", 2, "active", via="generic")


@pytest.mark.parametrize(
    "secret",
    ["", "a secret", "secret\r\nX-Admin: 1", "secret\udc80", "sécret"],
    ids=["empty", "space", "header", "surrogate", "accent"],
)
async def test_a_token_that_no_header_can_carry_is_refused_and_shown_to_nobody(
    server: Gateway, secret: str, caplog: pytest.LogCaptureFixture
) -> None:
    answers = iter([secret, token()])
    told: list[Event] = []
    async with device(
        server, get_token=lambda: next(answers), device_id="tv-1", on_state=told.append, on_error=told.append
    ):
        peer = await server.peer()
    assert peer.headers["Authorization"] == f"Bearer {token()}"
    assert [event.kind for event in told if isinstance(event, Error)] == ["token"]
    assert len(server.requests) == 1
    assert "cret" not in f"{told}{caplog.text}"


async def test_what_comes_before_a_welcome_counts_for_nothing(server: Gateway) -> None:
    shown: list[Activated] = []
    async with device(server, on_activate=shown.append) as tv:
        peer = await server.peer()
        await peer.welcome()
        await peer.socket.close(1012)
        peer = await server.peer()
        await peer.say(activate(2))
        await peer.socket.send(b"\xc1")
        await until(lambda: tv.stats().malformed)  # so the one before it was read
        assert not shown
        await peer.welcome(activate(2))
        await until(lambda: shown)


async def test_a_second_welcome_opens_no_second_way(server: Gateway) -> None:
    async with device(server) as tv:
        old = await server.peer()
        await old.welcome()
        await old.say(wire.Reconnect(0))
        new = await server.peer()
        await old.welcome()
        await old.say(wire.Reconnect(0))
        await until(lambda: tv.stats().messages == 4)
        await new.welcome()
        assert await old.gone() == 1000
        assert len(server.requests) == 2


async def test_events_that_nobody_reads_any_more_are_kept_by_nobody(server: Gateway) -> None:
    async with device(server) as tv:
        async for event in tv:
            assert event
            break
        left = weakref.ref(tv.events())
        gc.collect()
        assert left() is None


async def test_a_coroutine_callback_that_closes_the_device_goes_on_to_its_end(server: Gateway) -> None:
    done: list[Event] = []

    async def leave(event: Event) -> None:
        if isinstance(event, Connected):
            await tv.close()
            done.append(event)

    tv = device(server, on_state=leave)
    async with tv:
        peer = await server.peer()
        await peer.welcome()
        await until(lambda: done)
        assert tv.state == "ended"
