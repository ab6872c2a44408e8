"""The kit is right both ways: a device that keeps the rules is told so, and one that breaks a rule is caught by the
scenario meant for it. All walks of a test run beside each other, each on a port of its own: they mostly wait."""

from __future__ import annotations

import asyncio
import json
import os
import sys
import time
from functools import partial
from itertools import chain
from pathlib import Path
from typing import Any

import pytest
from websockets.asyncio.client import connect
from websockets.exceptions import InvalidStatus

from fanout import wire
from fanout.conformance.gateway import ScriptedGateway
from fanout.conformance.messages import Ledger, activate, cancel, close, prefetch
from fanout.conformance.peer import Peer, mono_ms
from fanout.conformance.scenarios.catalogue import ALL
from fanout.conformance.scenarios.registry import Stage
from fanout.conformance.walk import NoDevice, chosen, walk
from fanout.device import DeviceMachine, client
from fanout.device.driver import Driver
from fanout.errors import InvalidInput
from fanout.tokens import mint

from .faults import FAULTS, Fault
from .walking import BY_ID, CLOSE, PATIENT, walked, with_what_it_reads

KEY = b"a key that only these tests know, 32 bytes"
# Walks that share the scenarios that run alone, so that none takes much longer than the longest scenario.
WALKS = 6
# On a machine so busy that everything takes its time, a device that does not wait at all looks as if it did. Whoever
# was missed beside all the others is walked again alone, until the machine is quick enough, for so long.
UNTIL_CAUGHT_S = 75.0
PATIENT_MS = 45_000
# Of a device that is a process among many: whatever is measured here, it is not the machine.
LATE_MS = 5_000


async def test_a_device_that_keeps_the_rules_is_told_so() -> None:
    alone = [s for s in ALL if s.stage in (Stage.ALONE, Stage.ENDING) and s.id != "backoff"]
    after = [s for s in ALL if s.stage == Stage.AFTER]
    together = [s for s in ALL if s.stage == Stage.TOGETHER]
    parts = [together + after, [BY_ID["backoff"]], *(alone[n::WALKS] for n in range(WALKS))]
    encodings = (wire.Encoding.JSON, wire.Encoding.MSGPACK)
    walks = (walked(part, f"good-{n}", PATIENT, encodings[n % 2]) for n, part in enumerate(parts))
    verdicts = list(chain.from_iterable(await asyncio.gather(*walks)))
    assert sorted(v.id for v in verdicts) == sorted(s.id for s in ALL)
    assert not [verdict for verdict in verdicts if verdict.verdict != "kept"]


async def test_each_fault_is_caught_by_the_scenario_meant_for_it(monkeypatch: pytest.MonkeyPatch) -> None:
    made = {fault.name: fault.made_of for fault in FAULTS}

    def machine(device_id: str, **more: Any) -> DeviceMachine:
        kind = made[device_id]
        return (kind if issubclass(kind, DeviceMachine) else DeviceMachine)(device_id, **more)

    def driver(machine: DeviceMachine, **more: Any) -> Driver:
        kind = made.get(machine.device_id, Driver)
        return (kind if issubclass(kind, Driver) else Driver)(machine, **more)

    monkeypatch.setattr(client, "DeviceMachine", machine)
    monkeypatch.setattr(client, "Driver", driver)

    async def missed(fault: Fault) -> str | None:
        verdicts = await walked(with_what_it_reads(fault.caught_by), fault.name, CLOSE)
        meant = next(verdict for verdict in verdicts if verdict.id == fault.caught_by)
        return None if meant.verdict == "broken" else f"{fault.name}: {meant.verdict}, {meant.seen}"

    deadline_s = time.monotonic() + UNTIL_CAUGHT_S
    for fault, words in zip(FAULTS, await asyncio.gather(*map(missed, FAULTS)), strict=True):
        while words:
            assert time.monotonic() < deadline_s, words
            words = await missed(fault)


def test_every_scenario_is_failed_by_some_device() -> None:
    # A library answers pings: a device that does not is a process of its own, below.
    assert {scenario.id for scenario in ALL} == {fault.caught_by for fault in FAULTS} | {"ping"}


def test_every_rule_of_the_protocol_that_shows_on_the_wire_is_walked() -> None:
    walked_rules = {rule for scenario in ALL for rule in scenario.rules}
    # 11 is over days; the others are each held by something.
    assert {str(number) for number in range(1, 33)} - walked_rules == {"11"}
    assert {"§1", "§2", "§4", "§5", "§7", "§8", "§9"} <= walked_rules
    assert len({scenario.id for scenario in ALL}) == len(ALL)
    assert all(scenario.expected for scenario in ALL)


def test_scenarios_are_chosen_by_name_and_by_rule() -> None:
    assert [s.id for s in chosen(ALL, ["ping", "", " cancel "])] == ["cancel", "ping"]
    assert {s.id for s in chosen(ALL, ["26"])} == {"beacon"}
    assert chosen(ALL, [""]) == list(ALL)
    with pytest.raises(InvalidInput, match=r"--rules names 77; .*--list"):
        chosen(ALL, ["77", "ping"])


