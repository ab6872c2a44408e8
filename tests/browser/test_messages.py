"""What is said to a device in a page: in either encoding, and by a gateway that means harm."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest
from device.gateway import gateway, now_ms
from playwright.async_api import Browser, WebSocket
from support.product import Product
from support.stack import ROOT, bundle

from browser.homes import assert_once_at_slots, home, in_chromium, needs_msgpack
from fanout import wire

pytestmark = in_chromium

VECTORS = json.loads((ROOT / "tests/vectors/wire.json").read_text("utf-8"))
OTHER = bundle("another's content")
CONTENT = '{"stages":{"live":{"title":"LIVE 試合"}}}'


@needs_msgpack
async def test_a_device_sees_the_same_in_msgpack_as_in_json(made: Product, chrome: Browser, pages: str) -> None:
    await made.create("codec", topic="codec", padding=6_000)
    told = []
    async with (
        home(chrome, f"{pages}msgpack.html") as (binary, page),
        home(chrome, f"{pages}msgpack.html") as (text, other_page),
    ):
        frames, other_frames = kinds_sent(page), kinds_sent(other_page)
        await binary.hold(made, ["codec"], ["codec"], msgpack=True)
        await text.hold(made, ["codec"], ["codec"])
        await made.press("prefetch", "codec", window_s=0)
        for own in (binary, text):
            await own.reached("onPrefetched", 1)
        activation = (await made.force("live", "codec", window_s=0.5))["activation"]
        for own in (binary, text):
            await own.reached("onActivate", 1)
            flips = await own.seen("onActivate")
            assert_once_at_slots(flips, ["codec"], activation)
            told.append([without_time(event) for event in [*await own.seen("onPrefetched"), *flips]])
            assert await own.seen("onError") == []
        # Reports count in either encoding.
        await made.counted("codec", connected=2, ready=2, active=2)
        assert told[0] == told[1]
        assert (frames, other_frames) == ({bytes}, {str})


def kinds_sent(page: Any) -> set[type]:
    """Return a set that gets the type of whatever the page's sockets send: bytes or str."""
    kinds: set[type] = set()

    def opened(socket: WebSocket) -> None:
        socket.on("framesent", lambda data: kinds.add(type(data)))

    page.on("websocket", opened)
    return kinds


def without_time(event: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in event.items() if name not in ("at", "due_ms", "late_ms")}


@pytest.mark.parametrize("encoding", ["json", pytest.param("msgpack", marks=needs_msgpack)])
async def test_a_hostile_gateway_throws_nothing_into_the_page_and_the_device_goes_on(
    made: Product, chrome: Browser, pages: str, encoding: str
) -> None:
    which = "msgpack" if encoding == "msgpack" else "esm"
    async with gateway() as hostile, home(chrome, f"{pages}{which}.html") as (own, _):
        options = {"url": hostile.url, "msgpack": encoding == "msgpack", "storage": None}
        holding = asyncio.create_task(own.hold(made, ["victim"], ["t"], **options))
        peer = await hostile.peer()
        await peer.welcome()
        await holding
        bad = [*broken(encoding), *refused(encoding)]
        for data in bad:
            await peer.socket.send(data)
        await own.reached("error", len(bad))
        for data in ignored(encoding):
            await peer.socket.send(data)
        errors = await own.seen("error")
        assert [error["kind"] for error in errors] == ["message"] * len(bad)
        assert [error["count"] for error in errors] == list(range(1, len(bad) + 1)), "each is counted"

        await peer.say(*poisoned())
        await own.reached("error", len(bad) + 2)
        content = bundle(CONTENT)
        await peer.say(
            wire.Prefetch("cup", 10, content, now_ms(), 0), wire.Activate("cup", 11, "live", content.sha256, 0, 0)
        )
        await own.reached("onActivate", 2)
        flips = await own.seen("onActivate")
        assert [(flip["campaign"], flip.get("title")) for flip in flips] == [
            ("__proto__", None),
            ("cup", "LIVE 試合"),
        ]
        assert await own.evaluate("({}).polluted === undefined && Object.keys(Object.prototype).length === 0")

        # A frame that is no UTF-8 ends the connection in every browser. It comes back.
        if encoding == "json":
            await peer.socket.send(b"\xff\xfe", text=True)
            await peer.gone()
            again = await hostile.peer()
            await again.welcome()
            await own.reached("connected", 2)
            assert again.query["since"] == "11"
        assert [event["campaign"] for event in await own.seen("onPrefetched")] == ["cup"], "wrong bytes were taken"


