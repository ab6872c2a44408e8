"""The ``fanout`` command: every process and every call of the product, put together here and nowhere else.

A command is loaded when it is asked for: ``fanout token`` need not load a gateway. Every flag is an environment
variable too (``FANOUT_<COMMAND>_<FLAG>``); secrets come only from the environment or a file.
"""

from __future__ import annotations

from importlib import import_module
from typing import Any, Final

import click

import fanout
from fanout.errors import FanoutError

# Where each command is, under its own name.
COMMANDS: Final = {
    "account": "fanout.cli.access",
    "audit": "fanout.cli.audit",
    "campaign": "fanout.cli.watching",  # which adds to it what can only be looked at
    "check-device": "fanout.cli.checking",
    "control": "fanout.cli.servers",
    "demo": "fanout.cli.fleet",
    "doctor": "fanout.cli.fleet",
    "fleet": "fanout.cli.watching",
    "gateway": "fanout.cli.servers",
    "key": "fanout.cli.access",
    "plan": "fanout.cli.capacity",
    "simulate": "fanout.cli.simulation",
    "swarm": "fanout.cli.fleet",
    "token": "fanout.cli.fleet",
}


class _Group(click.Group):
    """Loads commands, and turns errors of ours into one line and exit status 1."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return sorted(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name in COMMANDS and cmd_name not in self.commands:
            command: click.Command = getattr(import_module(COMMANDS[cmd_name]), cmd_name.replace("-", "_"))
            _name_variables(command, _variable("FANOUT", cmd_name))
            self.add_command(command, cmd_name)
        return super().get_command(ctx, cmd_name)

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except FanoutError as exc:
            raise click.ClickException(str(exc)) from exc


@click.group(cls=_Group, context_settings={"help_option_names": ["-h", "--help"], "show_default": True})
@click.version_option(fanout.__version__, prog_name="fanout")
def cli() -> None:
    """Real-time push fan-out for live events: prefetch in time, activate at once, no thundering herd."""


def _name_variables(command: click.Command, prefix: str) -> None:
    """Give every flag its environment variable, named after the flag as it is typed, and show it in the help."""
    if isinstance(command, click.Group):
        for name, child in command.commands.items():
            _name_variables(child, _variable(prefix, name))
    for option in command.params:
        if isinstance(option, click.Option) and not option.is_eager:
            option.envvar = option.envvar or _variable(prefix, max(option.opts, key=len).lstrip("-"))
            option.show_envvar = True


def _variable(prefix: str, name: str) -> str:
    return f"{prefix}_{name.replace('-', '_').upper()}"


def main() -> None:
    """Entry point of the ``fanout`` script."""
    cli()
