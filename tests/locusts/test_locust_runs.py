"""Locust itself, as processes: its page, how it ends, a swarm within it, workers that die."""

from __future__ import annotations

import asyncio
import json
import os
import signal
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import httpx
import pytest
from support.waiting import PATIENCE_S, until

from loadtest.ports import reserved_ports

from .standing import children, locust, standing


def read(file: Path) -> dict[str, Any]:
    return dict(json.loads(file.read_text())) if file.exists() else {}


@pytest.fixture
def port() -> Iterator[int]:
    """A port for locust's page."""
    with reserved_ports(1) as [held]:
        yield held


def test_a_bad_option_is_refused_in_one_line(tmp_path: Path) -> None:
    said = tmp_path / "said"
    with locust(
        "--headless", "--gateway-url", "ws://127.0.0.1:1/", "--slo", "flips = everybody", output=said
    ) as child:
        assert child.wait(PATIENCE_S) == 2
    (line,) = [each for each in said.read_text().splitlines() if each.startswith("Error: ")]
    assert "everybody" in line
    assert "Traceback" not in said.read_text()


@pytest.mark.slow
async def test_the_page_shows_the_figures_and_a_broken_slo_ends_with_status_1(tmp_path: Path, port: int) -> None:
    """One process with both kinds of users: two honest devices and a swarm of thirty."""
    file, said = tmp_path / "figures.json", tmp_path / "said"
    async with standing(gateways=1) as there:
        words = (
            *there.words,
            *("--autostart", "--autoquit", "0", "--run-time", "60s", "--users", "3", "--spawn-rate", "3"),
            *("--swarm-users", "1", "--swarm-devices", "30", "--swarm-pace", "0", "--topics", "t"),
            *("--web-host", "127.0.0.1", "--web-port", str(port), "--fanout-json", str(file)),
            *("--slo", "connect.max <= 0; connect.count >= 32; errors = 0"),
        )
        with locust(*words, output=said) as child:
            await until(lambda: read(file).get("connected") == 32 or child.poll() is not None, "the devices")
            assert child.poll() is None, said.read_text()
            async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}", trust_env=False) as http:
                front, page = await http.get("/"), await http.get("/fanout")
                shown = (await http.get("/fanout/figures.json")).json()
                table = (await http.get("/fanout/figures.csv")).text
                stats = (await http.get("/stats/requests")).json()["stats"]
                assert 'href="/fanout"' in front.text
                assert "fanout/figures.json" in page.text
                with suppress(httpx.TransportError):  # it may be gone before it has answered, however that looks
                    await http.post("/stop")
            assert await asyncio.to_thread(child.wait, PATIENCE_S) == 1, said.read_text()
    assert (shown["devices"], shown["connected"], shown["timings_ms"]["connect"]["count"]) == (32, 32, 32)
    assert {each["slo"]: each["kept"] for each in shown["slos"]} == {
        "connect.max <= 0": False,
        "connect.count >= 32": True,
        "errors = 0": True,
    }
    assert "devices,32" in table.splitlines()
    assert [each["num_requests"] for each in stats if each["name"] == "connect"] == [32]
    assert "BROKEN" in said.read_text()
    assert read(file)["final"]


@pytest.mark.slow
@pytest.mark.timeout(150)
async def test_the_devices_of_a_worker_that_is_killed_are_missing_and_counted(tmp_path: Path) -> None:
    file, said = tmp_path / "figures.json", tmp_path / "said"
    async with standing(gateways=1) as there:
        words = (
            *there.words,
            *("--headless", "--processes", "2", "--users", "10", "--spawn-rate", "10", "--topics", "t"),
            *("--shape", "storm", "--storms", "1", "--storm-timeout", "5", "--patience", "30"),
            *("--fanout-json", str(file), "--slo", "missing = 0; returned = 5"),
        )
        with locust(*words, output=said) as child:
            await until(lambda: read(file).get("connected") == 10 or child.poll() is not None, "the devices")
            os.kill(children(child.pid)[0], signal.SIGKILL)
            assert await asyncio.to_thread(child.wait, PATIENCE_S * 2) == 1, said.read_text()
    found = read(file)
    assert sorted(each["state"] for each in found["workers"]) == ["here", "missing"]
    assert (found["devices"], found["missing"], found["connected"]) == (10, 5, 5)
    assert {each["slo"]: each["kept"] for each in found["slos"]}["missing = 0"] is False


@pytest.mark.slow
async def test_a_night_whose_press_is_refused_fails_and_a_told_locust_ends_in_good_order(tmp_path: Path) -> None:
    file, said = tmp_path / "figures.json", tmp_path / "said"
    async with standing(gateways=1) as there:
        words = (*there.words, "--headless", "--users", "2", "--spawn-rate", "2", "--topics", "t")
        night = (*words, "--shape", "night", "--fanout-json", str(file))
        with locust(*night, api_key="nobody's", output=said) as child:
            assert await asyncio.to_thread(child.wait, PATIENCE_S) == 1, said.read_text()
        found = read(file)
        assert (found["phase"], found["final"], found["connected"]) == ("failed", True, 2)
        assert found["failed"].startswith("401")
        file.unlink()
        with locust(*words, "--slo", "connect.count = 2", "--fanout-json", str(file), output=said) as child:
            await until(lambda: read(file).get("connected") == 2 or child.poll() is not None, "the devices")
            child.send_signal(signal.SIGTERM)
            assert await asyncio.to_thread(child.wait, PATIENCE_S) == 0, said.read_text()
        assert read(file)["final"]
