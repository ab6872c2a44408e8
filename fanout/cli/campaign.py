"""``fanout campaign …``: what the control room does, from a terminal, through the same API."""

from __future__ import annotations

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

from fanout.checks import check_name
from fanout.client import ControlClient
from fanout.errors import InvalidInput
from fanout.wire import BUNDLE_PATH

AS_JSON: Final = click.option("--json", "as_json", is_flag=True, help="Print the API's answer.")
_CONTROL_URL: Final = click.option(
    "--control-url",
    envvar="FANOUT_CONTROL_URL",
    default="http://127.0.0.1:8080",
    show_default=True,
    help="The control plane. The key comes from FANOUT_API_KEY.",
)
# What a copy takes over beside its variants.
_COPIED: Final = (
    *("title", "topic", "stages", "threshold", "miss", "shadow", "retract_stage", "two_keys", "origin_per_s"),
)
_IF_MATCH: Final = click.option("--if-match", default=None, help='Only if the campaign still has this ETag, as "3".')


def call(command: Callable[..., None]) -> Callable[..., None]:
    """Give a command the options every call of the API has."""
    return _CONTROL_URL(AS_JSON(command))


def client_of(control_url: str) -> ControlClient:
    return ControlClient(control_url, os.environ.get("FANOUT_API_KEY", ""))


@click.group()
def campaign() -> None:
    """Create campaigns and take them through their phases."""


@campaign.command()
@click.argument("file", type=click.File("r"))
@call
def create(file: Any, control_url: str, as_json: bool) -> None:
    """Create a campaign from FILE (JSON or YAML; - reads standard input)."""
    with client_of(control_url) as client:
        _show(client.post("/v1/campaigns", _definition(file)), as_json)


@campaign.command()
@click.argument("file", type=click.File("r"))
@_IF_MATCH
@call
def edit(file: Any, control_url: str, as_json: bool, if_match: str | None) -> None:
    """Replace a campaign's definition with FILE's; it is a draft again, and no longer approved."""
    body = _definition(file)
    with client_of(control_url) as client:
        _show(client.put(path_of(str(body.get("id", ""))), body, if_match=if_match), as_json)


def _definition(file: Any) -> dict[str, Any]:
    try:
        body = yaml.safe_load(file)
    except (yaml.YAMLError, UnicodeDecodeError, RecursionError) as exc:
        raise InvalidInput(f"{file.name} is neither JSON nor YAML: {' '.join(str(exc).split())}") from exc
    if not isinstance(body, dict):
        raise InvalidInput(f"{file.name} holds a {type(body).__name__}, not an object with id, title, topic, …")
    return body


@campaign.command(name="list")
@call
def list_(control_url: str, as_json: bool) -> None:
    """List all campaigns."""
    with client_of(control_url) as client:
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
@call
def show(campaign_id: str, control_url: str, as_json: bool) -> None:
    """Show one campaign and what may be done to it."""
    with client_of(control_url) as client:
        _show(client.get(path_of(campaign_id)), as_json)


@campaign.command()
@click.argument("campaign_id", metavar="ID")
@click.option("--window", "window_s", required=True, type=float, help="Seconds the fleet is spread over.")
@click.option("--from", "from_", default=None, help="When it starts: ISO 8601 with a zone, or Unix ms.")
@click.option("--in", "in_s", default=None, type=float, help="Seconds from now instead.")
@_IF_MATCH
@call
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
@call
def activate(
    campaign_id: str, stage: str, control_url: str, as_json: bool, if_match: str | None, **fields: Any
) -> None:
    """Have devices show STAGE, each at its own slot in the window."""
    body = {**fields, "stage": stage, "at": _instant(fields["at"])}
    _press(control_url, campaign_id, "activate", body, if_match, as_json)


@campaign.command()
@click.argument("campaign_id", metavar="ID")
@_IF_MATCH
@call
def cancel(campaign_id: str, control_url: str, as_json: bool, if_match: str | None) -> None:
    """Take back an activation whose instant has not come yet."""
    _press(control_url, campaign_id, "cancel", {}, if_match, as_json)


@campaign.command()
@click.argument("campaign_id", metavar="ID")
@click.option("--reason", required=True, help="Why; it is kept.")
@click.option("--window", "window_s", default=0.0, type=float, show_default=True, help="Seconds to spread over.")
@_IF_MATCH
@call
def retract(
    campaign_id: str, reason: str, window_s: float, control_url: str, as_json: bool, if_match: str | None
) -> None:
    """Go back to the stage before, now."""
    _press(control_url, campaign_id, "retract", {"reason": reason, "window_s": window_s}, if_match, as_json)


@campaign.command()
@click.argument("campaign_id", metavar="ID")
@_IF_MATCH
@call
def close(campaign_id: str, control_url: str, as_json: bool, if_match: str | None) -> None:
    """End the campaign; devices drop its content."""
    _press(control_url, campaign_id, "close", {}, if_match, as_json)


@campaign.command()
@click.argument("campaign_id", metavar="ID")
@_IF_MATCH
@call
def approve(campaign_id: str, control_url: str, as_json: bool, if_match: str | None) -> None:
    """Turn the second key: say that what somebody else has written may go live."""
    _press(control_url, campaign_id, "approve", {}, if_match, as_json)


