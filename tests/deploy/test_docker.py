"""What can be held of the image and of Compose without a Docker engine: what they say, and that it fits the rest."""

from __future__ import annotations

import fnmatch
import re
import sys
from pathlib import Path
from typing import Any, Final, NamedTuple

import jsonschema
import pytest
import yaml

import fanout
from deploy.manifests import ROOT, gateway_config, of_kind, parsed, pod
from deploy.test_settings import OTHERS, variables
from fanout.cli import cli
from fanout.settings import checked
from gateway.config import GatewayConfig
from gateway.supervisor import _EXIT_GRACE_S

DOCKER: Final = ROOT / "deploy" / "docker"
# The part of the Compose specification that is used: https://github.com/compose-spec/compose-spec/blob/main/05-services.md
SCHEMA: Final = yaml.safe_load((Path(__file__).parent / "schemas" / "compose.schema.yaml").read_text("utf-8"))


class Instruction(NamedTuple):
    stage: str
    word: str
    rest: str


def instructions(text: str) -> list[Instruction]:
    """Return a Dockerfile's instructions, continued lines joined, each with its stage's name."""
    text = re.sub(r"\\\n\s*", " ", re.sub(r"(?m)^\s*#.*\n", "", text))
    found: list[Instruction] = []
    stage = ""
    for line in filter(None, map(str.strip, text.splitlines())):
        word, _, rest = line.partition(" ")
        if word == "FROM":
            stage = rest.split(" AS ")[1]
        found.append(Instruction(stage, word, rest.strip()))
    return found


DOCKERFILE: Final = instructions((DOCKER / "Dockerfile").read_text("utf-8"))


def lineage(stage: str) -> list[str]:
    """Return a stage and those it is built upon, as far as they are of this file."""
    bases = {each.stage: each.rest.split(" AS ")[0] for each in DOCKERFILE if each.word == "FROM"}
    found = [stage]
    while bases[found[-1]] in bases:
        found.append(bases[found[-1]])
    return found


def of_stage(stage: str, word: str) -> list[str]:
    return [each.rest for name in reversed(lineage(stage)) for each in DOCKERFILE if each[:2] == (name, word)]


def test_every_base_is_one_explicit_version_of_the_python_that_everything_is_tested_with() -> None:
    (default,) = (each.rest for each in DOCKERFILE if each.word == "ARG")
    name, _, base = default.partition("=")
    assert name == "PYTHON"
    assert re.fullmatch(rf"python:{sys.version_info[0]}\.{sys.version_info[1]}\.\d+-slim-\w+", base)
    own = {each.stage for each in DOCKERFILE if each.word == "FROM"}
    bases = {each.rest.split(" AS ")[0] for each in DOCKERFILE if each.word == "FROM"}
    assert bases - own == {"${PYTHON}", "scratch"}


@pytest.mark.parametrize("stage", ["runtime", "loadtest"])
def test_what_runs_is_nobody_and_has_no_build_in_it(stage: str) -> None:
    assert of_stage(stage, "USER")[-1] == "65532:65532"
    assert not of_stage(stage, "RUN")
    assert of_stage(stage, "COPY") == [f"--from=installed-{stage} /opt/fanout /opt/fanout"]
    security = pod("loadtest", "gateway" if stage == "runtime" else "locust-worker").spec["securityContext"]
    assert f"{security['runAsUser']}:{security['runAsGroup']}" == "65532:65532"


def test_the_last_stage_is_the_product() -> None:
    assert DOCKERFILE[-1].stage == "runtime"
    assert of_stage("runtime", "ENTRYPOINT") == ['["fanout"]']
    assert of_stage("loadtest", "ENTRYPOINT")[0].startswith('["locust", "-f", "/opt/fanout/lib/python3.11/')


def test_the_bill_of_materials_is_of_what_runs() -> None:
    assert lineage("sbom-made")[1] == "installed-runtime"
    assert of_stage("sbom", "COPY") == ["--from=sbom-made /fanout.cdx.json /"]
    assert DOCKERFILE[[each.stage for each in DOCKERFILE].index("sbom")].rest == "scratch AS sbom"


