"""What the visits add up to: medians, one table to read, and the same as JSON."""

from __future__ import annotations

import os
import platform
import statistics
from typing import Any

from msgspec import Struct, field, to_builtins
from rich.console import Console
from rich.table import Table

from loadtest.peers.crowd import Visit
from loadtest.peers.peer import PAYLOAD, Peer


class Setting(Struct, frozen=True):
    """How a run is done.

    Attributes:
        devices: Subscribers of each server, besides a few that warm it up.
        messages: Published on each visit.
    """

    devices: int
    rounds: int
    messages: int
    server_core: int
    load_core: int


class Standing(Struct):
    """One server, over all rounds.

    Attributes:
        failed: Why it was not visited any more; what was measured before stands.
    """

    kind: type[Peer]
    version: str = ""
    visits: list[Visit] = field(default_factory=list)
    failed: str = ""

    def figures(self) -> dict[str, float | None]:
        """Return the medians over all visits; None for what could not be told."""
        rates = [each.receivers / ms * 1000 for each in self.visits for ms in each.deliver_ms]
        return {
            "bytes_per_connection": _median([each.bytes_per_connection for each in self.visits]),
            "handshakes_per_cpu_s": _median([each.joins_per_cpu_s for each in self.visits]),
            "deliver_to_all_ms": _median([ms for each in self.visits for ms in each.deliver_ms]),
            "messages_per_s": _median(rates),
            "messages_per_cpu_s": _median([each.sends_per_cpu_s for each in self.visits]),
            "load_busy_percent": _median([each.load_busy * 100 for each in self.visits]),
        }


def _median(values: list[float] | list[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return statistics.median(known) if known else None


def as_json(setting: Setting, standings: list[Standing], skipped: list[type[Peer]]) -> dict[str, Any]:
    """Return everything, each visit too."""
    return {
        "machine": {"system": platform.platform(), "cpus": os.cpu_count(), "python": platform.python_version()},
        "setting": {**to_builtins(setting), "payload_bytes": len(PAYLOAD)},
        "peers": [
            {
                "name": each.kind.name,
                "version": each.version,
                **each.figures(),
                "handshake_includes": each.kind.joining,
                "settings": each.kind.settings,
                "failed": each.failed or None,
                "visits": to_builtins(each.visits),
            }
            for each in standings
        ],
        "skipped": [{"name": each.name, "install": each.install} for each in skipped],
    }


def show(setting: Setting, standings: list[Standing], skipped: list[type[Peer]], console: Console) -> None:
    """Print the table, and beneath it all that a reader needs to trust or doubt it."""
    table = Table()
    for column in ("server", "version"):
        table.add_column(column, no_wrap=True)
    for column in ("bytes per\nconnection", "handshakes\nper CPU s", "to all,\nms", "messages\nper s",
                   "messages\nper CPU s", "load\nbusy, %"):  # fmt: skip
        table.add_column(column, justify="right", no_wrap=True)
    for each in standings:
        figures = ["-" if value is None else f"{value:,.0f}" for value in each.figures().values()]
        table.add_row(each.kind.name, each.version, *figures)
    console.print(table)
    same = "the same core" if setting.load_core == setting.server_core else f"core {setting.load_core}"
    console.print(
        f"Medians of {setting.rounds} rounds in turn, {setting.devices} connections, {setting.messages} messages of "
        f"{len(PAYLOAD)} bytes a visit; server on core {setting.server_core}, load generator on {same}.\n"
        "'To all' is from the call to publish to the last receipt; a CPU second is one of all the server's "
        "processes.\nWhere the load generator is busy all the time, messages per s are its own; per CPU s are the "
        "server's.\n",
        highlight=False,
    )
    for each in standings:
        console.print(
            f"{each.kind.name}: {each.kind.settings}. A handshake is: {each.kind.joining}.", highlight=False
        )
        if each.failed:
            console.print(f"{each.kind.name} failed: {each.failed}", style="bold red", markup=False)
    for kind in skipped:
        console.print(f"{kind.name} is skipped, it is not installed: {kind.install}", style="yellow", markup=False)
