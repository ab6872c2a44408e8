"""Scenarios: what no fleet could do is refused with the number that forbids it; files, words and figures are read."""

from __future__ import annotations

import json
import math
import re
from pathlib import Path
from typing import Any

import pytest
from msgspec import structs

from fanout.errors import InvalidInput
from loadtest.simulation.fleet import workers_of
from loadtest.simulation.policies import POLICIES
from loadtest.simulation.reading import read_bench, read_file, read_words, scenario_of
from loadtest.simulation.scenario import Prices, Region, Scenario
from loadtest.simulator import check, simulate

from .nights import quiet

ALL = tuple(POLICIES)


@pytest.mark.parametrize(
    ("changed", "says"),
    [
        ({"devices": 0}, "devices is 0; send 1 to 1e+09"),
        ({"devices": 2_000_000_000}, "devices is 2000000000"),
        ({"offline_share": 1.5}, "offline_share is 1.5; send 0 to 1"),
        ({"cdn_hit_ratio": -0.1}, "cdn_hit_ratio is -0.1"),
        ({"share": math.nan}, "share is nan"),
        ({"sends_per_s": 0}, "sends_per_s is 0; send more than 0"),
        ({"sends_per_s": math.inf}, "sends_per_s is inf"),
        ({"offline_share": 0.7, "late_share": 0.4}, "more than all devices"),
        ({"workers": 2}, "20000 devices on 2 workers are 10000 each, connections_max is 5000"),
        ({"workers": 1, "connections_max": 10**9, "files_max": 10_512}, "files_max is 10512"),
        ({"workers": 1, "connections_max": 10**9, "balancer_sources": 1, "ports_per_source": 9_999}, "9999 ports"),
        ({"workers": 30_000}, "30000 workers for 20000 devices"),
        ({"skew": 0.31}, "skew is 0.31; send 0 to 0.3"),
        ({"window_s": 700}, "window_s is 700; send 0 to 600"),
        ({"horizon_s": 40}, "horizon_s is 40; send more than window_s 45"),
        ({"ready_gate": 0.5}, "ready_gate is 0.5, below the 1"),
        ({"inline_bytes": 20_000}, "inline_bytes is 20000; send 0 to 16384"),
        ({"retry_after_s": 0.5}, "retry_after_s is 0.5; send 1 to 3600"),
        ({"publish_median_ms": 10, "publish_p99_ms": 5}, "median is 10 ms, p99 5 ms"),
        ({"regions": (Region(name="x", share=0.5, median_ms=1, p99_ms=2),)}, "add up to 0.5"),
        ({"prefix": "x" * 200}, "prefix has 200 characters"),
        ({"gateway_dies_s": -1}, "gateway_dies_s is -1"),
    ],
)
def test_what_could_not_be_is_refused_with_the_number(changed: dict[str, Any], says: str) -> None:
    with pytest.raises(InvalidInput, match=says.replace("+", r"\+")):
        quiet(**{"connections_max": 5_000, **changed})


@pytest.mark.parametrize(
    ("changed", "says"),
    [
        # 5,000 devices at 100 a second: 50 s, of which 5 are before the instant.
        (
            {"sends_per_s": 100.0, "window_s": 44.0},
            r"window_s is 44; .* 5000 devices at 100 a second, until 45\.00 s",
        ),
        ({"skew": 0.2, "connections_max": 5_100}, "the fullest of 4 workers has .* connections_max is 5100"),
        ({"zone_share": 1.0, "zone_dies_s": 1.0}, "0 of 4 workers are left .* room for 0 devices of 20000"),
        (
            {"zone_share": 0.5, "zone_dies_s": 1.0, "connections_max": 6_000},
            "2 of 4 .* room for 12000 devices of 20000",
        ),
        ({"origin_per_s": 4.0}, "prefetch would ask the origin for 6 a second, it gives 4: send 5000 or more"),
    ],
)
def test_a_fleet_that_could_not_do_it_is_refused_with_the_number(changed: dict[str, Any], says: str) -> None:
    with pytest.raises(InvalidInput, match=says):
        check(quiet(**changed), ALL)


def test_the_window_the_gateways_need_is_enough() -> None:
    check(quiet(sends_per_s=100.0, window_s=45.0), ALL)
    check(quiet(sends_per_s=100.0, window_s=44.0), ["trigger"])


@pytest.mark.parametrize("policies", [[], ["two-phase", "magic"]])
def test_unknown_policies_are_refused(policies: list[str]) -> None:
    with pytest.raises(InvalidInput, match="send one or more of polling"):
        simulate(quiet(), policies)


