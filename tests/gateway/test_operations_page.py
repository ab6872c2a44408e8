"""Holds docs/operations.md to the code: its table comes from the real admission and the real backoff.

Time is virtual and chance is seeded, so it is the same every time. To write it anew:
``PYTHONPATH=.:tests python tests/gateway/test_operations_page.py``.
"""

from __future__ import annotations

import heapq
import random
from pathlib import Path
from typing import Final

from fanout.slots import backoff_ms
from gateway.admission import Admission
from gateway.config import GatewayConfig

PAGE: Final = Path(__file__).parents[2] / "docs" / "operations.md"
BEGIN: Final = "<!-- made by: PYTHONPATH=.:tests python tests/gateway/test_operations_page.py -->"
END: Final = "<!-- end of what is made -->"
LOST: Final = 100_000
FLEETS: Final = (2, 3, 5, 10, 20, 50)
WITHIN_S: Final = (15, 30, 60)
# So many devices are one here, and the rate is divided by as many: the curve is the same.
SCALE: Final = 50
CONFIG: Final = GatewayConfig(redis_url="unix:///nowhere")


def needed(survivors: int, within_s: float) -> float:
    """Return what each survivor must admit a second for 99 % to be back in time."""
    return LOST / (survivors * (within_s - 1.5 * CONFIG.retry_after_s))


def returns_s(survivors: int) -> list[float]:
    """Return when each device is let in again."""
    rng = random.Random(1)
    config = GatewayConfig(redis_url="unix:///nowhere", admit_per_s=CONFIG.admit_per_s / SCALE)
    doors = [Admission(config, rng) for _ in range(survivors)]

    def wait_s(attempt: int) -> float:
        return backoff_ms(attempt, CONFIG.backoff_base_ms, CONFIG.backoff_cap_ms, rng) / 1000

    queue = [(wait_s(0), number, 1) for number in range(LOST // SCALE)]
    heapq.heapify(queue)
    let_in: list[float] = []
    while queue:
        now_s, number, attempt = heapq.heappop(queue)
        door = rng.choice(doors)
        if door.refuses(now_s, 0, 0) is None:
            let_in.append(now_s)
        else:
            heapq.heappush(queue, (now_s + door.retry_after_s() + wait_s(attempt), number, attempt + 1))
    return let_in


def table() -> str:
    rows = ["| N | first second, each | " + " | ".join(f"needed for {t} s" for t in WITHIN_S), "| --- " * 2]
    rows[0] += " | at 4,000: half are back | 99 % | all |"
    rows[1] += "| --- " * (len(WITHIN_S) + 3) + "|"
    for fleet in FLEETS:
        came = returns_s(fleet - 1)
        times = (came[len(came) // 2], came[len(came) * 99 // 100], came[-1])
        cells = [str(fleet), f"{LOST / (fleet - 1):,.0f}"]
        cells += [f"{needed(fleet - 1, within_s):,.0f}" for within_s in WITHIN_S]
        rows.append("| " + " | ".join([*cells, *(f"{t:.0f} s" if t >= 1 else "< 1 s" for t in times)]) + " |")
    return "\n".join(rows)


def rewritten(page: str) -> str:
    before, _, rest = page.partition(BEGIN)
    return f"{before}{BEGIN}\n\n{table()}\n\n{END}{rest.partition(END)[2]}"


def test_the_table_says_what_admission_does() -> None:
    page = PAGE.read_text("utf-8")
    assert page == rewritten(page), "docs/operations.md is behind the code; see this module's docstring"


def test_the_formula_foretells_when_almost_everyone_is_back() -> None:
    for fleet in FLEETS:
        foretold_s = LOST / ((fleet - 1) * CONFIG.admit_per_s) + 1.5 * CONFIG.retry_after_s
        came = returns_s(fleet - 1)
        assert came[len(came) * 99 // 100] <= 1.1 * foretold_s


if __name__ == "__main__":
    PAGE.write_text(rewritten(PAGE.read_text("utf-8")), "utf-8")
