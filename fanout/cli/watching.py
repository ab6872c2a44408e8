"""What can be looked at from a terminal: readiness, forecasts, flight records, the fleet. Through the API."""

from __future__ import annotations

import datetime
import json
from typing import Any

import click
from rich.console import Console
from rich.markup import escape
from rich.table import Column, Table

from fanout.cli.campaign import call, campaign, client_of, path_of


@campaign.command()
@click.argument("campaign_id", metavar="ID")
@call
def readiness(campaign_id: str, control_url: str, as_json: bool) -> None:
    """Show who is ready and who has flipped, by platform and region."""
    with client_of(control_url) as client:
        answer = client.get(path_of(campaign_id, "/readiness"))
    if as_json:
        click.echo(json.dumps(answer))
        return
    if answer["ahead_rev"]:
        click.echo(
            f"! devices show a newer activation, revision {answer['ahead_rev']}, than the record knows: "
            "the store has lost it in a failover; activate the stage you want, or retract"
        )
    if not answer["prefetch_rev"]:
        click.echo(f"{answer['phase']}; nothing is prefetched yet, {answer['reachable']:,} devices are connected")
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


@campaign.command()
@click.argument("campaign_id", metavar="ID")
@click.option("--window", "window_s", default=30.0, show_default=True, help="Seconds the activation spreads over.")
@click.option("--in", "in_s", default=0.0, show_default=True, help="Seconds from the press to its instant.")
@click.option("--share", default=1.0, show_default=True, help="Share of the fleet, 0 to 1: a canary.")
@call
def forecast(campaign_id: str, control_url: str, as_json: bool, **asked: float) -> None:
    """Say what would happen if it were activated now: how long it takes, and what the origin sees."""
    with client_of(control_url) as client:
        answer = client.get(path_of(campaign_id, "/forecast"), asked)
    if as_json:
        click.echo(json.dumps(answer))
        return
    table = Table(show_header=False)
    for name, value in _foreseen(answer).items():
        table.add_row(name, value)
    Console().print(table)
    for warning in answer["warnings"]:
        click.echo(f"! {warning}")


def _foreseen(answer: dict[str, Any]) -> dict[str, str]:
    times = (("50 %", "t50_s"), ("99 %", "t99_s"), ("100 %", "t100_s"))
    budget = f"budget {answer['origin_per_s']:,.0f}"
    return {
        "devices": f"{answer['devices']:,}, {answer['unready']:,} of them not ready",
        **{
            f"{share} have flipped after": "never" if answer[name] is None else f"{answer[name]:,.1f} s"
            for share, name in times
        },
        "flips a second, at most": f"{answer['flips_per_s_peak']:,.0f}",
        "origin requests a second, at most": f"{answer['origin_per_s_peak']:,.0f} ({budget})",
        "smallest safe window": f"{answer['window_s_safe']:,.1f} s",
    }


@campaign.command()
@click.argument("campaign_id", metavar="ID")
@call
def flights(campaign_id: str, control_url: str, as_json: bool) -> None:
    """List the flight records of a campaign's activations, the newest first."""
    with client_of(control_url) as client:
        answer = client.get(path_of(campaign_id, "/flights"))
    if as_json:
        click.echo(json.dumps(answer))
        return
    if not answer["flights"]:
        click.echo("no flights yet; there is one for each activation")
        return
    # A revision is what `flight` asks for, so it is never cut.
    table = Table(Column("revision", no_wrap=True), "instant (UTC)", "stage", "window", "by", "flipped")
    for each in answer["flights"]:
        window = f"{each['window_ms'] / 1000:g} s"
        table.add_row(str(each["rev"]), _utc(each["at"]), each["stage"], window, escape(each["by"]), _flown(each))
    Console().print(table)


@campaign.command()
@click.argument("campaign_id", metavar="ID")
@click.argument("rev", type=int)
@call
def flight(campaign_id: str, rev: int, control_url: str, as_json: bool) -> None:
    """Show what was expected of one activation, and second by second what came of it."""
    with client_of(control_url) as client:
        answer = client.get(path_of(campaign_id, f"/flights/{rev}"))
    if as_json:
        click.echo(json.dumps(answer))
        return
    foreseen = answer["forecast"]
    click.echo(f"{answer['stage']} at {_utc(answer['at'])} UTC over {answer['window_ms'] / 1000:g} s, {answer['by']}")
    table = Table("second", "connected", "ready", "flipped", "forecast", "failed")
    for sample in answer["samples"]:
        expected = _foreseen_at(foreseen, sample["second"])
        counts = (sample["connected"], sample["ready"], sample["active"], expected, sample["failed"])
        table.add_row(str(sample["second"]), *(f"{count:,}" for count in counts))
    Console().print(table)
    _tell_outcome(answer)


def _flown(flight: dict[str, Any]) -> str:
    """Return how many have flipped, and why the record ends there."""
    outcome, newest = flight["outcome"], flight["newest"]
    counts = f"{outcome['flipped']:,} of {outcome['expected']:,}" if newest else ""
    why = "" if flight["ended"] == "over" else flight["ended"] or ("in flight" if newest else "armed")
    return ", ".join(filter(None, (counts, why)))


def _tell_outcome(flight: dict[str, Any]) -> None:
    outcome, foreseen = flight["outcome"], flight["forecast"]
    click.echo(f"flipped: {_flown(flight)}")
    for share, name in (("50 %", "t50_s"), ("99 %", "t99_s"), ("100 %", "t100_s")):
        actual = "not seen" if outcome[name] is None else f"{outcome[name]:,.1f} s"
        forecast = "never" if foreseen[name] is None else f"{foreseen[name]:,.1f} s"
        click.echo(f"{share} after: {actual}, forecast {forecast}")
    behind = outcome["stragglers"]
    click.echo(
        f"stayed behind: {behind['total']:,}, of them {behind['failed']:,} failed, "
        f"{behind['not_ready']:,} not ready, {behind['silent']:,} silent"
    )
    if flight["newest"] and (lag := flight["newest"]["flip_lag"]):
        click.echo("flip lag: " + ", ".join(f"{name} {value}" for name, value in lag.items()))


def _foreseen_at(foreseen: dict[str, Any], second: int) -> int:
    """Return how many were expected to have flipped by then."""
    point = int(second / foreseen["curve_step_s"])
    return 0 if second < 0 else int(foreseen["curve"][min(point, len(foreseen["curve"]) - 1)])


@click.command()
@call
def fleet(control_url: str, as_json: bool) -> None:
    """Show every gateway worker, and their sums."""
    with client_of(control_url) as client:
        answer = client.get("/v1/fleet")
    if as_json:
        click.echo(json.dumps(answer))
        return
    table = Table("worker", "health", "devices", "connects/s", "sends/s", "loop lag", "bus")
    for each in answer["workers"]:
        bus = "behind" if each["behind"] else "up to date"
        rates = (f"{each['connects_per_s']:,.0f}", f"{each['sends_per_s']:,.0f}", f"{each['loop_lag_ms']:g} ms")
        table.add_row(escape(each["worker"]), each["health"], f"{each['connections']:,}", *rates, bus)
    Console().print(table)
    click.echo(f"{answer['devices']:,} devices; bus lag {answer['bus_lag_ms'] / 1000:g} s")


def _utc(at: int) -> str:
    return f"{datetime.datetime.fromtimestamp(at / 1000, datetime.UTC):%Y-%m-%d %H:%M:%S}"
