"""The whole stack as docs/security.md has it: each part with its own login to the store, which may do no more than
the page grants; and no secret in anything it says, though every logger is at DEBUG and everything goes wrong."""

from __future__ import annotations

import asyncio
import json
import os
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
import websockets
from argon2 import PasswordHasher
from redis.asyncio import Redis
from redis.exceptions import NoPermissionError
from support.stack import ROOT, connecting, receive, token
from support.waiting import PATIENCE_S, until
from support.web import web

from fanout import keyspace, processes
from fanout.connect import connect
from fanout.embedded import EmbeddedValkey
from fanout.errors import Refused
from fanout.roles import Role
from fanout.store.accounts import AccountStore
from fanout.store.audit import AuditStore
from fanout.store.keys import KeyStore

# In every secret here, so that none is overlooked.
CANARY = "canary"
DEVICE_KEY = f"{CANARY}-device-key-of-this-test-alone-as-long-as-the-longest-hash-wants-it"
ADMIN_KEY = f"{CANARY}-admin-key-of-this-test-alone"
PASSWORD = f"{CANARY} password of somebody who signs in"
PASSWORDS = {f"fanout-{part}": f"{CANARY}-{part}-password" for part in ("control", "gateway", "keys")}

# Read by every Python process that starts with this directory on its path, workers included.
LOUD = """
import functools, logging
import fanout.logs
fanout.logs.configure_logs = functools.partial(fanout.logs.configure_logs, logging.DEBUG)
fanout.logs.configure_logs()
logging.getLogger("loud").debug("every logger is at DEBUG")
"""


def logins() -> list[list[str]]:
    """Return the logins that docs/security.md grants, as words of ACL SETUSER, with the passwords of this test."""
    page = (ROOT / "docs/security.md").read_text("utf-8")
    found = [line.split()[1:] for line in page.splitlines() if line.startswith("user fanout-")]
    assert {words[0] for words in found} == set(PASSWORDS)
    return [
        [name, "reset", *(f">{PASSWORDS[name]}" if word.startswith(">") else word for word in words)]
        for name, *words in found
    ]


def as_user(valkey: EmbeddedValkey, part: str) -> str:
    return f"unix://fanout-{part}:{PASSWORDS[f'fanout-{part}']}@{valkey.socket_path}"


async def refused(redis: Redis) -> list[Any]:
    """Return what the store refused to a login because it may not, whoever had the right password."""
    log: Any = await redis.execute_command("ACL LOG")
    entries = [dict(zip(entry[::2], entry[1::2], strict=True)) if isinstance(entry, list) else entry for entry in log]
    return [entry for entry in entries if entry.get(b"reason", entry.get("reason")) not in (b"auth", "auth")]


@contextmanager
def command(directory: Path, name: str, *words: str, **variables: str) -> Iterator[dict[str, str]]:
    """Run a server's command, all that it says into files of this directory; yields what it said of itself."""
    clean = {key: value for key, value in os.environ.items() if not key.startswith("FANOUT_")}
    path = os.pathsep.join((str(directory), str(ROOT)))
    out, err = directory / f"{name}.out", directory / f"{name}.err"
    with out.open("wb") as stdout, err.open("wb") as stderr:
        child = processes.start(
            [sys.executable, "-m", "fanout.cli", name, "--port", "0", "--json", *words],
            env={**clean, "PYTHONPATH": path, **variables},
            stdout=stdout,
            stderr=stderr,
        )
    try:
        until_said = time.monotonic() + PATIENCE_S
        while not out.read_bytes().endswith(b"\n"):
            assert child.poll() is None, err.read_text()
            assert time.monotonic() < until_said, err.read_text()
            time.sleep(0.02)
        yield json.loads(out.read_text())
    finally:
        processes.stop(child, PATIENCE_S)


# Commands that no part of the product needs.
FOR_NOBODY: tuple[tuple[str, ...], ...] = (
    ("ACL", "LIST"),
    ("CLIENT", "LIST"),
    ("CONFIG", "GET", "*"),
    ("EVAL", "return 1", "1", "another:application"),
    ("FLUSHALL",),
    ("GET", "another:application"),
    ("KEYS", "*"),
    ("MONITOR",),
    ("PUBLISH", "another", "x"),
    ("SHUTDOWN",),
)


