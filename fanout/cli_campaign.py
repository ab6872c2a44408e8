"""``fanout campaign …`` and ``fanout key …``: what the control room does, from a terminal.

Campaigns go through the API, like every other caller; keys go straight to the store, for the first one has
nobody to ask.
"""

from __future__ import annotations

import asyncio
import datetime
import json
import os
from collections.abc import Callable
from typing import Any, Final

import click
import yaml
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from fanout.campaign import check_name
from fanout.client import ControlClient
from fanout.errors import InvalidInput

_AS_JSON: Final = click.option("--json", "as_json", is_flag=True, help="Print the API's answer.")
_CONTROL_URL: Final = click.option(
    "--control-url",
    envvar="FANOUT_CONTROL_URL",
    default="http://127.0.0.1:8080",
    show_default=True,
    help="The control plane. The key comes from FANOUT_API_KEY.",
)
_STORE: Final = click.option(
    "--redis-url", envvar="FANOUT_REDIS_URL", required=True, help="The store: redis://, rediss:// or unix://."
)
_ROLES: Final = ("viewer", "editor", "publisher", "admin")
_IF_MATCH: Final = click.option("--if-match", default=None, help='Only if the campaign still has this ETag, as "3".')


def _call(command: Callable[..., None]) -> Callable[..., None]:
    """Give a command the options every call of the API has."""
    return _CONTROL_URL(_AS_JSON(command))


def _client(control_url: str) -> ControlClient:
    return ControlClient(control_url, os.environ.get("FANOUT_API_KEY", ""))


@click.group()
def campaign() -> None:
    """Create campaigns and take them through their phases."""


@campaign.command()
@click.argument("file", type=click.File("r"))
@_call
def create(file: Any, control_url: str, as_json: bool) -> None:
    """Create a campaign from FILE (JSON or YAML; - reads standard input)."""
    try:
        body = yaml.safe_load(file)
    except (yaml.YAMLError, UnicodeDecodeError, RecursionError) as exc:
        raise InvalidInput(f"{file.name} is neither JSON nor YAML: {' '.join(str(exc).split())}") from exc
    if not isinstance(body, dict):
        raise InvalidInput(f"{file.name} holds a {type(body).__name__}, not an object with id, title, topic, …")
    with _client(control_url) as client:
        _show(client.post("/v1/campaigns", body), as_json)


@campaign.command(name="list")
@_call
def list_(control_url: str, as_json: bool) -> None:
    """List all campaigns."""
    with _client(control_url) as client:
        answer = client.get("/v1/campaigns")
    if as_json:
        click.echo(json.dumps(answer))
        return
    if not answer["campaigns"]:
        click.echo("no campaigns yet; create one with: fanout campaign create FILE")
        return
    table = Table("id", "title", "topic", "phase", "stage")
    for each in answer["campaigns"]:
        table.add_row(each["id"], escape(each["title"]), each["topic"], each["phase"], each["stage"] or "-")
    Console().print(table)


@campaign.command()
@click.argument("campaign_id", metavar="ID")
@_call
def show(campaign_id: str, control_url: str, as_json: bool) -> None:
    """Show one campaign and what may be done to it."""
    with _client(control_url) as client:
        _show(client.get(_path(campaign_id)), as_json)


@campaign.command()
@click.argument("campaign_id", metavar="ID")
@click.option("--window", "window_s", required=True, type=float, help="Seconds the fleet is spread over.")
@click.option("--from", "from_", default=None, help="When it starts: ISO 8601 with a zone, or Unix ms.")
@click.option("--in", "in_s", default=None, type=float, help="Seconds from now instead.")
@_IF_MATCH
@_call
def prefetch(campaign_id: str, control_url: str, as_json: bool, if_match: str | None, **fields: Any) -> None:
    """Have devices get the content of every stage, spread over a window."""
    body = {"window_s": fields["window_s"], "from": _instant(fields["from_"]), "in_s": fields["in_s"]}
    _press(control_url, campaign_id, "prefetch", body, if_match, as_json)


@campaign.command()
@click.argument("campaign_id", metavar="ID")
@click.argument("stage")
@click.option("--window", "window_s", default=30.0, type=float, show_default=True, help="Seconds to spread over.")
@click.option("--at", default=None, help="Instant: ISO 8601 with a zone, or Unix ms; default now.")
@click.option("--in", "in_s", default=None, type=float, help="Seconds from now instead.")
@click.option("--share", default=1.0, type=float, show_default=True, help="Share of the fleet, 0 to 1: a canary.")
@click.option("--force", is_flag=True, help="Even if too few devices are ready; needs --reason.")
@click.option("--reason", default="", help="Why; it is kept.")
@_IF_MATCH
@_call
def activate(
    campaign_id: str, stage: str, control_url: str, as_json: bool, if_match: str | None, **fields: Any
) -> None:
    """Have devices show STAGE, each at its own slot in the window."""
    body = {**fields, "stage": stage, "at": _instant(fields["at"])}
    _press(control_url, campaign_id, "activate", body, if_match, as_json)


@campaign.command()
@click.argument("campaign_id", metavar="ID")
@_IF_MATCH
@_call
def cancel(campaign_id: str, control_url: str, as_json: bool, if_match: str | None) -> None:
    """Take back an activation whose instant has not come yet."""
    _press(control_url, campaign_id, "cancel", {}, if_match, as_json)


