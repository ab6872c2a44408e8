"""Ledgers and their sum: what many processes measured is what one would have."""

from __future__ import annotations

import random
from typing import Any

import msgspec
import pytest
from hdrh.histogram import HdrHistogram

from loadtest import tally
from loadtest.locusts.crowd_counts import counted
from loadtest.locusts.ledger import COUNTS, FIGURES, TIMINGS, Gathered, Ledger, Report


def sent(ledger: Ledger) -> Report:
    """Return a report as it arrives: through the same two steps as locust's messages."""
    said: Any = msgspec.msgpack.decode(msgspec.msgpack.encode(msgspec.to_builtins(ledger.take())), strict=False)
    return msgspec.convert(said, Report, strict=False)


def a_ledger(seed: int, values: int = 400) -> tuple[Ledger, list[float]]:
    rng, ledger = random.Random(seed), Ledger()
    times = [rng.lognormvariate(4, 2) for _ in range(values)]
    for ms in times:
        ledger.time("connect", ms)
    ledger.counts.update(devices=values, connected=values - 1, ready=values)
    return ledger, times


def test_merged_histograms_equal_the_parts() -> None:
    gathered, every = Gathered(), tally.histogram()
    for seed in range(5):
        ledger, times = a_ledger(seed)
        gathered.add(f"worker {seed}", sent(ledger))
        # A second report holds what has happened since, and nothing twice.
        ledger.time("connect", 5.0)
        gathered.add(f"worker {seed}", sent(ledger))
        for ms in (*times, 5.0):
            every.record_value(tally.units(ms))
    merged = gathered.histograms["connect"]
    assert merged.get_total_count() == 5 * 401
    assert list(merged.counts) == list(every.counts)
    assert gathered.figures()["connect.p9999"] == round(every.get_value_at_percentile(99.99) * tally.UNIT_MS, 1)
    assert gathered.figures()["devices"] == 5 * 400  # counts are since the start, so they are not added twice


def test_a_histogram_of_another_process_goes_through_a_ledger_unchanged() -> None:
    swarm, times = a_ledger(1)
    before = swarm.take().histograms["connect"]
    ledger = Ledger()
    told = ledger.time_many("connect", before)
    assert sum(count for _, count in told) == len(times)
    through = HdrHistogram.decode(ledger.take().histograms["connect"])
    assert list(through.counts) == list(HdrHistogram.decode(before).counts)


def test_a_worker_that_is_gone_has_no_connections_and_its_devices_are_missing() -> None:
    gathered = Gathered()
    for seed in range(2):
        gathered.add(f"worker {seed}", sent(a_ledger(seed)[0]))
    gathered.gone = {"worker 1"}
    figures = gathered.figures()
    assert (figures["devices"], figures["missing"], figures["connected"]) == (800, 400, 399)
    assert figures["connect.count"] == 800  # what they measured while they lived stays measured


def test_reports_of_another_test_are_left_out() -> None:
    gathered = Gathered()
    gathered.clear(7.0)
    gathered.add("worker", sent(a_ledger(0)[0]))
    assert gathered.figures()["devices"] == 0


def test_flips_are_those_of_the_stage_that_fewest_devices_show() -> None:
    gathered, ledger = Gathered(), Ledger()
    ledger.rev(10).flipped = 5
    ledger.rev(20).flipped = 4
    gathered.add("worker", sent(ledger))
    assert gathered.figures()["flips"] == 4  # nobody pressed here: the newest
    gathered.pressed = [10, 20]
    assert gathered.figures()["flips"] == 4
    gathered.pressed = [10, 30]
    assert gathered.figures()["flips"] == 0  # an activation that nobody has heard of


def test_a_swarm_s_tally_counts_by_the_same_names() -> None:
    swarm = tally.Tally(devices=9, connected=8, welcomed=12, ready=7, activated=6, flipped_twice=1, origin_requests=3)
    swarm.closes.update({0: 2, 4000: 1})
    swarm.refused[503] = 4
    swarm.publications[10] = tally.Publication("activate", 8)
    swarm.show(0, 10)
    report = counted(swarm)
    assert set(report.counts) <= set(COUNTS)
    assert (report.counts["lost"], report.counts["refused"], report.counts["twice"]) == (3, 4, 1)
    assert report.reasons == {"closed without a word": 2, "closed 4000": 1, "refused: 503": 4}
    assert (report.revs[10].kind, report.revs[10].received, report.revs[10].flipped) == ("activate", 8, 1)


@pytest.mark.parametrize("timing", TIMINGS)
def test_every_percentile_of_every_timing_is_a_figure(timing: str) -> None:
    ledger, gathered = Ledger(), Gathered()
    ledger.time(timing, 1.0)
    gathered.add("worker", sent(ledger))
    measured = {name for name in gathered.figures() if name.startswith(f"{timing}.")}
    assert len(measured) == 7
    assert measured <= set(FIGURES)
