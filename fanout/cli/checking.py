"""``fanout check-device``: which rules of the protocol a device keeps."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Final

import click

from fanout.cli.options import file_option, run
from fanout.conformance.verdicts import EARLY_MS, LATE_MS

# Slots are hashed from the id's UTF-8, which is a token's payload, too: plain ASCII would hide who reads it wrongly.
DEVICE_ID: Final = "tv-ö試-1"


@click.command()
@click.option("--host", default="127.0.0.1", help="Address the device connects to.")
@click.option("--port", default=0, type=click.IntRange(0, 65535), help="Port; 0 takes any that is free.")
@click.option(
    "--encoding",
    default="both",
    type=click.Choice(["json", "msgpack", "both"]),
    help="What to accept; of both, the device's first offer.",
)
@click.option(
    "--rules", default="", help="Comma-separated: scenarios, or rules as the protocol numbers them (12, §7)."
)
@click.option("--list", "only_list", is_flag=True, help="Say what there is, and check nothing.")
@click.option("--device", "device_id", default=DEVICE_ID, help="Device id in the token that is made for it.")
@click.option("--late-ms", default=LATE_MS, type=click.IntRange(min=1), help="How late a device may be, ms.")
@click.option("--early-ms", default=EARLY_MS, type=click.IntRange(min=0), help="How early a device may be, ms.")
@file_option("Write the verdicts here.")
@click.argument("command", nargs=-1, type=click.UNPROCESSED, metavar="[-- COMMAND ...]")
def check_device(
    host: str,
    port: int,
    encoding: str,
    rules: str,
    only_list: bool,
    device_id: str,
    late_ms: int,
    early_ms: int,
    json_file: Path | None,
    command: tuple[str, ...],
) -> None:
    """Walk a device, in any language, through the rules of docs/protocol.md, and say which it keeps.

    COMMAND starts the device; {url}, {token} and {origin} in its words are replaced, and FANOUT_URL, FANOUT_TOKEN and
    FANOUT_ORIGIN are in its environment. Without it, start the device yourself with what is printed.

    The exit status is 0 if rules were seen kept and none broken.
    """
    from fanout.conformance.command import Check, check
    from fanout.conformance.scenarios.catalogue import ALL
    from fanout.conformance.show import show_scenarios
    from fanout.conformance.verdicts import Tolerances
    from fanout.conformance.walk import chosen

    scenarios = chosen(ALL, rules.split(","))
    if only_list:
        show_scenarios(scenarios)
        return
    tolerances = Tolerances(early_ms, late_ms)
    asked = Check(scenarios, command, host, port, encoding, device_id, tolerances, json_file)
    sys.exit(0 if run(check(asked)) else 1)