@campaign.command()
@click.argument("campaign_id", metavar="ID")
@click.option("--reason", required=True, help="Why; it is kept.")
@click.option("--window", "window_s", default=0.0, type=float, show_default=True, help="Seconds to spread over.")
@_IF_MATCH
@_call
def retract(
    campaign_id: str, reason: str, window_s: float, control_url: str, as_json: bool, if_match: str | None
) -> None:
    """Go back to the stage before, now."""
    _press(control_url, campaign_id, "retract", {"reason": reason, "window_s": window_s}, if_match, as_json)


@campaign.command()
@click.argument("campaign_id", metavar="ID")
@_IF_MATCH
@_call
def close(campaign_id: str, control_url: str, as_json: bool, if_match: str | None) -> None:
    """End the campaign; devices drop its content."""
    _press(control_url, campaign_id, "close", {}, if_match, as_json)


@campaign.command()
@click.argument("campaign_id", metavar="ID")
@_call
def readiness(campaign_id: str, control_url: str, as_json: bool) -> None:
    """Show who is ready and who has flipped, by platform and region."""
    with _client(control_url) as client:
        answer = client.get(_path(campaign_id, "/readiness"))
    if as_json:
        click.echo(json.dumps(answer))
        return
    table = Table("", "connected", "ready", "active", "coverage")
    for title in ("platforms", "regions"):
        for name, audience in sorted(answer[title].items()):
            table.add_row(escape(name), *_figures(audience))
        table.add_section()
    table.add_row("all", *_figures(answer["total"]), style="bold")
    Console().print(table)
    click.echo(f"{answer['phase']}; go live at {answer['threshold']:.0%}: {'met' if answer['met'] else 'not met'}")
    if lag := answer["flip_lag"]:
        click.echo("flip lag: " + ", ".join(f"{name} {value}" for name, value in lag.items()))


def _figures(audience: dict[str, Any]) -> list[str]:
    counts = [f"{audience[name]:,}" for name in ("connected", "ready", "active")]
    return [*counts, f"{audience['coverage']:.1%}"]


def _press(
    control_url: str, campaign_id: str, action: str, body: dict[str, Any], if_match: str | None, as_json: bool
) -> None:
    said = {name: value for name, value in body.items() if value is not None}
    with _client(control_url) as client:
        _show(client.post(_path(campaign_id, f"/{action}"), said, if_match=if_match), as_json)


def _path(campaign_id: str, rest: str = "") -> str:
    # Checked here, for "../fleet" would be another route.
    return f"/v1/campaigns/{check_name('id', campaign_id)}{rest}"


def _instant(value: str | None) -> str | int | None:
    """Return an instant as the API reads it: digits are Unix ms."""
    return int(value) if value is not None and value.isdecimal() else value


def _show(answer: dict[str, Any], as_json: bool) -> None:
    if as_json:
        click.echo(json.dumps(answer))
        return
    table = Table(show_header=False)
    for name in ("id", "title", "topic", "phase", "stage", "etag", "rev"):
        if answer.get(name) is not None:
            table.add_row(name, escape(str(answer[name])))
    for name in ("prefetch", "activation"):
        if plan := answer.get(name):
            table.add_row(name, escape(_plan(plan)))
    table.add_row("allowed", ", ".join(answer["allowed"]) or "nothing")
    Console().print(table)


def _plan(plan: dict[str, Any]) -> str:
    """Return a prefetch or an activation in words; every instant in the viewer's zone with UTC beside it."""
    starts = datetime.datetime.fromtimestamp((plan["at"] if "at" in plan else plan["from_ms"]) / 1000, datetime.UTC)
    words = [
        f"{starts.astimezone():%Y-%m-%d %H:%M:%S %Z} ({starts:%H:%M:%S} UTC)",
        f"over {plan['window_ms'] / 1000:g} s",
    ]
    if "stage" in plan:
        words.insert(0, ("back to " if plan["retracts"] else "") + plan["stage"])
        words.append(f"for {plan['share']:.0%} of devices, by {plan['by']}")
    if plan.get("reason"):
        words.append(("forced: " if plan["forced"] else "because: ") + plan["reason"])
    return ", ".join(words)


@click.group()
def key() -> None:
    """Make, list and revoke API keys, in the store itself."""


@key.command(name="create")
@click.argument("name")
@click.option(
    "--role", type=click.Choice(_ROLES), required=True, help="What the key may do; each includes those before."
)
@_STORE
def key_create(name: str, role: str, redis_url: str) -> None:
    """Make a key for NAME and print it, this once."""
    from fanout.store.keys import Role

    click.echo(_with_keys(redis_url, lambda keys: keys.create(name, Role(role))))


@key.command(name="list")
@_STORE
def key_list(redis_url: str) -> None:
    """List whose keys there are, and what they may do."""
    for entry in _with_keys(redis_url, lambda keys: keys.list()):
        click.echo(f"{entry.name}\t{entry.role.value}")


@key.command(name="revoke")
@click.argument("name")
@_STORE
def key_revoke(name: str, redis_url: str) -> None:
    """End the key of NAME at once."""
    _with_keys(redis_url, lambda keys: keys.revoke(name))


def _with_keys(redis_url: str, act: Callable[[Any], Any]) -> Any:
    from fanout.connect import connect
    from fanout.store.keys import KeyStore

    async def work() -> Any:
        async with connect(redis_url) as redis:
            return await act(KeyStore(redis))

    return asyncio.run(work())
