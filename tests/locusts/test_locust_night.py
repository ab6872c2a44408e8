"""A night of 3,000 honest devices by locust against the whole product, in which a gateway dies while all wait armed.

The bounds are wide, for the machine has other things to do; what must hold exactly is counted, not timed.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from support.waiting import until

from .standing import locust, standing

DEVICES = 3_000
# Everybody is welcomed within seconds even where four tests share two cores; most flips are in time.
SLOS = (
    "connect.p99 <= 10000; ready_share >= 0.999; flip_error.p50 <= 500; flip_error.p99 <= 4000; "
    "flips = devices; twice = 0; missing = 0; errors = 0; catchup.p99 <= 20000"
)
NIGHT = (
    *("--headless", "--processes", "2", "--users", str(DEVICES), "--spawn-rate", "200"),
    *("--topics", "t", "--shape", "night", "--slo", SLOS),
    *("--prefetch-window", "4", "--arm", "12", "--activate-window", "6", "--patience", "30"),
)
# Locust's own patience with a night that goes wrong, seconds.
PATIENCE_S = 110.0


def read(file: Path) -> dict[str, Any]:
    return dict(json.loads(file.read_text())) if file.exists() else {"phase": ""}


@pytest.mark.slow
@pytest.mark.timeout(150)
async def test_a_night_of_3000_devices_keeps_its_slos_though_a_gateway_dies_in_it(tmp_path: Path) -> None:
    file, said = tmp_path / "night.json", tmp_path / "said"
    async with standing(gateways=2, backoff_cap_ms=4_000) as there:
        words = (*there.words, *NIGHT, "--fanout-json", str(file), "--csv", str(tmp_path / "night"))
        with locust(*words, api_key=there.api_key, output=said) as child:
            await until(
                lambda: read(file)["phase"] == "armed" or child.poll() is not None, "the arming", timeout_s=PATIENCE_S
            )
            assert child.poll() is None, said.read_text()
            there.kill(1)
            await until(lambda: child.poll() is not None, "the end of the night", timeout_s=PATIENCE_S)
    found = read(file)
    assert child.returncode == 0, said.read_text()
    assert (found["phase"], found["failed"], found["final"]) == ("over", "", True)
    assert all(each["kept"] for each in found["slos"])
    assert (found["devices"], found["ready"], found["flips"], found["twice"]) == (DEVICES, DEVICES, DEVICES, 0)
    # Half of them were on the gateway that died, and the report shows that they came back, and how soon.
    assert found["reasons"]["closed without a word"] >= DEVICES * 0.4
    assert found["returned"] == found["lost"] == found["timings_ms"]["catchup"]["count"]
    activate = next(each for each in found["publications"] if each["kind"] == "activate")
    assert activate["flipped"] == DEVICES
    assert [each["state"] for each in found["workers"]] == ["here", "here"]
    table = (tmp_path / "night_fanout.csv").read_text().splitlines()
    assert table[0] == "timing,count,p50_ms,p90_ms,p99_ms,p999_ms,p9999_ms,max_ms"
    assert f"flips,{DEVICES}" in table
