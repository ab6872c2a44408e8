"""Lives of devices, made up at random: event after event, and what the Python machine says to each.

A life is plain data, so that a machine in another language can live it, too. It goes where the vectors, which
people chose, do not.
"""

from __future__ import annotations

import hashlib
import itertools
import json
import random
from typing import Any

import msgspec

from fanout import wire
from fanout.device import Action, DeviceMachine

EPOCH = 1_760_000_000_000
CONTENTS = ("one", "two", "drei")
DIGESTS = tuple(hashlib.sha256(content.encode()).hexdigest() for content in CONTENTS)
CAMPAIGNS = ("cup", "cup", "final")
STEPS = 80


class _Given(random.Random):
    """Draws the numbers of a list, over and over."""

    def __init__(self, numbers: list[float]) -> None:
        super().__init__()
        self._numbers = itertools.cycle(numbers)

    def random(self) -> float:
        return next(self._numbers)


def life(rng: random.Random) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """Return one life, and what came of each of its steps."""
    randoms = [rng.random() for _ in range(7)]
    told: dict[str, Any] = {
        "device_id": f"tv-{rng.randrange(10**6)}",
        "held": rng.choice([[], [DIGESTS[0]]]),
        "randoms": randoms,
        "steps": [],
    }
    machine = DeviceMachine(told["device_id"], held=told["held"], rng=_Given(randoms))
    answers, at, flying = [], 0.0, [DIGESTS[0]]
    for n in range(STEPS):
        at += rng.choice([0, 0.25, rng.randrange(400), rng.randrange(4_000), 0 if n % 16 else 35_000])
        due = machine.next_due_ms()
        if due is not None and rng.random() < 0.4:
            step: dict[str, Any] = {"at": max(at, due), "event": "due"}
        else:
            step = {"at": at, **_event(rng, at, flying)}
        at = step["at"]
        came = _tell(machine, step)
        if isinstance(came, list):
            flying += [action["bundle"]["sha256"] for action in came if action["do"] == "fetch"]
        told["steps"].append(step)
        answers.append(
            {
                "came": came,
                "next_due": machine.next_due_ms(),
                "held": list(machine.held),
                "shown": None if (shown := machine.shown("cup")) is None else list(shown),
                "connected": machine.connected,
                "server_ms": machine.server_ms(at),
            }
        )
    return told, answers


def _event(rng: random.Random, at: float, flying: list[str]) -> dict[str, Any]:
    kind = rng.choice(["message"] * 8 + ["welcome", "beacon", "beacon", "stored", "stored", "fetch_failed", "other"])
    digest = rng.choice(flying)
    if kind == "stored":
        return {"event": kind, "sha256": digest, "via": rng.choice(["fetch", "cache"]), "took_ms": rng.randrange(900)}
    if kind == "fetch_failed":
        return {"event": kind, "sha256": digest, "retry_after_ms": rng.choice([0, 2_000])}
    if kind == "other":
        name = rng.choice(["distrusted", "evicted", "disconnected", "reopen_failed", "reconnect", "resume", "resume"])
        if name == "evicted":
            return {"event": name, "sha256": rng.choice(DIGESTS)}
        if name in ("disconnected", "reopen_failed"):
            why = {"code": rng.choice([None, 1006, 1008, 4001, 4500]), "status": rng.choice([None, 400, 401, 503])}
            return {"event": name, "why": {**why, "retry_after_ms": rng.choice([None, 7_000])}}
        if name in ("distrusted", "resume"):
            return {"event": name}
        return {"event": "received", "message": {"t": name, "within_ms": rng.randrange(5_000)}}
    return {"event": "received", "message": _message(rng, kind, int(EPOCH + at - rng.randrange(200)))}


def _message(rng: random.Random, kind: str, now: int) -> dict[str, Any]:
    if kind == "beacon":
        # Now and then the server's clock steps, or a revision has passed this device by.
        return {
            "t": kind,
            "now": now + rng.choice([0, 0, 0, 3_000, -3_000]),
            "rev": EPOCH + rng.choice([0, 0, 30_000]),
        }
    if kind == "welcome":
        state = [_state(rng) for _ in range(rng.randrange(3))]
        policy = {"base_ms": rng.choice([500, 700]), "cap_ms": 20_000}
        return {"t": kind, "session": "s", "now": now, "beacon_s": 10.0, "reconnect": policy, "state": state}
    return _state(rng)


def _state(rng: random.Random) -> dict[str, Any]:
    # One of few revisions, each of which always says the same: so messages come again, and out of order.
    rev = EPOCH + rng.randrange(40) * 1_000
    rng = random.Random(rev)
    t = rng.choice(["activate", "activate", "activate", "prefetch", "prefetch", "cancel", "close"])
    message: dict[str, Any] = {"t": t, "campaign": rng.choice(CAMPAIGNS), "rev": rev}
    if t == "activate":
        at, window_ms = rev + rng.randrange(-2_000, 30_000), rng.choice([0, 500, 8_000])
        message |= {"stage": rng.choice(["upcoming", "live"]), "bundle": rng.choice(DIGESTS), "at": at}
        message |= {"window_ms": window_ms, "share": rng.choice([1.0, 1.0, 0.5])}
        message |= {"miss": rng.choice(["fetch", "generic", "silent"]), "shadow": rng.random() < 0.2}
    elif t == "prefetch":
        content = rng.choice(CONTENTS)
        bundle: dict[str, Any] = {"sha256": DIGESTS[CONTENTS.index(content)], "bytes": len(content)}
        bundle |= rng.choice([{}, {"url": "/there"}, {"inline": content}, {"inline": "wrong", "url": "/there"}])
        message |= {"bundle": bundle, "from": rev + rng.randrange(5_000), "window_ms": rng.choice([0, 6_000])}
    return message


def _tell(machine: DeviceMachine, step: dict[str, Any]) -> Any:
    at, event = step["at"], step["event"]
    actions: list[Action]
    if event == "received":
        message = wire.decode_to_device(json.dumps(step["message"]).encode(), wire.Encoding.JSON)
        assert message is not None
        actions = machine.received(message, at)
    elif event == "due":
        actions = machine.due(at)
    elif event == "stored":
        actions = machine.stored(step["sha256"], at, via=step["via"], took_ms=step["took_ms"])
    elif event == "fetch_failed":
        actions = machine.fetch_failed(step["sha256"], at, retry_after_ms=step["retry_after_ms"])
    elif event == "distrusted":
        actions = machine.distrusted(at)
    elif event == "resume":
        return machine.resume()._asdict()
    elif event == "evicted":
        machine.evicted(step["sha256"])
        return None
    elif event == "disconnected":
        return machine.disconnected(at, **step["why"])
    else:
        assert event == "reopen_failed"
        machine.reopen_failed(at, **step["why"])
        return None
    return json.loads(msgspec.json.encode(actions))
