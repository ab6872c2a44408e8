"""What Kubernetes puts before pods: ``service.py FOLDER`` deals connections at random to endpoints that are ready.

``FOLDER/endpoints`` lists them, ``[[port, admin port], …]``, and may be replaced at any time; each is asked for its
``/readyz`` again and again, as the kubelet does. ``FOLDER/ready`` says who gets connections now, ``FOLDER/port``
where this listens. A connection stays where it was dealt, whatever becomes of the endpoint's readiness.
"""

from __future__ import annotations

import asyncio
import json
import random
import signal
import sys
from pathlib import Path
from typing import Any

import httpx
import uvloop

# Kubernetes asks every 10 s, and tests have less time.
_PROBE_S = 0.1
_PROBE_TIMEOUT_S = 2.0

Endpoint = tuple[int, int]


def write(file: Path, value: object) -> None:
    """Replace a file in one step, so that nobody reads half of it."""
    draft = file.with_suffix(".new")
    draft.write_text(json.dumps(value))
    draft.rename(file)


class Pod(asyncio.Protocol):
    """The way to the endpoint."""

    def __init__(self, device: Device) -> None:
        self._device = device

    def connection_made(self, transport: Any) -> None:
        self._device.reached(transport)

    def data_received(self, data: bytes) -> None:
        self._device.transport.write(data)

    def connection_lost(self, exc: Exception | None) -> None:
        self._device.transport.close()


class Device(asyncio.Protocol):
    """The way to the device; what it says before the endpoint is reached waits."""

    transport: asyncio.Transport

    def __init__(self, service: Service) -> None:
        self._service = service
        self._waiting = b""
        self._pod: asyncio.Transport | None = None
        self._reaching: asyncio.Task[None] | None = None

    def connection_made(self, transport: Any) -> None:
        self.transport = transport
        self._reaching = asyncio.create_task(self._reach())

    async def _reach(self) -> None:
        try:
            port = random.choice(self._service.ready)[0]
            await asyncio.get_running_loop().create_connection(lambda: Pod(self), "127.0.0.1", port)
        except (IndexError, OSError):
            self.transport.abort()  # nobody is ready, or no longer there

    def reached(self, pod: asyncio.Transport) -> None:
        if self.transport.is_closing():
            pod.abort()
            return
        self._pod = pod
        pod.write(self._waiting)
        self._waiting = b""

    def data_received(self, data: bytes) -> None:
        if self._pod is None:
            self._waiting += data
        else:
            self._pod.write(data)

    def connection_lost(self, exc: Exception | None) -> None:
        if self._pod is not None:
            self._pod.close()


class Service:
    """Who is ready, looked up again and again.

    Args:
        folder: Where the files are.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self.ready: list[Endpoint] = []

    async def probe(self) -> None:
        async with httpx.AsyncClient(timeout=_PROBE_TIMEOUT_S, trust_env=False) as http:
            while True:
                found = [tuple(each) for each in json.loads((self._folder / "endpoints").read_text())]
                answers = await asyncio.gather(*(self._answers(http, admin) for _, admin in found))
                self.ready = [each for each, good in zip(found, answers, strict=True) if good]
                write(self._folder / "ready", self.ready)
                await asyncio.sleep(_PROBE_S)

    async def _answers(self, http: httpx.AsyncClient, admin_port: int) -> bool:
        try:
            return (await http.get(f"http://127.0.0.1:{admin_port}/readyz")).status_code == 200
        except httpx.HTTPError:
            return False


async def serve(folder: Path) -> None:
    stopping = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stopping.set)
    service = Service(folder)
    server = await asyncio.get_running_loop().create_server(lambda: Device(service), "127.0.0.1", 0, backlog=4096)
    write(folder / "port", server.sockets[0].getsockname()[1])
    probing = asyncio.create_task(service.probe())
    await asyncio.wait([probing, asyncio.create_task(stopping.wait())], return_when=asyncio.FIRST_COMPLETED)
    probing.cancel()
    server.close()


if __name__ == "__main__":
    uvloop.run(serve(Path(sys.argv[1])))
