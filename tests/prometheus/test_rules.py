"""Holds deploy/prometheus: rules that Prometheus takes, cases for each of them, and cases that would notice."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from fanout.campaign import Phase
from fanout.control.routes import OPERATIONS
from loadtest.measured import measured

from .rules import (
    CASES,
    RULES,
    alert_names,
    alerts,
    alerts_of,
    every_rule,
    needs_promtool,
    promtool,
    promtool_says,
    read_yaml,
    recorded,
    runbook_of,
    selectors,
)


def test_there_is_something_to_judge() -> None:
    assert len(alert_names()) > 20
    assert {path.stem for path in RULES} <= {path.stem for path in CASES}


@needs_promtool
def test_prometheus_takes_the_rules() -> None:
    promtool("check", "rules", "--lint-fatal", *RULES)


@needs_promtool
@pytest.mark.parametrize("path", CASES, ids=lambda path: path.stem)
def test_every_case_comes_out_as_it_is_written(path: Path) -> None:
    promtool("test", "rules", path)


def judged(path: Path) -> list[tuple[set[str], bool]]:
    """Return each question about alerts in a file of cases: which ones, and whether it expects them to fire."""
    questions = [asked for case in read_yaml(path)["tests"] for asked in case["promql_expr_test"]]
    return [
        (set("|".join(names).split("|")), bool(asked.get("exp_samples")))
        for asked in questions
        if (names := re.findall(r'alertname=~?"([^"]+)"', asked["expr"]))
    ]


def test_every_alert_has_a_case_in_which_it_fires_and_one_in_which_it_does_not() -> None:
    questions = [question for path in CASES for question in judged(path)]
    for expected in (True, False):
        asked = set().union(*(names for names, fires in questions if fires is expected))
        assert asked == set(alert_names()), f"fires: {expected}"


def test_both_severities_of_an_alert_have_a_case() -> None:
    cases = "".join(path.read_text() for path in CASES)
    for rule in alerts():
        labels = f'alertname="{rule["alert"]}", alertstate="firing", severity="{rule["labels"]["severity"]}"'
        assert f"labels: ALERTS{{{labels}" in cases, f"no case has {labels}"


@needs_promtool
@pytest.mark.parametrize(("expr", "fires"), [("vector(1) > 2", True), ("vector(1)", False)], ids=["never", "always"])
def test_the_cases_notice_a_rule_that_fires_never_or_always(tmp_path: Path, expr: str, fires: bool) -> None:
    for path in RULES:
        rules = [{**rule, "expr": expr, "for": "0s"} for rule in alerts_of(path)]
        changed = {"groups": [{"name": "changed", "rules": rules}]}
        (tmp_path / path.name).write_text(yaml.safe_dump(changed))
    for path in CASES:
        if path.stem not in {rules.stem for rules in RULES}:
            continue  # what takes days would take as long here
        case = tmp_path / f"{path.stem}-cases.yaml"
        # Nothing has to last, so looking seldom (within the five minutes that Prometheus looks back) sees as much.
        seldom = re.sub(r"(?m)^evaluation_interval: .*$", "evaluation_interval: 4m", path.read_text())
        case.write_text(seldom.replace("../rules/", "./"))
        status, said = promtool_says("test", "rules", case)
        assert status != 0, path.name
        for names, expected in judged(path):
            if expected is fires:
                assert any(f'\\"{name}\\"' in said for name in names), f"nothing notices {names}"


@pytest.mark.parametrize("rule", alerts(), ids=lambda rule: f"{rule['alert']}-{rule['labels']['severity']}")
def test_every_alert_says_what_is_wrong_in_numbers_and_where_to_read_on(rule: dict[str, Any]) -> None:
    assert rule["labels"]["severity"] in ("critical", "warning")
    said = rule["annotations"]
    assert set(said) == {"summary", "description", "runbook_url"}
    assert not said["summary"].endswith(".")
    assert "$value" in said["description"] or re.search(r"\d|No |Fewer|no replica", said["description"])
    page = runbook_of(rule["alert"])
    assert said["runbook_url"] == f"docs/runbooks/{page.name}"
    assert page.is_file(), f"{page} is missing"


def test_every_threshold_is_explained() -> None:
    for path in RULES:
        lines = path.read_text().splitlines()
        for number, line in enumerate(lines):
            if line.startswith("      - alert: "):
                assert lines[number - 1].startswith("      # "), f"{path.name}:{number + 1} has no comment above it"


def test_rules_ask_for_what_is_recorded() -> None:
    asked = {name for rule in every_rule() for name in re.findall(r"namespace:fanout_\w+:\w+", rule["expr"])}
    assert asked <= recorded()


def test_buttons_and_phases_in_rules_are_those_of_the_product() -> None:
    buttons = {operation.path for operation in OPERATIONS if operation.press and operation.method == "POST"}
    phases, routes = set(), set()
    for selector in (selector for rule in alerts() for selector in selectors(rule["expr"])):
        for matcher in selector.matchers:
            if matcher.label == "phase":
                phases.add(matcher.value)
            if matcher.label == "route":
                routes.add(matcher.value)
    assert phases
    assert phases <= set(Phase)
    [route] = routes
    told = {path for path in buttons if re.fullmatch(route, path)}
    # All that devices are told of, and nothing else.
    names = ("prefetch", "activate", "cancel", "retract", "close", "move")
    assert told == {f"/v1/campaigns/{{id}}/{name}" for name in names}


def test_memory_is_counted_as_the_planner_counts_it() -> None:
    counted = {
        int(found)
        for rule in alerts()
        if rule["alert"] == "FanoutMemoryHeadroom"
        for found in re.findall(r"\+ (\d+) \*", rule["expr"])
    }
    assert counted == {int(measured(None).kernel_bytes)}
