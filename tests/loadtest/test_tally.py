"""What a swarm counts, how processes' counts become one, and how it tells."""

from __future__ import annotations

import json
import threading
from collections import Counter
from pathlib import Path
from typing import Any

import msgspec
from hypothesis import given
from hypothesis import strategies as st

from loadtest.command import line, table, write_figures
from loadtest.tally import (
    TIMINGS,
    Merged,
    Publication,
    Report,
    Tally,
    Timings,
    encoded,
    histogram,
    percentiles,
    units,
)

COUNTS = st.dictionaries(st.integers(0, 1_000_000), st.integers(1, 50), max_size=30).map(Counter)


def sent(report: Report) -> Report:
    """Return the report as it arrives at the other end of a pipe."""
    return msgspec.json.decode(msgspec.json.encode(report), type=Report)


@given(st.lists(COUNTS, min_size=1, max_size=4))
def test_merged_histograms_are_that_of_all_values_together(processes: list[Counter[int]]) -> None:
    merged = Merged()
    alone = histogram()
    for number, counts in enumerate(processes):
        timings = Timings()
        timings.delivery.update(counts)
        merged.add(number, sent(Report(Tally(), timings.take())))
        for value, times in counts.items():
            alone.record_value(value, times)
    assert percentiles(merged.histograms["delivery"]) == percentiles(alone)
    assert merged.histograms["delivery"].get_total_count() == sum(sum(counts.values()) for counts in processes)


@given(COUNTS.filter(bool))
def test_percentiles_are_those_of_the_sorted_values_to_three_digits(counts: Counter[int]) -> None:
    made = histogram()
    made.decode_and_add(encoded(counts).encode())
    values = sorted(counts.elements())
    found = percentiles(made)
    for name, share in (("p50", 0.5), ("p99", 0.99), ("max", 1.0)):
        rank = max(1, int(share * len(values) + 0.5))  # HdrHistogram rounds the rank to the nearest
        exact = values[rank - 1] / 10
        assert abs(found[name] - exact) <= 0.1 + exact / 1000, name


def test_nothing_has_no_percentiles() -> None:
    assert percentiles(histogram()) == {}


def test_what_has_been_taken_is_not_reported_again() -> None:
    timings = Timings()
    timings.connect[units(1.5)] += 2
    assert set(timings.take()) == {"connect"}
    assert timings.take() == {}


def test_a_duration_that_two_clocks_make_negative_is_none() -> None:
    assert [units(ms) for ms in (-3.0, 0.0, 0.19, 2.5)] == [0, 0, 1, 25]


def test_a_process_that_died_keeps_its_last_counts_and_all_its_flips() -> None:
    merged = Merged()
    for flips in ({1_000: 1}, {1_000: 2, 1_001: 1}):
        merged.add(0, sent(Report(Tally(devices=2, activated=2, flips=flips), {})))
    merged.add(1, sent(Report(Tally(devices=3, activated=1, closes={4000: 1}, flips={1_001: 1}), {})))
    tally = merged.tally()
    assert (tally.devices, tally.activated, tally.closes) == (5, 3, {4000: 1})
    assert merged.flips == {1_000: 3, 1_001: 2}


def test_a_publication_is_told_from_its_first_to_its_last_receipt_anywhere() -> None:
    merged = Merged()
    for number, (first, last) in enumerate(((1_010.0, 1_040.0), (1_005.0, 1_020.0))):
        publications = {1_000: Publication("activate", 7, first, last)}
        merged.add(number, sent(Report(Tally(devices=7, publications=publications), {})))
    (told,) = merged.summary()["publications"]
    assert told == {"rev": 1_000, "kind": "activate", "received": 14, "first_ms": 5.0, "last_ms": 40.0}


def test_memory_is_what_the_devices_took() -> None:
    merged = Merged()
    for number in range(2):
        merged.add(number, Report(Tally(devices=1_000), {}, rss_bytes=5_000_000, base_bytes=3_000_000))
    assert merged.summary()["bytes_per_device"] == 2_000


def figures(**changes: Any) -> dict[str, Any]:
    merged = Merged()
    timings = Timings()
    for name in TIMINGS:
        getattr(timings, name)[12] += 1
    tally = Tally(devices=3, connected=2, slow={"stopped": 1}, publications={5: Publication("close", 1, 6.0, 7.0)})
    merged.add(0, Report(tally, timings.take()))
    return {"seconds": 1.5, **merged.summary(), **changes}


def test_the_figures_can_be_shown() -> None:
    made = table(figures())
    assert made.row_count >= 4 + len(TIMINGS)
    assert line(figures()) == "1.5 s: of 3 devices 2 connected, 0 ready, 0 activated"


def test_the_last_figures_say_so_and_hold_every_flip(tmp_path: Path) -> None:
    file = tmp_path / "figures.json"
    write_figures(file, figures())
    assert json.loads(file.read_text()) == {**figures(), "final": False}
    write_figures(file, figures(), Counter({1_000: 2, 900: 1}))
    assert json.loads(file.read_text()) == {**figures(), "flips": {"900": 1, "1000": 2}, "final": True}
    assert list(tmp_path.iterdir()) == [file]


def test_a_reader_never_sees_half_the_figures(tmp_path: Path) -> None:
    file = tmp_path / "figures.json"
    flips = Counter(dict.fromkeys(range(2000), 1))
    write_figures(file, figures(devices=1), flips)
    done = threading.Event()

    def write() -> None:
        for devices in range(2, 61):
            write_figures(file, figures(devices=devices), flips)
        done.set()

    writer = threading.Thread(target=write)
    writer.start()
    seen: list[int] = []
    while not done.is_set():
        seen.append(json.loads(file.read_text())["devices"])
    writer.join()
    assert seen == sorted(seen)
    assert json.loads(file.read_text())["devices"] == 60
