"""``PYTHONPATH=.:tests python -m compat``: write what this version writes into tests/vectors/compat/VERSION.json.

A whole evening on a real store, with a real device; it takes a good minute, for that is when a flight record ends.
The file of a version that was released is never written again.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import sys
from pathlib import Path
from typing import Any, Final

import msgspec
from support.product import Product, definition, product
from support.stack import ROOT, token
from support.waiting import until

import fanout
from fanout.connect import connect
from fanout.device import Device
from fanout.embedded import EmbeddedValkey
from fanout.roles import Role
from fanout.store.accounts import AccountStore
from fanout.store.audit import AuditStore
from fanout.store.flights import FlightStore
from fanout.store.keys import KeyStore
from fanout.store.sessions import SessionStore, Trip
from fanout.wire import Encoding, decode_from_device, decode_to_device

from . import formats, keeping

FOLDER: Final = ROOT / "tests/vectors/compat"
_TAIL_S: Final = 90.0
# One bundle in the message, one of somebody else's CDN.
VARIANTS: Final = [
    {
        "match": {"platform": "phone"},
        "bundle": {"sha256": "ab" * 32, "bytes": 20_000, "url": "https://cdn.example/b"},
    },
    *definition()["variants"],
]


async def evening() -> dict[str, Any]:
    """Return the store after an evening in which everything that can be stored was, and how it reads."""
    async with product() as made:
        redis = made.stack.redis
        await KeyStore(redis).create("admin", Role.ADMIN, key=keeping.ADMIN)
        account = await AccountStore(redis).create("mia", Role.PUBLISHER, keeping.PASSWORD)
        await AuditStore(redis).append("terminal", "account create", 1_795_000_000_000, {"name": "mia"})
        session, _ = await SessionStore(redis, 3600).begin("mia", stamp=account.stamp)
        await SessionStore(redis, 3600).depart(Trip("nonce", "verifier", "/campaigns/cup"))
        keepsakes = {"session": session, "principal": "key:tests", "key": "a-key-of-these-fixtures"}
        async with Device(made.url, get_token=lambda: token()):
            await campaigns(made, keepsakes["key"])
            await made.counted("cup", active=1)
            await told(made, "cup")
            kept = await keeping.dump(redis)
    # Of the copy, for in the store itself presence has changed meanwhile.
    with EmbeddedValkey() as valkey:
        async with connect(valkey.url) as copy:
            await keeping.load(copy, kept)
            means = await keeping.read(copy, keepsakes)
    return {"keepsakes": keepsakes, "store": kept, "means": means}


def wire() -> list[dict[str, Any]]:
    """Return every message of the protocol's vectors, as it is understood now."""
    vectors = json.loads((ROOT / "tests/vectors/wire.json").read_text("utf-8"))["messages"]
    return [
        {**each, "message": understood(each["json"].encode(), Encoding.JSON, each["direction"])} for each in vectors
    ]


def understood(data: bytes, encoding: Encoding, direction: str) -> Any:
    """Return a message as plain data, with what this version knows of it; None if it is of no known type."""
    read = decode_to_device if direction == "to_device" else decode_from_device
    return msgspec.to_builtins(read(data, encoding))


async def campaigns(made: Product, key: str) -> None:
    """Take campaigns through everything that is published or kept."""
    await made.create("cup", variants=VARIANTS, threshold=0.5)
    await made.press("prefetch", "cup", window_s=0)
    await made.counted("cup", ready=1)
    answer = await made.post(
        "/v1/campaigns/cup/activate",
        {"stage": "live", "window_s": 0.2, "share": 1.0},
        {"Idempotency-Key": key},
    )
    assert answer.status_code == 200, answer.text
    await made.create("later", two_keys=True)
    await made.press("prefetch", "later", window_s=0)
    await made.press("schedule", "later", stage="live", in_s=86_400, window_s=30)
    await made.create("slipped", shadow=True)
    await made.press("prefetch", "slipped", window_s=0)
    await made.force("live", "slipped", in_s=3_600, window_s=10, share=0.25)
    await made.press("move", "slipped", in_s=7_200)
    await made.create("off", miss="generic")
    await made.press("prefetch", "off", window_s=0)
    await made.force("live", "off", in_s=3_600, window_s=10)
    await made.press("cancel", "off")
    await made.create("over")
    await made.press("prefetch", "over", window_s=0)
    await made.press("close", "over")
    await made.create("draft")


async def told(made: Product, campaign: str) -> None:
    """Wait until the flight recorder has had its last word."""
    flights = FlightStore(made.stack.redis, 100)

    async def over() -> bool:
        return any(each.ended == "over" for each in await flights.list(campaign))

    await until(over, "the flight record's end", timeout_s=_TAIL_S, poll_s=1)


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m compat", description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--again", action="store_true", help="replace this version's file; never after a release")
    file: Path = FOLDER / f"{fanout.__version__}.json"
    if file.exists() and not parser.parse_args().again:
        sys.exit(f"{file} is there; if {fanout.__version__} is not released yet, --again replaces it")
    kept = {"version": fanout.__version__, "schema": formats.schema(), "wire": wire(), **asyncio.run(evening())}
    file.parent.mkdir(exist_ok=True)
    file.write_text(json.dumps(kept, indent=1, sort_keys=True, ensure_ascii=False) + "\n", "utf-8")
    print(file)
    return 0


if __name__ == "__main__":
    sys.exit(main())
