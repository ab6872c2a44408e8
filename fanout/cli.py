"""The ``fanout`` command: every process and every call of the product, put together here and nowhere else.

Imports happen inside the commands: ``fanout token`` need not load a gateway. Every flag is an environment
variable too (``FANOUT_<COMMAND>_<FLAG>``); secrets come only from the environment or a file.
"""

from __future__ import annotations

import asyncio
import json
import os
import socket
import sys
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit

import click
import msgspec

import fanout
from fanout.campaign import check_name
from fanout.cli_campaign import campaign, key
from fanout.doctor.command import doctor_options, examine
from fanout.errors import FanoutError, InvalidInput
from fanout.limits import ACTIVATE_WINDOW_MS_MAX, PREFETCH_WINDOW_MS_MAX
from fanout.tokens import AUDIENCE, TTL_S, mint
from loadtest.options import swarm_options

REDIS_URL: Final = click.option(
    "--redis-url",
    envvar="FANOUT_REDIS_URL",
    default="redis://127.0.0.1:6379",
    show_default=True,
    help="The store: redis://, rediss:// or unix://.",
)
JSON_LINE: Final = click.option("--json", "as_json", is_flag=True, help="Say where it listens as one line of JSON.")


def _writable(ctx: click.Context, param: click.Parameter, path: Path | None) -> Path | None:
    """Refuse a file that cannot be written now, not when the work is done."""
    if path is not None and not os.access(path if path.exists() else path.parent, os.W_OK):
        raise click.BadParameter(f"{path} cannot be written")
    return path


def _file_option(meaning: str) -> Callable[..., Any]:
    """Return the option of a command that writes its figures into a file."""
    kind = click.Path(dir_okay=False, path_type=Path)
    return click.option("--json", "json_file", type=kind, callback=_writable, help=meaning)


class _Group(click.Group):
    """Turns errors of ours into one line and exit status 1."""

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except FanoutError as exc:
            raise click.ClickException(str(exc)) from exc


@click.group(cls=_Group, context_settings={"help_option_names": ["-h", "--help"], "show_default": True})
@click.version_option(fanout.__version__, prog_name="fanout")
def cli() -> None:
    """Real-time push fan-out for live events: prefetch in time, activate at once, no thundering herd."""


cli.add_command(campaign)
cli.add_command(key)


@cli.command()
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
@click.option("--public-url", default=None, help="Where devices reach this API or the CDN before it.")
@JSON_LINE
def control(host: str, port: int, redis_url: str, data_dir: Path, public_url: str | None, as_json: bool) -> None:
    """Run the control plane: the API that editorial staff and machines press buttons on.

    FANOUT_ADMIN_KEY, if set, becomes an API key with the role admin, so that a first call can be made.
    """
    from fanout.control.config import ControlConfig
    from fanout.embedded import EmbeddedValkey

    _logs()
    config = ControlConfig(public_url=public_url)
    if redis_url != "embedded":
        _run(_control(config, redis_url, host, port, as_json, {}))
        return
    with EmbeddedValkey(data_dir) as valkey:
        click.echo(f"embedded store: {valkey.url} (give it to gateways as FANOUT_REDIS_URL)", err=True)
        # Only this URL is told: another may hold a password.
        _run(_control(config, valkey.url, host, port, as_json, {"redis_url": valkey.url}))


async def _control(config: Any, redis_url: str, host: str, port: int, as_json: bool, more: dict[str, str]) -> None:
    from fanout.connect import connect
    from fanout.control.server import serve
    from fanout.store.keys import KeyStore, Role

    if admin_key := os.environ.get("FANOUT_ADMIN_KEY"):
        async with connect(redis_url) as redis:
            await KeyStore(redis).create("admin", Role.ADMIN, key=admin_key)

    def started(bound: int) -> None:
        _say(as_json, "control plane", url=_http(host, bound), **more)

    await serve(config, redis_url, host, port, started)


def _gateway_options(command: Callable[..., None]) -> Callable[..., None]:
    """Give a command one option for every field of GatewayConfig, with its meaning and its default."""
    from gateway.config import GatewayConfig, describe

    for field in reversed(msgspec.structs.fields(GatewayConfig)):
        if field.name in ("redis_url", "host", "port", "workers"):
            continue
        many = isinstance(field.default, tuple)
        command = click.option(
            f"--{field.name.replace('_', '-')}",
            default=field.default,
            type=str if many else type(field.default),
            multiple=many,
            help=describe(field.name),
        )(command)
    return command


