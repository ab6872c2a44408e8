"""``fanout control`` and ``fanout gateway`` as processes: how they start, how they end, how they refuse to start."""

from __future__ import annotations

import json
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx
import pytest
from support.stack import connecting, receive, token
from support.waiting import PATIENCE_S, until
from support.web import web

from fanout.embedded import EmbeddedValkey

from .running import DEVICE_KEY, Traces, ended, environment, first_line, process, wait_until

STORE = "redis://127.0.0.1:1"  # one that is not needed, for nothing gets so far
KEY = {"FANOUT_DEVICE_KEY": DEVICE_KEY}
FREE = ("--port", "0", "--admin-port", "0", "--json")


@pytest.fixture
def taken() -> Iterator[int]:
    """A port that somebody else listens on."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        yield listener.getsockname()[1]


# Runs the command once for every line it reads, each time in a child that has all modules already: a server that
# refuses to start has spent nearly all its time on loading them.
_FORKING = f"""
import json, os, signal, sys
import fanout.control.server, gateway.supervisor
from fanout.cli import main
for line in sys.stdin:
    words, environment, said = json.loads(line)
    child = os.fork()
    if not child:
        signal.alarm({int(PATIENCE_S)})  # one that serves after all is ended
        os.environ.clear()
        os.environ.update(environment)
        os.dup2(os.open(said, os.O_WRONLY | os.O_CREAT), 2)
        sys.argv = ["fanout", *words]
        main()
    print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)
