"""What the Pods are started with is what the product reads: variables, Secrets, ports, paths. No cluster is asked."""

from __future__ import annotations

import asyncio
import subprocess
from typing import Final

import click
import pytest
import yaml

from deploy.manifests import (
    K8S,
    OVERLAYS,
    Pod,
    control_config,
    gateway_config,
    hashed,
    of_kind,
    one,
    parsed,
    pods,
    settings_of,
)
from fanout.cli import cli
from fanout.connect import connect, has_sentinels
from fanout.control.routes import OPERATIONS
from gateway.admin import admin_app
from gateway.tokens import KEY_BYTES_MIN
from loadtest.locusts import settings as locusts

STORES: Final = {"local": "single", "loadtest": "single", "production": "sentinel", "production-crds": "sentinel"}
STORES |= {"freeze": "sentinel"}
# Read by what the product is built on, or not by a flag.
OTHERS: Final = {"FORWARDED_ALLOW_IPS", "FANOUT_REDIS_URL", "FANOUT_DEVICE_KEY_FILE", "FANOUT_DEVICE_JWKS"}


def variables(command: str) -> set[str]:
    """Return every variable that is a flag of this command."""
    group = cli.make_context("fanout", [command])
    found = cli.get_command(group, command)
    assert found is not None
    return {str(each.envvar) for each in found.params if isinstance(each, click.Option)}


def environment(overlay: str, pod: Pod) -> set[str]:
    names: set[str] = set()
    for container in pod.spec["containers"]:
        names |= {each["name"] for each in container.get("env", [])}
        for each in container.get("envFrom", []):
            name = each["configMapRef"]["name"]
            names |= one(overlay, "ConfigMap", hashed(name))["data"].keys()
    return names


def test_every_variable_is_one_that_its_process_reads() -> None:
    for overlay in OVERLAYS:
        for each in pods(overlay):
            if each.name in ("gateway", "control"):
                assert environment(overlay, each) <= variables(each.name) | OTHERS, (overlay, each.name)


def test_a_variable_with_a_slip_is_noticed() -> None:
    assert "FANOUT_GATEWAY_DRAIN" not in variables("gateway")
    with pytest.raises(click.BadParameter, match="not a valid float"):
        parsed("gateway", {"FANOUT_GATEWAY_DRAIN_S": "a minute"})


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_every_setting_is_one_that_the_product_accepts(overlay: str) -> None:
    assert gateway_config(overlay).host == "0.0.0.0"
    assert parsed("control", settings_of(overlay, "control"))["host"] == "0.0.0.0"
    assert not control_config(overlay).open_console


def test_containers_name_the_ports_and_paths_that_are_served() -> None:
    served = {"gateway": {route.path for route in admin_app(None, "").routes}}  # type: ignore[arg-type, attr-defined]
    served["control"] = {each.path for each in OPERATIONS}
    for overlay in OVERLAYS:
        ports = {
            "gateway": {"ws": gateway_config(overlay).port, "admin": parsed("gateway", {})["admin_port"]},
            "control": {"http": parsed("control", {})["port"]},
        }
        for each in pods(overlay):
            if each.name not in served:
                continue
            (container,) = each.spec["containers"]
            assert container["args"] == [each.name]
            assert {port["name"]: port["containerPort"] for port in container["ports"]} == ports[each.name]
            asked = [container[probe]["httpGet"]["path"] for probe in ("startupProbe", "livenessProbe")]
            assert asked == ["/healthz", "/healthz"]  # what the store does is no reason to kill anybody
            assert container["readinessProbe"]["httpGet"]["path"] == "/readyz"
            assert {"/healthz", "/readyz", "/metrics"} <= served[each.name]


def secrets_made(kind: str) -> dict[str, dict[str, str]]:
    done = subprocess.run(["sh", K8S / "secrets.sh", kind], capture_output=True, text=True, check=True)
    made = list(yaml.safe_load_all(done.stdout))
    assert {each["metadata"]["namespace"] for each in made} == {"fanout"}
    return {each["metadata"]["name"]: each["stringData"] for each in made}


def secrets_needed(overlay: str) -> set[tuple[str, str]]:
    """Return every key of a Secret that some Pod refers to; of a volume, those its scripts read."""
    needed: set[tuple[str, str]] = set()
    for each in pods(overlay):
        for container in each.spec["containers"]:
            refs = (env.get("valueFrom", {}).get("secretKeyRef") for env in container.get("env", []))
            needed |= {(ref["name"], ref["key"]) for ref in refs if ref}
        for volume in each.spec.get("volumes", []):
            if volume.get("secret", {}).get("secretName") == "fanout-device":
                needed.add(("fanout-device", "key"))
            elif "secret" in volume:
                logins = ("control", "gateway", "keys", "replica", "sentinel")
                needed |= {(volume["secret"]["secretName"], login) for login in logins}
    return needed


@pytest.mark.parametrize("overlay", STORES)
def test_the_script_makes_every_secret_that_is_referred_to(overlay: str) -> None:
    made = {(name, key) for name, data in secrets_made(STORES[overlay]).items() for key in data}
    # The load test's key is one of the API's, which is made when that runs.
    assert secrets_needed(overlay) - made == ({("fanout-load", "api-key")} if overlay == "loadtest" else set())


@pytest.mark.parametrize("kind", ["single", "sentinel"])
async def test_secrets_are_strong_new_each_time_and_urls_that_can_be_read(kind: str) -> None:
    made, again = await asyncio.gather(*(asyncio.to_thread(secrets_made, kind) for _ in range(2)))
    values = {value for data in made.values() for value in data.values()}
    assert not values & {value for data in again.values() for value in data.values()}
    assert len(made["fanout-device"]["key"]) >= KEY_BYTES_MIN
    assert len(set(made["valkey-passwords"].values())) == 5
    for url in (*made["fanout-store"].values(), *made["fanout-keys"].values()):
        client = connect(url)
        assert has_sentinels(client) == (kind == "sentinel")
        await client.aclose()


def test_the_script_says_what_it_takes() -> None:
    done = subprocess.run(["sh", K8S / "secrets.sh"], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == "send 'single' or 'sentinel': which Valkey the overlay has, got ''\n"


def test_no_secret_is_kept_here() -> None:
    for overlay in OVERLAYS:
        assert not list(of_kind(overlay, "Secret"))
        values = [value for each in of_kind(overlay, "ConfigMap") for value in each["data"].values()]
        assert not [value for value in values if "redis://" in value or "rediss://" in value]


def test_a_jwks_is_instead_of_the_key() -> None:
    (gateway,) = (each for each in pods("production-managed") if each.name == "gateway")
    found = environment("production-managed", gateway)
    assert "FANOUT_DEVICE_JWKS" in found
    assert "FANOUT_DEVICE_KEY_FILE" not in found
    assert [each["name"] for each in gateway.spec["volumes"]] == ["tmp"]


def test_the_load_test_is_told_what_it_reads() -> None:
    told = dict(one("loadtest", "ConfigMap", "locust")["data"])
    users, rate = (int(told.pop(name)) for name in ("LOCUST_USERS", "LOCUST_SPAWN_RATE"))  # locust's own
    options = locusts.defaults()
    for name, value in told.items():
        assert hasattr(options, name.lower()), name
        setattr(options, name.lower(), value)
    settings = locusts.settings_of(options)
    assert settings.shape == "night"
    assert settings.gateways == ("ws://gateway:8081/v1/connect",)
    workers = one("loadtest", "Deployment", "locust-worker")["spec"]["replicas"]
    # What docs/locust.md gives a worker.
    assert users <= 3_000 * workers
    assert rate <= 150 * workers
