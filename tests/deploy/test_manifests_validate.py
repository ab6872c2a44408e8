"""Every overlay against the schemas of the oldest Kubernetes it is for and of the newest that is known, strictly.

What CRDs define is held against small schemas of ours, beside this file. No cluster is asked.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any, Final

import jsonschema
import pytest
import yaml

from deploy.manifests import OVERLAYS, WITH_CRDS, Resource, of_kind, one, rendered

kubernetes_validate = pytest.importorskip("kubernetes_validate", reason="pip install kubernetes-validate")
utils = kubernetes_validate.utils

# The first that knows preStop.sleep, and the newest in the package.
VERSIONS: Final = ("1.30", utils.major_minor(utils.latest_version()))
SCHEMAS: Final = Path(__file__).parent / "schemas"
CRDS: Final = {path.stem: yaml.safe_load(path.read_text("utf-8")) for path in sorted(SCHEMAS.glob("[A-Z]*.yaml"))}


@pytest.fixture(scope="module", autouse=True)
def _schemas_are_read_once() -> Iterator[None]:
    """Two megabytes of definitions for each resource would be most of the time."""
    patch = pytest.MonkeyPatch()
    patch.setattr(utils, "schema_contents", cache(utils.schema_contents))
    yield
    patch.undo()


def fault(resource: Resource, version: str) -> str:
    """Return what is wrong with a resource, "" if nothing is."""
    if resource["kind"] in CRDS:
        schema = CRDS[resource["kind"]]
        errors = jsonschema.Draft202012Validator(schema).iter_errors(resource)
        return "; ".join(f"{'.'.join(map(str, each.path))}: {each.message}" for each in errors)
    try:
        kubernetes_validate.validate(resource, version, strict=True)
    except kubernetes_validate.ValidationError as exc:
        return f"{'.'.join(map(str, exc.path))}: {exc.message}"
    return ""


@pytest.mark.parametrize("version", VERSIONS)
def test_every_resource_of_every_overlay_is_one_that_kubernetes_takes(version: str) -> None:
    seen: list[Resource] = []
    for overlay in OVERLAYS:
        for resource in rendered(overlay):
            if resource not in seen:  # overlays share most of them
                seen.append(resource)
                assert not fault(resource, version), f"{overlay}: {resource['kind']} {resource['metadata']['name']}"
    assert len(seen) > 50


def test_what_needs_a_crd_is_in_one_overlay_alone() -> None:
    kinds = {overlay: {each["kind"] for each in rendered(overlay)} for overlay in OVERLAYS}
    assert kinds.pop(WITH_CRDS) >= CRDS.keys()
    assert not [overlay for overlay, found in kinds.items() if found & CRDS.keys()]
    core = {"", "apps", "policy", "autoscaling", "networking.k8s.io"}
    groups = {each["apiVersion"].rpartition("/")[0] for name in kinds for each in rendered(name)}
    assert groups <= core


def misspelt(resource: Resource) -> Resource:
    spoiled = copy.deepcopy(resource)
    spoiled["spec"]["replikas"] = 3
    return spoiled


@pytest.mark.parametrize("version", VERSIONS)
def test_a_field_that_does_not_exist_is_noticed(version: str) -> None:
    assert "replikas" in fault(misspelt(one("production", "Deployment", "gateway")), version)
    for kind in CRDS:
        assert "replikas" in fault(misspelt(next(of_kind(WITH_CRDS, kind))), version), kind


def test_no_overlay_has_a_resource_twice() -> None:
    def ids(resources: list[Resource]) -> list[tuple[Any, ...]]:
        return [(each["kind"], each["metadata"].get("namespace"), each["metadata"]["name"]) for each in resources]

    for overlay in OVERLAYS:
        found = ids(rendered(overlay))
        assert len(found) == len(set(found)), overlay


def test_everything_is_in_one_namespace() -> None:
    for overlay in OVERLAYS:
        outside = [
            each["metadata"]["name"]
            for each in rendered(overlay)
            if each["kind"] != "Namespace" and each["metadata"].get("namespace") != "fanout"
        ]
        assert not outside, overlay
