"""Retained state: what a device that comes late must be told, campaign by campaign. Pure.

`needed` says which publications of a campaign still matter. Gateways keep those in memory, publishers drop
the others from the store. `lost` compares the two after a failover. See `fanout.arming` for the theory.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final, NamedTuple

import msgspec

from fanout.arming import history_before, standing
from fanout.bus.entry import Stored
from fanout.bus.publication import Activated, Cancelled, Closed, Prefetched, Publication

# A device keeps two lanes of a campaign: its content, and its stage. A close ends both; of what this version
# cannot read, anything may be true.
_CONTENT: Final = frozenset({"content"})
_STAGE: Final = frozenset({"stage"})


def needed(publications: Iterable[Publication], now_ms: int) -> list[Publication]:
    """Return those publications of one campaign that a newcomer or a returning device may need, by revision.

    Args:
        publications: Of one campaign, in any order, duplicates allowed.
        now_ms: Unix ms by the server's clock, and no later than what may be published next; a later clock only ever
            drops more.
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


def struck(publications: Iterable[Publication]) -> set[int]:
    """Return the revisions of those activations that others among these, cancels and closes too, leave nothing of."""
    by_campaign: dict[str, list[Publication]] = {}
    for publication in publications:
        by_campaign.setdefault(publication.campaign, []).append(publication)
    over: set[int] = set()
    for ours in by_campaign.values():
        over |= {p.rev for p in ours if isinstance(p, Activated)} - {p.rev for p in _stands(ours)}
    return over


class Lost(NamedTuple):
    """What is to be put back.

    Attributes:
        publication: Under the revision it was accepted under, which may not be free any more.
        beside: Newer retained fields of its campaign that are not in its way, being of the other lane.
    """

    publication: Publication
    beside: list[str]


def lost(held: Iterable[Publication], stored: Iterable[Stored], now_ms: int) -> list[Lost]:
    """Return what of one campaign the store has accepted and lost, by revision, as it is to be put back.

    The log may have moved on with other campaigns, and then it goes back under a later revision, which devices
    take for news. So an activation goes back as itself only where that is true: if it stands by the revisions that
    were given first, and no later one for the whole fleet has begun, for who shows that would go back and forth.
    Otherwise it goes back as the cancel it amounts to: what it has superseded stays so, and its key is known.

    Args:
        held: What a gateway remembers.
        stored: What the store retains.
        now_ms: The server's clock, Unix ms.
    """
    there = list(stored)
    own = {s.publication.key: s.own for s in there if s.publication is not None}
    gone = [p for p in held if p.key not in own]
    known = [msgspec.structs.replace(s.publication, rev=s.own) for s in there if s.publication is not None] + gone
    stands = _stands(known)
    newest_begun = max((a.rev for a in stands if a.share >= 1 and a.at <= now_ms), default=0)
    alive = {a.rev for a in stands if a.rev >= newest_begun}
    result: list[Lost] = []
    for publication in sorted(gone, key=lambda p: p.rev):
        newer = [s for s in there if s.own >= publication.rev]
        if any(_lanes(s.publication) & _lanes(publication) for s in newer):
            continue
        if isinstance(publication, Activated) and publication.rev not in alive:
            publication = _cancel(publication)
        result.append(Lost(publication, [s.field for s in newer]))
    return result


def _stands(known: Iterable[Publication]) -> list[Activated]:
    known = list(known)
    closed = max((p.rev for p in known if isinstance(p, Closed)), default=0)
    activations = [p for p in known if isinstance(p, Activated) and p.rev > closed]
    return standing(activations, [p.rev for p in known if isinstance(p, Cancelled) and p.rev > closed])


def _lanes(publication: Publication | None) -> frozenset[str]:
    if isinstance(publication, Prefetched):
        return _CONTENT
    return _STAGE if isinstance(publication, Activated | Cancelled) else _CONTENT | _STAGE


def _cancel(activation: Activated) -> Cancelled:
    return Cancelled(campaign=activation.campaign, topic=activation.topic, key=activation.key, rev=activation.rev)