class Nobody:
    """A device that never comes."""

    def start(self) -> bool:
        return False

    def ended(self) -> str | None:
        return "exit status 3"


async def test_a_device_that_ends_before_it_came_is_no_verdict() -> None:
    async with ScriptedGateway("127.0.0.1", 0, tuple(wire.Encoding)) as gateway:
        with pytest.raises(NoDevice, match="exit status 3"):
            await walk(gateway, Nobody(), ALL, CLOSE, lambda scenario, verdict: None)


async def test_a_malformed_handshake_is_noticed() -> None:
    token = mint(KEY, "tv", ["check"])
    async with ScriptedGateway("127.0.0.1", 0, (wire.Encoding.JSON,)) as gateway:
        for query, headers, offers, says in (
            (f"?token={token}", {"Authorization": f"Bearer {token}"}, ["fanout.v1.json"], "in the URL"),
            ("", {}, ["fanout.v1.json"], "no token"),
            ("", {}, ["fanout.v1.json", "bearer.nonsense"], "no JWT"),
            ("", {"Authorization": f"Bearer {token}"}, ["chat"], "no known subprotocol"),
            ("?have=AB", {"Authorization": f"Bearer {token}"}, ["fanout.v1.json"], "have is"),
            ("?since=-1", {"Authorization": f"Bearer {token}"}, ["fanout.v1.json"], "since is"),
        ):
            try:
                async with connect(gateway.url + query, additional_headers=headers, subprotocols=offers):  # type: ignore[arg-type]
                    pass
            except InvalidStatus:
                pass
            assert says in "; ".join(gateway.handshakes[-1].faults)


def noticed(peer: Peer, says: str) -> bool:
    return says in "; ".join(peer.faults)


async def test_frames_that_are_no_messages_are_noticed() -> None:
    token = mint(KEY, "tv", ["check"])
    offers = ["fanout.v1.json", f"bearer.{token}"]
    async with (
        ScriptedGateway("127.0.0.1", 0, (wire.Encoding.JSON,)) as gateway,
        connect(gateway.url, subprotocols=offers) as socket,  # type: ignore[arg-type]
    ):
        await socket.send("")
        assert await gateway.until(lambda: gateway.peers and gateway.peers[0].faults, mono_ms() + PATIENT_MS)
        (peer,) = gateway.peers
        for frame, says in (
            (b'{"t":"sync","since":1}', "a binary frame on json"),
            ('{"t":"sync","since":-1}', "sync"),
            ('{"t":"sync","since":1,"x":"' + "x" * 4096 + '"}', "the limit is 4096"),
        ):
            await socket.send(frame)
            assert await gateway.until(partial(noticed, peer, says), mono_ms() + PATIENT_MS)


def test_what_a_device_lacks_follows_the_protocol() -> None:
    ledger = Ledger()
    content = "{}"
    first = prefetch("a", 1, content, 0, 0, inline=content)
    for message in (first, activate("a", 2, "00", 5, 5), cancel("a", 3), prefetch("b", 4, "b", 0, 0), close("b", 5)):
        ledger.add(message)
    digest = first["bundle"]["sha256"]
    assert [m["rev"] for m in ledger.missing(0, [])] == [1, 2, 3, 5]
    assert [m["rev"] for m in ledger.missing(2, [digest])] == [3, 5]
    assert ledger.missing(2, [])[0] == first
    assert "inline" not in ledger.missing(0, [digest])[0]["bundle"]
    assert ledger.newest == 5


def verdicts_in(file: Path, err: bytes) -> dict[str, Any]:
    assert file.exists(), err.decode()
    return dict(json.loads(file.read_text("utf-8")))


async def checked(
    file: Path, rules: str, runner: str, *words: str, late_ms: int = LATE_MS
) -> tuple[int | None, str, dict[str, Any]]:
    """Run the command on a device of ours; return its exit status, what it printed, and the verdicts."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "fanout.cli", "check-device", "--encoding", "json", "--rules", rules),
        *("--late-ms", str(late_ms)),
        *("--json", str(file), "--", sys.executable, str(Path(__file__).parent / runner), *words),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        env={**os.environ, "SDK_ENCODING": "json"},
    )
    out, err = await process.communicate()
    return process.returncode, out.decode(), verdicts_in(file, err)


async def test_the_command_walks_the_devices_it_starts(tmp_path: Path) -> None:
    good, bad = await asyncio.gather(
        checked(tmp_path / "good.json", "ping,inline,frames", "sdk_device.py"),
        checked(tmp_path / "bad.json", "ping", "deaf_device.py", "{url}", late_ms=100),  # however long one waits
    )
    status, said, found = good
    assert (status, [rule["id"] for rule in found["rules"]]) == (0, ["inline", "ping", "frames"]), said
    assert "3 kept, 0 broken, 0 not shown" in said
    status, said, found = bad
    assert (status, found["kept"], found["broken"], found["not_shown"]) == (1, 0, 1, 0), said
    assert found["rules"][0]["expected"] == "a pong"
    assert "expected: a pong" in said
