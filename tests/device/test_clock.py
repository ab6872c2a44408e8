"""A device's estimate of the server's clock: drift, steps, delays that differ from message to message."""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fanout.device.clock import SPAN, STEP_MS, STEP_SAMPLES, ServerClock

EPOCH = 1_760_000_000_000
VECTORS = json.loads((Path(__file__).parents[1] / "vectors" / "clock.json").read_text("utf-8"))


def beacons(
    clock: ServerClock, delays: list[float], *, begin: float = 0, ppm: float = 0, offset: float = EPOCH
) -> float:
    """Let beacons come every 10 s of the server's time; return the monotonic time of the last one."""
    mono = begin
    for n, delay in enumerate(delays):
        sent = begin + n * 10_000
        mono = (sent + delay) * (1 + ppm / 1e6)
        clock.sample(int(offset + sent), mono)
    return mono


def test_an_unknown_clock_says_so() -> None:
    clock = ServerClock()
    assert not clock.known
    clock.sample(EPOCH, 5.0)
    assert clock.known
    assert clock.server_ms(6.0) == EPOCH + 1


@given(st.lists(st.floats(0, STEP_MS - 1), min_size=1, max_size=60))
def test_the_sample_with_the_least_delay_of_the_last_ones_decides(delays: list[float]) -> None:
    clock = ServerClock()
    beacons(clock, delays)
    assert min(delays) - 1 <= EPOCH - clock.offset_ms <= min(delays[-SPAN:]) + 1


@given(st.randoms(use_true_random=False), st.floats(-100, 100))
def test_drift_stays_within_what_two_spans_allow(rng: random.Random, ppm: float) -> None:
    clock = ServerClock()
    mono = beacons(clock, [5 + rng.random() * 200 for _ in range(200)], ppm=ppm)
    server = EPOCH + mono / (1 + ppm / 1e6)
    worst_drift = 2 * SPAN * 10_000 * 100 / 1e6
    assert -(200 + 2) <= clock.server_ms(mono) - server <= worst_drift


def test_a_step_forward_is_believed_at_once() -> None:
    clock = ServerClock()
    mono = beacons(clock, [20.0] * 20)
    clock.sample(EPOCH + int(mono) + 60_000, mono)
    assert clock.server_ms(mono) == EPOCH + int(mono) + 60_000


def test_a_step_back_is_believed_after_a_few_samples_and_a_delay_is_not() -> None:
    clock = ServerClock()
    mono = beacons(clock, [20.0] * 20)
    before = clock.offset_ms
    for n in range(1, STEP_SAMPLES):
        clock.sample(EPOCH + int(mono) - 60_000 + n, mono + n)
        assert clock.offset_ms == before
    clock.sample(EPOCH + int(mono), mono + 20)
    for n in range(1, STEP_SAMPLES + 1):
        assert clock.offset_ms == before, "one good sample in between starts the count anew"
        clock.sample(EPOCH + int(mono) - 60_000 + 30 * n, mono + 30 * n)
    assert abs(clock.offset_ms - (EPOCH - 60_000)) <= 1


@given(st.floats(0, 1e9), st.integers(-(10**6), 10**6))
def test_converting_there_and_back_loses_less_than_a_millisecond(mono: float, ahead: int) -> None:
    clock = ServerClock()
    clock.sample(EPOCH, mono)
    assert abs(clock.mono_ms(clock.server_ms(mono + ahead)) - (mono + ahead)) < 0.01


# --- Vectors


@pytest.mark.parametrize("case", VECTORS["cases"], ids=lambda case: case["name"])
def test_the_vectors_hold(case: dict[str, Any]) -> None:
    clock = ServerClock()
    assert not clock.known
    for sample in case["samples"]:
        clock.sample(sample["now"], sample["mono"])
        assert clock.known is sample["known"], sample
        assert clock.offset_ms == pytest.approx(sample["offset_ms"], abs=0.01, rel=0), sample


def test_the_vectors_say_what_they_are() -> None:
    assert all(isinstance(line, str) for line in VECTORS["about"])
    names = [case["name"] for case in VECTORS["cases"]]
    assert len(names) == len(set(names))
    assert set(VECTORS["spans"]) <= set(names)
