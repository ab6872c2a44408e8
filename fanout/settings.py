"""How the settings of a process describe themselves: structs whose fields carry ``Meta(description=…)``.

The command line makes its options from them, and the limits page its table, so that neither can forget one.
"""

from __future__ import annotations

import os
from functools import cache
from pathlib import Path
from typing import Any, TypeVar, get_type_hints

import msgspec
from msgspec import Meta, Struct

from fanout.errors import InvalidInput

# A secret is a line; whoever names another file by mistake should not have it read into memory.
_SECRET_CHARS_MAX = 4_096

T = TypeVar("T", bound=Struct)


def describe(kind: type[Struct], name: str) -> str:
    """Return what a setting means."""
    return str(next(each.description for each in _hints(kind)[name].__metadata__ if isinstance(each, Meta)))


@cache
def _hints(kind: type[Struct]) -> dict[str, Any]:
    return get_type_hints(kind, include_extras=True)


def checked(kind: type[T], values: dict[str, Any]) -> T:
    """Return the settings. Raises InvalidInput: which one, and what is allowed."""
    try:
        return msgspec.convert(values, kind)
    except msgspec.ValidationError as exc:
        raise InvalidInput(f"bad setting: {exc}") from exc


def secret(name: str) -> str:
    """Return the secret in the environment variable NAME, or in the file that NAME_FILE names; "" if neither is set.

    Raises:
        InvalidInput: Both are set, or the file cannot be read.
    """
    given, file = os.environ.get(name, ""), os.environ.get(f"{name}_FILE", "")
    if given and file:
        raise InvalidInput(f"{name} and {name}_FILE are both set; set one")
    if not file:
        return given
    try:
        with Path(file).open(encoding="utf-8") as opened:
            return opened.read(_SECRET_CHARS_MAX).strip()
    except (OSError, UnicodeDecodeError) as exc:
        raise InvalidInput(f"{name}_FILE {file!r} cannot be read: {exc}") from exc