class Told:
    """Everything a stranger or a log reader was told."""

    def __init__(self) -> None:
        self.answers: list[str] = []

    def answer(self, answer: httpx.Response) -> httpx.Response:
        self.answers.append(f"{answer.headers}\n{answer.text}")
        return answer

    def assert_one_event_a_line(self, directory: Path) -> None:
        for name in ("control", "gateway"):
            lines = (directory / f"{name}.err").read_text().splitlines()
            libraries = set()
            for line in lines:
                try:
                    event = json.loads(line)
                except ValueError as exc:
                    raise AssertionError(f"{name} wrote {line!r}") from exc
                assert isinstance(event, dict), line
                assert event.keys() >= {"event", "level", "timestamp", "pid"}, line
                assert "\n" not in event["event"], line
                assert "tv-1" not in line, "no line is about one device"
                libraries.add(event.get("library"))
            assert "loud" in libraries, "what libraries log comes out like ours"

    def assert_without(self, directory: Path, secrets: list[str]) -> None:
        said = {path.name: path.read_text(errors="replace") for path in directory.glob("*.[oe][ur][tr]")}
        assert all("every logger is at DEBUG" in said[f"{name}.err"] for name in ("control", "gateway"))
        for where, text in [*said.items(), *((f"answer {n}", text) for n, text in enumerate(self.answers))]:
            for secret in secrets:
                at = text.find(secret)
                assert at < 0, f"{where}: …{text[max(0, at - 200) : at + 60]}…"


async def knock(url: str, told: Told, bearer: str, **options: Any) -> None:
    """Try to connect with a token that does not open the door; keep what the gateway says."""
    with pytest.raises(websockets.InvalidStatus) as caught:
        async with connecting(url, bearer, **options):
            pass
    response = caught.value.response
    told.answers.append(f"{response.headers}\n{response.body.decode()}")


async def bad_handshakes(url: str, told: Told) -> list[str]:
    """Present every kind of bad token in every place a token may travel; return what must not be repeated."""
    good = token("tv-1", key=DEVICE_KEY)
    head, payload, signature = good.split(".")
    another = ("B" if signature[0] == "A" else "A") + signature[1:]
    bad = [
        token("tv-1", key=DEVICE_KEY, exp=int(time.time()) - 3600),
        token("tv-1", key=DEVICE_KEY, aud="elsewhere"),
        token("tv-1", key=DEVICE_KEY, topics=["no name!"]),
        token("tv-1", key=DEVICE_KEY, sub=None),
        token("tv-1", key=f"{CANARY} another key that nobody configured"),
        token("tv-1", key=DEVICE_KEY, algorithm="HS512"),
        f"{head}.{payload}.{another}",
        f"{CANARY}.{payload}.{signature}",
        f"{CANARY}-is-no-token-at-all",
    ]
    for each in bad:
        await knock(url, told, each)
        await knock(url, told, "", subprotocols=["fanout.v1.json", f"bearer.{each}"], additional_headers={})
        await knock(url, told, "", subprotocols=[f"bearer.{each}"], additional_headers={})
        await knock(f"{url}?token={each}", told, each)
    await knock(url, told, good, subprotocols=["unknown"])
    await knock(url, told, good, additional_headers=[("Authorization", f"Bearer {good}")] * 2)
    return [part for each in (good, *bad) for part in each.split(".") if len(part) > 20 and part != head]


async def bad_requests(http: httpx.AsyncClient, told: Told) -> None:
    admin = {"Authorization": f"Bearer {ADMIN_KEY}"}
    wrong = {"Authorization": f"Bearer {CANARY}-of-nobody-but-long-enough-to-look-up"}
    for headers in (wrong, {"Authorization": f"{CANARY} {ADMIN_KEY}"}, {"Cookie": f"key={ADMIN_KEY}"}):
        assert told.answer(await http.get("/v1/campaigns", headers=headers)).status_code == 401
    told.answer(await http.get("/v1/campaigns", params={"key": ADMIN_KEY}))
    for path in ("/v1/campaigns/nope", "/nowhere", f"/v1/bundles/{'0' * 64}", "/metrics", "/readyz", "/v1/fleet"):
        told.answer(await http.get(path, headers=admin))
    json_body = {**admin, "Content-Type": "application/json"}
    for body in (b"{", b'{"id": 1}', b'{"id": "cup", "window_s": [[[["' + CANARY.encode()[:3]):
        told.answer(await http.post("/v1/campaigns", content=body, headers=json_body))
    told.answer(await http.post("/v1/campaigns", content=b"{}", headers=admin))
    told.answer(await http.post("/v1/campaigns/cup/close", content=b" " * 20_000, headers=json_body))


