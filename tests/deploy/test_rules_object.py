"""Holds the PrometheusRule of deploy/k8s to the rules in deploy/prometheus/rules: the same groups, in the same order.

To write it anew: ``PYTHONPATH=.:tests python tests/deploy/test_rules_object.py``.
"""

from __future__ import annotations

from typing import Any, Final

import yaml

from deploy.manifests import K8S, ROOT

RULES: Final = ROOT / "deploy" / "prometheus" / "rules"
OBJECT: Final = K8S / "components" / "prometheusrule" / "prometheusrule.yaml"
HEAD: Final = """\
# Made from deploy/prometheus/rules by: PYTHONPATH=.:tests python tests/deploy/test_rules_object.py
"""


class _Plain(yaml.SafeDumper):
    """Writes long expressions as blocks, as people do."""


def _text(dumper: yaml.SafeDumper, text: str) -> yaml.Node:
    return dumper.represent_scalar("tag:yaml.org,2002:str", text, style="|" if "\n" in text else None)


_Plain.add_representer(str, _text)


def groups() -> list[Any]:
    """Return the groups of every rule file, file by file."""
    files = sorted(RULES.glob("*.yaml"))
    return [group for file in files for group in yaml.safe_load(file.read_text("utf-8"))["groups"]]


def made() -> str:
    resource = {
        "apiVersion": "monitoring.coreos.com/v1",
        "kind": "PrometheusRule",
        "metadata": {"name": "fanout"},
        "spec": {"groups": groups()},
    }
    return HEAD + yaml.dump(resource, Dumper=_Plain, sort_keys=False, width=118, allow_unicode=True)


def test_the_operator_is_given_the_rules_that_promtool_has_judged() -> None:
    assert OBJECT.read_text("utf-8") == made(), "the PrometheusRule is behind; see this module's docstring"


def test_names_of_groups_are_different() -> None:
    names = [group["name"] for group in groups()]
    assert len(names) == len(set(names))


if __name__ == "__main__":
    OBJECT.write_text(made(), "utf-8")
