"""The numbers in the manifests add up, with each other and with what the product was measured to do."""

from __future__ import annotations

from math import ceil
from typing import Any, Final

import pytest

from deploy.manifests import OVERLAYS, WITH_CRDS, gateway_config, of_kind, one, pod, quantity
from fanout.doctor.capacity import WORKER_FILES, Costs
from gateway.supervisor import _EXIT_GRACE_S
from loadtest.measured import Measured

# What containerd 2 lets a process have: docs/kubernetes-decisions.md.
FILES_HARD: Final = 524_288
ZONES: Final = 3
PAGE_BYTES: Final = 4_096


def preload(overlay: str) -> tuple[dict[str, Any], float, float]:
    """Return the gateway's Deployment, its preStop and how long all of its drain takes, seconds."""
    deployment = one(overlay, "Deployment", "gateway")
    (container,) = pod(overlay, "gateway").spec["containers"]
    config = gateway_config(overlay)
    pre_stop_s = container["lifecycle"]["preStop"]["sleep"]["seconds"]
    return deployment, pre_stop_s, pre_stop_s + config.drain_s + config.drain_close_s


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_a_gateway_has_the_time_to_let_everybody_go(overlay: str) -> None:
    deployment, _, leaving_s = preload(overlay)
    grace_s = deployment["spec"]["template"]["spec"]["terminationGracePeriodSeconds"]
    # The kubelet counts from before the preStop; what it ends then dies with everybody who is left.
    assert grace_s >= leaving_s + _EXIT_GRACE_S + 5


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_one_wave_of_a_rollout_has_left_before_the_next_is_asked_to(overlay: str) -> None:
    deployment, _, leaving_s = preload(overlay)
    spec = deployment["spec"]
    assert spec["strategy"]["rollingUpdate"]["maxUnavailable"] == 0
    assert spec["minReadySeconds"] >= leaving_s
    assert spec.get("progressDeadlineSeconds", 600) > spec["minReadySeconds"] + startup_s(overlay)


def startup_s(overlay: str) -> float:
    (container,) = pod(overlay, "gateway").spec["containers"]
    return float(container["startupProbe"]["periodSeconds"] * container["startupProbe"]["failureThreshold"])


@pytest.mark.parametrize("overlay", OVERLAYS)
@pytest.mark.parametrize("fleet", [2, 3, 10, 11, 100, 1500])
def test_what_a_wave_moves_is_well_below_what_the_others_admit(overlay: str, fleet: int) -> None:
    config = gateway_config(overlay)
    surge = one(overlay, "Deployment", "gateway")["spec"]["strategy"]["rollingUpdate"]["maxSurge"]
    leaving = ceil(fleet * int(surge.rstrip("%")) / 100)
    arriving_per_s = leaving * config.connections_max / config.drain_s / fleet  # as many have come as are leaving
    assert arriving_per_s <= config.admit_per_s / 2


@pytest.mark.parametrize("overlay", [each for each in OVERLAYS if each not in ("local", "loadtest")])
def test_a_full_gateway_fits_its_memory(overlay: str) -> None:
    config, measured, costs = gateway_config(overlay), Measured(), Costs()
    (container,) = pod(overlay, "gateway").spec["containers"]
    a_device = measured.device_bytes + measured.kernel_bytes + costs.buffer_pages * PAGE_BYTES
    need = costs.gateway_bytes + config.workers * (costs.worker_bytes + config.connections_max * a_device)
    limit = quantity(container["resources"]["limits"]["memory"])
    assert 1.25 * need <= limit <= 2 * need, f"{need / 1e6:.0f} MB are needed"


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_a_gateway_is_one_worker_on_one_core_with_its_own_memory(overlay: str) -> None:
    config = gateway_config(overlay)
    (container,) = pod(overlay, "gateway").spec["containers"]
    resources = container["resources"]
    assert config.workers == 1
    assert resources["requests"]["memory"] == resources["limits"]["memory"]
    assert "cpu" not in resources["limits"]  # a quota would stall a broadcast
    if overlay not in ("local", "loadtest"):
        assert quantity(resources["requests"]["cpu"]) == config.workers
    # The metrics' files are memory of the container's too.
    (tmp,) = (each["emptyDir"] for each in pod(overlay, "gateway").spec["volumes"] if each["name"] == "tmp")
    assert tmp["medium"] == "Memory"
    assert quantity(tmp["sizeLimit"]) < 0.3 * quantity(resources["limits"]["memory"])


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_a_full_worker_fits_the_open_files_of_a_container(overlay: str) -> None:
    assert gateway_config(overlay).connections_max + WORKER_FILES <= FILES_HARD


