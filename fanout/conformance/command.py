"""``fanout check-device``, put together: a gateway, a device, a walk, and what is said of it."""

from __future__ import annotations

import json
import secrets
from collections.abc import Sequence
from pathlib import Path
from typing import Final

import click
from msgspec import Struct

from fanout import wire
from fanout.conformance.gateway import ScriptedGateway
from fanout.conformance.scenarios.registry import Scenario
from fanout.conformance.show import Watching, show
from fanout.conformance.subject import Awaited, Started
from fanout.conformance.verdicts import Tolerances, summary
from fanout.conformance.walk import STARTS_WITHIN_S, walk
from fanout.tokens import mint

TOPIC: Final = "check"
# For somebody who has to bring a television to connect.
AWAITED_S: Final = 600.0


class Check(Struct, frozen=True):
    """What is to be walked, and how.

    Attributes:
        command: Starts the device; empty: somebody else does.
        encoding: The only one to accept, or ``both``.
        device_id: In the token the kit makes.
        json_file: Where to write the verdicts.
    """

    scenarios: Sequence[Scenario]
    command: Sequence[str]
    host: str
    port: int
    encoding: str
    device_id: str
    tolerances: Tolerances
    json_file: Path | None = None


async def check(asked: Check) -> bool:
    """Walk a device, and say what was found; True if rules were kept and none was broken.

    Raises:
        NoDevice: None connected.
    """
    encodings = tuple(wire.Encoding) if asked.encoding == "both" else (wire.Encoding(asked.encoding),)
    # Nobody verifies it: what a device may listen to is not what is checked here.
    token = mint(secrets.token_bytes(32), asked.device_id, [TOPIC])
    async with ScriptedGateway(asked.host, asked.port, encodings) as gateway:
        facts = {"url": gateway.url, "origin": gateway.origin, "token": token}
        subject = Started(asked.command, facts) if asked.command else Awaited()
        if not asked.command:
            click.echo(json.dumps(facts, indent=1), err=True)
        try:
            with Watching(len(asked.scenarios)) as watching:
                within_s = STARTS_WITHIN_S if asked.command else AWAITED_S
                verdicts = await walk(
                    gateway, subject, asked.scenarios, asked.tolerances, watching, first_within_s=within_s
                )
        finally:
            subject.stop()
    ordered = sorted(verdicts, key=lambda v: [s.id for s in asked.scenarios].index(v.id))
    found = summary(ordered)
    show(ordered)
    click.echo(f"{found['kept']} kept, {found['broken']} broken, {found['not_shown']} not shown")
    if asked.json_file is not None:
        asked.json_file.write_text(json.dumps(found, indent=1, ensure_ascii=False) + "\n", "utf-8")
    return bool(found["kept"]) and not found["broken"]