"""


@pytest.fixture(scope="module")
def forking() -> Iterator[subprocess.Popen[str]]:
    with subprocess.Popen(
        [sys.executable, "-c", _FORKING], stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=environment(), text=True
    ) as process:
        yield process


@pytest.fixture
def refusal(forking: subprocess.Popen[str], tmp_path: Path) -> Callable[..., str]:
    """Return what gives the one line with which a server refuses to start."""

    def refused(*words: str, **variables: str) -> str:
        assert forking.stdin is not None
        assert forking.stdout is not None
        said = tmp_path / "said"
        said.unlink(missing_ok=True)
        forking.stdin.write(json.dumps([words, environment(**variables), str(said)]) + "\n")
        forking.stdin.flush()
        assert int(forking.stdout.readline()) > 0
        lines = said.read_text().strip().splitlines()
        assert len([line for line in lines if line.startswith("Error: ")]) == 1, lines
        assert not any("Traceback" in line for line in lines), lines
        assert lines[-1].startswith("Error: ")
        return lines[-1]

    return refused


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_control_plane_ends_in_good_order_and_takes_its_store_with_it(
    number: int, tmp_path: Path, traces: Traces
) -> None:
    with process("control", "--port", "0", "--json", "--data-dir", str(tmp_path), **traces.variables) as child:
        url = first_line(child)["url"]
        assert httpx.get(f"{url}/readyz", trust_env=False).json() == {"status": "ok"}
        assert len(traces.processes) == 2, "itself and its store"
        assert ended(child, number) == 0
        traces.assert_none()
    assert any(tmp_path.iterdir()), "what was stored is still there"


def test_a_control_plane_that_is_killed_takes_its_store_with_it(tmp_path: Path, traces: Traces) -> None:
    with process("control", "--port", "0", "--json", "--data-dir", str(tmp_path), **traces.variables) as child:
        first_line(child)
        assert ended(child, signal.SIGKILL) == -signal.SIGKILL
        wait_until(lambda: not traces.processes, "the end of its store")


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
async def test_a_gateway_serves_and_ends_in_good_order_with_its_workers(
    valkey: EmbeddedValkey, number: int, traces: Traces
) -> None:
    drain = ("--drain-s", "0.2", "--drain-close-s", "0.2")
    with process(
        "gateway", *FREE, *drain, "--workers", "2", FANOUT_REDIS_URL=valkey.url, **KEY, **traces.variables
    ) as child:
        urls = first_line(child)
        async with web(base_url=urls["admin_url"]) as http:
            health = (await http.get("/readyz")).json()
        assert (health["status"], len(health["workers"])) == ("ok", 2)
        async with connecting(urls["url"], token(key=DEVICE_KEY)) as device:
            assert (await receive(device))["t"] == "welcome"
            assert len(traces.processes) == 4, "itself, its workers, and what they were forked from"
            child.send_signal(number)
            assert (await receive(device))["t"] == "reconnect"
        await until(lambda: child.poll() is not None, "its end")
        assert child.wait() == 0
        traces.assert_none()


def test_a_gateway_that_is_killed_takes_its_workers_with_it(valkey: EmbeddedValkey, traces: Traces) -> None:
    with process(
        "gateway",
        *FREE,
        "--drain-s",
        "0",
        "--drain-close-s",
        "0",
        FANOUT_REDIS_URL=valkey.url,
        **KEY,
        **traces.variables,
    ) as child:
        first_line(child)
        assert ended(child, signal.SIGKILL) == -signal.SIGKILL
        wait_until(lambda: not traces.processes, "the end of its workers")


async def test_settings_can_come_from_the_environment(valkey: EmbeddedValkey) -> None:
    variables = {
        "FANOUT_GATEWAY_PORT": "0",
        "FANOUT_GATEWAY_ADMIN_PORT": "0",
        "FANOUT_GATEWAY_JSON": "1",
        "FANOUT_GATEWAY_BEACON_S": "17",
        "FANOUT_REDIS_URL": valkey.url,
    }
    with process("gateway", "--drain-s", "0", "--drain-close-s", "0", **variables, **KEY) as child:
        async with connecting(first_line(child)["url"], token(key=DEVICE_KEY)) as device:
            assert (await receive(device))["beacon_s"] == 17
        assert ended(child) == 0


def test_a_port_in_use_is_named(refusal: Callable[..., str], taken: int) -> None:
    port = ("--port", str(taken))
    assert str(taken) in refusal("control", *port, "--redis-url", STORE)
    assert str(taken) in refusal("gateway", *port, "--redis-url", STORE, **KEY)
    assert str(taken) in refusal("gateway", "--port", "0", "--admin-port", str(taken), "--redis-url", STORE, **KEY)


@pytest.mark.parametrize(
    ("variables", "told"),
    [
        ({}, "FANOUT_DEVICE_KEY"),
        ({"FANOUT_DEVICE_KEY": "too short"}, "32"),
        ({**KEY, "FANOUT_DEVICE_JWKS": "/keys.json"}, "exactly one"),
        ({"FANOUT_DEVICE_JWKS": "/nowhere.json"}, "/nowhere.json"),
        ({"FANOUT_DEVICE_KEY_FILE": "/nowhere.key"}, "/nowhere.key"),
    ],
    ids=["none", "short", "two", "no key set", "no file"],
)
def test_a_gateway_without_a_good_key_does_not_start(
    refusal: Callable[..., str], variables: dict[str, str], told: str
) -> None:
    assert told in refusal("gateway", *FREE, "--redis-url", STORE, **variables)


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["--redis-url", "nonsense"], "redis://"),
        (["--redis-url", STORE, "--host", "nowhere.invalid"], "nowhere.invalid"),
        (["--redis-url", STORE, "--beacon-s", "500"], "beacon_s is 500"),
        (["--redis-url", STORE, "--connections-max", "0"], "connections_max"),
        (["--redis-url", STORE, "--admit-per-s", "-1"], "admit_per_s"),
        (["--redis-url", STORE, "--ping-s", "soon"], "--ping-s"),
    ],
    ids=lambda words: words[-1] if isinstance(words, list) else "",
)
def test_a_gateway_with_a_bad_setting_does_not_start(
    refusal: Callable[..., str], words: list[str], told: str
) -> None:
    assert told in refusal("gateway", *FREE, *words, **KEY)


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["--redis-url", "nonsense"], "redis://"),
        (["--redis-url", STORE, "--public-url", "nonsense"], "public url"),
        (["--redis-url", STORE, "--host", "nowhere.invalid"], "nowhere.invalid"),
        (["--data-dir", "/proc/nowhere"], "data directory"),
    ],
    ids=["redis url", "public url", "host", "data directory"],
)
def test_a_control_plane_with_a_bad_setting_does_not_start(
    refusal: Callable[..., str], words: list[str], told: str
) -> None:
    assert told in refusal("control", "--port", "0", *words)


@pytest.mark.parametrize("words", [("control", "--port", "0"), ("gateway", *FREE)], ids=lambda words: words[0])
def test_a_process_whose_store_does_not_answer_says_which_setting_named_it_and_ends(
    refusal: Callable[..., str], words: tuple[str, ...]
) -> None:
    said = refusal(*words, "--redis-url", STORE, "--store-wait-s", "0.3", **KEY)
    assert "FANOUT_REDIS_URL" in said
    assert "within 0.3 s" in said


@pytest.mark.parametrize("words", [("control", "--port", "0"), ("gateway", *FREE)], ids=lambda words: words[0])
def test_a_process_that_the_store_turns_away_ends_at_once_and_tells_no_password(
    refusal: Callable[..., str], valkey: EmbeddedValkey, words: tuple[str, ...]
) -> None:
    url = valkey.url.replace("unix://", "unix://somebody:a-password-nobody-has@")
    said = refusal(*words, "--redis-url", url, "--store-wait-s", str(10 * PATIENCE_S), **KEY)
    assert "FANOUT_REDIS_URL" in said
    assert "a-password" not in said


def test_a_process_started_before_its_store_waits_for_it() -> None:
    store = EmbeddedValkey()
    quick = ("--drain-s", "0", "--drain-close-s", "0")
    with process("gateway", *FREE, *quick, FANOUT_REDIS_URL=store.url, **KEY) as child:
        store.start()
        try:
            assert first_line(child)["url"].startswith("ws://")
            assert ended(child) == 0
        finally:
            store.stop()


def test_an_admin_key_that_is_too_short_is_refused(refusal: Callable[..., str], valkey: EmbeddedValkey) -> None:
    said = refusal("control", "--port", "0", "--redis-url", valkey.url, FANOUT_ADMIN_KEY="short")
    assert "short" not in said.split(":", 1)[1]
