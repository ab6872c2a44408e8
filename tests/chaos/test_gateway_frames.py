"""Broken, hostile and endless frames before a real worker: each gets its close code, and only its sender pays."""

from __future__ import annotations

import pytest
from support.rude import rude
from support.stack import Stack, activated, closed, connecting, prefetched, receive, stack
from support.waiting import until
from support.web import web
from websockets import ClientConnection
from websockets.frames import Frame, Opcode

from fanout import limits

BURST = 200


def masked(opcode: int, payload: bytes = b"", *, fin: bool = True) -> bytes:
    """Return a frame as a device sends it."""
    return Frame(Opcode(opcode), payload, fin).serialize(mask=True)


TEXT, BINARY, CONT, PING = Opcode.TEXT, Opcode.BINARY, Opcode.CONT, Opcode.PING
SYNC = masked(TEXT, b'{"t":"sync","since":0}')
MASK = b"\x80\x00\x00\x00\x00"
BROKEN = {
    "a frame without a mask": (Frame(TEXT, b"{}").serialize(mask=False), 1002),
    "a reserved opcode": (b"\x83" + MASK, 1002),
    "a reserved control opcode": (b"\x8b" + MASK, 1002),
    "a compressed frame": (b"\xc1" + MASK, 1002),
    "a reserved bit": (b"\x91" + MASK, 1002),
    "a ping in fragments": (b"\x09" + MASK, 1002),
    "a ping of 126 bytes": (b"\x89\xfe\x00\x7e\x00\x00\x00\x00" + b"x" * 126, 1002),
    "a continuation of nothing": (masked(CONT, b"x"), 1002),
    "a message inside a message": (masked(TEXT, b"{", fin=False) + masked(TEXT, b"}"), 1002),
    "the announcement of 8 exabytes": (b"\x81\xff\x7f" + b"\xff" * 7, 1009),
    "a message of one byte too many": (masked(TEXT, b"x" * (limits.MESSAGE_BYTES_MAX + 1)), 1009),
    "a bomb of fragments": (masked(TEXT, b"x" * 100, fin=False) + masked(CONT, b"x" * 100, fin=False) * 41, 1009),
    "a text that is not UTF-8": (masked(TEXT, b'{"t":"x","y":"\xff"}'), 1007),
    "a UTF-8 sequence that fragments cut and nothing completes": (
        masked(TEXT, b'{"t":"x","y":"\xe8', fin=False) + masked(CONT, b'"}'),
        1007,
    ),
    "the wrong kind of frame": (masked(BINARY, b"{}"), 1003),
}
# Each of them many times what a device may say at once, and some more than one read takes.
FLOODS = {
    "pings": masked(PING) * 40_000,
    "pongs": masked(Opcode.PONG, b"x") * 5_000,
    "messages nobody knows": masked(TEXT, b'{"t":"x"}') * 5_000,
    "syncs": SYNC * 2_000,
    "reports": masked(TEXT, b'{"t":"report","campaign":"c","rev":1,"kind":"ready"}') * 2_000,
    "subscriptions": masked(TEXT, b'{"t":"unsubscribe","topics":["t"]}') * 2_000,
    "empty fragments": masked(TEXT, b"{", fin=False) + masked(CONT, fin=False) * 40_000,
}


async def served(s: Stack, device: ClientConnection) -> None:
    """Hold that a device hears what is published now."""
    rev = (await s.publisher.publish(activated())).rev
    while (message := await receive(device)).get("rev") != rev or message["t"] != "activate":
        pass


async def closes(s: Stack, code: int) -> float:
    """Return how many connections the gateway says it has closed with this code."""
    assert s.gateway is not None
    async with web() as http:
        text = (await http.get(f"{s.gateway.admin_url}/metrics")).text
    lines = [line for line in text.splitlines() if line.startswith(f'fanout_gateway_closes_total{{code="{code}"}}')]
    return float(lines[0].split()[-1]) if lines else 0.0


async def test_every_broken_frame_is_answered_with_its_code_and_the_others_never_notice() -> None:
    async with stack(workers=1) as s, connecting(s.url) as bystander:
        await receive(bystander)
        for what, (data, code) in BROKEN.items():
            async with rude(s.url) as attacker:
                attacker.writer.write(data)
                assert await attacker.ended() == code, what
        await served(s, bystander)
        assert s.gateway is not None
        assert "Traceback" not in s.gateway.errors


async def test_who_floods_is_closed_with_1008_and_the_others_never_notice() -> None:
    async with stack(workers=1, messages_burst=BURST) as s, connecting(s.url) as bystander:
        await receive(bystander)
        await s.publisher.publish(prefetched())
        for what, data in FLOODS.items():
            async with rude(s.url) as attacker:
                attacker.writer.write(data)
                assert await attacker.ended() == 1008, what
            await served(s, bystander)

        async def counted() -> bool:
            return await closes(s, 1008) == len(FLOODS)

        await until(counted, "the closes in the metrics")


@pytest.mark.parametrize("encoding", ["json", "msgpack"])
async def test_who_says_as_much_as_is_allowed_is_answered_every_time(encoding: str) -> None:
    async with (
        stack(workers=1, messages_burst=50, messages_per_s=0.001) as s,
        connecting(s.url, encoding=encoding, ping_interval=None) as device,
    ):
        await receive(device)
        said = '{"t":"sync","since":0}' if encoding == "json" else b"\x82\xa1t\xa4sync\xa5since\x00"
        for _ in range(50):
            await device.send(said)
            assert (await receive(device))["t"] == "beacon"
        await device.send(said)
        assert await closed(device) == 1008
