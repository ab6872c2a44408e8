"""The comparison's arithmetic: what agrees, what is caught, and where."""

from __future__ import annotations

import math
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fanout.errors import InvalidInput
from fanout.slots import slot_ms
from loadtest.agreement.compare import SHARES, Comparison, Curve, compare, curve_of, earliest_ms
from loadtest.agreement.experiment import FILE, Bounds, read
from loadtest.agreement.explain import late_ms

AT_MS = 1_795_000_000_000
WINDOW_S = 10
STRICT = Bounds(t99=0.0, flips_per_s=0.0)

slots = st.lists(st.integers(0, WINDOW_S * 1000 - 1), min_size=1, max_size=100)


def flips_at(times_ms: list[int]) -> Counter[int]:
    return Counter(AT_MS + ms for ms in times_ms)


def curve(times_ms: list[int]) -> Curve:
    return curve_of(flips_at(times_ms), AT_MS, len(times_ms))


def compared(real: list[int], simulated: list[int], bounds: Bounds = STRICT, **more: Any) -> Comparison:
    counts = {"twice": 0, "early_ms": 0.0, **more}
    return compare(curve(real), curve(simulated), len(simulated), WINDOW_S, bounds, **counts)


def missed(comparison: Comparison) -> list[str]:
    return [verdict.what for verdict in comparison.verdicts if not verdict.kept]


@given(slots)
def test_a_curve_agrees_with_itself_within_no_bound_at_all(times_ms: list[int]) -> None:
    found = compared(times_ms, times_ms)
    # In less than a thousandth of a second no time can be told to agree by a share of it.
    assert missed(found) == ([] if curve(times_ms).reached_s["99 %"] else ["time until 99 % have flipped"])
    assert found.worst.apart == 0
    assert {second.behind for second in found.seconds} == {0}


@given(slots, slots)
def test_every_flip_is_in_one_second_or_after_them_all(real: list[int], simulated: list[int]) -> None:
    late = [ms + 3_000 for ms in real]
    found = compared(late, simulated)
    assert sum(second.real for second in found.seconds) + found.after[0] == len(real)
    assert sum(second.simulated for second in found.seconds) + found.after[1] == len(simulated)
    behind = len([ms for ms in simulated if ms < WINDOW_S * 1000]) - len([ms for ms in late if ms < WINDOW_S * 1000])
    assert found.seconds[-1].behind == behind


@given(slots)
def test_times_are_those_of_the_sorted_flips(times_ms: list[int]) -> None:
    found, ordered = curve(times_ms), sorted(times_ms)
    for name, share in SHARES.items():
        assert found.reached_s[name] == ordered[math.ceil(len(ordered) * share) - 1] / 1000


def test_a_curve_that_is_shifted_is_caught_with_its_second() -> None:
    even = list(range(0, WINDOW_S * 1000, 10))
    late = [ms + 400 for ms in even]
    found = compared(late, even, Bounds(t99=0.05, flips_per_s=0.10))
    assert (found.worst.number, found.worst.apart) == (0, pytest.approx(-0.4))
    assert [second.apart for second in found.seconds[1:]] == [0.0] * 9
    assert {second.behind for second in found.seconds} == {40}
    assert found.after == (40, 0)
    assert missed(found) == ["flips in each whole second, of the mean second"]
    assert late_ms(flips_at(late), AT_MS, even) == pytest.approx(400)


def test_a_hole_in_the_midst_is_caught_where_it_is() -> None:
    even = list(range(0, WINDOW_S * 1000, 10))
    stalled = [5_000 if 4_200 <= ms < 5_000 else ms for ms in even]
    found = compared(stalled, even, Bounds(t99=0.05, flips_per_s=0.10))
    assert [second.number for second in found.seconds if second.apart] == [4, 5]
    assert (found.seconds[4].behind, found.seconds[5].behind) == (80, 0)
    assert missed(found) == ["flips in each whole second, of the mean second"]


def test_every_bound_can_be_missed() -> None:
    even = list(range(0, WINDOW_S * 1000, 10))
    loose = Bounds(t99=0.05, flips_per_s=1.0)
    assert missed(compared(even, even, loose)) == []
    assert missed(compared([ms + 600 for ms in even], even, loose)) == ["time until 99 % have flipped"]
    assert "every device flips, once" in missed(compared(even[:-1], even, loose))
    assert missed(compared(even, even, loose, twice=1)) == ["every device flips, once"]
    assert missed(compared(even, even, loose, early_ms=25.0)) == ["nobody flips before its slot"]
    never = compare(curve_of({}, AT_MS, 10), curve(even), 10, WINDOW_S, loose, twice=0, early_ms=-math.inf)
    assert missed(never)[:2] == ["every device flips, once", "time until 99 % have flipped"]


@given(slots, st.integers(0, 500), st.integers(1, 97))
def test_whoever_flips_at_its_slot_or_later_is_never_early_in_whatever_order(
    times_ms: list[int], most_ms: int, step: int
) -> None:
    flips = Counter(ms + number * step % (most_ms + 1) for number, ms in enumerate(times_ms))
    assert earliest_ms(flips, sorted(times_ms)) <= 0


def test_slots_of_other_ids_are_noticed() -> None:
    def slots_of(prefix: str) -> list[int]:
        return sorted(slot_ms(f"{prefix}{number}", 1_795_000_900_123, 30_000) for number in range(5_000))

    flips = Counter(slots_of("device-"))
    assert earliest_ms(flips, slots_of("device-")) == 0
    assert earliest_ms(flips, slots_of("locust-0-")) > 100


def test_the_experiment_has_the_first_engine_that_is_large_enough() -> None:
    asked = read(FILE)
    assert [asked.engine_for(devices)[0] for devices in asked.sizes] == ["locust", "swarm"]
    assert [asked.engine_for(n)[0] for n in (1, 5_000, 5_001)] == ["locust", "locust", "swarm"]
    assert asked.engines["swarm"].bounds == Bounds(t99=0.05, flips_per_s=0.10)


@pytest.mark.parametrize(
    ("sizes", "words"),
    [
        ("100000000", "for more than 16777216"),
        ("many", "send numbers such as"),
        ("0", "1 or more"),
        ("20,20", "different ones"),
        ("", "send numbers such as"),
    ],
)
def test_sizes_that_cannot_be_are_refused(sizes: str, words: str) -> None:
    with pytest.raises(InvalidInput, match=words):
        read(FILE, sizes)


@pytest.mark.parametrize(
    ("before", "after", "words"),
    [
        ("window_s: 30", "window_s: 1", "window_s of locust is 1"),
        ("window_s: 30", "window_s: .nan", "window_s of locust is nan"),
        ("connects_per_s: 250", "connects_per_s: 0", "connects_per_s of locust is 0"),
        ("t99: 0.05", "t99: -1", "bounds.t99 of swarm is -1"),
        ("ahead_s: 10", "ahaed_s: 10", "ahaed_s"),
        ("locust:", "lobster:", "lobster"),
        ("sizes:", "- sizes:", "no experiment"),
    ],
)
def test_an_experiment_that_cannot_be_is_refused(tmp_path: Path, before: str, after: str, words: str) -> None:
    file = tmp_path / "experiment.yaml"
    text = FILE.read_text("utf-8")
    assert before in text
    file.write_text(text.replace(before, after), "utf-8")
    with pytest.raises(InvalidInput, match=words):
        read(file)
    with pytest.raises(InvalidInput, match="No such file"):
        read(tmp_path / "nothing.yaml")
