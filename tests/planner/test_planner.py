"""Laws of a capacity plan: it adds up, it follows its figures, and what cannot be is refused with the number."""

from __future__ import annotations

import json
from pathlib import Path

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fanout.errors import InvalidInput
from loadtest.measured import Measured, measured
from loadtest.planner import Plan, Store, Wish, plan


def value(made: Plan, name: str) -> float:
    [line] = [line for line in made.lines if line.name == name]
    return line.value


WISHES = st.builds(
    Wish,
    devices=st.integers(1, 200_000_000),
    window_s=st.floats(1, 600),
    ahead_s=st.floats(0, 600),
    zones=st.integers(2, 6),
    recover_s=st.floats(10, 600),
    load_max=st.floats(0.2, 1),
)
# A store that bears any fleet, so that a law is not about the store.
STRONG = Store(worker_us_per_s=0.001, written_us_per_s=0.001, read_us_per_s=0.001)


@given(WISHES)
def test_a_plan_meets_every_need_and_not_one_worker_more_than_the_largest(wish: Wish) -> None:
    made = plan(wish, store=STRONG)
    needs = {line.name: line.value for line in made.lines if line.unit == "workers"}
    assert len(needs) == 4
    assert made.workers == max(needs.values()) == needs[made.decided_by]
    told_s = value(made, "told_after")
    assert told_s <= (wish.ahead_s + wish.window_s) * (1 + 1e-9)
    assert value(made, "window_min") <= wish.window_s * (1 + 1e-9)
    assert value(made, "recovered_after") <= wish.recover_s * (1 + 1e-9)
    assert value(made, "devices_per_worker") * made.workers == pytest.approx(wish.devices)
    # With a zone lost the others still have places for everyone.
    left = made.workers - -(-made.workers // wish.zones)
    assert left * wish.connections_max >= wish.devices


@given(WISHES)
def test_with_a_worker_less_in_every_zone_a_lost_zone_would_not_be_back_in_time(wish: Wish) -> None:
    """Whether or not another need takes more: this one by itself asks for what it needs, in every zone alike."""
    wish = msgspec.structs.replace(wish, connections_max=1_000_000, ahead_s=600.0, idle_load_max=1.0)
    need = value(plan(wish, store=STRONG), "workers_to_recover")
    assert need % wish.zones == 0
    admitted = Measured().handshakes_per_s * wish.load_max * wish.recover_s

    def taken_in(workers: float) -> float:
        return workers / wish.zones * (wish.zones - 1) * admitted

    lost = wish.devices / wish.zones
    assert taken_in(need) >= lost * (1 - 1e-9)
    assert taken_in(need - wish.zones) < lost


@pytest.mark.parametrize("zones", [2, 3, 4])
def test_where_recovery_decides_the_plan_is_as_small_as_it_may_be(zones: int) -> None:
    # A gateway takes more devices than by default, so that holding them does not decide.
    wish = Wish(devices=10_000_000, zones=zones, recover_s=10, connections_max=1_000_000)
    made = plan(wish)
    assert made.decided_by == "workers_to_recover"
    assert value(made, "recovered_after") <= wish.recover_s
    with pytest.raises(InvalidInput, match="lost zone's devices back within 10 s takes"):
        plan(msgspec.structs.replace(wish, workers=made.workers - zones))
    slower = msgspec.structs.replace(wish, recover_s=600, workers=made.workers - zones)
    assert value(plan(slower), "recovered_after") > wish.recover_s


@given(WISHES, st.integers(2, 5))
def test_more_devices_never_need_fewer_workers_and_faster_workers_never_more(wish: Wish, times: int) -> None:
    many = msgspec.structs.replace(wish, devices=wish.devices * times)
    assert plan(many, store=STRONG).workers >= plan(wish, store=STRONG).workers
    usual = Measured()
    fast = msgspec.structs.replace(
        usual, sends_per_s=usual.sends_per_s * times, handshakes_per_s=usual.handshakes_per_s * times
    )
    assert plan(wish, fast, STRONG).workers <= plan(wish, usual, STRONG).workers


def test_with_a_number_of_workers_that_is_too_small_it_says_which_need_forbids_it() -> None:
    enough = plan(Wish(devices=10_000_000)).workers
    assert plan(Wish(devices=10_000_000, workers=enough)).workers == enough
    with pytest.raises(InvalidInput, match=rf"workers is {enough - 1}, but .* takes {enough}"):
        plan(Wish(devices=10_000_000, workers=enough - 1))


def test_beyond_what_a_primary_carries_workers_read_from_replicas_and_beyond_that_it_is_refused() -> None:
    store = Store(worker_us_per_s=200, written_us_per_s=50, read_us_per_s=200, load_max=0.5)
    wish = Wish(devices=1_000_000, connections_max=1_000)
    found = {workers: plan(msgspec.structs.replace(wish, workers=workers), store=store) for workers in (2_500, 2_501)}
    assert value(found[2_500], "store_replicas") == 0
    assert value(found[2_501], "store_replicas") == 2
    assert value(found[2_501], "store_load") < value(found[2_500], "store_load")
    with pytest.raises(InvalidInput, match=r"10,001 workers are more than one primary carries \(10,000"):
        plan(msgspec.structs.replace(wish, workers=10_001), store=store)


@pytest.mark.parametrize(
    ("field", "sent", "allowed"),
    [
        ("devices", 0, "1 to"),
        ("window_s", 0, "0.1 to 600"),
        ("window_s", 601, "0.1 to 600"),
        ("zones", 1, "2 to 100"),
        ("miss_share", 1.1, "0 to 1"),
        ("load_max", 0, "0.01 to 1"),
        ("bundle_bytes", 2**21, "0 to 1,048,576"),
    ],
)
def test_a_wish_out_of_range_is_refused_with_what_was_sent_and_what_is_allowed(
    field: str, sent: float, allowed: str
) -> None:
    with pytest.raises(InvalidInput, match=f"{field} is {sent:,}; send {allowed}"):
        Wish(**{"devices": 1_000, field: sent})


def test_figures_of_other_hardware_change_the_plan_and_are_named(tmp_path: Path) -> None:
    file = tmp_path / "BENCH.json"
    figures = [{"name": "fan-out", "value": 1_000.0, "unit": "ms"}, {"name": "handshakes", "value": 500.0}]
    file.write_text(json.dumps({"settings": {"devices": 15_000, "rounds": 3}, "figures": figures}))
    found = measured(file)
    assert (found.sends_per_s, found.handshakes_per_s) == (15_000, 500)
    assert found.source("sends_per_s") == "BENCH.json"
    assert found.source("device_bytes") == "BENCH.md"
    wish = Wish(devices=10_000_000)
    slow = plan(wish, found)
    assert slow.decided_by == "workers_to_recover"
    assert slow.workers > plan(wish).workers
    assert {line.source for line in slow.lines if line.name == "workers_to_recover"} == {"BENCH.json"}


@pytest.mark.parametrize("text", ["", "[]", '{"settings": {}, "figures": []}', '{"figures": [{"name": 1}]}'])
def test_a_file_without_figures_is_refused_with_the_way_to_make_one(tmp_path: Path, text: str) -> None:
    file = tmp_path / "other.json"
    file.write_text(text)
    with pytest.raises(InvalidInput, match="make bench"):
        measured(file)
