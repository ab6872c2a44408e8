"""How a scenario is written down."""

from __future__ import annotations

import enum
from collections.abc import Awaitable, Callable

from msgspec import Struct

from fanout.conformance.scene import Scene

Script = Callable[[Scene], Awaitable[str]]


class Stage(enum.IntEnum):
    """When in a walk a scenario comes."""

    TOGETHER = 0  # beside others, on one connection
    ALONE = 1
    AFTER = 2  # reads what all the others have brought
    ENDING = 3  # the device does not come back from it


class Scenario(Struct, frozen=True):
    """One thing a device is tried with.

    Attributes:
        id: Its name on the command line.
        rules: Numbers of docs/protocol.md section 6, and sections as ``§7``.
        expected: What must be seen.
        bound_s: Longer than it ever takes; then something is wrong with the scenario.
    """

    id: str
    rules: tuple[str, ...]
    stage: Stage
    expected: str
    bound_s: float
    play: Script
    module: str


_registered: list[Scenario] = []


def scenario(id: str, rules: str, stage: Stage = Stage.TOGETHER, bound_s: float = 30) -> Callable[[Script], Script]:
    """Write a scenario down.

    Args:
        rules: Separated by commas.
    """

    def register(play: Script) -> Script:
        expected = " ".join((play.__doc__ or "").split())
        numbers = tuple(rule.strip() for rule in rules.split(","))
        _registered.append(Scenario(id, numbers, stage, expected, bound_s, play, play.__module__))
        return play

    return register


def registered() -> list[Scenario]:
    return list(_registered)
