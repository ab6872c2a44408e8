"""Laws of `fanout.bus.retained`: who is told what is needed ends where those are who heard all.

The log here has a short clock (some 40 ms), so that instants, windows, revisions and "now" collide often.
"""

from __future__ import annotations

from collections.abc import Callable

import msgspec
from hypothesis import assume, example, given
from hypothesis import strategies as st

from fanout import wire
from fanout.arming import history_before, standing
from fanout.bus.entry import Stored
from fanout.bus.publication import Activated, Cancelled, Closed, Prefetched, Publication, Variant
from fanout.bus.retained import Lost, lost, needed, struck

from . import strategies as some

ALL = (Variant({}, wire.Bundle("0" * 64, 2)),)
Log = list[Publication]


def activated(rev: int, at: int, window_ms: int = 0, share: float = 1.0) -> Activated:
    return Activated(
        campaign="c", topic="t", rev=rev, variants=ALL, stage="live", at=at, window_ms=window_ms, share=share
    )


def cancelled(rev: int) -> Cancelled:
    return Cancelled(campaign="c", topic="t", rev=rev)


def prefetched(rev: int) -> Prefetched:
    return Prefetched(campaign="c", topic="t", rev=rev, variants=ALL, from_ms=rev, window_ms=5)


def closed(rev: int) -> Closed:
    return Closed(campaign="c", topic="t", rev=rev)


@st.composite
def logs(draw: st.DrawFn) -> Log:
    log: Log = []
    for rev in sorted(draw(st.sets(st.integers(1, some.CLOCK_MS), max_size=8))):
        kind = draw(st.sampled_from(["activate"] * 4 + ["cancel"] * 2 + ["prefetch", "close"]))
        if kind == "activate":
            share = draw(st.sampled_from([1.0, 1.0, 0.5]))
            log.append(activated(rev, draw(some.instants), draw(some.widths), share))
        else:
            makers: dict[str, Callable[[int], Publication]] = {
                "cancel": cancelled,
                "prefetch": prefetched,
                "close": closed,
            }
            log.append(makers[kind](rev))
    return log


def stands(heard: Log) -> list[int]:
    """Return the revisions that stand on a device that heard this, in whatever order."""
    last_close = max((p.rev for p in heard if isinstance(p, Closed)), default=0)
    alive = [p for p in heard if p.rev > last_close]
    activations = [p for p in alive if isinstance(p, Activated)]
    return [a.rev for a in standing(activations, [p.rev for p in alive if isinstance(p, Cancelled)])]


def stands_now(heard: Log, log: Log, now: int) -> list[int]:
    """Return what stands on a device, without what is history for the whole fleet."""
    activations = {p.rev: p for p in log if isinstance(p, Activated)}
    history = history_before([activations[rev] for rev in stands(log)], now)
    return [rev for rev in stands(heard) if rev >= history]


times = st.integers(0, 2 * some.CLOCK_MS)


@given(logs(), times)
def test_only_what_was_published_is_needed_and_in_order(log: Log, now: int) -> None:
    kept = needed(log, now)
    assert [p.rev for p in kept] == sorted({p.rev for p in kept})
    assert all(p in log for p in kept)


@given(logs(), times, st.data())
def test_order_and_duplicates_mean_nothing(log: Log, now: int, data: st.DataObject) -> None:
    heard = data.draw(st.permutations(log + log))
    assert needed(heard, now) == needed(log, now)


@given(logs(), times, times)
def test_dropping_now_and_again_later_is_dropping_later(log: Log, one: int, other: int) -> None:
    earlier, later = sorted((one, other))
    assert needed(needed(log, earlier), later) == needed(log, later)


