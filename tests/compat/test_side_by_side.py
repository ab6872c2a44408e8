"""Gateways and control planes of two versions on one bus, as during a roll: devices and people notice nothing.

The other version is each wheel of a release there is (tests/compat/others.py). As long as there is none, it is this
tree's own wheel: then the versions are the same, and what is held is that all this can be run, and is.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from contextlib import AsyncExitStack
from pathlib import Path

import pytest
from support.product import Product, definition, product
from support.stack import ROOT, token
from support.waiting import until
from support.wheel import environment_of

from fanout import audit
from fanout.client import ControlClient
from fanout.device import Device
from fanout.embedded import EmbeddedValkey
from fanout.wire import Encoding

from .others import file_of, serving, wheels

ADMIN = "an admin key that only these tests use, long enough"
QUICK = ("--presence-interval-s", "0.1", "--drain-s", "0.2", "--drain-close-s", "0.2", "--admin-port", "0")
OWN = "this tree's own wheel"


@pytest.fixture(params=wheels() or [OWN], ids=lambda wheel: wheel if wheel == OWN else wheel.name)
def other(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the commands of the other version are."""
    if request.param == OWN:
        commands: Path = request.getfixturevalue("installed")
    else:
        commands = environment_of(request.param, tmp_path_factory.mktemp("other") / "environment")
    assert not file_of(commands).startswith(str(ROOT)), "this tree would be tested beside itself"
    return commands


@pytest.mark.slow
async def test_a_roll_with_an_activation_in_it_is_noticed_by_nobody(
    other: Path, valkey: EmbeddedValkey, tmp_path: Path
) -> None:
    shown: list[tuple[int, str]] = []
    with (
        serving(other, "gateway", *QUICK, folder=tmp_path, store=valkey.url) as old_gateway,
        serving(other, "control", folder=tmp_path, store=valkey.url, FANOUT_ADMIN_KEY=ADMIN) as old_control,
        ControlClient(old_control["url"], ADMIN) as old,
    ):
        async with product(valkey=valkey) as new, AsyncExitStack() as devices:
            # Three at a gateway of either version, in both encodings.
            for number, url in enumerate([old_gateway["url"], new.url] * 3):
                encoding = (Encoding.MSGPACK, Encoding.JSON)[number // 2 % 2]
                await devices.enter_async_context(device(number, url, encoding, shown))
            await new.connected(6)

            # The old control plane prefetches, the new one counts, and goes live.
            await asyncio.to_thread(old.post, "/v1/campaigns", definition())
            await asyncio.to_thread(old.post, "/v1/campaigns/cup/prefetch", {"window_s": 0})
            await new.counted(connected=6, ready=6)
            await new.press("activate", stage="live", window_s=0.2)
            await new.counted(active=6)
            assert Counter(shown) == {(number, "live"): 1 for number in range(6)}, "everyone, and nobody twice"

            # And the other way round: what the new one has written is the old one's to go on from.
            await asyncio.to_thread(old.post, "/v1/campaigns/cup/retract", {"reason": "the wrong final"})
            everyone = {(number, stage): 1 for number in range(6) for stage in ("live", "upcoming")}
            await until(lambda: Counter(shown) == everyone, f"the retract on all; there is {Counter(shown)}")
            old_words = await asyncio.to_thread(old.get, "/v1/campaigns/cup/readiness")
            assert old_words["total"]["connected"] == 6
            await new.press("close")
            await check_audit(new)


def device(number: int, url: str, encoding: Encoding, shown: list[tuple[int, str]]) -> Device:
    """Return a device that notes what it shows."""
    name = f"tv-{number}"
    return Device(
        url,
        get_token=lambda: token(name),
        encoding=encoding,
        on_activate=lambda event: shown.append((number, event.stage)),
    )


async def check_audit(new: Product) -> None:
    """Hold that both have written one chain."""
    answer = await asyncio.to_thread(new.api.get, "/v1/audit/chain")
    campaign = await new.show()
    found = audit.verify([line.encode() for line in answer["lines"]], {"cup": campaign["version"]})
    assert not found.faults
    assert [audit.read(line.encode()).action for line in answer["lines"]] == [
        "create",
        "prefetch",
        "activate",
        "retract",
        "close",
    ]
