"""Every Pod of every overlay keeps to the restricted standard and to our own rules, and talks to nobody else."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any, Final

import pytest

import fanout
from deploy.manifests import OVERLAYS, Pod, matches, of_kind, one, pod, pods
from deploy.policy import Party, faults, open_ways

EDGE: Final = Party("edge", {}, {"fanout-edge": "true"})
MONITORING: Final = Party("monitoring", {}, {"fanout-monitoring": "true"})
STRANGER: Final = Party("stranger", {}, {"kubernetes.io/metadata.name": "default"})
OUTSIDE: Final = Party("outside", {}, {})
# docs/security.md has the same as a table.
NEEDED: Final = {
    ("edge", "gateway", 8081),
    ("edge", "control", 8080),
    ("monitoring", "gateway", 8082),
    ("monitoring", "control", 8080),
}
TO_VALKEY: Final = {(source, "valkey", 6379) for source in ("gateway", "control", "valkey")}
TO_SENTINEL: Final = {(source, "valkey", 26379) for source in ("gateway", "control", "valkey")}
LOAD: Final = {
    *((source, "gateway", 8081) for source in ("locust-master", "locust-worker")),
    *((source, "control", 8080) for source in ("locust-master", "locust-worker")),
    *((source, "locust-master", 5557) for source in ("locust-master", "locust-worker")),
}
WAYS: Final = {
    "local": NEEDED | TO_VALKEY,
    "loadtest": NEEDED | TO_VALKEY | LOAD,
    "production": NEEDED | TO_VALKEY | TO_SENTINEL,
    "production-crds": NEEDED | TO_VALKEY | TO_SENTINEL,
    "production-managed": NEEDED | {(party, "gateway", 8081) for party in ("edge", "outside")},
    "freeze": NEEDED | TO_VALKEY | TO_SENTINEL,
}


def every_pod() -> list[Pod]:
    return [each for overlay in OVERLAYS for each in pods(overlay)]


def test_every_pod_keeps_to_the_rules() -> None:
    assert len(every_pod()) >= 3 * len(OVERLAYS) - 1
    assert not [fault for each in every_pod() for fault in faults(each)]


def _set(path: str, value: Any) -> Callable[[Pod], None]:
    def change(pod: Pod) -> None:
        at: Any = pod.spec
        *way, last = path.split("/")
        for step in way:
            at = at[int(step)] if isinstance(at, list) else at[step]
        if value is None:
            del at[last]
        else:
            at[last] = value

    return change


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (_set("hostNetwork", True), "namespace of the host"),
        (_set("securityContext/runAsUser", 0), "as root"),
        (_set("securityContext/seccompProfile", None), "seccomp"),
        (_set("automountServiceAccountToken", True), "token"),
        (_set("enableServiceLinks", None), "taken for a setting"),
        (_set("volumes/0", None), "kind that is not allowed"),
        (_set("securityContext/sysctls", [{"name": "net.core.somaxconn", "value": "65535"}]), "net.core.somaxconn"),
        (_set("containers/0/securityContext/allowPrivilegeEscalation", True), "become more"),
        (_set("containers/0/securityContext/capabilities", {"drop": ["ALL"], "add": ["NET_ADMIN"]}), "capabilities"),
        (_set("containers/0/securityContext/readOnlyRootFilesystem", None), "into its image"),
        (_set("containers/0/image", "fanout"), "version"),
        (_set("containers/0/image", "registry.example:5000/fanout"), "version"),
        (_set("containers/0/image", "fanout:latest"), "version"),
        (_set("containers/0/resources/limits", {}), "what it needs"),
        (_set("containers/0/readinessProbe", None), "readinessProbe"),
        (_set("containers/0/livenessProbe/httpGet/port", "web"), "port that it does not have"),
    ],
)
def test_a_pod_that_breaks_a_rule_is_noticed(change: Callable[[Pod], None], said: str) -> None:
    spoiled = copy.deepcopy(pod("production", "gateway"))
    if said == "kind that is not allowed":
        spoiled.spec["volumes"][0] = {"name": "host", "hostPath": {"path": "/"}}
    else:
        change(spoiled)
    assert [fault for fault in faults(spoiled) if said in fault]


def test_only_the_ways_that_are_needed_are_open() -> None:
    assert WAYS.keys() == set(OVERLAYS)
    for overlay, expected in WAYS.items():
        policies = list(of_kind(overlay, "NetworkPolicy"))
        assert open_ways(pods(overlay), policies, (EDGE, MONITORING, STRANGER, OUTSIDE)) == expected, overlay


def test_without_the_policies_every_way_is_open() -> None:
    assert ("stranger", "valkey", 6379) in open_ways(pods("local"), [], (STRANGER,))


def test_whoever_may_not_ask_for_names_reaches_nobody() -> None:
    """Every Pod finds the others by name, so a policy that selects all of them opens DNS."""
    for overlay in OVERLAYS:
        names = one(overlay, "NetworkPolicy", "names")["spec"]
        assert names["podSelector"] == {}
        assert {(each["port"], each["protocol"]) for each in names["egress"][0]["ports"]} == {
            (53, "UDP"),
            (53, "TCP"),
        }


def test_evictions_are_bounded_for_everything_that_serves() -> None:
    for overlay in OVERLAYS:
        budgets = [each["spec"] for each in of_kind(overlay, "PodDisruptionBudget")]
        for each in pods(overlay):
            if "fanout-load" not in each.labels:  # nobody is served by a load test
                assert len([b for b in budgets if matches(b["selector"], each.labels)]) == 1, (overlay, each.name)


def test_every_service_finds_pods_and_ports() -> None:
    for overlay in OVERLAYS:
        for service in (each for each in of_kind(overlay, "Service")):
            found = [
                each for each in pods(overlay) if matches({"matchLabels": service["spec"]["selector"]}, each.labels)
            ]
            assert found, service["metadata"]["name"]
            ports = {p["name"] for each in found for c in each.spec["containers"] for p in c.get("ports", [])}
            assert {each["targetPort"] for each in service["spec"]["ports"]} <= ports


def test_no_token_of_a_service_account_is_ever_made() -> None:
    for overlay in OVERLAYS:
        accounts = {each["metadata"]["name"]: each for each in of_kind(overlay, "ServiceAccount")}
        assert all(each["automountServiceAccountToken"] is False for each in accounts.values())
        assert {each.spec["serviceAccountName"] for each in pods(overlay)} == accounts.keys()


def test_our_images_are_this_version() -> None:
    images = {c["image"] for each in every_pod() for c in each.spec["containers"]}
    assert {image for image in images if image.startswith("fanout")} == {
        f"fanout:{fanout.__version__}",
        f"fanout-loadtest:{fanout.__version__}",
    }