async def test_each_part_may_do_its_work_and_no_more_and_no_secret_is_told(
    valkey: EmbeddedValkey, redis: Redis, tmp_path: Path
) -> None:
    (tmp_path / "sitecustomize.py").write_text(LOUD)
    for words in logins():
        await redis.execute_command("ACL", "SETUSER", *words)
    async with connect(as_user(valkey, "keys")) as keys:
        await KeyStore(keys).create("admin", Role.ADMIN, key=ADMIN_KEY)
        await AccountStore(keys).create("mia", Role.ADMIN, PASSWORD)
        await AccountStore(keys).set_role("mia", Role.PUBLISHER)
        await AccountStore(keys).list()
        await AuditStore(keys).append("command line", "account create", 1, {"account": "mia"})
        await AccountStore(keys).create("kim", Role.ADMIN, PASSWORD)
        await AccountStore(keys).remove("kim")
        with pytest.raises(NoPermissionError):
            await keys.get(keyspace.LOG)
    await redis.execute_command("ACL", "LOG", "RESET")

    told = Told()
    control_login, gateway_login = as_user(valkey, "control"), as_user(valkey, "gateway")
    with (
        command(tmp_path, "control", FANOUT_REDIS_URL=control_login,
                FANOUT_ADMIN_KEY=ADMIN_KEY) as control,
        command(tmp_path, "gateway", "--admin-port", "0", "--probe-interval-s", "0.1", "--beacon-s", "1",
                "--lifetime-spread-ms", "1", "--rebalance-s", "1",
                FANOUT_REDIS_URL=gateway_login, FANOUT_DEVICE_KEY=DEVICE_KEY) as gateway,
    ):  # fmt: skip
        async with web(base_url=control["url"], timeout=PATIENCE_S) as http:
            await a_campaign_runs(http, gateway["url"], told, redis)
            sessions = await somebody_signs_in(control["url"], told)
            # Half an hour of a gateway's life is in it: evening out, too.
            await until(lambda: redis.exists(keyspace.AVERAGE), "the fleet's average")
            assert await refused(redis) == []
            tokens = await bad_handshakes(gateway["url"], told)
            await bad_requests(http, told)
            await everything_breaks(http, gateway["admin_url"], told, valkey, redis)
    told.assert_without(tmp_path, [CANARY, *tokens, *sessions])
    told.assert_one_event_a_line(tmp_path)


async def a_campaign_runs(http: httpx.AsyncClient, url: str, told: Told, redis: Redis) -> None:
    """Take a campaign from draft to closed with a device there, and the log lost and put back in between."""
    admin = {"Authorization": f"Bearer {ADMIN_KEY}"}

    async def post(path: str, body: dict[str, Any]) -> dict[str, Any]:
        answer = told.answer(await http.post(path, json=body, headers=admin))
        assert answer.status_code in (200, 201), answer.text
        return dict(answer.json())

    stages = {stage: {"title": stage} for stage in ("upcoming", "live")}
    campaign = {"id": "cup", "title": "Cup", "topic": "t", "stages": list(stages)}
    await post("/v1/campaigns", {**campaign, "variants": [{"bundle": {"stages": stages}}]})
    await post("/v1/campaigns/cup/prefetch", {"window_s": 0})
    async with connecting(url, token("tv-1", key=DEVICE_KEY)) as device:
        assert (await receive(device))["t"] == "welcome"
        pressed = {"stage": "live", "window_s": 0, "force": True, "reason": "a test"}
        rev = (await post("/v1/campaigns/cup/activate", pressed))["rev"]
        async with asyncio.timeout(PATIENCE_S):
            while (await receive(device)).get("rev") != rev:
                pass
        outcomes = [name async for name in redis.scan_iter(match=keyspace.outcome("*"))]
        await redis.delete(keyspace.LOG, keyspace.RETAINED, *outcomes)
        await until(lambda: redis.hlen(keyspace.RETAINED), "what the gateway puts back")
        for path in ("/v1/campaigns", "/v1/campaigns/cup/readiness", "/v1/fleet", "/readyz"):
            assert told.answer(await http.get(path, headers=admin)).status_code == 200
        await post("/v1/campaigns/cup/retract", {"reason": "a test"})
        await post("/v1/campaigns/cup/close", {})


