"""Holds docs/kubernetes.md and docs/kubernetes-decisions.md to the manifests, the settings and the measured figures.

Every figure of ours stands in a table that is made here; those of others carry their source. To write them anew:
``PYTHONPATH=.:tests python tests/deploy/test_pages.py``.
"""

from __future__ import annotations

import random
import re
from collections.abc import Callable, Iterator
from functools import cache
from math import ceil
from typing import Any, Final

import fanout
from deploy.manifests import K8S, OVERLAYS, ROOT, gateway_config, of_kind, one, pod, quantity, rendered
from deploy.test_manifests_validate import VERSIONS
from deploy.test_numbers import FILES_HARD, PAGE_BYTES, ZONES, scaling
from deploy.test_settings import secrets_made
from fanout.doctor.capacity import STALL_S, WORKER_FILES, Costs
from gateway.supervisor import _EXIT_GRACE_S
from gateway.tokens import KEY_BYTES_MIN
from loadtest.measured import Measured

GUIDE: Final = ROOT / "docs" / "kubernetes.md"
DECISIONS: Final = ROOT / "docs" / "kubernetes-decisions.md"
BEGIN: Final = "<!-- {name}, made by: PYTHONPATH=.:tests python tests/deploy/test_pages.py -->"
END: Final = "<!-- end of what is made -->"
# Of others, each with its source on the page.
SOMAXCONN: Final = 4_096
CONNTRACK_PER_CORE: Final = 32_768
CONNTRACK_MIN: Final = 131_072
PORTS: Final = 60_999 - 32_768 + 1
CORES_OF_A_NODE: Final = 16
# Where docs/operations.md has a part of the first herd wait in the kernel's queue, or not be heard at all.
HERD_PER_S: Final = 10_000
DEVICES_EACH: Final = 400
FLEETS: Final = (3, 10, 30, 100, 1_000)

CONFIG: Final = gateway_config


def table(*rows: tuple[object, ...]) -> str:
    cells = [[f"{each:,}" if isinstance(each, int) else str(each) for each in row] for row in rows]
    cells.insert(1, ["---"] * len(rows[0]))
    return "\n".join("| " + " | ".join(row) + " |" for row in cells)


def gateway() -> dict[str, Any]:
    (container,) = pod("production", "gateway").spec["containers"]
    return dict(container)


def deployment() -> dict[str, Any]:
    return dict(one("production", "Deployment", "gateway")["spec"])


def wave(fleet: int) -> int:
    return ceil(fleet * int(deployment()["strategy"]["rollingUpdate"]["maxSurge"].rstrip("%")) / 100)


def timeouts() -> str:
    config = CONFIG("production")
    notes = one("production", "Ingress", "devices")["metadata"]["annotations"]
    return table(
        ("what", "where", "s"),
        ("a beacon to every device", "`beacon_s`", f"{config.beacon_s:g}"),
        (
            "silence after which a device asks, and holds back what is armed",
            "three beacons",
            f"{3 * config.beacon_s:g}",
        ),
        ("silence after which a gateway pings", "`ping_s`", f"{config.ping_s:g}"),
        (
            "silence our Ingress allows",
            "`proxy-read-timeout`",
            int(notes["nginx.ingress.kubernetes.io/proxy-read-timeout"]),
        ),
        (
            "the longest life of a connection, with its spread",
            "`lifetime_s`, `lifetime_spread_ms`",
            f"{1.1 * config.lifetime_s + config.lifetime_spread_ms / 1000:,.0f}",
        ),
    )


@cache
def rolled(fleet: int, choices: int) -> tuple[float, float, float]:
    """Return the emptiest and the fullest gateway after a rollout, and the fullest on the way, of the mean.

    Devices that leave take the emptiest of so many gateways drawn at random; of none, whose turn it is. Nothing else
    moves anybody meanwhile.
    """
    rng = random.Random(1)
    sizes = dict.fromkeys(range(fleet), DEVICES_EACH)
    old, fullest = list(sizes), 0
    while old:
        leaving, old = old[: wave(fleet)], old[wave(fleet) :]
        sizes |= dict.fromkeys((-1 - name for name in leaving), 0)
        fullest = max(fullest, *sizes.values())
        devices = sum(sizes.pop(name) for name in leaving)
        names = list(sizes)
        for number in range(devices):
            drawn = rng.choices(names, k=choices) if choices else [names[number % len(names)]]
            sizes[min(drawn, key=sizes.__getitem__)] += 1
    return min(sizes.values()) / DEVICES_EACH, max(sizes.values()) / DEVICES_EACH, fullest / DEVICES_EACH


