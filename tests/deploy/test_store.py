"""The scripts, settings, logins and Secrets of the Valkey components, run for real.

Servers and Sentinels are on loopback, started with the commands and the variables of their containers.
"""

from __future__ import annotations

import os
import subprocess
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from pathlib import Path
from typing import Any, Final

import pytest
from redis.asyncio import Redis
from redis.exceptions import NoPermissionError, RedisError
from support.waiting import until

from deploy.manifests import K8S, ROOT, hashed, one, pod
from deploy.test_settings import secrets_made
from fanout import processes
from fanout.connect import connect
from fanout.embedded import server_binary
from loadtest.ports import reserved_ports

POD_NAMES: Final = ("valkey-0", "valkey-1", "valkey-2")


class Machine:
    """Where containers of the valkey Pods are run: their mounts are directories, their names loopback ports.

    Args:
        overlay: Whose StatefulSet it is.
        home: An empty directory.
        secrets: What secrets.sh made.
        ports: Two for each Pod.
    """

    def __init__(self, overlay: str, home: Path, secrets: dict[str, dict[str, str]], ports: list[int]) -> None:
        self.overlay, self.home, self.secrets = overlay, home, secrets
        self.containers = {each["name"]: each for each in pod(overlay, "valkey").spec["containers"]}
        self.ports = dict(zip(POD_NAMES, ports[:3], strict=True))
        self.sentinels = dict(zip(POD_NAMES, ports[3:], strict=True))
        self.running: dict[tuple[str, str], subprocess.Popen[bytes]] = {}
        for volume in pod(overlay, "valkey").spec["volumes"]:
            if "configMap" in volume:
                self._mount(volume["name"], one(overlay, "ConfigMap", hashed(volume["configMap"]["name"]))["data"])
            if "secret" in volume:
                self._mount(volume["name"], secrets[volume["secret"]["secretName"]])

    def _mount(self, name: str, files: dict[str, str]) -> None:
        (self.home / name).mkdir()
        for file, text in files.items():
            (self.home / name / file).write_text(text)

    def start(self, pod_name: str, container: str) -> None:
        """Run one container's command with its own environment, its paths and addresses moved here."""
        found = self.containers[container]
        mounts = {each["mountPath"]: self.home / each["name"] for each in found["volumeMounts"]}
        data = self.home / pod_name / container
        data.mkdir(parents=True, exist_ok=True)
        ports = self.sentinels if container == "sentinel" else self.ports
        here = {
            "POD": pod_name,
            "HOST": "127.0.0.1",
            "PORT": str(ports[pod_name]),
            "FIRST": f"127.0.0.1:{self.ports['valkey-0']}",
            "DATA": str(data),
            "SERVER": server_binary(),
        }
        given = {each["name"]: each.get("value", "") for each in found["env"]}
        moved = {name: str(mounts.get(value, value)) for name, value in given.items()}
        shell, script = found["command"]
        path = mounts[str(Path(script).parent)] / Path(script).name
        assert given.keys() <= moved.keys() | here.keys()
        with (data / "log").open("ab") as log:
            self.running[pod_name, container] = processes.start(
                [shell, str(path)], env={**os.environ, **moved, **here}, stdout=log, stderr=log
            )

    def stop(self, pod_name: str, container: str) -> None:
        processes.stop(self.running.pop((pod_name, container)), 5)

    def url(self, login: str) -> str:
        """Return the URL that secrets.sh made for a login, its Pods' names replaced by what they are here."""
        secret = "fanout-keys" if login == "keys" else "fanout-store"
        url = self.secrets[secret][f"{login}-url"]
        for name in POD_NAMES:
            url = url.replace(f"{name}.valkey:6379", f"127.0.0.1:{self.ports[name]}")
            url = url.replace(f"{name}.valkey", f"127.0.0.1:{self.sentinels[name]}")
        assert ".valkey" not in url
        return url

    async def ask(self, pod_name: str, *words: str) -> Any:
        """Ask a Sentinel, as its default user; None as long as it does not answer."""
        password = self.secrets["valkey-passwords"]["sentinel"]
        async with Redis(port=self.sentinels[pod_name], password=password, decode_responses=True) as redis:
            with suppress(RedisError):
                return await redis.execute_command(*words)


@contextmanager
def machine(overlay: str, kind: str, home: Path) -> Iterator[Machine]:
    with reserved_ports(2 * len(POD_NAMES)) as ports:
        found = Machine(overlay, home, secrets_made(kind), ports)
        try:
            yield found
        finally:
            for process in found.running.values():
                process.kill()  # nobody misses what they have
                process.wait()


@asynccontextmanager
async def client(url: str) -> AsyncIterator[Any]:
    redis = connect(url)
    try:
        yield redis
    finally:
        await redis.aclose()


