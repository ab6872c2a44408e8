"""Scenarios as people write them: a YAML file, ``field=value``, and the figures of ``make bench``."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import msgspec
import yaml

from fanout.errors import InvalidInput
from loadtest.measured import measured
from loadtest.simulation.scenario import Scenario

# Which field of a scenario is which measured figure, and what that is.
_MEASURED: Final[Mapping[str, tuple[str, str]]] = {
    "sends_per_s": ("sends_per_s", "fan-out, sends a second of one worker"),
    "admit_per_s": ("handshakes_per_s", "handshakes, per core and second"),
    "device_bytes": ("device_bytes", "memory, bytes an idle device"),
    "idle_bytes_per_min": ("idle_bytes_per_min", "idle-bytes, to a device and minute"),
}
_FIGURE_MAX: Final = 1e9
# A scenario by hand is a page; whoever names another file by mistake should not have it read into memory.
_FILE_BYTES_MAX: Final = 1_000_000


def scenario_of(*parts: Mapping[str, Any]) -> Scenario:
    """Return the scenario with these fields; the later part wins.

    Raises:
        InvalidInput: There is no such field, or it cannot have that value.
    """
    values: dict[str, Any] = {}
    for part in parts:
        for name, value in part.items():
            if name == "prices" and isinstance(value, Mapping):
                value = {**values.get("prices", {}), **value}
            values[name] = value
    try:
        return msgspec.convert(values, Scenario)
    except msgspec.ValidationError as exc:
        raise InvalidInput(f"bad scenario: {exc}; docs/simulator.md lists the fields") from exc


def read_file(path: Path) -> dict[str, Any]:
    """Return the fields a YAML file names.

    Raises:
        InvalidInput: It cannot be read, or holds something else.
    """
    try:
        with path.open("rb") as opened:
            found = yaml.safe_load(opened.read(_FILE_BYTES_MAX))
    except OSError as exc:
        raise InvalidInput(f"{path} cannot be read: {exc.strerror}") from exc
    except (yaml.YAMLError, UnicodeDecodeError, RecursionError) as exc:
        raise InvalidInput(f"{path} is no YAML: {' '.join(str(exc).split())}") from exc
    if not isinstance(found, dict) or not all(isinstance(name, str) for name in found):
        raise InvalidInput(f"{path} holds no fields; write lines such as devices: 1000000")
    return {name: _number(value) for name, value in found.items()}


def read_words(words: Sequence[str]) -> dict[str, Any]:
    """Return what ``field=value`` says; prices are ``prices.core_hour_usd=0.05``, None is ``null``.

    Raises:
        InvalidInput: It says nothing of that kind.
    """
    made: dict[str, Any] = {}
    for word in words:
        name, equals, text = word.partition("=")
        if not equals or not name:
            raise InvalidInput(f"--set is {word!r}; send field=value, such as offline_share=0.02")
        try:
            value = _number(yaml.safe_load(text))
        except (yaml.YAMLError, RecursionError) as exc:
            raise InvalidInput(f"--set is {word!r}; send a number, a word or null") from exc
        if name.startswith("prices."):
            made.setdefault("prices", {})[name.removeprefix("prices.")] = value
        else:
            made[name] = value
    return made


def _number(value: Any) -> Any:
    """Return 1e8 as the number people mean by it, which YAML takes for a word."""
    if isinstance(value, str):
        try:
            value = float(value)
        except ValueError:
            return value
    if isinstance(value, float) and value.is_integer():
        return int(value)
    return value


def read_bench(path: Path) -> tuple[dict[str, float], list[str]]:
    """Return the fields that a benchmark's figures set, and for each a line that says from what.

    Args:
        path: What ``make bench`` wrote with ``--json``.
    Raises:
        InvalidInput: It is no such file, or holds none of the figures, or one that cannot be.
    """
    try:
        found = measured(path)
    except RecursionError as exc:
        raise InvalidInput(f"{path} is no file of benchmark figures; make one with make bench") from exc
    fields: dict[str, float] = {}
    said: list[str] = []
    for field, (name, words) in _MEASURED.items():
        if found.source(name) != path.name:
            continue
        value = float(getattr(found, name))
        # Not more than any machine can do, not less than any would: else a unit was mistaken.
        if not 1 <= value <= _FIGURE_MAX:
            raise InvalidInput(f"{path} says {words} {value:g}; send 1 to {_FIGURE_MAX:g}, as make bench measures")
        fields[field] = value
        said.append(f"{field} {value:,.0f}: {words}, {path.name}")
    if not fields:
        raise InvalidInput(f"{path} has no figure the simulator counts with; run make bench without --only")
    return fields, said