def balance() -> str:
    rows = [
        (fleet, says, *(f"{size:.0%}" for size in rolled(fleet, choices)))
        for fleet in (3, 10, 50)
        for says, choices in (("in turn", 0), ("to the emptier of two at random", 2))
    ]
    return table(("gateways", "connects go", "emptiest after a rollout", "fullest", "fullest on the way"), *rows)


def sysctls() -> str:
    config = CONFIG("production")
    (ports,) = pod("loadtest", "locust-worker").spec["securityContext"]["sysctls"]
    full = config.connections_max
    tracked = max(CONNTRACK_MIN, CORES_OF_A_NODE * CONNTRACK_PER_CORE)
    return table(
        ("sysctl", "what it allows", "what a gateway needs", "so"),
        (
            "`net.core.somaxconn`",
            f"{SOMAXCONN / STALL_S:,.0f} connects a second, at {SOMAXCONN:,} and a stall of {STALL_S * 1000:.0f} ms",
            f"{config.admit_per_s:,.0f} (`admit_per_s`)",
            "left alone; it is an unsafe one",
        ),
        (
            f"`{ports['name']}`",
            f"{PORTS:,} connections to one address",
            "none: all devices share one port",
            f"left alone; {' to '.join(ports['value'].split())} for locust's workers, which do need them",
        ),
        (
            "`net.netfilter.nf_conntrack_max`, the node's",
            f"{tracked:,} on {CORES_OF_A_NODE} cores, as kube-proxy sets it",
            f"{full:,} for each full one, so {tracked // full} of them",
            "raised on nodes with more, or no kube-proxy in the way",
        ),
        (
            "`net.ipv4.tcp_mem`, the node's, in pages",
            "a part of its memory",
            f"{full * Costs().buffer_pages:,.0f} for each full one",
            "looked at with `fanout doctor`",
        ),
    )


def files() -> str:
    config = CONFIG("production")
    return table(
        ("open files", ""),
        ("of a full worker, sockets", config.connections_max),
        ("and of its own", WORKER_FILES),
        ("together", config.connections_max + WORKER_FILES),
        ("what containerd 2 lets a process raise itself to", FILES_HARD),
        ("what it begins with", 1_024),
        ("connections_max that would still fit", FILES_HARD - WORKER_FILES),
    )


def nodes() -> str:
    config, aim = CONFIG("production"), int(scaling("production")["devices"])
    rows: list[tuple[object, ...]] = []
    for fleet in (10, 20, 50, 100):
        for on_it in (1, 2, 5, 10):
            if on_it <= fleet / 4:
                lost, left = on_it * aim, fleet - on_it
                first, needed = lost / left, lost / (left * (60 - 1.5 * config.retry_after_s))
                fits = first + aim <= config.connections_max and needed <= config.admit_per_s / 2
                rows.append(
                    (
                        fleet,
                        on_it,
                        lost,
                        f"{first:,.0f}",
                        f"{needed:,.0f}",
                        "yes" if fits and first < HERD_PER_S else "no",
                    )
                )
    head = ("gateways", "on the dead node", "devices lost", "first second, each", "needed for 60 s", "to be had")
    return table(head, *rows)


def workers() -> str:
    config, measured, costs = CONFIG("production"), Measured(), Costs()
    a_device = measured.device_bytes + measured.kernel_bytes + costs.buffer_pages * PAGE_BYTES
    rows = []
    for count in (1, 2, 4):
        devices = count * config.connections_max
        need = costs.gateway_bytes + count * costs.worker_bytes + devices * a_device
        shared = (costs.gateway_bytes + count * costs.worker_bytes) / need
        drain = f"{devices / config.drain_s:,.0f}"
        rows.append((count, devices, f"{need / 1e6:,.0f} MB", f"{shared:.0%}", drain))
    limit = quantity(gateway()["resources"]["limits"]["memory"])
    rows.append(("what the manifest gives", "", f"{limit / 1e6:,.0f} MB", "", ""))
    head = (
        "workers in a Pod",
        "devices that die with it",
        "memory when full",
        "of that, not for devices",
        "moved a second",
    )
    return table(head, *rows)


