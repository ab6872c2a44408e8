"""What deploy/prometheus and deploy/grafana hold, read for tests; and promtool, Prometheus' own judge of it."""

from __future__ import annotations

import functools
import json
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final, NamedTuple

import pytest
import yaml

ROOT: Final = Path(__file__).parents[2]
RULES: Final = sorted((ROOT / "deploy/prometheus/rules").glob("*.yaml"))
CASES: Final = sorted((ROOT / "deploy/prometheus/tests").glob("*.yaml"))
DASHBOARDS: Final = sorted((ROOT / "deploy/grafana").glob("*.json"))
RUNBOOKS: Final = ROOT / "docs/runbooks"

needs_promtool: Final = pytest.mark.skipif(
    shutil.which("promtool") is None, reason="promtool is not installed; it is in Debian's package prometheus"
)
needs_prometheus: Final = pytest.mark.skipif(
    shutil.which("prometheus") is None, reason="Prometheus is not installed; Debian's package is prometheus"
)

_SELECTOR: Final = re.compile(r"(?<![\w:$])(fanout_\w+|up)\b(?:\{([^}]*)\})?")
_MATCHER: Final = re.compile(r'(\w+)\s*(=~|!~|!=|=)\s*"((?:[^"\\]|\\.)*)"')
_GROUPING: Final = re.compile(r"\b(?:by|on|ignoring|without|group_left)\s*\(([\w\s,]*)\)")


class Matcher(NamedTuple):
    label: str
    operator: str
    value: str


class Selector(NamedTuple):
    """One series selector of an expression."""

    metric: str
    matchers: tuple[Matcher, ...]


def read_yaml(path: Path) -> Any:
    return yaml.load(path.read_text(), Loader=yaml.CSafeLoader)


def groups(path: Path) -> list[dict[str, Any]]:
    return list(read_yaml(path)["groups"])


@functools.cache
def every_rule() -> list[dict[str, Any]]:
    return [rule for path in RULES for group in groups(path) for rule in group["rules"]]


def alerts_of(path: Path) -> list[dict[str, Any]]:
    return [rule for group in groups(path) for rule in group["rules"] if "alert" in rule]


def alerts() -> list[dict[str, Any]]:
    return [rule for rule in every_rule() if "alert" in rule]


def alert_names() -> list[str]:
    return sorted({rule["alert"] for rule in alerts()})


def recorded() -> set[str]:
    """Return the names of what recording rules write."""
    return {rule["record"] for rule in every_rule() if "record" in rule}


def runbook_of(alert: str) -> Path:
    """Return where an alert's page is: FanoutBusWedged's is bus-wedged.md."""
    words = re.findall(r"[A-Z][a-z]+", alert.removeprefix("Fanout"))
    return RUNBOOKS / f"{'-'.join(words).lower()}.md"


def panels(path: Path) -> list[dict[str, Any]]:
    return list(json.loads(path.read_text())["panels"])


def panel_expressions(path: Path) -> Iterator[tuple[str, str]]:
    """Yield each panel's title with each of its expressions, as Prometheus gets it from Grafana."""
    for panel in panels(path):
        for target in panel.get("targets", ()):
            yield panel["title"], as_prometheus_gets_it(target["expr"])


def as_prometheus_gets_it(expr: str) -> str:
    """Return an expression as Grafana sends it when everything is chosen."""
    return re.sub(r"\$(namespace|instance|campaign)\b", ".*", expr.replace("$__rate_interval", "1m"))


def selectors(expr: str) -> list[Selector]:
    return [
        Selector(metric, tuple(Matcher(*found) for found in _MATCHER.findall(inside or "")))
        for metric, inside in _SELECTOR.findall(_GROUPING.sub(" ", expr))
    ]


def grouping_labels(expr: str) -> set[str]:
    """Return the labels that an expression groups or joins by."""
    return {label.strip() for inside in _GROUPING.findall(expr) for label in inside.split(",") if label.strip()}


def promtool(*words: str | Path) -> str:
    """Run promtool; return all it says. Raises AssertionError if it objects."""
    status, said = promtool_says(*words)
    assert status == 0, said
    return said


def promtool_says(*words: str | Path) -> tuple[int, str]:
    done = subprocess.run(["promtool", *words], capture_output=True, text=True, timeout=60, check=False)
    return done.returncode, done.stdout + done.stderr