async def somebody_signs_in(url: str, told: Told) -> list[str]:
    """Sign in, with a wrong password first, look around, sign out; return what must not be repeated."""
    async with web(base_url=url, timeout=PATIENCE_S) as http:
        page = await http.get("/login")
        form = {"name": "mia", "csrf_login": http.cookies["fanout_login"]}
        assert form["csrf_login"] in page.text
        told.answer(await http.post("/login", data={**form, "password": f"{PASSWORD} not quite"}))
        answer = await http.post("/login", data={**form, "password": PASSWORD})
        assert answer.status_code == 303, answer.text
        token = http.cookies["fanout_session"]
        for path in ("/v1/campaigns", "/v1/audit", "/v1/campaigns/cup/flights"):
            assert told.answer(await http.get(path)).status_code == 200, path
        refused = {"X-CSRF-Token": f"{CANARY}-of-another-session"}
        told.answer(await http.post("/v1/campaigns", json={}, headers=refused))
        assert told.answer(await http.post("/logout", data={"csrf": CANARY})).status_code == 403
    return [token]


async def everything_breaks(
    http: httpx.AsyncClient, admin_url: str, told: Told, valkey: EmbeddedValkey, redis: Redis
) -> None:
    """A record nobody can read, a login that is refused, a store that is gone."""
    admin = {"Authorization": f"Bearer {ADMIN_KEY}"}
    await redis.hset(keyspace.campaign("cup"), "doc", b"\xc1")
    assert told.answer(await http.get("/v1/campaigns/cup", headers=admin)).status_code == 500

    async def health(status: str) -> bool:
        answer = told.answer(await http.get(f"{admin_url}/readyz"))
        return bool(answer.json()["status"] == status)

    for name in PASSWORDS:
        await redis.execute_command("ACL", "SETUSER", name, "resetpass", ">another")
        await redis.execute_command("CLIENT", "KILL", "USER", name)
    assert told.answer(await http.get("/v1/campaigns", headers=admin)).status_code == 503
    await until(lambda: health("degraded"), "a gateway without a login")
    valkey.kill()
    assert told.answer(await http.get("/v1/campaigns", headers=admin)).status_code == 503
    told.answer(await http.get(f"{admin_url}/metrics"))


async def test_a_login_of_one_part_is_no_use_for_the_others_work(valkey: EmbeddedValkey, redis: Redis) -> None:
    for words in logins():
        await redis.execute_command("ACL", "SETUSER", *words)
    key = await KeyStore(redis).create("desk", Role.ADMIN)
    async with connect(as_user(valkey, "gateway")) as gateway, connect(as_user(valkey, "control")) as control:
        for login, forbidden in (
            (gateway, ("HGETALL", keyspace.API_KEYS)),
            (gateway, ("HSET", keyspace.API_KEYS, "x", "y")),
            (gateway, ("SET", keyspace.bundle("0" * 64), "x")),
            (gateway, ("GET", keyspace.reply("desk", "k"))),
            (gateway, ("HGETALL", keyspace.ACCOUNTS)),
            (gateway, ("GET", keyspace.session("0" * 64))),
            (gateway, ("LRANGE", keyspace.AUDIT, "0", "-1")),
            (control, ("HSET", keyspace.API_KEYS, "x", "y")),
            (control, ("HSET", keyspace.ACCOUNTS, "x", "y")),
            (control, ("HDEL", keyspace.ACCOUNTS, "x")),
            (control, ("SET", keyspace.presence("gw"), "x")),
            (control, ("SUBSCRIBE", keyspace.DOORBELL)),
            *((login, words) for login in (gateway, control) for words in FOR_NOBODY),
        ):
            with pytest.raises(NoPermissionError):
                await login.execute_command(*forbidden)
        assert (await KeyStore(control).find(key)) is not None
        # Of parameters that are no longer ours; this login may not write it anew, and somebody signs in all the same.
        await AccountStore(redis, PasswordHasher(time_cost=1, memory_cost=8, parallelism=1)).create(
            "mia", Role.ADMIN, PASSWORD
        )
        assert (await AccountStore(control).check("mia", PASSWORD)) is not None
        with pytest.raises(Refused, match="may not write API keys"):
            await KeyStore(control).create("other", Role.ADMIN)