def test_nothing_is_added_from_elsewhere_and_everything_is_pinned() -> None:
    assert not [each for each in DOCKERFILE if each.word == "ADD"]
    runs = [each.rest for each in DOCKERFILE if each.word == "RUN"]
    assert not [each for each in runs if re.search(r"\b(curl|wget|apt-get|git)\b", each)]
    installs = [part for each in runs for part in each.split("&&") if re.search(r"pip install", part)]
    assert len(installs) == 4
    for each in installs:
        assert "--constraint /constraints.txt" in each or re.search(r"\w==\d", each), each


def ignored(path: str) -> bool:
    """Tell whether .dockerignore keeps a path out: the last pattern that matches decides."""
    out = False
    for line in (ROOT / ".dockerignore").read_text("utf-8").splitlines():
        if line and not line.startswith("#"):
            pattern = line.removeprefix("!")
            parts = [path, *map(str, Path(path).parents)]
            if any(fnmatch.fnmatch(part, pattern.removeprefix("**/")) for part in parts):
                out = not line.startswith("!")
    return out


def test_what_is_copied_exists_and_nothing_else_is_sent() -> None:
    sources = {
        source
        for each in DOCKERFILE
        if each.word == "COPY" and "--from" not in each.rest
        for source in each.rest.split()[:-1]
    }
    assert sources == {"constraints.txt", "pyproject.toml", "README.md", "fanout", "gateway", "loadtest"}
    assert all((ROOT / source).exists() and not ignored(source) for source in sources)
    for path in (".git/config", ".fanout/dump.rdb", "tests/conftest.py", "secrets.env", "deploy/docker/compose.yaml"):
        assert ignored(path), path
    assert not ignored("fanout/bus/publish.lua")


COMPOSE: Final = yaml.safe_load((DOCKER / "compose.yaml").read_text("utf-8"))
SERVICES: Final[dict[str, Any]] = COMPOSE["services"]
GATEWAYS: Final = ("gateway-1", "gateway-2")


def test_compose_is_of_the_shape_that_its_specification_gives() -> None:
    jsonschema.Draft202012Validator(SCHEMA).validate(COMPOSE)
    spoiled = {**COMPOSE, "services": {"x": {**SERVICES["control"], "enviroment": {}}}}
    assert not jsonschema.Draft202012Validator(SCHEMA).is_valid(spoiled)


def test_compose_has_everything_the_laptop_is_promised() -> None:
    assert SERVICES.keys() == {"valkey", "control", *GATEWAYS, "prometheus", "grafana", "swarm"}
    for name, service in SERVICES.items():
        assert not re.search(r":latest$|^[^:]+$", service["image"]), name
        for port in service.get("ports", []):
            assert port.startswith("127.0.0.1:"), f"{name} has no TLS, so it is this machine's alone"
        for each in service.get("depends_on", {}):
            assert each in SERVICES
    published = [port.rsplit(":", 1)[0] for each in SERVICES.values() for port in each.get("ports", [])]
    assert len(published) == len(set(published))


def test_our_containers_are_as_locked_up_as_in_the_cluster() -> None:
    ours = {name: each for name, each in SERVICES.items() if each["image"].startswith("fanout")}
    assert ours.keys() == {"control", "gateway-1", "gateway-2", "swarm"}
    for each in ours.values():
        assert each["image"] == f"fanout:{fanout.__version__}"
        assert (each["read_only"], each["tmpfs"], each["cap_drop"]) == (True, ["/tmp"], ["ALL"])
        assert each["security_opt"] == ["no-new-privileges:true"]
        assert each["build"]["target"] in {instruction.stage for instruction in DOCKERFILE}
        assert (DOCKER / each["build"]["context"] / each["build"]["dockerfile"]).resolve() == DOCKER / "Dockerfile"


