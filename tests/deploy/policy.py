"""What every Pod of ours keeps to, as functions that name what is wrong; and who may talk to whom. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from typing import Any, Final, NamedTuple

from deploy.manifests import Pod, Resource, matches

# Those that Kubernetes calls safe, namespaced and isolated: safe_sysctls.go of its kubelet, v1.29. The others of that
# list came later than our oldest version, or need a kernel of their own.
SAFE_SYSCTLS: Final = {
    "kernel.shm_rmid_forced",
    "net.ipv4.ip_local_port_range",
    "net.ipv4.tcp_syncookies",
    "net.ipv4.ping_group_range",
    "net.ipv4.ip_unprivileged_port_start",
}
# https://kubernetes.io/docs/concepts/security/pod-security-standards/#restricted
RESTRICTED_VOLUMES: Final = {"configMap", "csi", "downwardAPI", "emptyDir", "ephemeral", "projected", "secret"}
RESTRICTED_VOLUMES |= {"persistentVolumeClaim"}
_TAG: Final = re.compile(r"[^@:]+(:[0-9]+/[^:@]+)?:(?P<tag>[\w][\w.-]*)(@sha256:[0-9a-f]{64})?")


def faults(pod: Pod) -> list[str]:
    """Return every rule that this workload's Pods break."""
    return [f"{pod.name}: {fault}" for check in (_of_pod, _of_containers) for fault in check(pod)]


def _of_pod(pod: Pod) -> Iterator[str]:
    spec, security = pod.spec, pod.spec.get("securityContext", {})
    if any(spec.get(each) for each in ("hostNetwork", "hostPID", "hostIPC")):
        yield "shares a namespace of the host"
    if not security.get("runAsNonRoot") or not security.get("runAsUser"):
        yield "may run as root"
    if security.get("seccompProfile", {}).get("type") != "RuntimeDefault":
        yield "has no seccomp profile"
    if (
        spec.get("automountServiceAccountToken") is not False
        or spec.get("serviceAccountName", "default") == "default"
    ):
        yield "is given a token"
    if spec.get("enableServiceLinks") is not False:
        yield "has Services as variables, one of which could be taken for a setting"
    for volume in spec.get("volumes", []):
        if not volume.keys() & RESTRICTED_VOLUMES:
            yield f"volume {volume['name']} is of a kind that is not allowed"
        if "emptyDir" in volume and "sizeLimit" not in volume["emptyDir"]:
            yield f"volume {volume['name']} has no bound"
    for sysctl in security.get("sysctls", []):
        if sysctl["name"] not in SAFE_SYSCTLS:
            yield f"sets {sysctl['name']}, which a kubelet refuses unless told otherwise"


def _of_containers(pod: Pod) -> Iterator[str]:
    for each in [*pod.spec.get("initContainers", []), *pod.spec["containers"]]:
        name, security = each["name"], each.get("securityContext", {})
        if security.get("allowPrivilegeEscalation") is not False or security.get("privileged"):
            yield f"{name} may become more than it is"
        if security.get("capabilities") != {"drop": ["ALL"]}:
            yield f"{name} keeps capabilities"
        if security.get("readOnlyRootFilesystem") is not True:
            yield f"{name} may write into its image"
        tag = _TAG.fullmatch(each["image"])
        if tag is None or tag["tag"] == "latest":
            yield f"{name} has no explicit version: {each['image']}"
        requests, limits = (each.get("resources", {}).get(kind, {}) for kind in ("requests", "limits"))
        if not {"cpu", "memory"} <= requests.keys() or "memory" not in limits:
            yield f"{name} does not say what it needs"
        if each.get("ports"):
            for probe in ("livenessProbe", "readinessProbe"):
                if probe not in each:
                    yield f"{name} has no {probe}"
            yield from _without_port(each)


def _without_port(container: dict[str, Any]) -> Iterator[str]:
    ports = {each["name"] for each in container["ports"]}
    for kind in ("startupProbe", "livenessProbe", "readinessProbe"):
        probe = container.get(kind, {})
        asked = probe.get("httpGet", probe.get("tcpSocket"))
        if asked and asked["port"] not in ports:
            yield f"{container['name']}'s {kind} asks a port that it does not have"


class Party(NamedTuple):
    """Whoever may be at an end of a connection: its Pod's labels and its namespace's; without any, an address."""

    name: str
    labels: dict[str, str]
    namespace: dict[str, str]


OURS: Final = {"kubernetes.io/metadata.name": "fanout"}


def open_ways(
    pods: Sequence[Pod], policies: Sequence[Resource], others: Sequence[Party]
) -> set[tuple[str, str, int]]:
    """Return every way that the policies leave open between these Pods, and from the others to them."""
    parties = [Party(pod.name, pod.labels, OURS) for pod in pods]
    ports = {
        pod.name: [port["containerPort"] for each in pod.spec["containers"] for port in each.get("ports", [])]
        for pod in pods
    }
    return {
        (source.name, target.name, port)
        for target in parties
        for port in ports[target.name]
        for source in (*parties, *others)
        if _may(policies, "Ingress", target, source, port)
        and (source in others or _may(policies, "Egress", source, target, port))
    }


def _may(policies: Sequence[Resource], way: str, whose: Party, other: Party, port: int) -> bool:
    """Tell whether one end's policies allow it: all do that select it in this direction, or none does."""
    peers, rules = ("from", "ingress") if way == "Ingress" else ("to", "egress")
    mine = [
        each["spec"]
        for each in policies
        if way in each["spec"]["policyTypes"] and matches(each["spec"]["podSelector"], whose.labels)
    ]
    allowed = (rule for spec in mine for rule in spec.get(rules, []))
    return not mine or any(
        ("ports" not in rule or port in [each["port"] for each in rule["ports"]])
        and (peers not in rule or any(_is(peer, other) for peer in rule[peers]))
        for rule in allowed
    )


def _is(peer: dict[str, Any], party: Party) -> bool:
    if "ipBlock" in peer:
        return not party.namespace and peer["ipBlock"]["cidr"] == "0.0.0.0/0"
    if not party.namespace:
        return False
    if "namespaceSelector" in peer:
        return matches(peer["namespaceSelector"], party.namespace) and matches(
            peer.get("podSelector", {}), party.labels
        )
    return party.namespace == OURS and matches(peer["podSelector"], party.labels)
