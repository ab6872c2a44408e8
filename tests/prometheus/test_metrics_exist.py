"""Holds rules and dashboards to running processes: what they ask for is in somebody's /metrics, by name and label."""

from __future__ import annotations

import re
from collections import defaultdict
from typing import Any

from prometheus_client.parser import text_string_to_metric_families
from support.product import Product, product
from support.stack import connecting, receive
from support.waiting import settled
from support.web import web

from .rules import DASHBOARDS, Selector, alerts, every_rule, grouping_labels, panel_expressions, selectors

# What a scrape adds to every series by itself, or service discovery does.
OF_THE_SCRAPE = {"job", "instance", "namespace", "pod"}
# Labels whose every value is there from the start, so that one that is named must be.
FROM_THE_START = ("le", "code", "state")


async def scraped(product: Product) -> dict[str, dict[str, set[str]]]:
    """Return every series of a gateway and a control plane: by name, the values of each label."""
    assert product.stack.gateway is not None
    found: dict[str, dict[str, set[str]]] = defaultdict(lambda: defaultdict(set))
    for url in (product.stack.gateway.admin_url, product.control_url):
        async with web(base_url=url) as http:
            answer = await http.get("/metrics")
        for family in text_string_to_metric_families(answer.text):
            for sample in family.samples:
                labels = found[sample.name]
                for name, value in sample.labels.items():
                    labels[name].add(value)
    return found


async def a_night(product: Product) -> None:
    """Have one campaign live and one whose instant is ahead: some metrics are only there then."""
    for campaign in ("cup", "later"):
        await product.create(campaign)
        await product.press("prefetch", campaign, window_s=0)
    await product.force("live", "later", window_s=0, in_s=600)
    await product.force("live", window_s=0)
    await product.in_phase("live")


def asked() -> list[tuple[str, str]]:
    """Return every expression, with where it stands."""
    rules = [(str(rule.get("alert") or rule["record"]), rule["expr"]) for rule in every_rule()]
    return rules + [(f"{path.stem}: {title}", expr) for path in DASHBOARDS for title, expr in panel_expressions(path)]


def missing(selector: Selector, there: dict[str, dict[str, set[str]]]) -> list[str]:
    """Return what a selector asks for that no process has."""
    if selector.metric == "up":
        return []  # Prometheus' own
    if selector.metric not in there:
        return [f"no process has {selector.metric}"]
    labels = there[selector.metric]
    faults = []
    for label, operator, value in selector.matchers:
        if label in OF_THE_SCRAPE:
            continue
        if label not in labels:
            faults.append(f"{selector.metric} has no label {label}")
        elif label in FROM_THE_START or (label == "status" and selector.metric.startswith("fanout_gateway")):
            wanted = value.split("|") if operator == "=~" else [value]
            faults += [f"{selector.metric} has no {label}={each}" for each in wanted if each not in labels[label]]
    return faults


def faults(there: dict[str, dict[str, set[str]]]) -> set[str]:
    """Return what rules and dashboards ask for that no process has."""
    found = {
        f"{where}: {fault}"
        for where, expr in asked()
        for selector in selectors(expr)
        for fault in missing(selector, there)
    }
    known = OF_THE_SCRAPE.union(*there.values())
    for where, expr in asked():
        found |= {f"{where}: groups by {label}" for label in grouping_labels(expr) - known}
    return found


async def test_every_metric_that_is_asked_for_exists_in_a_running_process() -> None:
    async with product(workers=1) as running, connecting(running.url) as device:
        await receive(device)
        await a_night(running)
        # What a metric is read from becomes true one after the other: counted a second or two later, some only once
        # an instant has passed. So it is the whole that is waited for, and what is still missing then is told.
        there = await settled(lambda: scraped(running), lambda told: not faults(told), poll_s=0.5)
    missed = faults(there)
    assert not missed, "\n".join(sorted(missed))


def test_what_is_not_there_is_noticed() -> None:
    there: dict[str, Any] = {"fanout_gateway_closes_total": {"code": {"4000"}}}
    for expr, fault in (
        ("rate(fanout_gateway_closed_total[5m])", "no process has fanout_gateway_closed_total"),
        ('fanout_gateway_closes_total{why="slow"}', "fanout_gateway_closes_total has no label why"),
        ('fanout_gateway_closes_total{code=~"4000|4999"}', "fanout_gateway_closes_total has no code=4999"),
    ):
        assert [found for selector in selectors(expr) for found in missing(selector, there)] == [fault]
    assert not missing(selectors('sum by (code) (fanout_gateway_closes_total{code="4000", job="x"})')[0], there)


def test_every_alert_asks_for_something() -> None:
    for rule in alerts():
        names = [selector.metric for selector in selectors(rule["expr"])]
        names += re.findall(r"namespace:fanout_\w+:\w+", rule["expr"])
        assert names, rule["alert"]
