"""``fanout audit …``: who did what and when, and whether anybody has changed what is written about it."""

from __future__ import annotations

import datetime
import json
import sys
from collections.abc import Iterator
from typing import IO, Any

import click
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from fanout import audit as chain
from fanout.cli.campaign import call, client_of
from fanout.client import ControlClient
from fanout.limits import AUDIT_ENTRIES_SHOWN_MAX


@click.group()
def audit() -> None:
    """Show and verify the audit chain: every entry is sealed with the hash of the one before."""


@audit.command(name="list")
@click.option("--campaign", default=None, help="Only what was done to this campaign.")
@click.option(
    "--count", default=50, show_default=True, type=click.IntRange(1, AUDIT_ENTRIES_SHOWN_MAX), help="How many."
)
@call
def list_(campaign: str | None, count: int, control_url: str, as_json: bool) -> None:
    """List the newest entries, the newest first."""
    with client_of(control_url) as client:
        answer = client.get("/v1/audit", {"count": count, **({"campaign": campaign} if campaign else {})})
    if as_json:
        click.echo(json.dumps(answer))
        return
    table = Table("n", "when (UTC)", "who", "what", "campaign", "details")
    for entry in answer["entries"]:
        when = datetime.datetime.fromtimestamp(entry["at"] / 1000, datetime.UTC)
        words = ", ".join(f"{name} {_short(value)}" for name, value in entry["details"].items() if name != "key")
        cells = (entry["by"], entry["action"], entry["campaign"], words)
        table.add_row(str(entry["n"]), f"{when:%Y-%m-%d %H:%M:%S}", *map(escape, cells))
    Console().print(table)


@audit.command()
@call
def export(control_url: str, as_json: bool) -> None:
    """Print the whole chain, a line an entry, to keep elsewhere and to verify later."""
    with client_of(control_url) as client:
        for line in _lines(client):
            click.echo(json.dumps({"line": line.decode()}) if as_json else line)


@audit.command()
@click.argument("file", type=click.File("rb"), required=False)
@click.option("--noted", default=None, metavar="HASH", help="A head that an earlier verification printed.")
@call
def verify(file: IO[bytes] | None, noted: str | None, control_url: str, as_json: bool) -> None:
    """Check every link of the chain, or of an exported FILE; exit status 1 if anything was changed."""
    if file is not None:
        found = chain.verify((line.rstrip(b"\n") for line in file), noted=noted)
    else:
        with client_of(control_url) as client:
            # Asked first: what is done while the chain is read makes it longer, and nobody older.
            listed = client.get("/v1/campaigns")["campaigns"]
            versions = {each["id"]: each["version"] for each in listed}
            found = chain.verify(_lines(client), versions, noted)
    if as_json:
        faults = [{"n": fault.n, "words": fault.words} for fault in found.faults]
        click.echo(json.dumps({"entries": found.entries, "head": found.head, "faults": faults}))
    else:
        for fault in found.faults:
            click.echo(f"entry {fault.n}: {fault.words}")
        whole = "the chain is BROKEN" if found.faults else "the chain is whole"
        click.echo(f"{found.entries} entries, head {found.head}: {whole}")
    sys.exit(1 if found.faults else 0)


def _lines(client: ControlClient) -> Iterator[bytes]:
    start: int | None = 0
    while start is not None:
        page = client.get("/v1/audit/chain", {"start": start})
        yield from (line.encode() for line in page["lines"])
        start = page["next"]


def _short(value: Any) -> str:
    text = value if isinstance(value, str) else json.dumps(value)
    return text if len(text) <= 40 else text[:37] + "..."