def leaving() -> str:
    config = CONFIG("production")
    pre_stop = gateway()["lifecycle"]["preStop"]["sleep"]["seconds"]
    spec = deployment()
    adds_up = pre_stop + config.drain_s + config.drain_close_s
    return table(
        ("s", "what", "where"),
        (f"{pre_stop}", "still accepts, until every load balancer has heard", "`preStop.sleep`"),
        (f"{config.drain_s:g}", "tells its devices to move, evenly", "`FANOUT_GATEWAY_DRAIN_S`"),
        (f"{config.drain_close_s:g}", "closes those that stayed, evenly", "`FANOUT_GATEWAY_DRAIN_CLOSE_S`"),
        (f"{_EXIT_GRACE_S:g}", "what the supervisor gives a worker to exit", "`gateway/supervisor.py`"),
        (f"**{adds_up + _EXIT_GRACE_S:g}**", "together", ""),
        (
            f"{spec['template']['spec']['terminationGracePeriodSeconds']}",
            "until the kubelet ends it whatever it does",
            "`terminationGracePeriodSeconds`",
        ),
        (f"{spec['minReadySeconds']}", "until a new one counts, and the next wave may begin", "`minReadySeconds`"),
    )


def rollout() -> str:
    config, spec = CONFIG("production"), deployment()
    rows = []
    for fleet in FLEETS:
        waves = ceil(fleet / wave(fleet))
        arriving = wave(fleet) * config.connections_max / config.drain_s / fleet
        minutes = waves * spec["minReadySeconds"] / 60
        rows.append(
            (fleet, wave(fleet), waves, f"{minutes:.0f} min", f"{arriving:,.0f} of {config.admit_per_s:,.0f}")
        )
    head = ("gateways", "move at a time", "waves", "at least", "handshakes a second for each of the others, all full")
    return table(head, *rows)


def freeze() -> str:
    config, found = CONFIG("production"), scaling("freeze")["behavior"]["scaleDown"]
    (budget,) = {each["spec"]["maxUnavailable"] for each in of_kind("freeze", "PodDisruptionBudget")}
    usual = one("production", "PodDisruptionBudget", "gateway")["spec"]["maxUnavailable"]
    period_s = found["policies"][0]["periodSeconds"]
    themselves = (
        f"from {config.freeze_lead_s:g} s before an instant until {config.freeze_tail_s:g} s after its window"
    )
    return table(
        ("what", "outside", "in `overlays/freeze`"),
        ("a rollout that is under way", "goes on", "`paused: true`: waits where it is"),
        ("`kubectl drain` of a node", f"{usual} of the gateways at a time", f"{budget}: waits"),
        ("fewer gateways", f"one in {period_s / 60:.0f} minutes", f"`{found['selectPolicy']}`"),
        ("more gateways", "as needed", "as needed"),
        ("lifetimes, beacons, prefetches", f"held by the gateways themselves, {themselves}", "the same"),
    )


def scale() -> str:
    found, config = scaling("production"), CONFIG("production")
    up, down = found["behavior"]["scaleUp"], found["behavior"]["scaleDown"]
    ups = " or ".join(f"{each['value']:g}{' %' if each['type'] == 'Percent' else ' Pods'}" for each in up["policies"])
    (policy,) = down["policies"]
    after = f"{down['stabilizationWindowSeconds'] / 60:.0f} minutes after the last peak"
    return table(
        ("what", "value"),
        ("connections of a gateway that are aimed at", int(found["devices"])),
        ("`connections_max`", config.connections_max),
        (f"with one zone of {ZONES} lost, each of the others has", int(found["devices"] * ZONES / (ZONES - 1))),
        ("at least, at most", "{}, {} gateways".format(*found["bounds"])),
        ("growing", f"{ups} a minute, whichever is more"),
        ("shrinking", f"{policy['value']} in {policy['periodSeconds'] / 60:.0f} minutes, {after}"),
    )


MADE: Final[dict[str, Callable[[], str]]] = {
    each.__name__: each
    for each in (timeouts, balance, sysctls, files, nodes, workers, leaving, rollout, freeze, scale)
}


def rewritten(page: str) -> str:
    for name, make in MADE.items():
        before, mark, rest = page.partition(BEGIN.format(name=name))
        assert mark, f"the page has no place for {name}"
        page = f"{before}{mark}\n\n{make()}\n\n{END}{rest.partition(END)[2]}"
    return page


