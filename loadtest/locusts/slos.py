"""What a run must hold: lines such as ``connect.p99 <= 1000``, read and judged. Pure, but for reading a file.

The left side names a figure, the right side a number or another figure. A figure that was never measured keeps
nothing: such a line is broken.
"""

from __future__ import annotations

import operator
import re
from collections.abc import Callable, Collection, Mapping
from pathlib import Path
from typing import Final

import msgspec
from msgspec import Struct

from fanout.errors import InvalidInput

_LINE: Final = re.compile(r"^\s*([a-z_]+(?:\.[a-z0-9_]+)?)\s*(<=|>=|=|<|>)\s*([a-z_]+(?:\.[a-z0-9_]+)?|[0-9.]+)\s*$")
_JUDGES: Final[dict[str, Callable[[float, float], bool]]] = {
    "<=": operator.le,
    ">=": operator.ge,
    "=": operator.eq,
    "<": operator.lt,
    ">": operator.gt,
}
# What the product promises of a night, ms; docs/locust.md says where each comes from.
NIGHT: Final = (
    "connect.p99 <= 1000",
    "ready_share >= 0.999",
    "flip_error.p99 <= 100",
    "flips = devices",
    "twice = 0",
    "missing = 0",
)


class Slo(Struct, frozen=True):
    """One line: a figure, how it is compared, and with what."""

    figure: str
    sign: str
    target: float | str

    def __str__(self) -> str:
        target = self.target if isinstance(self.target, str) else f"{self.target:g}"
        return f"{self.figure} {self.sign} {target}"


class Verdict(Struct, frozen=True):
    """What became of a line; ``measured`` None: nothing was."""

    slo: str
    measured: float | None
    target: float | None
    kept: bool


def parse(text: str) -> tuple[Slo, ...]:
    """Return the lines of a text, separated by ``;`` or ends of lines.

    Raises:
        InvalidInput: One of them is none.
    """
    found: list[Slo] = []
    for line in filter(None, (part.strip() for part in re.split(r"[;\n]", text))):
        if line == "night":
            found += parse(";".join(NIGHT))
            continue
        match = _LINE.match(line)
        if match is None:
            raise InvalidInput(f"{line!r} is no SLO; write one such as 'connect.p99 <= 1000' or 'flips = devices'")
        figure, sign, target = match.groups()
        try:
            found.append(Slo(figure, sign, float(target) if target[0] in "0123456789." else target))
        except ValueError as exc:
            raise InvalidInput(f"{line!r} is no SLO: {target!r} is no number") from exc
    return tuple(found)


def read_file(path: Path) -> tuple[Slo, ...]:
    """Return the lines of a JSON file, a list of them.

    Raises:
        InvalidInput: There is no such file, or it holds something else.
    """
    try:
        lines = msgspec.json.decode(path.read_bytes(), type=list[str])
    except OSError as exc:
        raise InvalidInput(f"--slo-file is {str(path)!r}: {exc.strerror}") from exc
    except msgspec.DecodeError as exc:
        raise InvalidInput(f"--slo-file is {str(path)!r}; send a JSON list of lines: {exc}") from exc
    return parse("\n".join(lines))


def check_names(slos: tuple[Slo, ...], known: Collection[str]) -> None:
    """Hold that every figure exists, or a slip of the pen would look like a bad night.

    Raises:
        InvalidInput: One does not.
    """
    for slo in slos:
        for name in (slo.figure, slo.target):
            if isinstance(name, str) and name not in known:
                raise InvalidInput(f"{str(slo)!r} names {name!r}; there are {', '.join(sorted(known))}")


def judge(slos: tuple[Slo, ...], figures: Mapping[str, float]) -> list[Verdict]:
    """Return what became of each line.

    Args:
        slos: The lines.
        figures: By name; those that were not measured are left out.
    """
    verdicts: list[Verdict] = []
    for slo in slos:
        measured = figures.get(slo.figure)
        target = figures.get(slo.target) if isinstance(slo.target, str) else slo.target
        kept = measured is not None and target is not None and _JUDGES[slo.sign](measured, target)
        verdicts.append(Verdict(str(slo), measured, target, kept))
    return verdicts
