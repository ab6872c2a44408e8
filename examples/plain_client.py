"""A device with nothing but the websockets library: connect with a token, print every message.

python examples/plain_client.py ws://127.0.0.1:8081/v1/connect "$(fanout token --device tv-1 --topics demo)"
"""

import asyncio
import sys

import websockets


async def main(url: str, token: str) -> None:
    headers = {"Authorization": f"Bearer {token}"}
    # A gateway of fanout never compresses: one encoded frame serves every device.
    async with websockets.connect(
        url, additional_headers=headers, subprotocols=["fanout.v1.json"], compression=None
    ) as socket:
        async for message in socket:
            print(message, flush=True)


asyncio.run(main(*sys.argv[1:3]))
