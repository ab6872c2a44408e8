"""docs/cli.md, made from the commands themselves: every one, with its options, defaults and variables."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

import click

from fanout.cli import cli

_INTRODUCTION: Final = """\
# The command line

<!-- made from the commands themselves: python -m docsite pages -->

Every flag is an environment variable too; a flag wins over its variable. Secrets come only from the environment or
from a file that a variable names ([below](#secrets-and-what-is-shared)). Bad input is one line on standard error that
says what was sent, what is allowed and what to do; the exit status is then not 0. `-h` and `--help` show all of this
in a terminal.
"""
_SECRETS: Final = """\
## Secrets, and what is shared

| variable | for |
| --- | --- |
| `FANOUT_DEVICE_KEY` | the HS256 secret of device tokens, 32 bytes or more |
| `FANOUT_DEVICE_KEY_FILE` | instead of it: a file that holds it |
| `FANOUT_DEVICE_JWKS` | instead of both: a file or URL with public keys |
| `FANOUT_ADMIN_KEY` | an API key with the role admin, made when `fanout control` starts |
| `FANOUT_WEBHOOK_SECRET`, `FANOUT_WEBHOOK_SECRET_FILE` | what the production's own schedule signs its calls with |
| `FANOUT_OIDC_CLIENT_SECRET` | the control room's, at your identity provider |
| `FANOUT_API_KEY` | what commands that call the API present to it |
| `FANOUT_CONTROL_URL` | where the API is |
| `FANOUT_REDIS_URL` | the store |
"""


def made() -> str:
    """Return the whole page."""
    commands = list(_commands(cli))
    contents = "\n".join(
        f"- [`{name}`](#{name.replace(' ', '-')}): {_first_line(each)}" for name, each in commands[1:]
    )
    parts = [_INTRODUCTION, contents + "\n", *(_section(name, each) for name, each in commands), _SECRETS]
    return "\n".join(parts)


def _commands(command: click.Command, *path: str) -> Iterator[tuple[str, click.Command]]:
    path = path or ("fanout",)
    yield " ".join(path), command
    if isinstance(command, click.Group):
        context = click.Context(command)
        for name in command.list_commands(context):
            child = command.get_command(context, name)
            assert child is not None
            yield from _commands(child, *path, name)


def _first_line(command: click.Command) -> str:
    return " ".join((command.help or "").strip().split("\n\n")[0].split())


def _section(name: str, command: click.Command) -> str:
    # With the settings of the real one: a command keeps the help option that it is asked for first.
    context = click.Context(command, info_name=name, **cli.context_settings)
    usage = " ".join([name, *command.collect_usage_pieces(context)])
    text = "\n\n".join(" ".join(paragraph.split()) for paragraph in (command.help or "").strip().split("\n\n"))
    heading = "##" if name.count(" ") < 2 else "###"
    parts = [f"{heading} {name}", text, f"```\n{usage}\n```"]
    rows = [_row(option, context) for option in command.params if isinstance(option, click.Option)]
    if rows:
        parts.append("\n".join(("| flag, variable | default | what |", "| --- | --- | --- |", *rows)))
    return "\n\n".join(parts) + "\n"


def _row(option: click.Option, context: click.Context) -> str:
    extra = option.get_help_extra(context)
    flag = "/".join((max(option.opts, key=len), *option.secondary_opts))
    if not option.is_flag:
        flag += f" {option.make_metavar(context)}"
    default = extra.get("default", "required" if extra.get("required") else "")
    allowed = f" Allowed: {extra['range']}." if extra.get("range") else ""
    variable = f"<br>`{option.envvar}`" if option.envvar else ""
    shown = f"`{default}`" if default not in ("", "required") else default
    cells = (f"`{flag}`{variable}", shown, f"{option.help or ''}{allowed}")
    return "| " + " | ".join(" ".join(cell.replace("|", "\\|").split()) for cell in cells) + " |"
