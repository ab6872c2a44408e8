"""The figures that plans are made with are those of the pages they are from, and the same for everyone."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Final

import pytest

from fanout import measured as figures
from fanout.doctor.capacity import Costs
from fanout.errors import InvalidInput
from loadtest.measured import Measured, Store, calibrated
from loadtest.planner import Wish, plan
from loadtest.simulation.scenario import Scenario

ROOT: Final = Path(__file__).resolve().parents[2]
# One run and the next differ by some per cent on a shared machine; what the store takes is rounded up, too.
WITHIN: Final = 0.15

BENCH: Final = {
    "HANDSHAKES_PER_S": "handshakes with token, welcome and state",
    "DEVICE_BYTES": "resident memory per idle device",
    "IDLE_CPU_US_PER_MIN": "processor time of",
    "IDLE_BYTES_PER_MIN": "bytes to an idle device",
    "STORE_WORKER_US_PER_S": "the store's thread, for probe and presence",
    "STORE_WRITTEN_US_PER_S": "the same of the primary",
    "STORE_READ_US_PER_S": "the same of that replica",
    "STORE_PUBLISH_US": "the store's thread, for each subscriber",
}


def row(page: str, begins: str) -> list[str]:
    """Return the cells of the page's row that begins so."""
    found = [line for line in (ROOT / page).read_text("utf-8").splitlines() if line.startswith(f"| {begins}")]
    if not found:
        pytest.skip(f"{page} has no row {begins!r}; make one with: make bench ARGS='--report BENCH.md'")
    (line,) = found
    return [cell.strip() for cell in line.strip("|").split("|")]


def number(text: str) -> float:
    return float(text.replace(",", ""))


@pytest.mark.parametrize(("name", "begins"), BENCH.items())
def test_a_figure_is_that_of_the_last_run(name: str, begins: str) -> None:
    assert getattr(figures, name) == pytest.approx(number(row("BENCH.md", begins)[2]), rel=WITHIN), name


def test_sends_are_those_of_the_last_fan_out() -> None:
    what, _, ms, *_ = row("BENCH.md", "fan-out of an activation to")
    sockets = re.search(r"to ([\d,]+) sockets", what)
    assert sockets is not None
    assert pytest.approx(number(sockets[1]) / number(ms) * 1000, rel=WITHIN) == figures.SENDS_PER_S


def test_sockets_and_workers_are_those_of_the_million() -> None:
    words = row("docs/million.md", "memory a device, gateways / swarm / kernel")[1]
    assert pytest.approx(number(words.split()[4]), rel=0.001) == figures.SOCKET_BYTES * 2
    assert f"{figures.WORKER_BYTES / 1e6:g} MB" == row("docs/million.md", "a gateway worker without devices")[1]
    swarm = row("docs/million.md", "of the swarm, without the processes")[1]
    assert f"{figures.SWARM_DEVICE_BYTES:,.0f} bytes" == swarm


def test_planner_doctor_and_simulator_reckon_with_the_same() -> None:
    planned, examined, simulated = Measured(), Costs(), Scenario()
    assert planned.sends_per_s == examined.sends_per_core_s
    assert planned.handshakes_per_s == examined.connects_per_core_s
    assert planned.device_bytes == examined.device_bytes == simulated.device_bytes
    assert planned.kernel_bytes == examined.socket_bytes == simulated.socket_bytes
    assert planned.idle_bytes_per_min == simulated.idle_bytes_per_min


def test_a_store_that_was_measured_changes_the_plan_and_is_named(tmp_path: Path) -> None:
    file = tmp_path / "BENCH.json"
    names = {"bus-worker": 400.0, "bus-worker-primary": 200.0, "bus-worker-replica": 100.0, "bus-publish": 7.5}
    found = [{"name": name, "value": value} for name, value in names.items()]
    file.write_text(json.dumps({"settings": {"devices": 15_000}, "figures": found}))
    worker, store = calibrated(file)
    assert worker == Measured()
    assert (store.worker_us_per_s, store.written_us_per_s, store.read_us_per_s, store.publish_us) == tuple(
        names.values()
    )
    made = plan(Wish(devices=100_000_000), worker, store)
    lines = {line.name: line for line in made.lines}
    # 1,500 workers: more than the 1,250 that such a primary carries alone.
    assert lines["store_replicas"].value == 1
    assert lines["store_load"].value == pytest.approx(made.workers * 200 / 1e6)
    assert {lines[name].source for name in ("store_load", "store_replicas", "doorbell_ms")} == {"BENCH.json"}
    with pytest.raises(InvalidInput, match="more than one primary carries"):
        plan(Wish(devices=200_000_000), worker, store)
    assert plan(Wish(devices=200_000_000), worker, Store()).workers == 3_000
