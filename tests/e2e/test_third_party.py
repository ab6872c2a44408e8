"""A client that knows nothing of this project: the standard library, `websockets`, and a token."""

from __future__ import annotations

import asyncio
import json
import sys

import pytest
from support.product import product
from support.stack import token
from support.waiting import PATIENCE_S

# As docs/protocol.md would have somebody write it.
SCRIPT = """
import json, sys
from websockets.sync.client import connect

url, token, messages = sys.argv[1:]
with connect(
    url,
    subprotocols=["fanout.v1.json"],
    additional_headers={"Authorization": f"Bearer {token}"},
    proxy=None,
) as socket:
    for _ in range(int(messages)):
        print(json.dumps(json.loads(socket.recv(timeout=45))), flush=True)
"""
MSGPACK = SCRIPT.replace("fanout.v1.json", "fanout.v1.msgpack").replace(
    "json.loads(socket.recv(timeout=45))", "__import__('msgpack').unpackb(socket.recv(timeout=45))"
)


@pytest.mark.parametrize("script", [SCRIPT, MSGPACK], ids=["json", "msgpack"])
async def test_a_plain_script_with_a_token_reads_every_message(script: str) -> None:
    async with product() as made:
        await made.create()
        client = await asyncio.create_subprocess_exec(
            sys.executable, "-c", script, made.url, token(), "4", stdout=asyncio.subprocess.PIPE
        )
        try:
            await made.connected(1)
            prefetch = await made.press("prefetch", window_s=0)
            activate = await made.force("live", window_s=1, in_s=60)
            cancel = await made.press("cancel")
            async with asyncio.timeout(PATIENCE_S):
                out, _ = await client.communicate()
        finally:
            if client.returncode is None:
                client.kill()
                await client.wait()
    welcome, *told = [json.loads(line) for line in out.splitlines()]
    assert welcome["t"] == "welcome"
    assert welcome["state"] == []
    assert [(message["t"], message["rev"]) for message in told] == [
        ("prefetch", prefetch["rev"]),
        ("activate", activate["rev"]),
        ("cancel", cancel["rev"]),
    ]
    assert told[0]["bundle"]["inline"]
    assert told[1]["at"] == activate["activation"]["at"]
