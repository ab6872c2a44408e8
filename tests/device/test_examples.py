"""The Python examples of README.md and docs/devices.md run as they are written, against a server that plays a night.

Only names are supplied that an app would have: its token, what shows and clears; and the gateway's address.
"""

from __future__ import annotations

import ast
import asyncio
import re
from collections.abc import Coroutine
from pathlib import Path
from typing import Any

import pytest
from support.waiting import PATIENCE_S

from fanout import wire

from .driving import sha
from .gateway import Gateway, Peer, gateway, now_ms, token

ROOT = Path(__file__).parents[2]
CONTENT = '{"stages":{"live":{"title":"Kick-off"}}}'
URL = re.compile(r'"wss?://[^"]+"')


def examples() -> list[tuple[str, str]]:
    """Return the Python blocks that make a device, with where they are."""
    found = []
    for page in ("README.md", "docs/devices.md"):
        text = (ROOT / page).read_text("utf-8")
        blocks = [block.split("```", 1)[0] for block in text.split("```python\n")[1:]]
        found += [(f"{page} {number}", block) for number, block in enumerate(blocks, 1) if "Device(" in block]
    return found


def start(code: str, names: dict[str, Any]) -> Coroutine[Any, Any, None]:
    """Return the example as a coroutine: it awaits at its top level, as in `python -m asyncio`."""
    coroutine: Coroutine[Any, Any, None] = eval(
        compile(code, "example", "exec", flags=ast.PyCF_ALLOW_TOP_LEVEL_AWAIT), names
    )
    return coroutine


async def a_night(server: Gateway) -> Peer:
    """Welcome the device with content, let it flip and close, and say that it need not come back."""
    peer = await server.peer()
    bundle = wire.Bundle(sha(CONTENT), len(CONTENT), inline=CONTENT)
    await peer.welcome(wire.Prefetch("cup", 1, bundle, now_ms(), 0))
    await peer.say(wire.Activate("cup", 2, "live", bundle.sha256, now_ms(), 0))
    while await peer.hear() != wire.Report("cup", 1, "ready", 0, "inline"):
        pass
    report = await peer.hear()
    assert isinstance(report, wire.Report)
    assert (report.kind, report.rev) == ("active", 2)
    await peer.say(wire.Close("cup", 3))
    await peer.socket.close(wire.CloseCode.TOPIC_FORBIDDEN)
    return peer


def test_both_pages_have_examples() -> None:
    assert {where.split()[0] for where, _ in examples()} == {"README.md", "docs/devices.md"}


@pytest.mark.parametrize("code", [pytest.param(code, id=where) for where, code in examples()])
async def test_an_example_runs_as_it_is_written(
    code: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.chdir(tmp_path)
    said: list[Any] = []

    def say(*words: Any) -> None:
        said.append(words)

    names = {"token": token(), "fetch_token": token, "show": say, "clear": say, "print": say}
    async with gateway() as server:
        written, supplied = URL.subn(f'"{server.url}"', code)
        assert supplied == 1
        running = asyncio.create_task(start(written, names))
        peer = await a_night(server)
        async with asyncio.timeout(PATIENCE_S):
            await running  # it ends by itself
        assert peer.headers["Authorization"] == f"Bearer {token()}"
    assert any("live" in repr(words) or "Kick-off" in repr(words) for words in said), said
    assert not caplog.records, "no callback failed"