@campaign.command()
@click.argument("campaign_id", metavar="ID")
@click.argument("stage")
@click.option("--at", default=None, help="The event's instant: ISO 8601 with a zone, or Unix ms.")
@click.option("--in", "in_s", default=None, type=float, help="Seconds from now instead.")
@click.option("--window", "window_s", default=30.0, type=float, show_default=True, help="Seconds to spread over.")
@click.option(
    "--arm-ahead", "arm_ahead_s", default=60.0, show_default=True, help="Seconds before the instant to arm devices."
)
@click.option("--prefetch-at", default=None, help="When to prefetch: ISO 8601 with a zone, or Unix ms.")
@click.option(
    "--prefetch-window", "prefetch_window_s", default=600.0, show_default=True, help="Seconds of the prefetch."
)
@_IF_MATCH
@call
def schedule(
    campaign_id: str, stage: str, control_url: str, as_json: bool, if_match: str | None, **fields: Any
) -> None:
    """Have STAGE happen by itself: prefetch, arm and instant."""
    for name in ("at", "prefetch_at"):
        fields[name] = _instant(fields[name])
    _press(control_url, campaign_id, "schedule", {**fields, "stage": stage}, if_match, as_json)


@campaign.command()
@click.argument("campaign_id", metavar="ID")
@_IF_MATCH
@call
def unschedule(campaign_id: str, control_url: str, as_json: bool, if_match: str | None) -> None:
    """Leave what was scheduled to people again; what is armed on devices stays armed."""
    _press(control_url, campaign_id, "unschedule", {}, if_match, as_json)


@campaign.command()
@click.argument("campaign_id", metavar="ID")
@click.option("--at", default=None, help="The event's new instant: ISO 8601 with a zone, or Unix ms.")
@click.option("--in", "in_s", default=None, type=float, help="Seconds from now instead.")
@_IF_MATCH
@call
def move(campaign_id: str, control_url: str, as_json: bool, if_match: str | None, **fields: Any) -> None:
    """Put the event at another time: everything that is scheduled, or armed on devices, moves with it."""
    _press(control_url, campaign_id, "move", {**fields, "at": _instant(fields["at"])}, if_match, as_json)


@campaign.command()
@click.argument("campaign_id", metavar="ID")
@click.argument("new_id", metavar="NEW")
@click.option("--title", default=None, help="Of the copy; default: the same.")
@click.option("--shadow/--no-shadow", default=None, help="Make it a rehearsal, or the real thing; default: the same.")
@call
def copy(
    campaign_id: str, new_id: str, title: str | None, shadow: bool | None, control_url: str, as_json: bool
) -> None:
    """Create campaign NEW with the definition and the content of campaign ID."""
    with client_of(control_url) as client:
        found = client.get(path_of(campaign_id))
        body = {name: found[name] for name in _COPIED}
        body["variants"] = [{"match": each["match"], "bundle": _named(each["bundle"])} for each in found["variants"]]
        said = {"id": new_id, "title": title, "shadow": shadow}
        body |= {name: value for name, value in said.items() if value is not None}
        _show(client.post("/v1/campaigns", body), as_json)


def _named(bundle: dict[str, Any]) -> dict[str, Any]:
    """Return a bundle as a definition names it: by its digest alone if it is kept by the control plane."""
    kept = bundle["url"].endswith(f"{BUNDLE_PATH}{bundle['sha256']}")
    return {"sha256": bundle["sha256"]} if kept else {name: bundle[name] for name in ("sha256", "bytes", "url")}


def _press(
    control_url: str, campaign_id: str, action: str, body: dict[str, Any], if_match: str | None, as_json: bool
) -> None:
    said = {name: value for name, value in body.items() if value is not None}
    with client_of(control_url) as client:
        _show(client.post(path_of(campaign_id, f"/{action}"), said, if_match=if_match), as_json)


def path_of(campaign_id: str, rest: str = "") -> str:
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
    for name in ("prefetch", "activation", "schedule"):
        if plan := answer.get(name):
            table.add_row(name, escape(_plan(plan)))
    if answer["two_keys"]:
        approval = answer["approval"]
        table.add_row("second key", escape(f"turned by {approval['by']}" if approval else "not turned yet"))
    table.add_row("allowed", ", ".join(answer["allowed"]) or "nothing")
    Console().print(table)
    for warning in answer.get("warnings", ()):
        click.echo(f"! {warning}")


def _plan(plan: dict[str, Any]) -> str:
    """Return a prefetch or an activation in words; every instant in the viewer's zone with UTC beside it."""
    starts = datetime.datetime.fromtimestamp((plan["at"] if "at" in plan else plan["from_ms"]) / 1000, datetime.UTC)
    here = starts.astimezone()
    beside = f" ({starts:%H:%M:%S} UTC)" if here.utcoffset() else ""
    words = [
        f"{here:%Y-%m-%d %H:%M:%S %Z}{beside}",
        f"over {plan['window_ms'] / 1000:g} s",
    ]
    if "arm_at" in plan:
        words.insert(0, plan["stage"])
    elif "stage" in plan:
        words.insert(0, ("back to " if plan["retracts"] else "") + plan["stage"])
        words.append(f"for {plan['share']:.0%} of devices, by {plan['by']}")
    if plan.get("reason"):
        words.append(("forced: " if plan["forced"] else "because: ") + plan["reason"])
    return ", ".join(words)
