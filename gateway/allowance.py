"""How much each device may say: a token bucket for everyone, held only for those who speak.

A device that is silent is not in the books, so a hundred thousand idle ones cost nothing. Pure: time is an
argument, and who speaks may be anything that can be a key.
"""

from __future__ import annotations

from typing import Generic, TypeVar

Who = TypeVar("Who")


class Allowance(Generic[Who]):
    """What those who speak have used up.

    Args:
        burst: What one may say at once.
        per_s: What is given back every second.
    """

    def __init__(self, burst: float, per_s: float) -> None:
        self._burst = burst
        self._per_s = per_s
        self._spent: dict[Who, float] = {}

    def __len__(self) -> int:
        return len(self._spent)

    def spend(self, who: Who) -> bool:
        """Take one off; return False, and take none, if all is used up."""
        spent = self._spent.get(who, 0.0)
        if spent + 1 > self._burst:
            return False
        self._spent[who] = spent + 1
        return True

    def refill(self, seconds: float) -> None:
        """Give back what so much time gives; who has everything back is forgotten."""
        back = seconds * self._per_s
        self._spent = {who: spent - back for who, spent in self._spent.items() if spent > back}

    def forget(self, who: Who) -> None:
        """Someone has left."""
        self._spent.pop(who, None)
