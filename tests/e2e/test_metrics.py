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
from support.waiting import until
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

        async def flushed() -> bool:
            return value(await scraped(gateway.admin_url), "fanout_gateway_flip_lag_seconds_count") == 1

        await until(flushed, "the flip in the metrics", poll_s=0.1)
        told = await scraped(gateway.admin_url)
        assert undocumented(told, GATEWAY) == []
        exact = {
            ("fanout_gateway_connections", ""): 1,
            ("fanout_gateway_handshake_seconds_count", ""): 1,
            ("fanout_gateway_handshakes_total", "status=101"): 1,
            ("fanout_gateway_handshakes_total", "status=401"): 0,
            ("fanout_gateway_messages_received_total", "type=report"): 3,
            ("fanout_gateway_flip_lag_seconds_sum", ""): 0.04,
            ("fanout_gateway_admit_rate_limit", ""): WORKERS * 4_000,
            ("fanout_gateway_worker_health", "state=ok"): WORKERS,
            ("fanout_gateway_workers_expected", ""): WORKERS,
            ("fanout_gateway_worker_restarts_total", ""): 0,
            ("fanout_gateway_closes_total", "code=4000"): 0,
            ("fanout_gateway_bus_gaps_total", ""): 0,
            ("fanout_gateway_info", f"version={__version__}"): 1,
        }
        found = {
            (name, labels): value(told, name, **dict(pair.split("=") for pair in labels.split() if pair))
            for name, labels in exact
        }
        assert found == exact
        assert 0 < value(told, "fanout_gateway_handshake_seconds_sum") < 10
        assert value(told, "fanout_gateway_loop_lag_seconds_count") > 0
        assert 0 <= value(told, "fanout_gateway_bus_probe_age_seconds") < 45
        assert value(told, "fanout_gateway_bus_lag_seconds_count") == 3 * WORKERS
        limit = value(told, "fanout_gateway_memory_limit_bytes")
        assert 0 < value(told, "fanout_gateway_resident_memory_bytes") < limit <= psutil.virtual_memory().total
        limits = {record.worker: 0 for record in await p.stack.records()}
        assert 0 < value(told, "fanout_gateway_connections_limit") <= len(limits) * 100_000

        await p.create("shown")
        await p.press("prefetch", "shown", window_s=0)
        await p.force("live", "shown", window_s=0)

        async def begun() -> bool:
            return value(await scraped(p.control_url), "fanout_control_campaign_active_ratio", campaign="shown") == 0

        await until(begun, "an activation that has begun in the metrics", poll_s=0.1)
        told = await scraped(p.control_url)
        assert undocumented(told, CONTROL) == []
        for reached in ("connected", "ready"):
            assert value(told, "fanout_control_campaign_devices", campaign="cup", reached=reached) == 1
        assert value(told, "fanout_control_campaign_phase", campaign="cup", phase="armed") == 1
        assert value(told, "fanout_control_fleet_connections") == 1
        assert value(told, "fanout_control_fleet_workers", health="ok") == WORKERS
        assert value(told, "fanout_control_publish_seconds_count") == 5
