"""Laws of `fanout.arming`: what stands is the same for everyone, in whatever order it was heard."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fanout.arming import history_before, standing
from fanout.wire import Activate

from . import strategies as some

Schedule = tuple[list[Activate], list[int]]
VECTORS = json.loads((Path(__file__).parents[1] / "vectors" / "arming.json").read_text("utf-8"))


def by_definition(activations: list[Activate], cancel_revs: list[int]) -> list[int]:
    """Return the revisions that stand, from the definition in docs/protocol.md and nothing else."""
    return sorted(
        x.rev
        for x in {a.rev: a for a in activations}.values()
        if not any(n.rev > x.rev and x.at > n.rev for n in activations)
        and not any(c > x.rev and x.at > c for c in cancel_revs)
    )


def revs(activations: list[Activate]) -> list[int]:
    return [a.rev for a in activations]


@given(some.schedules())
def test_what_stands_is_what_nothing_newer_struck(schedule: Schedule) -> None:
    activations, cancel_revs = schedule
    assert revs(standing(activations, cancel_revs)) == by_definition(activations, cancel_revs)


@given(some.schedules(), st.integers(1, some.CLOCK_MS))
def test_a_cancel_strikes_what_an_activation_in_its_place_would_supersede(schedule: Schedule, rev: int) -> None:
    activations, cancel_revs = schedule
    others = [a for a in activations if a.rev != rev], [c for c in cancel_revs if c != rev]
    instead = some.activation(rev, at=0)  # has begun for everything after it, so it stands itself
    superseded = standing([*others[0], instead], others[1])
    assert standing(others[0], [*others[1], rev]) == [a for a in superseded if a.rev != rev]


@given(some.schedules(), st.integers(0, some.CLOCK_MS))
def test_what_has_begun_is_struck_by_nothing_that_is_published_later(schedule: Schedule, now: int) -> None:
    activations, cancel_revs = schedule
    early = standing([a for a in activations if a.rev <= now], [c for c in cancel_revs if c <= now])
    begun = {a.rev for a in early if a.at <= now}
    assert begun <= set(revs(standing(activations, cancel_revs)))


@given(some.schedules(), st.data())
def test_the_order_of_arrival_means_nothing(schedule: Schedule, data: st.DataObject) -> None:
    activations, cancel_revs = schedule
    shuffled = data.draw(st.permutations(activations)), data.draw(st.permutations(cancel_revs))
    assert standing(*shuffled) == standing(activations, cancel_revs)


@given(some.schedules(), st.data())
def test_hearing_it_again_changes_nothing(schedule: Schedule, data: st.DataObject) -> None:
    activations, cancel_revs = schedule
    again = data.draw(st.lists(st.sampled_from(activations), max_size=4)) if activations else []
    cancels_again = data.draw(st.lists(st.sampled_from(cancel_revs), max_size=4)) if cancel_revs else []
    heard = standing([*activations, *again], [*cancel_revs, *cancels_again])
    assert heard == standing(activations, cancel_revs)


@given(some.schedules())
def test_judging_what_stands_again_changes_nothing(schedule: Schedule) -> None:
    activations, cancel_revs = schedule
    once = standing(activations, cancel_revs)
    assert standing(once, cancel_revs) == once
    assert standing(once) == once


@given(some.schedules(), st.integers(0, some.CLOCK_MS))
def test_news_judged_one_by_one_ends_where_judging_all_at_once_does(schedule: Schedule, since: int) -> None:
    activations, cancel_revs = schedule
    early = standing([a for a in activations if a.rev <= since], [c for c in cancel_revs if c <= since])
    later = [a for a in activations if a.rev > since]
    # Cancels that did their work may be forgotten.
    assert standing([*early, *later], [c for c in cancel_revs if c > since]) == standing(activations, cancel_revs)


@given(some.schedules(), st.data())
def test_nothing_that_fell_stands_up_again_when_more_is_known(schedule: Schedule, data: st.DataObject) -> None:
    activations, cancel_revs = schedule
    part = data.draw(st.lists(st.sampled_from(activations), unique=True)) if activations else []
    some_cancels = data.draw(st.lists(st.sampled_from(cancel_revs), unique=True)) if cancel_revs else []
    fell = set(revs(part)) - set(revs(standing(part, some_cancels)))
    assert fell.isdisjoint(revs(standing(activations, cancel_revs)))


@given(some.schedules())
def test_the_newest_activation_stands_unless_a_cancel_follows_it(schedule: Schedule) -> None:
    activations, cancel_revs = schedule
    if activations and max(revs(activations)) > max(cancel_revs, default=0):
        assert revs(standing(activations, cancel_revs))[-1] == max(revs(activations))


@given(some.schedules())
def test_at_most_one_that_stands_had_not_begun_when_the_last_word_was_spoken(schedule: Schedule) -> None:
    activations, cancel_revs = schedule
    newest = max([*revs(activations), *cancel_revs], default=0)
    waiting = [a for a in standing(activations, cancel_revs) if a.at > newest]
    assert len(waiting) <= 1


@given(some.schedules(), st.integers(0, 2 * some.CLOCK_MS), st.integers(0, 2 * some.CLOCK_MS))
def test_history_only_grows(schedule: Schedule, one: int, other: int) -> None:
    stand = standing(*schedule)
    earlier, later = sorted((one, other))
    assert history_before(stand, earlier) <= history_before(stand, later)


@given(some.schedules(), st.integers(0, 2 * some.CLOCK_MS))
def test_history_begins_with_an_activation_of_the_whole_fleet_that_is_over(schedule: Schedule, now: int) -> None:
    stand = standing(*schedule)
    history = history_before(stand, now)
    over = [a.rev for a in stand if a.share == 1 and a.at + a.window_ms <= now]
    assert history == max(over, default=0)


@given(some.schedules())
def test_in_the_end_the_newest_activation_of_the_whole_fleet_makes_all_before_it_history(schedule: Schedule) -> None:
    stand = standing(*schedule)
    whole = [a.rev for a in stand if a.share == 1]
    assert history_before(stand, 10 * some.CLOCK_MS) == max(whole, default=0)


@pytest.mark.parametrize("case", VECTORS["cases"], ids=lambda case: case["name"])
def test_the_vectors_hold(case: dict[str, Any]) -> None:
    activations = [some.activation(**row) for row in case["activations"]]
    assert by_definition(activations, case["cancel_revs"]) == case["standing"]
    assert revs(standing(activations, case["cancel_revs"])) == case["standing"]
    assert revs(standing(reversed(activations), reversed(case["cancel_revs"]))) == case["standing"]


def test_the_vectors_say_what_they_are() -> None:
    assert VECTORS["about"]
    assert len({case["name"] for case in VECTORS["cases"]}) == len(VECTORS["cases"])