@pytest.mark.parametrize("name", ["control", "gateway-1", "gateway-2"])
def test_compose_starts_processes_with_settings_they_read(name: str) -> None:
    command = name.partition("-")[0]
    service = SERVICES[name]
    assert service["command"] == [command]
    given: dict[str, str] = service["environment"]
    allowed = variables(command) | OTHERS | {"FANOUT_DEVICE_KEY", "FANOUT_ADMIN_KEY"}
    assert given.keys() <= allowed
    secrets = [value for variable, value in given.items() if variable.endswith("_KEY")]
    assert secrets
    assert all(re.match(r"\$\{\w+:\?", value) for value in secrets), "it must be set, and is not kept here"
    params = parsed(command, {k: v for k, v in given.items() if not k.endswith("_KEY")})
    assert params["host"] == "0.0.0.0"
    if command == "gateway":
        config = checked(GatewayConfig, {field: params[field] for field in GatewayConfig.__struct_fields__})
        grace_s = int(service["stop_grace_period"].rstrip("s"))
        assert grace_s >= config.drain_s + config.drain_close_s + _EXIT_GRACE_S + 5
        assert service["ulimits"]["nofile"]["hard"] > 2_000


def test_the_swarm_is_started_with_options_that_it_has() -> None:
    command, *words = SERVICES["swarm"]["command"]
    group = cli.make_context("fanout", [command])
    found = cli.get_command(group, command)
    assert found is not None
    params = found.make_context(command, list(words), parent=group).params
    assert params["urls"] == tuple(f"ws://{name}:{GatewayConfig(redis_url='').port}/v1/connect" for name in GATEWAYS)
    assert params["give_up_s"] == 0


def test_prometheus_scrapes_the_jobs_that_the_cluster_has() -> None:
    config = yaml.safe_load((DOCKER / "prometheus.yml").read_text("utf-8"))
    jobs = {
        each["job_name"]: [target for found in each["static_configs"] for target in found["targets"]]
        for each in config["scrape_configs"]
    }
    admin = parsed("gateway", {})["admin_port"]
    assert jobs == {
        "fanout-gateway": [f"{name}:{admin}" for name in GATEWAYS],
        "fanout-control": [f"control:{parsed('control', {})['port']}"],
    }
    # There, the job is the Service's label that the ServiceMonitor names.
    (monitor,) = of_kind("production-crds", "ServiceMonitor")
    scraped = [
        service
        for service in of_kind("production-crds", "Service")
        if monitor["spec"]["selector"]["matchLabels"].items() <= service["metadata"]["labels"].items()
    ]
    assert {each["metadata"]["labels"][monitor["spec"]["jobLabel"]] for each in scraped} == jobs.keys()
    ports = {port["name"] for each in scraped for port in each["spec"]["ports"]}
    assert {each["port"] for each in monitor["spec"]["endpoints"]} == ports
    assert all(each["spec"]["clusterIP"] == "None" for each in scraped)
    assert gateway_config("production").host == "0.0.0.0"


def test_what_is_mounted_from_the_tree_is_where_it_is_looked_for() -> None:
    mounts = {
        target: source
        for name in ("prometheus", "grafana")
        for source, target, *_ in (volume.split(":") for volume in SERVICES[name]["volumes"])
        if source.startswith(".")
    }
    for target in (each for each in mounts if each.endswith((".yml", ".yaml"))):
        assert (DOCKER / mounts[target]).is_file(), target
    assert (DOCKER / mounts["/etc/prometheus/rules"]).resolve() == ROOT / "deploy" / "prometheus" / "rules"
    provider = yaml.safe_load((DOCKER / "grafana" / "dashboards.yaml").read_text("utf-8"))["providers"][0]
    assert (DOCKER / mounts[provider["options"]["path"]]).resolve() == ROOT / "deploy" / "grafana"
    (source,) = yaml.safe_load((DOCKER / "grafana" / "datasources.yaml").read_text("utf-8"))["datasources"]
    assert source["url"] == "http://prometheus:9090"
