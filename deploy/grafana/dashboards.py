"""Writes Grafana's dashboards from what panels/*.yaml ask: ``python deploy/grafana/dashboards.py``.

Owns how a panel looks and where it lies. What is asked, and why somebody would look at it, is in panels/. The JSON
is Grafana's classic model, which every version from 10 on imports. `tests/prometheus/test_dashboards.py` holds the
files to this.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, Final, Literal

import msgspec
from msgspec import Meta, Struct

HERE: Final = Path(__file__).parent
NAMES: Final = ("fleet", "night", "gateway")
# Of Grafana 12; newer ones migrate it when they load it, and older ones read what they know.
SCHEMA_VERSION: Final = 41
# Grafana's grid.
COLUMNS: Final = 24
# Stands for the dashboard's selector in an expression.
SELECTOR: Final = "@"
_DATASOURCE: Final = {"type": "prometheus", "uid": "${datasource}"}
_PERCENTILES: Final = {"p50": 0.5, "p99": 0.99, "p99.9": 0.999}


class Series(Struct, frozen=True, forbid_unknown_fields=True):
    """An expression, and how what it finds is called."""

    name: str
    expr: str


class Panel(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One panel.

    Attributes:
        what: Its description: what it shows, and what to make of it.
        percentiles: A histogram of which to show p50, p99 and p99.9, instead of series.
        unit: Grafana's name of the unit.
        width, height: In the grid's columns and rows.
        limits: Values from which on it turns orange and red; of one, red.
        low: The limit is a lower one: below it, it is bad.
        most: Of the axis; None is as needed.
        stack: Series are parts of a whole.
        names: A stat shows its series' names instead of their values.
    """

    title: str
    what: str
    series: tuple[Series, ...] = ()
    percentiles: str = ""
    unit: str = "short"
    kind: Literal["timeseries", "stat", "heatmap"] = "timeseries"
    width: Annotated[int, Meta(ge=1, le=COLUMNS)] = 8
    height: int = 8
    limits: tuple[float, ...] = ()
    low: bool = False
    most: float | None = None
    stack: bool = False
    names: bool = False


class Row(Struct, frozen=True, forbid_unknown_fields=True):
    """A heading, and the panels below it."""

    row: str
    panels: tuple[Panel, ...]