@given(logs(), times)
def test_the_newest_prefetch_and_close_are_always_needed(log: Log, now: int) -> None:
    kept = needed(log, now)
    last_close = max((p.rev for p in log if isinstance(p, Closed)), default=0)
    last_prefetch = max((p.rev for p in log if isinstance(p, Prefetched) and p.rev > last_close), default=0)
    assert [p.rev for p in kept if isinstance(p, Closed)] == [last_close] * (last_close > 0)
    assert [p.rev for p in kept if isinstance(p, Prefetched)] == [last_prefetch] * (last_prefetch > 0)
    assert all(p.rev >= last_close for p in kept)


@given(logs(), times)
def test_of_the_stage_lane_everything_since_history_is_needed_even_what_was_struck(log: Log, now: int) -> None:
    lane = [p.rev for p in log if isinstance(p, Activated | Cancelled)]
    last_close = max((p.rev for p in log if isinstance(p, Closed)), default=0)
    activations = {p.rev: p for p in log if isinstance(p, Activated)}
    history = history_before([activations[rev] for rev in stands(log)], now)
    kept = [p.rev for p in needed(log, now) if isinstance(p, Activated | Cancelled)]
    assert kept == [rev for rev in lane if rev > last_close and rev >= history]


@given(logs(), times)
def test_a_newcomer_ends_where_those_are_who_heard_everything(log: Log, now: int) -> None:
    # All of it but history: stages the whole fleet has left for a newer one.
    assert stands(needed(log, now)) == stands_now(log, log, now)


@given(logs(), st.integers(0, some.CLOCK_MS), times)
@example([activated(1, at=10), activated(5, at=100), activated(20, at=100)], 1, 20)
@example([activated(1, at=10), activated(5, at=100), cancelled(20)], 1, 20)
def test_a_device_that_was_away_ends_where_those_are_who_stayed(log: Log, since: int, now: int) -> None:
    # The store's clock gave every revision, so nothing is from after now.
    now = max([now, *(p.rev for p in log)])
    heard = [p for p in log if p.rev <= since]
    told = [p for p in needed(log, now) if p.rev > since]
    assert stands_now(heard + told, log, now) == stands_now(log, log, now)


@given(logs(), st.integers(0, some.CLOCK_MS), times)
@example([activated(1, at=1), activated(5, at=5, window_ms=20), cancelled(10)], 6, 10)
def test_what_was_dropped_is_never_missed_whatever_is_published_next(log: Log, dropped_at: int, now: int) -> None:
    before = [p for p in log if p.rev <= dropped_at]
    after = [p for p in log if p.rev > dropped_at]
    now = max([now, dropped_at, *(p.rev for p in log)])
    assert stands(needed([*needed(before, dropped_at), *after], now)) == stands(needed(log, now))


@given(logs(), times)
@example([activated(1, at=1), activated(2, at=30), cancelled(20)], 40)
@example([activated(1, at=1), activated(2, at=30), activated(20, at=20, share=0.5)], 40)
def test_who_takes_one_after_the_other_misses_nothing_however_late_it_is(log: Log, now: int) -> None:
    now = max([now, *(p.rev for p in log)])
    kept: Log = []
    for publication in log:
        kept = needed([*kept, publication], publication.rev)
    assert needed(kept, now) == needed(log, now)


@given(logs())
def test_what_is_struck_among_what_comes_together_is_what_does_not_stand(log: Log) -> None:
    assert struck(log) == {p.rev for p in log if isinstance(p, Activated)} - set(stands(log))
    elsewhere = [msgspec.structs.replace(p, campaign="d", rev=p.rev + 1_000) for p in log]
    assert struck(log + elsewhere) == struck(log) | struck(elsewhere)


# --- What is to be put back.


@st.composite
def failovers(draw: st.DrawFn) -> tuple[Log, list[Stored], int]:
    """Return what a gateway remembers, what the store has kept of it or taken since, and the time."""
    log = [msgspec.structs.replace(p, key=f"key-{p.rev}") for p in draw(logs())]
    taken_since = draw(st.sets(st.integers(0, len(log) - 1), max_size=2)) if log else set()
    kept = draw(st.integers(0, len(log)))
    held = [p for number, p in enumerate(log) if number < kept or number not in taken_since]
    there = [p for number, p in enumerate(log) if number < kept or number in taken_since]
    now = max([draw(times), *(p.rev for p in log)])
    return needed(held, now), [stored(p) for p in needed(there, now)], now


