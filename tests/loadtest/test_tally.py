"""What a swarm counts, and how it tells."""

from __future__ import annotations

import json
import math
import threading
from collections import Counter
from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from loadtest.command import percentiles, summary, write_tally
from loadtest.swarm import SwarmConfig, Tally

COUNTS = st.dictionaries(st.integers(0, 10_000), st.integers(1, 50), min_size=1, max_size=40)


@given(COUNTS)
def test_percentiles_are_those_of_the_sorted_values(counts: dict[int, int]) -> None:
    values = sorted(value for value, times in counts.items() for _ in range(times))

    def nearest_rank(share: float) -> int:
        return values[math.ceil(share * len(values)) - 1]

    assert percentiles(Counter(counts)) == {"p50": nearest_rank(0.5), "p99": nearest_rank(0.99), "max": values[-1]}


def test_nothing_has_no_percentiles() -> None:
    assert percentiles(Counter()) == {}


def test_two_swarms_share_no_counters() -> None:
    one, other = Tally(), Tally()
    one.flips[17] += 1
    assert not other.flips
    assert other.errors_ms is not one.errors_ms


def test_the_last_tally_says_so_and_holds_every_flip(tmp_path: Path) -> None:
    tally = Tally(devices=3, connected=3, ready=3, activated=3, flips=Counter({1_000: 2, 900: 1}))
    file = tmp_path / "tally.json"
    write_tally(file, tally, final=False)
    assert json.loads(file.read_text()) == {**summary(tally), "final": False}
    write_tally(file, tally, final=True)
    assert json.loads(file.read_text()) == {**summary(tally), "flips": {"900": 1, "1000": 2}, "final": True}
    assert list(tmp_path.iterdir()) == [file]


def test_a_reader_never_sees_half_a_tally(tmp_path: Path) -> None:
    file = tmp_path / "tally.json"
    tally = Tally(devices=1, flips=Counter(dict.fromkeys(range(2000), 1)))
    write_tally(file, tally, final=True)
    done = threading.Event()

    def write() -> None:
        for devices in range(2, 200):
            tally.devices = devices
            write_tally(file, tally, final=True)
        done.set()

    writer = threading.Thread(target=write)
    writer.start()
    seen: list[int] = []
    while not done.is_set():
        seen.append(json.loads(file.read_text())["devices"])
    writer.join()
    assert seen == sorted(seen)
    assert json.loads(file.read_text())["devices"] == 199


def test_a_swarm_needs_to_know_only_where_and_how_many() -> None:
    config = SwarmConfig(url="ws://127.0.0.1:1/v1/connect", devices=1, topics=("t",))
    assert (config.ramp_s, config.prefix) == (0.0, "device")
