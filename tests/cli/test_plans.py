"""Edits, the second key, schedules, forecasts and the audit chain, from a terminal."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import Result
from redis import Redis
from support.product import definition
from support.waiting import until

from fanout import keyspace

from .conftest import Terminal
from .running import error, fanout, good


def audit(campaign: Terminal, *words: str, stdin: str | None = None) -> Result:
    return fanout("audit", *words, stdin=stdin, **campaign.environment)


@pytest.fixture
def colleague(store: str, control_url: str) -> Terminal:
    """Somebody else at a terminal."""
    name = "colleague"
    fanout("key", "revoke", name, "--redis-url", store)
    return Terminal(
        control_url, good(fanout("key", "create", name, "--role", "editor", "--redis-url", store)).strip()
    )


def test_a_campaign_is_edited_from_a_file(campaign: Terminal, tmp_path: Path) -> None:
    name = campaign.created()
    file = tmp_path / "campaign.json"
    file.write_text(json.dumps(definition(name, title="The semi-final")))
    assert campaign.json("edit", str(file))["title"] == "The semi-final"
    assert "412" in error(campaign("edit", str(file), "--if-match", '"1"'))


def test_two_people_are_needed_where_two_keys_are(campaign: Terminal, colleague: Terminal) -> None:
    name = campaign.created(two_keys=True)
    campaign.json("prefetch", name, "--window", "0")
    go = ("activate", name, "live", "--window", "0", "--force", "--reason", "nobody is connected")
    assert "needs a second key" in error(campaign(*go))
    assert "somebody else's" in error(campaign("approve", name))
    assert "not turned yet" in good(campaign("show", name))
    assert colleague.json("approve", name)["approval"]["by"] == "colleague"
    assert "turned by colleague" in good(campaign("show", name))
    assert campaign.json(*go)["stage"] == "live"


def test_what_is_scheduled_moves_with_the_event_and_can_be_taken_back(campaign: Terminal) -> None:
    name = campaign.created()
    campaign.json("prefetch", name, "--window", "0")
    planned = campaign.json("schedule", name, "live", "--in", "7200", "--window", "45", "--arm-ahead", "600")
    schedule = planned["schedule"]
    assert schedule["at"] - schedule["arm_at"] == 600_000
    assert "live" in good(campaign("show", name))
    moved = campaign.json("move", name, "--at", str(schedule["at"] + 420_000))["schedule"]
    assert (moved["at"] - schedule["at"], moved["arm_at"] - schedule["arm_at"]) == (420_000, 420_000)
    assert campaign.json("unschedule", name)["schedule"] is None
    assert "nothing to move" in error(campaign("move", name, "--in", "60"))


@pytest.mark.parametrize(("zone", "said"), [("UTC0", "UTC, over"), ("JST-9", "JST (")])
def test_an_instant_is_told_in_the_zone_here_with_utc_beside_it_once(
    campaign: Terminal, monkeypatch: pytest.MonkeyPatch, zone: str, said: str
) -> None:
    name = campaign.created()
    with monkeypatch.context() as here:
        here.setenv("TZ", zone)
        time.tzset()
        told = good(campaign("prefetch", name, "--window", "0"))
    time.tzset()
    assert said in told
    assert told.count("UTC") == 1


def test_a_forecast_is_told_in_words_and_as_json(campaign: Terminal) -> None:
    name = campaign.created()
    said = good(campaign("forecast", name, "--window", "20"))
    assert "Nobody is connected." in said
    assert "smallest safe window" in said
    assert campaign.json("forecast", name, "--window", "20", "--in", "30")["window_s"] == 20
    assert "422" in error(campaign("forecast", name, "--share", "2"))


def test_the_audit_chain_is_listed_verified_and_kept_elsewhere(campaign: Terminal, tmp_path: Path) -> None:
    name = campaign.created(title="Finals [red]all")
    campaign.json("prefetch", name, "--window", "0")
    listed = json.loads(good(audit(campaign, "list", "--campaign", name, "--json")))["entries"]
    assert [entry["action"] for entry in listed] == ["prefetch", "create"]
    assert name in good(audit(campaign, "list"))
    found = json.loads(good(audit(campaign, "verify", "--json")))
    assert (found["faults"], found["entries"] >= 2) == ([], True)
    file = tmp_path / "chain.txt"
    file.write_text(good(audit(campaign, "export")))
    assert "the chain is whole" in good(audit(campaign, "verify", str(file), "--noted", found["head"]))
    file.write_text("\n".join(file.read_text().splitlines()[:-1]))
    cut = audit(campaign, "verify", str(file), "--noted", found["head"])
    assert cut.exit_code == 1
    assert "the end was cut off" in cut.output


def test_who_changes_the_chain_in_the_store_is_found_out(campaign: Terminal, store: str) -> None:
    campaign.created()
    with Redis.from_url(store) as redis:
        line = redis.lindex(keyspace.AUDIT, 0)
        assert isinstance(line, bytes)
        redis.lset(keyspace.AUDIT, 0, line.replace(b'"create"', b'"cReate"'))
        try:
            found = audit(campaign, "verify")
            assert found.exit_code == 1
            assert "entry 1: its hash does not follow" in found.output
            assert "BROKEN" in found.output
        finally:
            redis.lset(keyspace.AUDIT, 0, line)
    good(audit(campaign, "verify"))


def test_a_campaign_is_copied_as_a_rehearsal(campaign: Terminal) -> None:
    name = campaign.created(title="Finals")
    copied = campaign.json("copy", name, f"{name}-drill", "--title", "Finals, the drill", "--shadow")
    first = campaign.json("show", name)
    assert (copied["shadow"], copied["title"], first["shadow"]) == (True, "Finals, the drill", False)
    assert copied["variants"] == first["variants"]
    assert copied["phase"] == "draft"


def test_flights_and_the_fleet_are_shown(campaign: Terminal) -> None:
    name = campaign.created()
    assert "no flights yet" in good(campaign("flights", name))
    campaign.json("prefetch", name, "--window", "0")
    pressed = campaign.json("activate", name, "live", "--window", "0", "--force", "--reason", "nobody is connected")

    def recorded() -> bool:
        return any(each["rev"] == pressed["rev"] for each in campaign.json("flights", name)["flights"])

    until_true(recorded)
    assert "live" in good(campaign("flights", name))
    narrow = fanout("campaign", "flights", name, **{**campaign.environment, "COLUMNS": "80"})
    assert str(pressed["rev"]) in good(narrow)
    told = good(campaign("flight", name, str(pressed["rev"])))
    assert "live at" in told
    assert "stayed behind: 0" in told
    assert "99 % after: not seen, forecast never" in told
    assert "404" in error(campaign("flight", name, "1"))
    assert "0 devices" in good(fanout("fleet", **campaign.environment))


def until_true(check: Callable[[], bool]) -> None:
    """Wait, outside of a loop, until the recorder has had its tick."""
    asyncio.run(until(check))
