"""Which activations of a campaign still stand, after later ones and cancels. Pure.

The same function decides on a device (what may still fire), in a gateway and in the store (what a device
that comes late must be told), so they cannot disagree. It looks at revisions alone: a revision is the
store's clock at publication, so "had it begun when the other was published" needs no clock here, and a
replay gives the same answer in any order.

The theory: an activation X has *begun* for a later publication of revision R if X.at <= R. Beginning is the
point of no return, for from then on some devices show it.

- A later activation N supersedes every X that had not begun when N was published: the event moved.
- A later cancel strikes every X that had not begun when it was published, and nothing else. What has begun
  is taken back by a newer activation (a retract), which reaches the devices that flipped, too.
- If X had begun, the devices whose slots are still to come follow, until N reaches them: X stands beside N.
  So a device that arrives between "upcoming" and "live" still gets "upcoming".
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Protocol, TypeVar


class Armable(Protocol):
    """What `standing` needs to know of an activation; `fanout.wire.Activate` is one."""

    @property
    def rev(self) -> int: ...
    @property
    def at(self) -> int: ...
    @property
    def window_ms(self) -> int: ...
    @property
    def share(self) -> float: ...


A = TypeVar("A", bound=Armable)


def standing(activations: Iterable[A], cancel_revs: Iterable[int] = ()) -> list[A]:
    """Return the activations that stand, by revision.

    Args:
        activations: Of one campaign, in any order, duplicates allowed.
        cancel_revs: Revisions of the campaign's cancels, in any order.
    """
    by_rev = {activation.rev: activation for activation in activations}
    result: list[A] = []
    for rev in sorted({*by_rev, *cancel_revs}):
        result = [earlier for earlier in result if earlier.at <= rev]
        if rev in by_rev:
            result.append(by_rev[rev])
    return result


def history_before(activations: Iterable[A], now_ms: int) -> int:
    """Return the revision below which a campaign's activations and cancels no longer matter to anyone.

    That is the newest activation for the whole fleet whose window is over: whoever arrives now goes straight
    to it, and by then no clock is so far off that a cancel could still strike it.

    Args:
        activations: The ones that stand.
        now_ms: The server's clock, Unix ms.
    Returns:
        A revision, 0 if nothing is history.
    """
    return max((a.rev for a in activations if a.share >= 1 and a.at + a.window_ms <= now_ms), default=0)