async def ask_until(check: Callable[[], Awaitable[Any]], what: str) -> None:
    """Wait, without keeping those busy who are asked."""
    await until(check, what, poll_s=0.1)


async def writes(url: str) -> bool:
    """Tell whether the control plane's login can write through this URL, and a replica, if it must, hears of it."""
    async with client(url) as redis:
        try:
            return bool(await redis.set("{fanout}:leader", "somebody"))
        except RedisError:
            return False


async def test_one_valkey_starts_with_its_logins_and_keeps_what_it_was_told(tmp_path: Path) -> None:
    with machine("local", "single", tmp_path) as here:
        assert here.containers.keys() == {"valkey"}
        here.start("valkey-0", "valkey")
        await ask_until(lambda: writes(here.url("control")), "the store")
        async with client(here.url("gateway")) as gateway:
            await gateway.hgetall("{fanout}:retained")
            with pytest.raises(NoPermissionError):
                await gateway.hgetall("{fanout}:api-keys")
        async with client(here.url("keys")) as keys:
            assert await keys.hlen("{fanout}:api-keys") == 0
        # The probe's login, as in the container's readinessProbe.
        async with Redis(port=here.ports["valkey-0"], username="probe", password="none") as probe:
            assert await probe.ping()
            with pytest.raises(NoPermissionError):
                await probe.get("{fanout}:leader")
        here.stop("valkey-0", "valkey")
        here.start("valkey-0", "valkey")
        await ask_until(lambda: writes(here.url("control")), "the store again")
        async with client(here.url("control")) as control:
            assert await control.get("{fanout}:leader") == b"somebody"


async def test_three_valkeys_change_places_and_remember_it(tmp_path: Path) -> None:
    with machine("production", "sentinel", tmp_path) as here:
        assert here.containers.keys() == {"valkey", "sentinel"}
        for container in ("valkey", "sentinel"):
            for name in POD_NAMES:
                here.start(name, container)

        async def leader(asked: str = "valkey-2") -> int:
            return int((await here.ask(asked, "SENTINEL", "GET-MASTER-ADDR-BY-NAME", "fanout") or ("", 0))[1])

        async def know_each_other() -> bool:
            states = [await here.ask(name, "SENTINEL", "MASTER", "fanout") for name in POD_NAMES]
            return all(s and s["num-slaves"] == s["num-other-sentinels"] == "2" for s in states)

        async def hurry(name: str) -> None:
            # Its timers, as the tests of failovers shorten them; what it decides is left to it.
            async def listens() -> Any:
                return await here.ask(name, "SENTINEL", "DEBUG", "INFO-PERIOD", "100", "PUBLISH-PERIOD", "500")

            await ask_until(listens, name)
            # The failover here is asked for. A machine that is held up for some seconds, or slow to start a server
            # again, is no reason for another, which would make somebody else the primary.
            assert await here.ask(name, "SENTINEL", "SET", "fanout", "down-after-milliseconds", "300000")

        for name in POD_NAMES:
            await hurry(name)
        await ask_until(know_each_other, "everyone to know everyone")
        assert await leader() == here.ports["valkey-0"]
        # With min-replicas-to-write, so a replica follows by its own login.
        await ask_until(lambda: writes(here.url("control")), "the primary")

        # Refused until it has heard of a replica that is in step.
        await ask_until(lambda: here.ask("valkey-1", "SENTINEL", "FAILOVER", "fanout"), "a failover to begin")

        async def changed() -> bool:
            return await leader() not in (0, here.ports["valkey-0"])

        await ask_until(changed, "another primary")
        await ask_until(lambda: writes(here.url("control")), "the new primary")

        # A Pod that is made anew on its volume: a Sentinel knows what it knew, a server is what it was.
        led = await leader()
        name = next(name for name, port in here.ports.items() if port == led)
        for container in ("sentinel", "valkey"):
            here.stop(name, container)
            here.start(name, container)
        await hurry(name)
        await ask_until(lambda: writes(here.url("control")), "the primary again")
        assert await leader(name) == await leader() != here.ports["valkey-0"]


def test_logins_are_those_of_the_security_page() -> None:
    page = (ROOT / "docs" / "security.md").read_text("utf-8")
    told = [line for line in page.splitlines() if line.startswith("user ")]
    acl = (K8S / "components" / "valkey" / "users.acl").read_text("utf-8").splitlines()
    assert len(told) == 4
    assert acl[:4] == told
    assert [line.split()[1] for line in acl[4:]] == ["replica", "sentinel", "probe"]


def test_the_store_is_of_the_version_everything_is_tested_with() -> None:
    said = subprocess.run([server_binary(), "--version"], capture_output=True, text=True, check=True).stdout
    for overlay in ("local", "production"):
        (image,) = {each["image"] for each in pod(overlay, "valkey").spec["containers"]}
        assert f"v={image.partition(':')[2].rpartition('.')[0]}." in said
