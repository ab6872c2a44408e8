"""Holds deploy/grafana: three files that Grafana imports as they are, and that Prometheus can answer.

No Grafana is to be had where this runs, so its rules are held one by one: what a panel needs, where it may lie.
"""

from __future__ import annotations

import importlib.util
import itertools
import json
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from .rules import DASHBOARDS, ROOT, alert_names, needs_promtool, panel_expressions, panels, promtool, recorded

IDS: Any = {"ids": lambda path: path.stem}


def test_the_files_are_what_the_panels_make_of_them(monkeypatch: pytest.MonkeyPatch) -> None:
    spec = importlib.util.spec_from_file_location("dashboards", ROOT / "deploy/grafana/dashboards.py")
    assert spec is not None
    assert spec.loader is not None
    maker = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, spec.name, maker)  # where its types are looked up
    spec.loader.exec_module(maker)
    assert {path.stem for path in DASHBOARDS} == {"fleet", "night", "gateway"}
    for path in DASHBOARDS:
        assert path.read_text() == maker.text(path.stem), f"{path} is behind; run python deploy/grafana/dashboards.py"


@pytest.mark.parametrize("path", DASHBOARDS, **IDS)
def test_a_dashboard_can_be_imported_anywhere(path: Path) -> None:
    board = json.loads(path.read_text())
    assert board["uid"] == f"fanout-{path.stem}"
    assert len(board["uid"]) <= 40
    assert board["schemaVersion"] >= 39
    assert board["title"]
    assert board["description"]
    assert "id" not in board, "an id is another installation's"
    source, *others = board["templating"]["list"]
    assert (source["type"], source["query"]) == ("datasource", "prometheus")
    assert {each["name"] for each in others} >= {"namespace"}
    every = json.dumps(board)
    for used in {"$datasource", "${datasource}"} & set(every.split('"')):
        assert used.strip("${}") == source["name"]
    for panel in panels(path):
        if panel["type"] != "row":
            assert panel["datasource"]["uid"] == "${datasource}"
            assert all(target["datasource"]["uid"] == "${datasource}" for target in panel["targets"])


@pytest.mark.parametrize("path", DASHBOARDS, **IDS)
def test_every_panel_says_what_it_shows_in_which_unit(path: Path) -> None:
    numbers = [panel["id"] for panel in panels(path)]
    assert len(set(numbers)) == len(numbers)
    for panel in panels(path):
        assert panel["title"]
        if panel["type"] == "row":
            continue
        assert len(panel["description"]) > 20, panel["title"]
        assert panel["fieldConfig"]["defaults"]["unit"], panel["title"]
        assert panel["targets"], panel["title"]
        references = [target["refId"] for target in panel["targets"]]
        assert len(set(references)) == len(references)
        for target in panel["targets"]:
            assert target["legendFormat"], panel["title"]
        steps = panel["fieldConfig"]["defaults"]["thresholds"]["steps"]
        assert steps[0]["value"] is None
        values = [step["value"] for step in steps[1:]]
        assert values == sorted(set(values)), panel["title"]


@pytest.mark.parametrize("path", DASHBOARDS, **IDS)
def test_no_panel_lies_on_another(path: Path) -> None:
    taken: dict[tuple[int, int], str] = {}
    for panel in panels(path):
        at = panel["gridPos"]
        assert at["x"] + at["w"] <= 24, panel["title"]
        for place in itertools.product(range(at["x"], at["x"] + at["w"]), range(at["y"], at["y"] + at["h"])):
            assert place not in taken, f"{panel['title']} lies on {taken[place]}"
            taken[place] = panel["title"]


@pytest.mark.parametrize("path", DASHBOARDS, **IDS)
def test_every_variable_that_is_used_is_defined_and_the_other_way_round(path: Path) -> None:
    board = json.loads(path.read_text())
    defined = {each["name"] for each in board["templating"]["list"]} - {"datasource"}
    asked = json.dumps(board["panels"])
    assert {name for name in ("namespace", "instance", "campaign") if f"${name}" in asked} == defined


@pytest.mark.parametrize("path", DASHBOARDS, **IDS)
def test_alerts_that_a_dashboard_names_exist(path: Path) -> None:
    for panel in panels(path):
        words = panel.get("description", "").replace(":", " ").replace(".", " ").replace(",", " ")
        named = {word.strip("()") for word in words.split() if word.strip("()").startswith("Fanout")}
        assert named <= set(alert_names()), panel["title"]


@needs_promtool
def test_prometheus_understands_every_expression(tmp_path: Path) -> None:
    asked = [
        {"record": f"panel:{path.stem}:{number}", "expr": expr}
        for path in DASHBOARDS
        for number, (_, expr) in enumerate(panel_expressions(path))
    ]
    assert len(asked) > 50
    rules = tmp_path / "panels.yaml"
    rules.write_text(yaml.safe_dump({"groups": [{"name": "panels", "rules": asked}]}))
    promtool("check", "rules", rules)


def test_recorded_series_on_dashboards_are_recorded() -> None:
    asked = {
        word
        for path in DASHBOARDS
        for _, expr in panel_expressions(path)
        for word in expr.replace("(", " ").replace("{", " ").split()
        if word.startswith("namespace:")
    }
    assert asked
    assert asked <= recorded()