def test_every_device_has_one_worker_and_loads_differ_as_asked() -> None:
    workers = workers_of(quiet(devices=200_000, workers=400, skew=0.1))
    assert workers.devices.sum() == 200_000
    assert (workers.devices >= 0).all()
    assert workers.devices.std() / 500 == pytest.approx(0.1, rel=0.2)
    assert workers.sent_s(0, 200_000).min() > 0
    assert workers.sends_per_s(2).sum() == pytest.approx(200_000)


def test_later_parts_win_and_prices_add_up(tmp_path: Path) -> None:
    file = tmp_path / "night.yaml"
    file.write_text("devices: 1e6\nwindow_s: 30\nprices:\n  core_hour_usd: 0.1\nzone_dies_s: null\n")
    words = ["window_s=20", "prices.egress=1", "gateway_dies_s=null", "prefix=tv"]
    found = scenario_of(read_file(file), {"window_s": 25.0}, read_words([words[0], *words[2:]]))
    assert (found.devices, found.window_s, found.prefix) == (1_000_000, 20, "tv")
    assert found.prices.core_hour_usd == 0.1
    both = scenario_of(read_file(file), read_words(["prices.cdn_egress_gb_usd=0.5"]))
    assert (both.prices.core_hour_usd, both.prices.cdn_egress_gb_usd) == (0.1, 0.5)


@pytest.mark.parametrize(
    "words",
    [["devices"], ["=3"], ["devices=many"], ["no_such_field=1"], ["prices.gold=1"], ["seed=[1"], ["devices=1.5"]],
)
def test_words_that_mean_nothing_are_refused(words: list[str]) -> None:
    with pytest.raises(InvalidInput):
        scenario_of(read_words(words))


@pytest.mark.parametrize("text", ["", "just words", "[1, 2]", "a: [", "1: 2", "devices: {}"])
def test_files_that_mean_nothing_are_refused(tmp_path: Path, text: str) -> None:
    (tmp_path / "x.yaml").write_text(text)
    with pytest.raises(InvalidInput):
        scenario_of(read_file(tmp_path / "x.yaml"))
    with pytest.raises(InvalidInput, match="cannot be read"):
        read_file(tmp_path / "none.yaml")


def bench(path: Path, **figures: Any) -> Path:
    """Write what make bench writes, with these figures."""
    found = [{"name": name.replace("_", "-"), "value": value} for name, value in figures.items()]
    path.write_text(json.dumps({"settings": {"devices": 15_000, "rounds": 3}, "figures": found}))
    return path


def test_measured_figures_set_what_they_measure_and_say_so(tmp_path: Path) -> None:
    file = bench(tmp_path / "b.json", fan_out=200.0, handshakes=10_000.5, memory=1_424.0, slow_back=1.0)
    fields, said = read_bench(file)
    assert fields == {"sends_per_s": 75_000.0, "admit_per_s": 10_000.5, "device_bytes": 1_424.0}
    assert said[0] == "sends_per_s 75,000: fan-out, sends a second of one worker, b.json"
    assert len(said) == 3
    assert scenario_of(fields).sends_per_s == 75_000


@pytest.mark.parametrize("figures", [{}, {"slow_back": 1.0}, {"fan_out": 0}, {"memory": 1e300}, {"handshakes": "9"}])
def test_files_without_figures_or_with_impossible_ones_are_refused(tmp_path: Path, figures: dict[str, Any]) -> None:
    with pytest.raises(InvalidInput, match="make bench"):
        read_bench(bench(tmp_path / "b.json", **figures))


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"settings": {"devices": 1}, "figures": 7}', "[" * 10**5])
def test_files_that_are_no_figures_are_refused(tmp_path: Path, text: str) -> None:
    (tmp_path / "b.json").write_text(text)
    with pytest.raises(InvalidInput, match="make bench"):
        read_bench(tmp_path / "b.json")


def test_the_default_night_is_one_a_fleet_can_have() -> None:
    check(Scenario(), ALL)


def test_the_page_lists_every_field_with_its_default() -> None:
    page = (Path(__file__).parents[2] / "docs" / "simulator.md").read_text()
    rows = dict(re.findall(r"^\| `([a-z0-9_.]+)` \| (.*?) \|", page, re.MULTILINE))
    fields = {field.name: field.default for field in structs.fields(Scenario) if field.name != "prices"}
    fields |= {f"prices.{field.name}": field.default for field in structs.fields(Prices)}
    assert rows.keys() == fields.keys()
    for name, default in fields.items():
        if isinstance(default, int | float):
            assert float(rows[name].replace(",", "")) == default, name