@cli.command(name="gateway")
@click.option("--host", default="127.0.0.1", help="Address devices connect to.")
@click.option("--port", default=8081, type=click.IntRange(0, 65535), help="Port; 0 takes any that is free.")
@click.option("--workers", default=1, type=click.IntRange(min=1), help="Processes; one a core.")
@click.option(
    "--admin-port", default=8082, type=click.IntRange(0, 65535), help="Port of /healthz, /readyz and /metrics."
)
@REDIS_URL
@JSON_LINE
@_gateway_options
def gateway_command(admin_port: int, as_json: bool, host: str, **fields: Any) -> None:
    """Run a gateway: what holds the devices' sockets. It needs the store alone.

    Set exactly one of FANOUT_DEVICE_KEY (a secret of at least 32 bytes), FANOUT_DEVICE_KEY_FILE and
    FANOUT_DEVICE_JWKS (a file or URL with public keys).
    """
    from fanout.connect import connect
    from gateway.config import GatewayConfig
    from gateway.supervisor import port_in_use, supervise
    from gateway.tokens import verifier_from_environment

    _logs()
    try:
        config = msgspec.convert({"host": host, **fields}, GatewayConfig)
    except msgspec.ValidationError as exc:
        raise InvalidInput(f"bad setting: {exc}") from exc
    # Fail here, not in every worker, again and again.
    verifier_from_environment(config.audience, config.attr_keys)
    connect(config.redis_url)
    for port in (config.port, admin_port):
        try:
            socket.getaddrinfo(host, port)
            taken = port_in_use(host, port)
        except OSError as exc:
            raise InvalidInput(f"cannot listen on {host}: {exc}; choose another --host") from exc
        if taken:
            raise InvalidInput(f"port {port} on {host} is in use; choose another --port or --admin-port")

    def ready(port: int, admin: int | None) -> None:
        url = f"ws://{_bracketed(host)}:{port}/v1/connect"
        _say(as_json, "gateway", url=url, admin_url=_http(host, admin or 0))

    _run(supervise(config, admin_port, ready))


@cli.command()
@click.option("--device", "device_id", required=True, help="Device id, at most 128 characters.")
@click.option("--topics", required=True, help="Comma-separated topics, at most 16.")
@click.option("--attr", multiple=True, metavar="NAME=VALUE", help="Such as platform=tv; may be repeated.")
@click.option("--ttl", "ttl_s", default=float(TTL_S), type=click.FloatRange(min=0), help="Seconds it is valid.")
@click.option("--audience", default=AUDIENCE, help="What the gateways expect in 'aud'.")
def token(device_id: str, topics: str, attr: tuple[str, ...], ttl_s: float, audience: str) -> None:
    """Print a device token signed with FANOUT_DEVICE_KEY, for trying things out."""
    secret = device_key()
    attrs = {}
    for pair in attr:
        name, equals, value = pair.partition("=")
        if not equals:
            raise InvalidInput(f"--attr is {pair!r}; send NAME=VALUE, such as platform=tv")
        attrs[name] = value
    try:
        made = mint(secret, device_id, topics.split(","), attrs, ttl_s=ttl_s, audience=audience)
    except (ValueError, OverflowError) as exc:
        raise InvalidInput(f"--ttl is {ttl_s:g}; send seconds, such as 3600") from exc
    from gateway.tokens import TokenRefused, secret_verifier

    try:
        secret_verifier(secret, audience, tuple(attrs)).verify(made)
    except TokenRefused as exc:
        raise InvalidInput(f"a gateway would refuse this token: {exc}") from exc
    click.echo(made)


@cli.command()
@swarm_options
@_file_option("Write the figures here.")
def swarm(urls: tuple[str, ...], origin: str, topics: str, json_file: Path | None, **asked: Any) -> None:
    """Run many devices on real sockets, until Ctrl-C or as told. Their tokens use FANOUT_DEVICE_KEY.

    The exit status is 0 if it ended as it was told to. Otherwise the figures are those of a part of the run.
    """
    from loadtest.command import planned, run_swarm_command

    for url in urls:
        _check_url("--url", url, "ws", "ws://127.0.0.1:8081/v1/connect")
    if origin:
        _check_url("--origin", origin, "http", "http://127.0.0.1:8080")
    listens_to = tuple(check_name("topic", topic) for topic in topics.split(","))
    tokens = {"audience": AUDIENCE, "token_ttl_s": TTL_S}
    run = planned({**asked, **tokens, "urls": urls, "origin": origin, "topics": listens_to})
    sys.exit(_run(run_swarm_command(run, device_key(), json_file)))


