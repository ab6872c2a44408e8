"""Retained state: what a device that comes late must be told, campaign by campaign. Pure.

`needed` says which publications of a campaign still matter. Gateways keep those in memory, publishers drop
the others from the store, and the broken-chain repair compares the two. See `fanout.arming` for the theory.
"""

from __future__ import annotations

from collections.abc import Iterable

from fanout.arming import history_before, standing
from fanout.bus.publication import Activated, Cancelled, Closed, Prefetched, Publication


def needed(publications: Iterable[Publication], now_ms: int) -> list[Publication]:
    """Return those publications of one campaign that a newcomer or a returning device may need, by revision.

    Args:
        publications: Of one campaign, in any order, duplicates allowed.
        now_ms: The server's clock, Unix ms; a later clock only ever drops more.
    """
    by_rev = {p.rev: p for p in publications}
    ordered = [by_rev[rev] for rev in sorted(by_rev)]
    closes = [p for p in ordered if isinstance(p, Closed)]
    ordered = [p for p in ordered if not closes or p.rev > closes[-1].rev]
    prefetches = [p for p in ordered if isinstance(p, Prefetched)]
    stage_lane = [p for p in ordered if isinstance(p, Activated | Cancelled)]
    activations = [p for p in stage_lane if isinstance(p, Activated)]
    cancels = (p.rev for p in stage_lane if isinstance(p, Cancelled))
    history = history_before(standing(activations, cancels), now_ms)
    kept: list[Publication] = [
        *closes[-1:],
        *prefetches[-1:],
        # Also what no longer stands: a device that was away has to hear that what it has armed was superseded,
        # even if what superseded it was superseded in turn.
        *(p for p in stage_lane if p.rev >= history),
    ]
    return sorted(kept, key=lambda p: p.rev)