def stored(publication: Publication, rev: int = 0) -> Stored:
    """Return the field of an entry, put back under this revision if it is given."""
    own, rev = publication.rev, rev or publication.rev
    return Stored(f"c {rev} {own}", "c", own, msgspec.structs.replace(publication, rev=rev))


def in_the_way(newer: Publication, older: Publication) -> bool:
    """Tell whether a device that knows the newer may have no use for the older."""
    if isinstance(newer, Closed) or isinstance(older, Closed):
        return True
    return isinstance(newer, Prefetched) == isinstance(older, Prefetched)


@given(failovers())
def test_what_the_store_lacks_is_put_back_unless_something_newer_of_its_lane_is_there(
    failover: tuple[Log, list[Stored], int],
) -> None:
    held, there, now = failover
    publications = [s.publication for s in there if s.publication is not None]
    keys = {p.key for p in publications}
    wanted = [
        p
        for p in held
        if p.key not in keys and not any(other.rev > p.rev and in_the_way(other, p) for other in publications)
    ]
    found = lost(held, there, now)
    assert [(one.publication.key, one.publication.rev) for one in found] == [(p.key, p.rev) for p in wanted]
    for one in found:
        assert set(one.beside) == {s.field for s in there if s.own > one.publication.rev}


@given(failovers())
def test_an_activation_goes_back_as_itself_only_if_it_stands_and_none_for_all_has_begun_since(
    failover: tuple[Log, list[Stored], int],
) -> None:
    held, there, now = failover
    known = {p.rev: p for p in [*held, *(s.publication for s in there if s.publication is not None)]}
    stand = [activation_of(known[rev]) for rev in stands(list(known.values()))]
    begun = max((a.rev for a in stand if a.share >= 1 and a.at <= now), default=0)
    for publication, _ in lost(held, there, now):
        was = known[publication.rev]
        if isinstance(was, Activated) and (was not in stand or was.rev < begun):
            assert isinstance(publication, Cancelled)
        else:
            assert publication == was


def activation_of(publication: Publication) -> Activated:
    assert isinstance(publication, Activated)
    return publication


@given(failovers())
def test_where_the_log_has_not_moved_on_everyone_ends_as_if_nothing_had_been_lost(
    failover: tuple[Log, list[Stored], int],
) -> None:
    held, there, now = failover
    kept = [s.publication for s in there if s.publication is not None]
    back = [one.publication for one in lost(held, there, now)]
    assume({p.key for p in held} <= {p.key for p in kept + back})
    everything = {p.rev: p for p in [*held, *kept]}
    whole = [activation_of(everything[rev]) for rev in stands(list(everything.values()))]
    # Those who are still on their way to the newest for all miss what was before it, and no more.
    newest = max((a.rev for a in whole if a.share >= 1 and a.at <= now), default=0)
    assert [rev for rev in stands(kept + back) if rev >= newest] == [a.rev for a in whole if a.rev >= newest]


def test_what_came_back_under_a_later_revision_supersedes_nothing_that_was_newer() -> None:
    older, newer = activated(5, at=5), activated(9, at=100)
    older, newer = (msgspec.structs.replace(p, key=f"key-{p.rev}") for p in (older, newer))
    assert lost([older, newer], [stored(older, rev=50)], 60) == [Lost(newer, [])]


def test_what_cannot_be_read_is_in_the_way_if_it_is_newer() -> None:
    unreadable = Stored("c 7", "c", 7, None)
    assert [one.publication.rev for one in lost([prefetched(6), prefetched(8)], [unreadable], 10)] == [8]
