"""A dense swarm's tally by the names of a ledger. Pure."""

from __future__ import annotations

from loadtest.locusts.ledger import Report, Rev
from loadtest.tally import Tally


def counted(tally: Tally) -> Report:
    """Return a swarm's counts by the names of a ledger."""
    counts = {name: getattr(tally, name) for name in ("devices", "connected", "welcomed", "ready", "activated")}
    counts |= {"twice": tally.flipped_twice, "fetches": tally.origin_requests}
    counts |= {"lost": sum(tally.closes.values()), "refused": sum(tally.refused.values())}
    reasons = {f"closed {code or 'without a word'}": times for code, times in tally.closes.items()}
    reasons |= {f"refused: {status}" if status else "no connection": n for status, n in tally.refused.items()}
    made = Report(counts=counts, reasons=reasons)
    for rev, publication in tally.publications.items():
        made.revs[rev] = Rev(publication.kind, publication.received)
    for rev, flips in tally.flipped_for.items():
        made.revs.setdefault(rev, Rev()).flipped += flips
    return made
