"""``fanout token``, ``swarm``, ``demo`` and ``doctor``: devices, and a machine to try them on."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import click

from fanout.checks import check_name
from fanout.cli.options import file_option, run
from fanout.doctor.command import doctor_options, examine
from fanout.errors import InvalidInput
from fanout.limits import ACTIVATE_WINDOW_MS_MAX, PREFETCH_WINDOW_MS_MAX
from fanout.tokens import AUDIENCE, TTL_S, mint
from loadtest.options import swarm_options


@click.command()
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


@click.command()
@swarm_options
@file_option("Write the figures here.")
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
    planned_run = planned({**asked, **tokens, "urls": urls, "origin": origin, "topics": listens_to})
    sys.exit(run(run_swarm_command(planned_run, device_key(), json_file)))


def _check_url(flag: str, url: str, scheme: str, example: str) -> None:
    try:
        parts = urlsplit(url)
        good = parts.scheme == scheme and bool(parts.hostname) and parts.port != 0
    except ValueError:
        good = False
    if not good:
        raise InvalidInput(f"{flag} is {url!r}; send a URL such as {example}")


@click.command()
@click.option("--headless", is_flag=True, help="Drive one campaign through both phases, print a table, and exit.")
@click.option("--devices", default=500, type=click.IntRange(min=1), help="Simulated devices, on real sockets.")
@click.option(
    "--prefetch-window", default=10.0, type=click.FloatRange(0, PREFETCH_WINDOW_MS_MAX / 1000), help="Seconds."
)
@click.option(
    "--activate-window", default=15.0, type=click.FloatRange(0, ACTIVATE_WINDOW_MS_MAX / 1000), help="Seconds."
)
@click.option("--workers", default=2, type=click.IntRange(min=1), help="Gateway processes.")
@file_option("Write the figures here.")
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


@click.command()
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
