"""The Python SDK as a device under check: connects as the environment says, and does what it is told."""

from __future__ import annotations

import asyncio
import os

from fanout import wire
from fanout.device import Device


async def main() -> None:
    encoding = wire.Encoding(os.environ.get("SDK_ENCODING", "msgpack"))
    async with Device(
        os.environ["FANOUT_URL"],
        get_token=lambda: os.environ["FANOUT_TOKEN"],
        origin_url=os.environ["FANOUT_ORIGIN"],
        encoding=encoding,
    ) as device:
        async for _ in device:
            pass


asyncio.run(main())
