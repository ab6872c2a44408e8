"""A soak of half a minute, what it takes for a broken promise, and the churn it stands on."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.product import product
from support.viewers import swarm
from support.waiting import PATIENCE_S, until

from loadtest.soak import law
from loadtest.soak.faults import FAULTS
from loadtest.soak.law import TAKEN_BACK_MS, Checkpoint, Memory
from loadtest.soak.presses import AHEAD_S, Pressed
from loadtest.soak.processes import Seen
from loadtest.tally import Merged, Report, Tally

DEVICES = 200
LONG_MS = TAKEN_BACK_MS


# --- The whole of it.


@contextmanager
def soak(tmp_path: Path, *words: str) -> Iterator[tuple[subprocess.Popen[str], Path]]:
    """Run a soak of a few devices, a third of which leave within a minute, and faults as they are drawn."""
    file = tmp_path / "soak.json"
    options = ("--devices", str(DEVICES), "--churn", "0.3", "--json", str(file), *words)
    environment = {name: value for name, value in os.environ.items() if not name.startswith("FANOUT_")}
    child = subprocess.Popen(
        [sys.executable, "-m", "loadtest.soak", *options],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        env=environment,
        start_new_session=True,
    )
    try:
        yield child, file
    finally:
        if child.poll() is None:
            child.terminate()
            child.terminate()
        child.communicate()


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_whatever_breaks_every_device_ends_in_the_newest_stage_and_none_flips_twice(tmp_path: Path) -> None:
    with soak(tmp_path, "--minutes", "0.25") as (child, file):
        _, said = child.communicate(timeout=240)
        assert child.returncode == 0, said
    found: dict[str, Any] = json.loads(file.read_text())
    assert (found["broken"], found["lost"], found["processes_left"]) == ([], 0, [])
    (checkpoint,) = found["checkpoints"]
    assert checkpoint["shown"] == checkpoint["devices"] == DEVICES
    counted = found["devices_counted"]
    assert counted["flipped_twice"] == 0
    # Something was asked of it.
    assert counted["left"] > 0
    assert counted["welcomed"] > DEVICES
    assert found["flips"] >= DEVICES
    assert set(found["faults"]) <= {fault.name for fault in FAULTS}
    assert sum(found["faults"].values()) > 0
    assert set(found["memory"]) == {"worker", "control"}
    assert f"{DEVICES} of {DEVICES} devices show the newest stage" in said


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_one_that_is_ended_early_says_what_it_has_found(tmp_path: Path) -> None:
    with soak(tmp_path, "--minutes", "60") as (child, file):
        assert child.stderr is not None
        assert "devices are connected" in child.stderr.readline()
        child.send_signal(signal.SIGINT)
        _, said = child.communicate(timeout=240)
        assert child.returncode == 0, said
    found = json.loads(file.read_text())
    assert found["stopped"]
    assert [each["shown"] for each in found["checkpoints"]] == [DEVICES]
    assert found["processes_left"] == []


# --- What breaks the promise.


def activation(rev: int, at: int | None = None) -> Pressed:
    return Pressed("activate", rev, rev if at is None else at, 1_000)


def cancel(rev: int) -> Pressed:
    return Pressed("cancel", rev)


def test_a_cancel_leads_back_and_an_activation_that_had_begun_stays() -> None:
    begun, armed = activation(1_000), activation(2_000, at=9_000)
    assert law.newest([]) == 0
    assert law.newest([begun, armed]) == armed.rev
    assert law.newest([begun, armed, cancel(3_000)]) == begun.rev
    assert law.newest([begun, cancel(3_000)]) == begun.rev
    assert law.newest([armed, cancel(3_000)]) == 0


@pytest.mark.parametrize("second", [activation, cancel], ids=["moved", "cancelled"])
def test_only_what_was_taken_back_long_before_its_instant_may_reach_nobody(second: Any) -> None:
    assert law.taken_back([activation(1_000, at=2_000 + LONG_MS), second(2_000)]) == [1_000]
    assert law.taken_back([activation(1_000, at=1_999 + LONG_MS), second(2_000)]) == []
    assert law.taken_back([activation(1_000, at=2_000 + LONG_MS)]) == []


def test_what_a_soak_takes_back_is_taken_back_long_before() -> None:
    # Arming takes a moment, then up to a second passes.
    assert AHEAD_S * 1000 - TAKEN_BACK_MS >= 1_500


def broken(log: list[Pressed], flips: dict[int, int], twice: int = 0) -> list[str]:
    return law.flips_broken(log, 10, flips, twice)


def test_flips_that_keep_the_promise_are_no_news() -> None:
    log = [activation(1), activation(2), activation(3, at=3 + 2 * LONG_MS), cancel(4)]
    # Whoever was away for the first went straight to the second.
    assert broken(log, {1: 7, 2: 10}) == []


@pytest.mark.parametrize(
    ("flips", "twice", "says"),
    [
        ({1: 10, 2: 10}, 1, "repeated"),
        ({1: 11}, 0, "11 flips"),
        ({1: 10, 3: 1}, 0, "taken back"),
        ({1: 10, 5: 1}, 0, "nobody had it accepted"),
    ],
)
def test_a_flip_too_many_breaks_it(flips: dict[int, int], twice: int, says: str) -> None:
    log = [activation(1), activation(2), activation(3, at=3 + 2 * LONG_MS), cancel(4)]
    (said,) = broken(log, flips, twice)
    assert says in said


def test_a_device_that_does_not_come_to_the_newest_stage_breaks_it() -> None:
    good, bad = Checkpoint(1, 10, 10, 1.0), Checkpoint(2, 10, 9, 60.0)
    assert law.checkpoints_broken([good]) == []
    (said,) = law.checkpoints_broken([good, bad])
    assert said.startswith("1 of 10 devices did not show revision 2")
    assert law.checkpoints_broken([]), "a run that held nothing has proved nothing"


@given(st.lists(st.integers(50, 54), min_size=3, max_size=50))
def test_memory_that_only_wavers_is_flat(sizes: list[int]) -> None:
    assert law.memory_broken([Memory(size, 60) for size in sizes]) == []


def test_memory_that_grows_breaks_it() -> None:
    (worker,) = law.memory_broken([Memory(50 + step, 60) for step in range(30)])
    (control,) = law.memory_broken([Memory(50, 60 + step) for step in range(30)])
    assert worker.startswith("a gateway's worker has grown")
    assert control.startswith("the control plane has grown")


def test_a_process_is_left_until_it_has_ended() -> None:
    with subprocess.Popen(["cat"], stdin=subprocess.PIPE) as child:
        seen = Seen()
        seen.look([child.pid])
        assert seen.left() == [child.pid]
        child.terminate()
        child.wait()
        assert seen.left() == []


# --- Churn, and who shows what.


async def test_devices_that_leave_without_a_word_come_back_and_miss_nothing() -> None:
    devices = 40
    async with product() as made, swarm(made, devices, churn_per_min=30.0) as crowd:
        await made.create()
        await made.press("prefetch", window_s=0)
        await until(lambda: crowd.tally.ready == devices, "every bundle")
        await until(lambda: crowd.tally.left >= devices, "as many as there are leave", 2 * PATIENCE_S)
        for stage in ("live", "ended"):
            pressed = await made.force(stage, window_s=0.5)
            rev = pressed["activation"]["rev"]
            await until(lambda rev=rev: crowd.tally.shown == {rev: devices}, f"{stage} everywhere")  # type: ignore[misc]
            # Whoever was away flips late, and nobody twice.
            assert crowd.tally.flipped_for[rev] == devices
        assert crowd.shows() == {"ended"}
        assert crowd.tally.flipped_twice == 0
        assert crowd.tally.welcomed >= crowd.tally.left


async def test_without_churn_nobody_leaves() -> None:
    async with product() as made, swarm(made, 10) as crowd:
        await made.create()
        await made.press("prefetch", window_s=0)
        await until(lambda: crowd.tally.ready == 10, "every bundle")
        assert (crowd.tally.left, crowd.tally.welcomed) == (0, 10)


@given(st.lists(st.tuples(st.integers(0, 4), st.integers(1, 6)), max_size=40), st.integers(1, 3))
def test_processes_together_count_what_every_device_shows(flips: list[tuple[int, int]], processes: int) -> None:
    shows: dict[int, int] = {}
    tallies = [Tally() for _ in range(processes)]
    for device, rev in flips:
        tallies[device % processes].show(shows.get(device, 0), rev)
        shows[device] = rev
    merged = Merged()
    for number, tally in enumerate(tallies):
        merged.add(number, msgspec.json.decode(msgspec.json.encode(Report(tally, {})), type=Report))
    assert merged.tally().shown == Counter(shows.values())
    assert merged.tally().flipped_for == Counter(rev for _, rev in flips)
    assert merged.summary()["shown"] == {str(rev): count for rev, count in sorted(Counter(shows.values()).items())}
