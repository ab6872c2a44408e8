"""Row 16, the part that needs a socket: a message cut off at any byte. `tests/device/test_machine_laws.py` has
duplicates, reordering and replay, and `test_model.py` all of them among other faults."""

from __future__ import annotations

import asyncio

import pytest
from device.driving import FixedRandom
from device.gateway import FAST, gateway, now_ms, token
from support.waiting import PATIENCE_S, until
from websockets.frames import Frame, Opcode

from fanout import wire
from fanout.device import Activated, Device


@pytest.mark.parametrize("encoding", list(wire.Encoding))
async def test_a_message_cut_off_at_any_byte_is_no_message_and_the_next_connection_tells_it(
    encoding: wire.Encoding,
) -> None:
    activation = wire.Activate("cup", 7, "live", "0" * 64, now_ms(), 0, 1.0, "generic")
    opcode = Opcode.TEXT if encoding is wire.Encoding.JSON else Opcode.BINARY
    frame = Frame(opcode, wire.encode(activation, encoding)).serialize(mask=False)
    shown: list[Activated] = []
    async with gateway() as server, asyncio.timeout(PATIENCE_S):
        device = Device(
            server.url,
            get_token=token,
            encoding=encoding,
            reconnect=FAST,
            rng=FixedRandom(0.0),
            on_activate=shown.append,
        )
        async with device:
            for cut in range(len(frame)):
                peer = await server.peer()
                assert "since" not in peer.query, "it knows of nothing yet"
                await peer.welcome()
                peer.socket.transport.write(frame[:cut])
                peer.socket.transport.write_eof()  # without a close frame, as when the other host is gone
                await peer.gone()
            assert not shown
            peer = await server.peer()
            await peer.welcome(activation)
            await until(lambda: shown, "the flip")
        assert [event.rev for event in shown] == [7]
