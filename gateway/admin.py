"""The admin port: health in three words, and metrics. Knows the supervisor, not the workers' insides."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

import uvicorn
from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, generate_latest, multiprocess
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from gateway.process import Health, bind

if TYPE_CHECKING:
    from gateway.supervisor import Supervisor


def admin_app(supervisor: Supervisor, metrics_dir: str) -> Starlette:
    """Return the application behind the admin port."""

    async def healthz(request: Request) -> Response:
        """The process runs and answers: nothing else."""
        return JSONResponse({"status": "ok"})

    async def readyz(request: Request) -> Response:
        """200 for ok and degraded: in both, devices are served; 503 for unready."""
        health = supervisor.health
        workers = {str(pid): each.value for pid, each in supervisor.workers.items()}
        status = 503 if health is Health.UNREADY else 200
        return JSONResponse({"status": health.value, "workers": workers}, status)

    async def metrics(request: Request) -> Response:
        registry = CollectorRegistry()
        multiprocess.MultiProcessCollector(registry, path=metrics_dir)  # type: ignore[no-untyped-call]
        text = generate_latest(registry) + generate_latest(supervisor.metrics.metering.registry)
        return Response(text, media_type=CONTENT_TYPE_LATEST)

    return Starlette(
        routes=[Route("/healthz", healthz), Route("/readyz", readyz), Route("/metrics", metrics)],
    )


@asynccontextmanager
async def serve_admin(
    supervisor: Supervisor, port: int | None, host: str, metrics_dir: str
) -> AsyncIterator[int | None]:
    """Serve the admin port while the context lasts; yields the port, None if there is none.

    Raises:
        OSError: The port cannot be had.
    """
    if port is None:
        yield None
        return
    sock = bind(host, port)
    config = uvicorn.Config(
        admin_app(supervisor, metrics_dir),
        log_config=None,
        # Below it, every request that is no HTTP is a line.
        log_level=logging.ERROR,
        access_log=False,
        lifespan="off",
    )
    server = uvicorn.Server(config)
    # uvicorn would take SIGTERM for itself; the supervisor decides when the admin port closes: last.
    task = asyncio.create_task(server._serve(sockets=[sock]))
    try:
        yield sock.getsockname()[1]
    finally:
        server.should_exit = True
        await task
