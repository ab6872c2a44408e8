"""What the kit finds: one verdict for each scenario, and the words it is told in. Pure."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Final, Literal

from msgspec import Struct

Finding = Literal["kept", "broken", "not shown"]

# A device is judged by when its reports arrive. Its estimate of the server's clock can only be late, but coarse
# timers fire a tick early.
EARLY_MS: Final = 60
# An old television that is busy, on a bad network; every window of the scenarios leaves room for it.
LATE_MS: Final = 500


class Tolerances(Struct, frozen=True):
    """How far from its instant a device may act and still keep the rule, ms."""

    early_ms: int = EARLY_MS
    late_ms: int = LATE_MS


class Broken(Exception):
    """A rule was broken.

    Args:
        expected: What the rule asks for.
        seen: What the device did.
    """

    def __init__(self, expected: str, seen: str) -> None:
        super().__init__(f"expected {expected}; seen: {seen}")
        self.expected = expected
        self.seen = seen


class NotShown(Exception):
    """Nothing could be said about a rule; the message says why."""


class Verdict(Struct, frozen=True):
    """What one scenario found.

    Attributes:
        id: The scenario.
        rules: Numbers of docs/protocol.md section 6, and sections as ``§7``.
        verdict: Whether they are kept.
        expected: What had to be seen.
        seen: What was.
        took_s: How long it took.
    """

    id: str
    rules: tuple[str, ...]
    verdict: Finding
    expected: str
    seen: str
    took_s: float


def summary(verdicts: Iterable[Verdict]) -> dict[str, Any]:
    """Return everything as plain data, for JSON."""
    rules = [
        {
            "id": v.id,
            "rules": list(v.rules),
            "verdict": v.verdict,
            "expected": v.expected,
            "seen": v.seen,
            "took_s": v.took_s,
        }
        for v in verdicts
    ]
    count = {finding: sum(r["verdict"] == finding for r in rules) for finding in ("kept", "broken", "not shown")}
    return {"rules": rules, "kept": count["kept"], "broken": count["broken"], "not_shown": count["not shown"]}