def test_the_page_of_decisions_says_what_the_manifests_say() -> None:
    page = DECISIONS.read_text("utf-8")
    assert page == rewritten(page), "docs/kubernetes-decisions.md is behind; see this module's docstring"


def prose(page: str) -> Iterator[str]:
    """Yield the paragraphs and rows that are neither made nor commands, without code and versions."""
    page = re.sub(rf"<!-- \w+, made by.*?{END}", "", page, flags=re.S)
    page = re.sub(r"```.*?```", "", page, flags=re.S)
    for paragraph in re.split(r"\n(?=\n|\||- )", page):
        yield re.sub(r"`[^`]*`|\bv?1\.[23]\d\b|containerd 2|KEP-\d+|kubernetes/\S+", "", paragraph)


def bare_figures(page: str) -> list[str]:
    return [each for each in prose(page) if re.search(r"\d", each) and "](http" not in each]


def test_a_figure_that_is_not_made_carries_its_source() -> None:
    page = DECISIONS.read_text("utf-8")
    assert not bare_figures(page)
    assert bare_figures(page.replace("a whole core requested", "1 core requested"))


def test_the_guide_is_of_this_version_and_of_these_settings() -> None:
    page = GUIDE.read_text("utf-8")
    assert set(re.findall(r"(?<![\d.])\d+\.\d+\.\d+\b(?!\.)", page)) == {fanout.__version__}
    assert set(re.findall(r"Kubernetes (1\.\d+)", page)) == {VERSIONS[0]}
    assert f"{KEY_BYTES_MIN} bytes or more" in page
    assert f"fanout doctor --devices {CONFIG('production').connections_max}" in page


def test_others_idle_timeouts_are_longer_than_a_beacon_and_their_limits_on_a_life_are_named() -> None:
    rows = re.findall(r"(?m)^\| [^|]+ \| (idle|life) \| (\d+) \|", DECISIONS.read_text("utf-8"))
    assert len(rows) >= 5
    config = CONFIG("production")
    assert all(int(seconds) > config.beacon_s for kind, seconds in rows if kind == "idle")
    assert all(int(seconds) < config.lifetime_s for kind, seconds in rows if kind == "life"), (
        "else it need not be raised"
    )


def test_after_a_rollout_everybody_has_a_place() -> None:
    aim, most = scaling("production")["devices"], CONFIG("production").connections_max
    for fleet in (3, 10, 50):
        assert rolled(fleet, 0)[1] * aim <= most
        assert rolled(fleet, 2)[2] <= rolled(fleet, 0)[2]


def test_whatever_the_pages_name_exists() -> None:
    text = GUIDE.read_text("utf-8") + DECISIONS.read_text("utf-8")
    for path in set(re.findall(r"(?<![\w./])(?:deploy|docs|tests)/[\w./-]*\w", text)):
        assert (ROOT / path).exists(), path
    for page in (GUIDE, DECISIONS):
        for link in re.findall(r"\]\((?!http|#)([^)#]+)", page.read_text("utf-8")):
            assert (page.parent / link).exists(), link
    known = {
        f"{kind}/{each['metadata']['name']}"
        for overlay in OVERLAYS
        for each in rendered(overlay)
        for kind in (
            each["kind"].lower(),
            {"HorizontalPodAutoscaler": "hpa", "PodDisruptionBudget": "pdb"}.get(each["kind"], ""),
        )
    } | {f"deploy/{each['metadata']['name']}" for each in of_kind("loadtest", "Deployment")}
    named = set(re.findall(r"\b(?:deployment|statefulset|service|pdb|hpa)/[\w-]+", text))
    assert named
    assert named <= known
    secrets = {name for kind in ("single", "sentinel") for name in secrets_made(kind)} | {"fanout-load"}
    assert set(re.findall(r"(?:create|get) secret (?:generic )?([\w-]+)", text)) <= secrets


def test_the_guide_names_every_overlay_and_every_component() -> None:
    text = GUIDE.read_text("utf-8")
    for overlay in OVERLAYS:
        assert f"`{overlay}`" in text, overlay
    for component in (K8S / "components").iterdir():
        assert f"`{component.name}`" in text, component.name


if __name__ == "__main__":
    DECISIONS.write_text(rewritten(DECISIONS.read_text("utf-8")), "utf-8")