def scaling(overlay: str) -> dict[str, Any]:
    """Return how an overlay's gateways scale, whoever does it, in the words of a HorizontalPodAutoscaler."""
    if overlay != WITH_CRDS:
        spec: dict[str, Any] = one(overlay, "HorizontalPodAutoscaler", "gateway")["spec"]
        (metric,) = spec["metrics"]
        return {
            "bounds": (spec["minReplicas"], spec["maxReplicas"]),
            "metric": metric["pods"]["metric"]["name"],
            "devices": quantity(metric["pods"]["target"]["averageValue"]),
            "behavior": spec["behavior"],
        }
    spec = one(overlay, "ScaledObject", "gateway")["spec"]
    (trigger,) = spec["triggers"]
    assert trigger["metricType"] == "AverageValue"
    return {
        "bounds": (spec["minReplicaCount"], spec["maxReplicaCount"]),
        "metric": trigger["metadata"]["query"].partition("(")[2].partition("{")[0],
        "devices": float(trigger["metadata"]["threshold"]),
        "behavior": spec["advanced"]["horizontalPodAutoscalerConfig"]["behavior"],
    }


SCALED: Final = [each for each in OVERLAYS if each not in ("local", "loadtest")]


@pytest.mark.parametrize("overlay", SCALED)
def test_at_the_size_that_is_aimed_at_a_zone_may_be_lost(overlay: str) -> None:
    config, found = gateway_config(overlay), scaling(overlay)
    assert found["devices"] * ZONES / (ZONES - 1) <= config.connections_max
    assert found["bounds"][0] >= ZONES
    from gateway.metrics import CONNECTIONS

    assert found["metric"] == CONNECTIONS._name
    assert "replicas" not in one(overlay, "Deployment", "gateway")["spec"]


@pytest.mark.parametrize("overlay", SCALED)
def test_fleets_shrink_slowly(overlay: str) -> None:
    behavior = scaling(overlay)["behavior"]
    _, _, leaving_s = preload(overlay)
    (policy,) = behavior["scaleDown"]["policies"]
    assert (policy["type"], policy["value"]) == ("Pods", 1)
    assert policy["periodSeconds"] >= 2 * leaving_s
    assert behavior["scaleDown"]["stabilizationWindowSeconds"] >= gateway_config(overlay).lifetime_s


def test_keda_scales_like_the_autoscaler_it_replaces() -> None:
    assert scaling(WITH_CRDS) == scaling("production")


def test_local_gateways_are_not_scaled() -> None:
    for overlay in ("local", "loadtest"):
        assert not list(of_kind(overlay, "HorizontalPodAutoscaler"))
        assert one(overlay, "Deployment", "gateway")["spec"]["replicas"] == 2


def test_nothing_at_the_edge_closes_a_device_between_two_beacons() -> None:
    beacon_s = gateway_config("production").beacon_s
    annotations = one("production", "Ingress", "devices")["metadata"]["annotations"]
    waits_s = [int(value) for name, value in annotations.items() if name.endswith("-timeout")]
    assert len(waits_s) == 2
    assert min(waits_s) > 3 * beacon_s  # as long as a device itself waits before it asks
    (connect,) = (
        rule
        for rule in one(WITH_CRDS, "HTTPRoute", "devices")["spec"]["rules"]
        if rule["matches"][0]["path"]["value"] == "/v1/connect"
    )
    assert connect["timeouts"]["request"] == "0s"


def test_a_freeze_stops_what_takes_gateways_away_and_nothing_else() -> None:
    for name in ("gateway", "control"):
        assert one("freeze", "Deployment", name)["spec"]["paused"] is True
        assert "paused" not in one("production", "Deployment", name)["spec"]
    assert {each["spec"]["maxUnavailable"] for each in of_kind("freeze", "PodDisruptionBudget")} == {0}
    assert scaling("freeze")["behavior"]["scaleDown"]["selectPolicy"] == "Disabled"
    assert scaling("freeze")["behavior"]["scaleUp"] == scaling("production")["behavior"]["scaleUp"]
    assert (
        one("freeze", "Deployment", "gateway")["spec"]["template"]
        == (one("production", "Deployment", "gateway")["spec"]["template"])
    )


def test_gateways_spread_over_zones_and_a_lost_one_does_not_hold_up_the_others() -> None:
    for overlay in OVERLAYS:
        zone, host = pod(overlay, "gateway").spec["topologySpreadConstraints"]
        assert (zone["topologyKey"], host["topologyKey"]) == ("topology.kubernetes.io/zone", "kubernetes.io/hostname")
        assert zone["nodeTaintsPolicy"] == "Honor"
        assert zone["whenUnsatisfiable"] == (
            "DoNotSchedule" if "Ingress" in kinds(overlay) or overlay == WITH_CRDS else "ScheduleAnyway"
        )
        assert host["whenUnsatisfiable"] == "ScheduleAnyway"


def kinds(overlay: str) -> set[str]:
    return {each["kind"] for each in of_kind(overlay, "Ingress")}
