"""Servers written in a few lines on a library: stock ``websockets``, and ``picows`` where it is installed."""

from __future__ import annotations

import asyncio
import importlib.util
import sys
from importlib.metadata import version
from typing import ClassVar

from loadtest.lean import opening
from loadtest.peers.peer import PAYLOAD, Peer, Speaker


class _Library(Peer):
    """A broadcast server on one library; its name is the package's."""

    @classmethod
    def installed(cls) -> bool:
        return importlib.util.find_spec(cls.name) is not None

    async def start(self) -> None:
        child = self.processes.start([sys.executable, "-m", "loadtest.peers.library_servers", self.name], pipe=True)
        port = await asyncio.to_thread(self.processes.line, child)
        self.url = f"ws://127.0.0.1:{port}/"
        self.version = version(self.name)
        self._speaker = Speaker()
        publish_url = f"{self.url}publish"
        await self._speaker.connect(publish_url, opening(publish_url))

    async def publish(self) -> None:
        self._speaker.send(PAYLOAD)

    async def close(self) -> None:
        if hasattr(self, "_speaker"):
            self._speaker.end()
        await super().close()


class Stock(_Library):
    """The server of the websockets library."""

    name: ClassVar = "websockets"
    install: ClassVar = "pip install websockets"
    settings: ClassVar = (
        "asyncio server on uvloop, C extension; compression None, pings off, no Server header; "
        "websockets.broadcast(); published over a WebSocket of the load generator"
    )


class Picows(_Library):
    """The server of picows, a library in Cython."""

    name: ClassVar = "picows"
    install: ClassVar = "pip install picows"
    settings: ClassVar = (
        "core API on uvloop and its own aiofastnet; read_buffer_init_size 1024 (default 16384), auto ping off; "
        "a loop of send(); published over a WebSocket of the load generator"
    )