def _check_url(flag: str, url: str, scheme: str, example: str) -> None:
    try:
        parts = urlsplit(url)
        good = parts.scheme == scheme and bool(parts.hostname) and parts.port != 0
    except ValueError:
        good = False
    if not good:
        raise InvalidInput(f"{flag} is {url!r}; send a URL such as {example}")


@cli.command()
@click.option("--headless", is_flag=True, help="Drive one campaign through both phases, print a table, and exit.")
@click.option("--devices", default=500, type=click.IntRange(min=1), help="Simulated devices, on real sockets.")
@click.option(
    "--prefetch-window", default=10.0, type=click.FloatRange(0, PREFETCH_WINDOW_MS_MAX / 1000), help="Seconds."
)
@click.option(
    "--activate-window", default=15.0, type=click.FloatRange(0, ACTIVATE_WINDOW_MS_MAX / 1000), help="Seconds."
)
@click.option("--workers", default=2, type=click.IntRange(min=1), help="Gateway processes.")
@_file_option("Write the figures here.")
def demo(
    headless: bool,
    devices: int,
    prefetch_window: float,
    activate_window: float,
    workers: int,
    json_file: Path | None,
) -> None:
    """Run everything on this machine: a store, the control plane, gateway workers, and devices."""
    from fanout.demo import DemoConfig, run_demo

    config = DemoConfig(devices, prefetch_window, activate_window, workers)
    sys.exit(run_demo(config, headless=headless, json_file=json_file))


@cli.command()
@doctor_options
def doctor(**asked: Any) -> None:
    """Say how many devices this machine can hold, how fast, what limits it, and what to change for more.

    Run it where the gateway will run: with its limits, in its container. What is in use already is taken off.
    """
    from gateway.config import GatewayConfig

    usual = GatewayConfig(redis_url="")
    examine(usual.connections_max, usual.admit_per_s, **asked)


def device_key() -> bytes:
    """Return FANOUT_DEVICE_KEY. Raises InvalidInput if it is missing, or too short for a gateway."""
    secret = os.environ.get("FANOUT_DEVICE_KEY", "")
    if not secret:
        raise InvalidInput("FANOUT_DEVICE_KEY is not set; make one with: openssl rand -hex 32")
    from gateway.tokens import secret_verifier

    secret_verifier(secret.encode(), AUDIENCE, ())
    return secret.encode()


def _run(work: Coroutine[Any, Any, Any]) -> Any:
    """Run a process's main coroutine on uvloop; return what it returns."""
    import uvloop

    try:
        return uvloop.run(work)
    except OSError as exc:
        raise InvalidInput(str(exc)) from exc
    except (KeyboardInterrupt, asyncio.CancelledError):
        sys.exit(130)


def _logs() -> None:
    from fanout.logs import configure_logs

    configure_logs()


def _say(as_json: bool, what: str, **urls: str) -> None:
    """Tell, once, where a process listens."""
    if as_json:
        click.echo(json.dumps(urls))
        sys.stdout.flush()
    else:
        click.echo(f"{what}: {', '.join(urls.values())}", err=True)


def _bracketed(host: str) -> str:
    return f"[{host}]" if ":" in host else host


def _http(host: str, port: int) -> str:
    return f"http://{_bracketed(host)}:{port}"


def _name_variables(command: click.Command, prefix: str) -> None:
    """Give every flag its environment variable, named after the flag as it is typed, and show it in the help."""
    if isinstance(command, click.Group):
        for name, child in command.commands.items():
            _name_variables(child, f"{prefix}_{name.upper()}")
    for option in command.params:
        if isinstance(option, click.Option) and not option.is_eager:
            flag = max(option.opts, key=len).lstrip("-").replace("-", "_").upper()
            option.envvar = option.envvar or f"{prefix}_{flag}"
            option.show_envvar = True


_name_variables(cli, "FANOUT")


def main() -> None:
    """Entry point of the ``fanout`` script."""
    cli()


if __name__ == "__main__":
    main()