def broken(encoding: str) -> list[str | bytes]:
    """Return what is no message at all."""
    too_long = 2 * 1024 * 1024 + 1
    if encoding == "json":
        text = ["", "{", "null", "7", "[]", '"t"', "{}", '{"t":7}', '{"t":null}', '{"t":["beacon"]}', "[" * 100_000]
        return [*text, '{"__proto__":{"t":"beacon","polluted":1}}', "x" * too_long, b"{}"]
    binary = [b"", b"\xc0", b"\xc1", b"\x07", b"\x90", b"\x80", b"\x81\xa1t\x07", b"\x82\xa1t", b"\x91" * 100_000]
    return [*binary, b"\x81\xa9__proto__\x80", b"\xc6" + bytes(too_long), "text"]


def refused(encoding: str) -> list[str | bytes]:
    return [data(each, encoding) for each in VECTORS["refused"] if to_device(each) and encoding in each]


def ignored(encoding: str) -> list[str | bytes]:
    return [data(each, encoding) for each in VECTORS["ignored"] if to_device(each)]


def to_device(vector: dict[str, str]) -> bool:
    return vector["direction"] == "to_device"


def data(vector: dict[str, str], encoding: str) -> str | bytes:
    return vector["json"] if encoding == "json" else bytes.fromhex(vector["msgpack"])


def poisoned() -> list[wire.ToDevice]:
    """Return messages that are well formed and mean harm. Two of them make a device report an error."""
    greatest = 2**53 - 1
    policy = wire.ReconnectPolicy(base_ms=0, cap_ms=0)
    return [
        wire.Prefetch("wrong", 1, wire.Bundle(OTHER.sha256, OTHER.bytes, inline="not that"), 0, 0),
        wire.Prefetch("script", 1, wire.Bundle("0" * 64, 1, "javascript:throw new Error('run')"), 0, 0),
        wire.Prefetch("longer", 1, wire.Bundle("1" * 64, 1, "data:text/plain,longer"), 0, 0),
        wire.Activate("far", 2, "live", OTHER.sha256, greatest, greatest, 0.5),
        wire.Activate("__proto__", 2, "constructor", OTHER.sha256, 0, 0, miss="generic"),
        wire.Cancel("nobody", 3),
        wire.Close("nobody", 3),
        wire.Beacon(0, greatest),
        wire.Reconnect(greatest),
        wire.Welcome("again", now_ms(), 30.0, policy, []),
    ]


async def test_an_app_that_throws_in_every_callback_stops_nothing(made: Product, chrome: Browser, pages: str) -> None:
    await made.create("thrown", topic="thrown")
    async with home(chrome, f"{pages}esm.html") as (own, _):
        await own.hold(made, ["throws"], ["thrown"], throws=True, storage=None)
        await own.hold(made, ["rejects"], ["thrown"], rejects=True, storage=None)
        await made.press("prefetch", "thrown", window_s=0)
        await made.counted("thrown", ready=2)
        activation = (await made.force("live", "thrown", window_s=0.5))["activation"]
        await made.counted("thrown", active=2)
        assert_once_at_slots(await own.seen("onActivate"), ["rejects", "throws"], activation)
        errors = await own.seen("onError")
        assert {error["kind"] for error in errors} == {"callback"}
        assert {error["device"] for error in errors} == {"rejects", "throws"}
