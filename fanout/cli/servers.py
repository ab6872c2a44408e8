"""``fanout control`` and ``fanout gateway``: the product's processes."""

from __future__ import annotations

import os
import socket
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
import structlog

from fanout.cli.options import JSON_LINE, REDIS_URL, bracketed, http_url, run, say, settings_options
from fanout.control.config import ControlConfig
from fanout.errors import InvalidInput
from fanout.logs import configure_logs
from fanout.settings import checked
from gateway.config import GatewayConfig

if TYPE_CHECKING:
    from gateway.nursery import Seed


@click.command()
@click.option("--host", default="127.0.0.1", help="Address to listen on.")
@click.option("--port", default=8080, type=click.IntRange(0, 65535), help="Port; 0 takes any that is free.")
@click.option(
    "--redis-url",
    envvar="FANOUT_REDIS_URL",
    default="embedded",
    help="The store, or 'embedded' for a private Valkey of this process.",
)
@click.option(
    "--data-dir",
    type=click.Path(file_okay=False, path_type=Path),
    default=Path(".fanout"),
    help="Where an embedded Valkey keeps its file.",
)
@JSON_LINE
@settings_options(ControlConfig)
def control(host: str, port: int, redis_url: str, data_dir: Path, as_json: bool, **settings: Any) -> None:
    """Run the control plane: the API that editorial staff and machines press buttons on.

    FANOUT_ADMIN_KEY, if set, becomes an API key with the role admin, so that a first call can be made.
    """
    from fanout.embedded import EmbeddedValkey

    configure_logs()
    config = checked(ControlConfig, settings)
    if redis_url != "embedded":
        run(_control(config, redis_url, host, port, as_json, {}))
        return
    with EmbeddedValkey(data_dir) as valkey:
        structlog.get_logger().info("embedded store; give it to gateways as FANOUT_REDIS_URL", redis_url=valkey.url)
        # Only this URL is told: another may hold a password.
        run(_control(config, valkey.url, host, port, as_json, {"redis_url": valkey.url}))


async def _control(config: Any, redis_url: str, host: str, port: int, as_json: bool, more: dict[str, str]) -> None:
    from fanout import tracing
    from fanout.connect import connect, reach
    from fanout.control.server import check_address, serve
    from fanout.roles import Role
    from fanout.store.keys import KeyStore
    from fanout.storms import Storms, bounded

    check_address(host, port)
    await reach(redis_url, config.store_wait_s, "FANOUT_REDIS_URL")
    if admin_key := os.environ.get("FANOUT_ADMIN_KEY"):
        async with connect(redis_url) as redis:
            await KeyStore(redis).create("admin", Role.ADMIN, key=admin_key)

    def started(bound: int) -> None:
        say(as_json, "control plane", url=http_url(host, bound), **more)

    tracing.start("fanout-control")
    try:
        async with bounded(Storms(config.log_lines_max, config.log_period_s)):
            await serve(config, redis_url, host, port, started)
    finally:
        tracing.stop()


@click.command()
@click.option("--host", default="127.0.0.1", help="Address devices connect to.")
@click.option("--port", default=8081, type=click.IntRange(0, 65535), help="Port; 0 takes any that is free.")
@click.option("--workers", default=1, type=click.IntRange(min=1), help="Processes; one a core.")
@click.option(
    "--admin-port", default=8082, type=click.IntRange(0, 65535), help="Port of /healthz, /readyz and /metrics."
)
@REDIS_URL
@JSON_LINE
@settings_options(GatewayConfig)
def gateway(admin_port: int, as_json: bool, host: str, **fields: Any) -> None:
    """Run a gateway: what holds the devices' sockets. It needs the store alone.

    Set exactly one of FANOUT_DEVICE_KEY (a secret of at least 32 bytes), FANOUT_DEVICE_KEY_FILE and
    FANOUT_DEVICE_JWKS (a file or URL with public keys).
    """
    from fanout.connect import connect
    from gateway.nursery import Seed
    from gateway.tokens import verifier_from_environment

    configure_logs()
    config = checked(GatewayConfig, {"host": host, **fields})
    # Now: what follows may start a thread, and loads what only this process needs.
    with Seed.forked() as seed:
        # Fail here, not in every worker, again and again; and before all that a gateway is made of has been loaded.
        verifier_from_environment(config.audience, config.attr_keys)
        connect(config.redis_url)
        connect(config.redis_read_url or config.redis_url)
        _gateway(config, admin_port, as_json, seed)


def _gateway(config: GatewayConfig, admin_port: int, as_json: bool, seed: Seed) -> None:
    from fanout.connect import reach
    from gateway.supervisor import port_in_use, supervise

    host = config.host
    for port in (config.port, admin_port):
        try:
            socket.getaddrinfo(host, port)
            taken = port_in_use(host, port)
        except OSError as exc:
            raise InvalidInput(f"cannot listen on {host}: {exc}; choose another --host") from exc
        if taken:
            raise InvalidInput(f"port {port} on {host} is in use; choose another --port or --admin-port")

    def ready(port: int, admin: int | None) -> None:
        url = f"ws://{bracketed(host)}:{port}/v1/connect"
        say(as_json, "gateway", url=url, admin_url=http_url(host, admin or 0))

    async def serve() -> None:
        await reach(config.redis_url, config.store_wait_s, "FANOUT_REDIS_URL")
        if config.redis_read_url:
            await reach(config.redis_read_url, config.store_wait_s, "FANOUT_GATEWAY_REDIS_READ_URL")
        await supervise(config, admin_port, ready, seed)

    run(serve())
