"""What several commands share: options, and how a process's work is run and says where it listens."""

from __future__ import annotations

import asyncio
import json
import os
import sys
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any, Final

import click
import msgspec
import structlog
from msgspec import Struct

from fanout.errors import InvalidInput
from fanout.settings import describe

REDIS_URL: Final = click.option(
    "--redis-url",
    envvar="FANOUT_REDIS_URL",
    default="redis://127.0.0.1:6379",
    show_default=True,
    help="The store: redis://, rediss://, unix:// or redis+sentinel://host,host/primary.",
)
_OWN_OPTIONS: Final = ("redis_url", "host", "port", "workers")
JSON_LINE: Final = click.option("--json", "as_json", is_flag=True, help="Say where it listens as one line of JSON.")


def writable(ctx: click.Context, param: click.Parameter, path: Path | None) -> Path | None:
    """Refuse a file that cannot be written now, not when the work is done."""
    if path is not None and not os.access(path if path.exists() else path.parent, os.W_OK):
        raise click.BadParameter(f"{path} cannot be written")
    return path


def file_option(meaning: str) -> Callable[..., Any]:
    """Return the option of a command that writes its figures into a file."""
    kind = click.Path(dir_okay=False, path_type=Path)
    return click.option("--json", "json_file", type=kind, callback=writable, help=meaning)


def settings_options(kind: type[Struct]) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Give a command one option for every setting of a process, with its meaning and its default.

    Those that the command has itself already (where it listens, the store) are left to it.
    """

    def give(command: Callable[..., None]) -> Callable[..., None]:
        for field in reversed(msgspec.structs.fields(kind)):
            if field.name in _OWN_OPTIONS:
                continue
            many = isinstance(field.default, tuple)
            name = field.name.replace("_", "-")
            command = click.option(
                f"--{name}/--no-{name}" if isinstance(field.default, bool) else f"--{name}",
                default=field.default,
                type=str if many else type(field.default),
                multiple=many,
                help=describe(kind, field.name),
            )(command)
        return command

    return give


def run(work: Coroutine[Any, Any, Any]) -> Any:
    """Run a process's main coroutine on uvloop; return what it returns."""
    import uvloop

    try:
        return uvloop.run(work)
    except OSError as exc:
        raise InvalidInput(str(exc)) from exc
    except (KeyboardInterrupt, asyncio.CancelledError):
        sys.exit(130)


def say(as_json: bool, what: str, **urls: str) -> None:
    """Tell, once, where a process listens."""
    if as_json:
        click.echo(json.dumps(urls))
        sys.stdout.flush()
    elif sys.stderr.isatty():
        click.echo(f"{what}: {', '.join(urls.values())}", err=True)
    else:
        structlog.get_logger().info(f"{what} serves", **urls)  # nobody reads it but a collector of logs


def bracketed(host: str) -> str:
    return f"[{host}]" if ":" in host else host


def http_url(host: str, port: int) -> str:
    return f"http://{bracketed(host)}:{port}"
