"""A campaign from a terminal: every button, and every way to be told no."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest
import yaml
from support.product import definition

from .conftest import ADMIN_KEY, Terminal
from .running import error, fanout, good


def test_a_campaign_goes_through_all_its_phases(campaign: Terminal) -> None:
    name = campaign.created()
    assert campaign.json("show", name)["phase"] == "draft"
    assert campaign.json("prefetch", name, "--window", "60")["prefetch"]["window_ms"] == 60_000
    force = ("--force", "--reason", "nobody is connected")
    armed = campaign.json("activate", name, "upcoming", "--in", "3600", *force)
    assert (armed["phase"], armed["activation"]["window_ms"]) == ("armed", 30_000)
    assert campaign.json("cancel", name)["phase"] == "prefetching"
    assert campaign.json("activate", name, "upcoming", "--window", "0", *force)["phase"] == "live"
    canary = campaign.json("activate", name, "live", "--window", "0", "--share", "0.25", *force)
    assert canary["activation"]["share"] == 0.25
    assert campaign.json("activate", name, "live", "--window", "0", *force)["stage"] == "live"
    back = campaign.json("retract", name, "--reason", "a false alarm", "--window", "0")
    assert (back["stage"], back["activation"]["reason"]) == ("upcoming", "a false alarm")
    assert campaign.json("close", name)["phase"] == "closed"


@pytest.mark.parametrize("ending", ["json", "yaml"])
def test_a_campaign_is_created_from_json_and_from_yaml(campaign: Terminal, tmp_path: Path, ending: str) -> None:
    name = f"from-{ending}"
    body = definition(name)
    file = tmp_path / f"campaign.{ending}"
    file.write_text(json.dumps(body) if ending == "json" else yaml.safe_dump(body))
    assert campaign.json("create", str(file))["id"] == name


def test_instants_are_iso_8601_or_unix_ms(campaign: Terminal) -> None:
    name = campaign.created()
    now_ms = campaign.json("show", name)["now"]
    planned = campaign.json("prefetch", name, "--window", "5", "--from", str(now_ms + 60_000))
    assert planned["prefetch"]["from_ms"] == now_ms + 60_000
    assert "time zone" in error(campaign("prefetch", name, "--window", "5", "--from", "2026-07-01T20:00:00"))
    assert "send one of them" in error(campaign("prefetch", name, "--window", "5", "--from", "1", "--in", "1"))


def test_people_get_tables(campaign: Terminal) -> None:
    name = campaign.created(title="Finals [/of] [red]all")
    for words in (["list"], ["show", name], ["prefetch", name, "--window", "1"], ["readiness", name]):
        said = good(campaign(*words))
        assert "Traceback" not in said
        if words[0] != "readiness":
            assert name in said
            assert "Finals [/of] [red]all" in said
    assert "not met" in said


def test_the_list_has_every_campaign(campaign: Terminal) -> None:
    names = {campaign.created() for _ in range(3)}
    assert names <= {each["id"] for each in campaign.json("list")["campaigns"]}


def test_readiness_is_json_for_machines(campaign: Terminal) -> None:
    name = campaign.created()
    assert campaign.json("readiness", name)["total"] == {"connected": 0, "ready": 0, "active": 0, "coverage": 0.0}


def test_a_change_of_what_one_has_seen_only(campaign: Terminal) -> None:
    name = campaign.created()
    seen = campaign.json("show", name)["etag"]
    campaign.json("prefetch", name, "--window", "1", "--if-match", seen)
    assert "412" in error(campaign("close", name, "--if-match", seen))


# --- No.


def test_the_gate_refuses_until_forced_with_a_reason(campaign: Terminal) -> None:
    name = campaign.created()
    campaign.json("prefetch", name, "--window", "1")
    assert "409" in error(campaign("activate", name, "live"))
    assert "reason" in error(campaign("activate", name, "live", "--force"))


@pytest.mark.parametrize("name", ["nobody", "../fleet", "a/b", "?x", "", ".", "..", "x" * 5_000, "日本"])
def test_an_unknown_campaign_is_not_found(campaign: Terminal, name: str) -> None:
    for words in (["show", name], ["readiness", name], ["close", name], ["cancel", name]):
        assert error(campaign(*words))


def test_a_wrong_phase_a_wrong_stage_and_a_wrong_window_are_explained(campaign: Terminal) -> None:
    name = campaign.created()
    assert "409" in error(campaign("cancel", name))
    campaign.json("prefetch", name, "--window", "1")
    assert "upcoming, live, ended" in error(campaign("activate", name, "finale", "--force", "--reason", "x"))
    assert "600" in error(campaign("activate", name, "live", "--window", "601", "--force", "--reason", "x"))
    assert "JSON" in error(campaign("activate", name, "live", "--window", "nan", "--force", "--reason", "x"))


@pytest.mark.parametrize(
    "content",
    [
        "",
        "[]",
        "just words",
        "{",
        "a: b: c\n  - d",
        "\t",
        "id: cup\ntitle: 2026-07-01\n",
        "id: x",
        "[" * 2_000,
        "\x00",
    ],
)
def test_a_file_that_is_no_campaign_is_refused_in_one_line(campaign: Terminal, content: str) -> None:
    assert error(campaign("create", "-", stdin=content))


def test_a_file_that_is_no_text_is_refused(campaign: Terminal, tmp_path: Path) -> None:
    file = tmp_path / "campaign.json"
    file.write_bytes(b"\xff\xfe{}")
    assert str(file) in error(campaign("create", str(file)))
    assert "nowhere" in error(campaign("create", "/nowhere.json"))


@pytest.mark.parametrize("key", ["", "a key that nobody has ever made here", "schlüssel", "two\nlines"])
def test_without_a_good_key_nothing_is_done(campaign: Terminal, key: str) -> None:
    assert ADMIN_KEY not in error(campaign("list", FANOUT_API_KEY=key))


@pytest.mark.parametrize("url", ["http://127.0.0.1:1", "nonsense", "http://[::1", "ftp://127.0.0.1", "", "http://"])
def test_a_control_plane_that_is_not_there_is_one_line(campaign: Terminal, url: str) -> None:
    for words in (["list"], ["close", "cup"]):
        assert error(campaign(*words, "--control-url", url))


class Greeter(BaseHTTPRequestHandler):
    """A web server of somebody else."""

    def do_GET(self) -> None:
        self.send_response(200)
        self.end_headers()
        self.wfile.write(b"<h1>Welcome!</h1>")

    def log_message(self, *words: object) -> None:
        """Say nothing."""


@contextmanager
def other_server() -> Iterator[str]:
    with HTTPServer(("127.0.0.1", 0), Greeter) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}"
        finally:
            server.shutdown()
            thread.join()


def test_a_web_server_that_is_no_control_plane_is_one_line(campaign: Terminal) -> None:
    with other_server() as url:
        assert "no control plane" in error(campaign("list", "--control-url", url))
        assert error(campaign("close", "cup", "--control-url", url))


# --- Keys.


def test_keys_are_made_listed_used_and_revoked(store: str, campaign: Terminal) -> None:
    url = {"FANOUT_REDIS_URL": store}
    made = good(fanout("key", "create", "pat", "--role", "viewer", **url)).strip()
    assert "pat\tviewer" in good(fanout("key", "list", **url)).splitlines()
    good(campaign("list", FANOUT_API_KEY=made))
    name = campaign.created()
    assert "403" in error(campaign("close", name, FANOUT_API_KEY=made))
    assert "pat" in error(fanout("key", "create", "pat", "--role", "admin", **url))
    assert good(fanout("key", "revoke", "pat", **url)) == ""
    assert "401" in error(campaign("list", FANOUT_API_KEY=made))
    assert "pat" in error(fanout("key", "revoke", "pat", **url))
    assert "Bad Name" in error(fanout("key", "create", "Bad Name", "--role", "admin", **url))


@pytest.mark.parametrize("url", ["nonsense", "redis://127.0.0.1:1", "unix:///nowhere.sock", "redis://127.0.0.1:port"])
def test_a_store_that_is_not_there_is_one_line(url: str) -> None:
    for words in (["list"], ["revoke", "pat"], ["create", "pat", "--role", "viewer"]):
        assert error(fanout("key", *words, "--redis-url", url))
