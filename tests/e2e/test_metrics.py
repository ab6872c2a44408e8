"""What a running product tells Prometheus is what docs/metrics.md documents, no more and no less; and it is true."""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Any

import psutil
from prometheus_client import Metric
from prometheus_client.parser import text_string_to_metric_families
from support.product import Product, product
from support.stack import connecting, receive
from support.waiting import settled
from support.web import web

from fanout import __version__
from fanout.control.metrics import Metrics
from fanout.metering import Definition
from gateway.metrics import METERING, SupervisorMetrics

WORKERS = 2
GATEWAY = [*METERING.definitions, *SupervisorMetrics("1", 1, 1).metering.definitions]
CONTROL = Metrics().metering.definitions


async def scraped(url: str) -> dict[str, Metric]:
    """Return every family by its name, read as Prometheus would."""
    async with web() as http:
        text = (await http.get(f"{url}/metrics")).text
    families = list(text_string_to_metric_families(text))
    return {f"{each.name}_total" if each.type == "counter" else each.name: each for each in families}


def value(families: dict[str, Metric], name: str, **labels: str) -> float:
    """Return one sample's value; NaN if there is none."""
    for family in families.values():
        for sample in family.samples:
            if sample.name == name and sample.labels == labels:
                return float(sample.value)
    return float("nan")


def found(families: dict[str, Metric], wanted: Iterable[tuple[str, str]]) -> dict[tuple[str, str], float]:
    """Return the values of these samples, each named with its labels as in ``phase=armed``."""
    return {
        (name, labels): value(families, name, **dict(pair.split("=") for pair in labels.split()))
        for name, labels in wanted
    }


def undocumented(families: dict[str, Metric], definitions: Iterable[Definition]) -> list[str]:
    """Return what is scraped otherwise than it is defined."""
    by_name = {each.name: each for each in definitions}
    wrong = [f"{name} is defined nowhere" for name in families.keys() - by_name.keys()]
    wrong += [f"{name} is not told" for name in by_name.keys() - families.keys()]
    for name in families.keys() & by_name.keys():
        family, defined = families[name], by_name[name]
        if (family.type, family.documentation) != (defined.kind, defined.help):
            wrong.append(f"{name} is a {family.type}: {family.documentation}")
        for sample in family.samples:
            labels = {label: told for label, told in sample.labels.items() if label != "le"}
            if labels.keys() != defined.labels.keys():
                wrong.append(f"{name} is split by {sorted(labels)}")
                continue
            for label, allowed in defined.labels.items():
                if not isinstance(allowed, str) and labels[label] not in allowed:
                    wrong.append(f"{name} has {label}={labels[label]}")
    return wrong


async def night(p: Product, device: Any) -> None:
    """Go through what is counted: a welcome has been; now a prefetch, an activation and a report of each."""
    prefetch = (await p.press("prefetch", window_s=0))["rev"]
    while (message := await receive(device))["t"] != "prefetch":
        pass
    assert message["rev"] == prefetch
    await device.send(json.dumps({"t": "report", "campaign": "cup", "rev": prefetch, "kind": "ready", "ms": 3}))
    await p.counted(connected=1, ready=1)
    activate = (await p.press("activate", stage="live", window_s=0))["rev"]
    while (await receive(device)).get("rev") != activate:
        pass
    for _ in range(2):  # the second is no news
        await device.send(json.dumps({"t": "report", "campaign": "cup", "rev": activate, "kind": "active", "ms": 40}))
    await p.counted(active=1)
    await p.press("activate", stage="ended", window_s=0, in_s=3600)


async def test_a_running_product_tells_every_documented_metric_and_no_other_and_they_are_true() -> None:
    async with product(workers=WORKERS) as p, connecting(p.url) as device:
        assert (await receive(device))["t"] == "welcome"
        await p.create(threshold=0.5)
        await night(p, device)
        gateway = p.stack.gateway
        assert gateway is not None

        exact = {
            ("fanout_gateway_connections", ""): 1,
            ("fanout_gateway_handshake_seconds_count", ""): 1,
            ("fanout_gateway_handshakes_total", "status=101"): 1,
            ("fanout_gateway_handshakes_total", "status=401"): 0,
            ("fanout_gateway_messages_received_total", "type=report"): 3,
            ("fanout_gateway_flip_lag_seconds_count", ""): 1,
            ("fanout_gateway_flip_lag_seconds_sum", ""): 0.04,
            ("fanout_gateway_bus_lag_seconds_count", ""): 3 * WORKERS,
            ("fanout_gateway_admit_rate_limit", ""): WORKERS * 4_000,
            ("fanout_gateway_worker_health", "state=ok"): WORKERS,
            ("fanout_gateway_workers_expected", ""): WORKERS,
            ("fanout_gateway_worker_restarts_total", ""): 0,
            ("fanout_gateway_closes_total", "code=4000"): 0,
            ("fanout_gateway_bus_gaps_total", ""): 0,
            ("fanout_gateway_info", f"version={__version__}"): 1,
        }
        # Each worker tells what it has counted when its turn comes, and hears the last press when it can; how late
        # its loop is it measures once in a while.
        told = await settled(
            lambda: scraped(gateway.admin_url),
            lambda told: found(told, exact) == exact and value(told, "fanout_gateway_loop_lag_seconds_count") > 0,
            poll_s=0.1,
        )
        assert found(told, exact) == exact
        assert undocumented(told, GATEWAY) == []
        assert 0 < value(told, "fanout_gateway_handshake_seconds_sum") < 10
        assert value(told, "fanout_gateway_loop_lag_seconds_count") > 0
        assert 0 <= value(told, "fanout_gateway_bus_probe_age_seconds") < 45
        limit = value(told, "fanout_gateway_memory_limit_bytes")
        assert 0 < value(told, "fanout_gateway_resident_memory_bytes") < limit <= psutil.virtual_memory().total
        assert 0 < value(told, "fanout_gateway_connections_limit") <= WORKERS * 100_000

        await p.create("shown")
        await p.press("prefetch", "shown", window_s=0)
        await p.force("live", "shown", window_s=0)

        exact = {
            # Of an activation that has begun, and is nobody's yet.
            ("fanout_control_campaign_active_ratio", "campaign=shown"): 0,
            ("fanout_control_campaign_devices", "campaign=cup reached=connected"): 1,
            ("fanout_control_campaign_devices", "campaign=cup reached=ready"): 1,
            ("fanout_control_campaign_phase", "campaign=cup phase=armed"): 1,
            ("fanout_control_fleet_connections", ""): 1,
            ("fanout_control_fleet_workers", "health=ok"): WORKERS,
            ("fanout_control_publish_seconds_count", ""): 5,
        }

        # The fleet is looked at seldom, and an instant has to pass.
        told = await settled(lambda: scraped(p.control_url), lambda told: found(told, exact) == exact, poll_s=0.1)
        assert found(told, exact) == exact
        assert undocumented(told, CONTROL) == []
