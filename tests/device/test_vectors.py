"""The machine does what tests/vectors/device.json says, as a machine in any other language must."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import msgspec
import pytest

from fanout import wire
from fanout.device import DeviceMachine

from .driving import FixedRandom

VECTORS = json.loads((Path(__file__).parents[1] / "vectors" / "device.json").read_text("utf-8"))


def answer(machine: DeviceMachine, step: dict[str, Any]) -> dict[str, Any]:
    """Hand one event in; return what the step is to be compared with."""
    at, event = float(step["at"]), step["event"]
    if event == "received":
        message = wire.decode_to_device(json.dumps(step["message"]).encode(), wire.Encoding.JSON)
        assert message is not None
        actions = machine.received(message, at)
    elif event == "due":
        actions = machine.due(at)
    elif event == "stored":
        actions = machine.stored(step["sha256"], at, via=step["via"], took_ms=step["took_ms"])
    elif event == "fetch_failed":
        actions = machine.fetch_failed(step["sha256"], at, retry_after_ms=step["retry_after_ms"])
    elif event == "distrusted":
        actions = machine.distrusted(at)
    elif event == "disconnected":
        details = {name: step[name] for name in ("code", "status", "retry_after_ms")}
        again = machine.disconnected(at, **details)
        return {"again": again, "actions": [], "next_due": machine.next_due_ms()}
    else:
        assert event == "resume"
        return machine.resume()._asdict()
    return {"actions": json.loads(msgspec.json.encode(actions)), "next_due": machine.next_due_ms()}


def close_to(expected: Any) -> Any:
    """Return the same, comparing numbers as the vectors allow."""
    if isinstance(expected, dict):
        return {name: close_to(value) for name, value in expected.items()}
    if isinstance(expected, list):
        return [close_to(value) for value in expected]
    return pytest.approx(expected, abs=0.01, rel=0) if isinstance(expected, float) else expected


@pytest.mark.parametrize("case", VECTORS["cases"], ids=lambda case: case["name"])
def test_the_vectors_hold(case: dict[str, Any]) -> None:
    machine = DeviceMachine(case["device_id"], held=case["held"], rng=FixedRandom(case["random"]))
    for step in case["steps"]:
        got = answer(machine, step)
        assert got == {name: close_to(step[name]) for name in got}, step


def test_the_vectors_say_what_they_are() -> None:
    assert all(isinstance(line, str) for line in VECTORS["about"])
    names = [case["name"] for case in VECTORS["cases"]]
    assert len(names) == len(set(names))
