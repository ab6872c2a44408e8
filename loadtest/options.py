"""The words of ``fanout swarm``. Loads nothing but click, for every command of ``fanout`` comes by here."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

import click

from loadtest.capacity import PROCESSES_MAX

_POSITIVE: Final = click.FloatRange(min=0)
_OPTIONS: Final = (
    click.option(
        "--url",
        "urls",
        required=True,
        multiple=True,
        help="A gateway's, such as ws://127.0.0.1:8081/v1/connect; may be repeated.",
    ),
    click.option("--origin", default="", help="Where relative bundle URLs lead, such as http://127.0.0.1:8080."),
    click.option("--devices", default=1000, type=click.IntRange(min=1, max=2**24), help="How many."),
    click.option("--processes", default=1, type=click.IntRange(1, PROCESSES_MAX), help="Processes that share them."),
    click.option("--topics", default="demo", help="Comma-separated topics."),
    click.option(
        "--connects-per-s", default=1000.0, type=_POSITIVE, help="Pace of connecting; 0: as fast as it goes."
    ),
    click.option(
        "--source",
        "sources",
        multiple=True,
        metavar="ADDRESS[-ADDRESS]",
        help="Connect from these, such as 127.0.0.2-127.0.0.9; may be repeated. Without it, several loopback "
        "addresses where the ports of one would run out.",
    ),
    click.option(
        "--act-after-s",
        default=0.0,
        type=_POSITIVE,
        help="Seconds a device may leave an activation lying whose instant is further away than twice that: where "
        "gateways and fleet share a machine, everyone's is then read before anyone's is thought about.",
    ),
    click.option("--slow-share", default=0.0, type=click.FloatRange(0, 1), help="Share that stops reading at first."),
    click.option("--slow-s", default=10.0, type=_POSITIVE, help="Seconds until those read again; 0: never."),
    click.option(
        "--churn-per-min",
        default=0.0,
        type=_POSITIVE,
        help="Share that drops its socket within a minute, without a word, and comes back by its own backoff.",
    ),
    click.option("--seconds", default=0.0, type=_POSITIVE, help="End after so long; 0: on Ctrl-C."),
    click.option(
        "--until",
        type=click.Choice(["connected", "ready", "activated"]),
        help="End, with status 0, once every device is that far.",
    ),
    click.option(
        "--timeout",
        "timeout_s",
        default=600.0,
        type=click.FloatRange(min=0, min_open=True),
        help="Of --until, seconds.",
    ),
    click.option(
        "--give-up",
        "give_up_s",
        default=10.0,
        type=_POSITIVE,
        help="Seconds without a single connected device that end the run; 0: never.",
    ),
)


def swarm_options(command: Callable[..., None]) -> Callable[..., None]:
    """Give a command the options of a swarm."""
    for option in reversed(_OPTIONS):
        command = option(command)
    return command