class Dashboard(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One file of panels/."""

    title: str
    what: str
    selector: str
    variables: tuple[Literal["instance", "campaign"], ...]
    refresh: str
    since: str
    rows: tuple[Row, ...]


def read(name: str) -> Dashboard:
    return msgspec.yaml.decode((HERE / "panels" / f"{name}.yaml").read_bytes(), type=Dashboard)


def expressions(panel: Panel, selector: str) -> list[tuple[str, str]]:
    """Return what the panel asks: expressions, each with the name of its series."""
    if panel.percentiles:
        buckets = f"sum by (le) (rate({panel.percentiles}_bucket{{{selector}}}[$__rate_interval]))"
        return [(f"histogram_quantile({share}, {buckets})", name) for name, share in _PERCENTILES.items()]
    return [(each.expr.strip().replace(SELECTOR, selector), each.name) for each in panel.series]


# --- From panels to Grafana's JSON.


def _thresholds(panel: Panel) -> dict[str, Any]:
    good, *worse = ("green", "orange", "red")
    if panel.low:
        steps = [{"color": "red", "value": None}, {"color": good, "value": panel.limits[0]}]
    else:
        colours = worse if len(panel.limits) > 1 else ["red"]
        limits = sorted(set(panel.limits))
        colours = colours[-len(limits) :]
        steps = [{"color": good, "value": None}]
        steps += [{"color": colour, "value": limit} for colour, limit in zip(colours, limits, strict=False)]
    return {"mode": "absolute", "steps": steps}


def _field_config(panel: Panel) -> dict[str, Any]:
    defaults: dict[str, Any] = {"unit": panel.unit, "thresholds": _thresholds(panel)}
    if panel.kind == "timeseries":
        defaults["min"] = 0
        defaults["custom"] = {
            "drawStyle": "line",
            "lineWidth": 1,
            "fillOpacity": 25 if panel.stack else 0,
            "showPoints": "never",
            "spanNulls": False,
            "stacking": {"mode": "normal" if panel.stack else "none", "group": "A"},
            "thresholdsStyle": {"mode": "line" if panel.limits else "off"},
        }
    if panel.most is not None:
        defaults["max"] = panel.most
    return {"defaults": defaults, "overrides": []}


def _options(panel: Panel) -> dict[str, Any]:
    match panel.kind:
        case "stat":
            return {
                "reduceOptions": {"calcs": ["lastNotNull"], "fields": "", "values": False},
                "colorMode": "value" if panel.limits else "none",
                "graphMode": "none",
                "textMode": "name" if panel.names else "auto",
                "justifyMode": "auto",
                "orientation": "auto",
            }
        case "heatmap":
            return {
                "calculate": False,
                "color": {"mode": "scheme", "scheme": "Oranges", "steps": 64},
                "yAxis": {"unit": panel.unit},
                "cellGap": 1,
                "tooltip": {"mode": "single"},
                "legend": {"show": False},
            }
    return {
        "legend": {"displayMode": "list", "placement": "bottom", "showLegend": True},
        "tooltip": {"mode": "multi", "sort": "desc"},
    }


def _panel(panel: Panel, selector: str, number: int, x: int, y: int) -> dict[str, Any]:
    targets = [
        {
            "refId": chr(ord("A") + n),
            "datasource": _DATASOURCE,
            "editorMode": "code",
            "expr": expr,
            "legendFormat": legend,
            "range": True,
            "format": "heatmap" if panel.kind == "heatmap" else "time_series",
        }
        for n, (expr, legend) in enumerate(expressions(panel, selector))
    ]
    return {
        "id": number,
        "type": panel.kind,
        "title": panel.title,
        "description": panel.what,
        "datasource": _DATASOURCE,
        "gridPos": {"x": x, "y": y, "w": panel.width, "h": panel.height},
        "fieldConfig": _field_config(panel),
        "options": _options(panel),
        "targets": targets,
    }


def _laid_out(rows: Sequence[Row], selector: str) -> list[dict[str, Any]]:
    """Put panels side by side until a line is full."""
    panels: list[dict[str, Any]] = []
    y = 0
    for row in rows:
        heading = {"id": len(panels) + 1, "type": "row", "title": row.row, "collapsed": False, "panels": []}
        panels.append({**heading, "gridPos": {"x": 0, "y": y, "w": COLUMNS, "h": 1}})
        x, y, line = 0, y + 1, 0
        for panel in row.panels:
            if x + panel.width > COLUMNS:
                x, y, line = 0, y + line, 0
            panels.append(_panel(panel, selector, len(panels) + 1, x, y))
            x, line = x + panel.width, max(line, panel.height)
        y += line
    return panels


def _variable(name: str, label: str, query: str) -> dict[str, Any]:
    return {
        "name": name,
        "label": label,
        "type": "query",
        "datasource": _DATASOURCE,
        "definition": query,
        "query": {"query": query, "refId": f"variable-{name}"},
        "refresh": 2,  # whenever the time range changes: pods come and go
        "sort": 1,
        "multi": True,
        "includeAll": True,
        # Also where nothing sets the label: an absent one matches too.
        "allValue": ".*",
        "current": {"text": "All", "value": "$__all"},
        "options": [],
        "hide": 0,
    }


_SOURCE: Final = {
    "name": "datasource",
    "label": "Prometheus",
    "type": "datasource",
    "query": "prometheus",
    "current": {"text": "default", "value": "default"},
    "options": [],
    "refresh": 1,
    "regex": "",
    "hide": 0,
}
_NAMESPACE: Final = _variable("namespace", "Namespace", "label_values(fanout_gateway_connections, namespace)")
_VARIABLES: Final = {
    "instance": _variable(
        "instance", "Gateway", 'label_values(fanout_gateway_connections{namespace=~"$namespace"}, instance)'
    ),
    "campaign": _variable(
        "campaign", "Campaign", 'label_values(fanout_control_campaign_phase{namespace=~"$namespace"}, campaign)'
    ),
}
# What fires is drawn into every graph.
_ALERTS: Final = {
    "name": "Alerts",
    "datasource": _DATASOURCE,
    "enable": True,
    "iconColor": "red",
    "expr": 'ALERTS{alertname=~"Fanout.+", alertstate="firing", severity="critical", namespace=~"$namespace"}',
    "titleFormat": "{{alertname}}",
    "textFormat": "{{campaign}} {{instance}}",
    "step": "15s",
}


_OTHERS: Final = {
    "type": "dashboards",
    "title": "fanout",
    "tooltip": "",
    "icon": "external link",
    "url": "",
    "tags": ["fanout"],
    "asDropdown": False,
    "includeVars": True,
    "keepTime": True,
    "targetBlank": False,
}


def dashboard(name: str) -> dict[str, Any]:
    """Return one dashboard as Grafana imports it."""
    asked = read(name)
    return {
        "uid": f"fanout-{name}",
        "title": asked.title,
        "description": asked.what,
        "tags": ["fanout"],
        "schemaVersion": SCHEMA_VERSION,
        "version": 1,
        "editable": True,
        "graphTooltip": 1,
        "timezone": "browser",
        "refresh": asked.refresh,
        "time": {"from": f"now-{asked.since}", "to": "now"},
        "templating": {"list": [_SOURCE, _NAMESPACE, *(_VARIABLES[each] for each in asked.variables)]},
        "annotations": {"list": [_ALERTS]},
        "links": [_OTHERS],
        "panels": _laid_out(asked.rows, asked.selector),
    }


def text(name: str) -> str:
    """Return a dashboard's file."""
    return json.dumps(dashboard(name), indent=2) + "\n"


def main() -> None:
    for name in NAMES:
        (HERE / f"{name}.json").write_text(text(name))


if __name__ == "__main__":
    main()
