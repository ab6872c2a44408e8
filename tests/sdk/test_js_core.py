"""The JavaScript core says what the Python core says, and passes its own tests."""

from __future__ import annotations

import json
import random
from typing import Any

from fanout import wire
from fanout.slots import share_point, slot_ms

from .lives import DIGESTS, EPOCH, life
from .node import NODE, SDK, asked, near, needs_modules, needs_node, run

IDS = 10_000
LIVES = 150
# Ranges that people's texts come from, and some that only hostile ones do: no surrogates, for an id is valid Unicode.
LETTERS = ((0x20, 0x7E), (0x00, 0x7FF), (0x3040, 0x30FF), (0xE000, 0xFFFF), (0x1F300, 0x1F64F), (0x10000, 0x10FFFF))


def some_id(rng: random.Random) -> str:
    if rng.random() < 0.3:
        return f"tv-{rng.randrange(10**8):08}"
    return "".join(chr(rng.randint(*rng.choice(LETTERS))) for _ in range(rng.randint(1, rng.choice([8, 8, 20, 128]))))


@needs_modules
def test_the_javascript_sdk_passes_its_own_tests() -> None:
    tests = sorted(path for part in ("*.test.mjs", "*/*.test.mjs") for path in (SDK / "test").glob(part))
    assert tests
    assert NODE is not None
    said = run(NODE, "--test", "--test-reporter=tap", *tests)
    assert "\n# fail 0\n" in said
    assert "\n# pass 0\n" not in said


@needs_node
def test_both_sdks_put_ten_thousand_ids_into_the_same_slots_to_the_millisecond() -> None:
    rng = random.Random(6)
    ids = [some_id(rng) for _ in range(IDS)]
    revs = [1_795_000_900_123, 2**53 - 1, rng.randrange(2**53)]
    windows = [0, 1, 60_000, 86_400_000]
    questions = [(device, rev, windows[n % len(windows)]) for rev in revs for n, device in enumerate(ids)]
    shares = [(device, campaign) for campaign in ("final-2026", "試合") for device in ids]
    answers = asked(slots=questions, shares=shares)
    assert answers["slots"] == [slot_ms(*question) for question in questions]
    assert answers["shares"] == [share_point(*share) for share in shares]


@needs_node
def test_both_machines_live_the_same_lives() -> None:
    rng = random.Random(7)
    told, expected = zip(*(life(rng) for _ in range(LIVES)), strict=True)
    seen = set()
    for answers, steps, wanted in zip(asked(lives=told)["lives"], told, expected, strict=True):
        for n, (got, want) in enumerate(zip(answers, wanted, strict=True)):
            assert near(got, want), (steps["device_id"], n, steps["steps"][: n + 1][-3:], got, want)
            if isinstance(want["came"], list):
                seen |= {action["do"] for action in want["came"]}
    everything = {"cancelled", "closed", "drop", "fetch", "flip", "prefetched", "reopen", "send", "store"}
    assert seen == everything, "the lives go everywhere"


@needs_node
def test_both_take_the_same_for_messages() -> None:
    right: list[dict[str, Any]] = [
        {"t": "beacon", "now": EPOCH, "rev": 1},
        {"t": "reconnect", "within_ms": 10},
        {"t": "close", "campaign": "c", "rev": 1},
        {"t": "cancel", "campaign": "c", "rev": 1},
        {"t": "prefetch", "campaign": "c", "rev": 1, "bundle": {"sha256": DIGESTS[0], "bytes": 3}, "from": 1}
        | {"window_ms": 2, "shadow": True},
        {"t": "activate", "campaign": "c", "rev": 1, "stage": "live", "bundle": DIGESTS[0], "at": 1, "window_ms": 0}
        | {"share": 0.5, "miss": "silent", "shadow": False},
        {"t": "welcome", "session": "s", "now": 1, "beacon_s": 2.5, "reconnect": {"base_ms": 1, "cap_ms": 2}}
        | {"state": []},
    ]
    values: list[Any] = [
        None,
        True,
        -1,
        0,
        1.5,
        0.5,
        2**53 - 1,
        2**53,
        10**10,
        1e300,
        "",
        "x",
        "live",
        "x" * 64,
        "x" * 65,
        "é" * 64,
    ]
    values += [
        DIGESTS[1],
        DIGESTS[1].upper(),
        DIGESTS[1] + "\n",
        DIGESTS[1][1:],
        [],
        {},
        [1],
        ["x"],
        "fetch",
        "unknown",
    ]
    values += [
        {"sha256": DIGESTS[1], "bytes": 1, "url": None, "inline": "ü"},
        {"sha256": "x", "bytes": 1},
        "__proto__",
    ]
    values += [
        {"base_ms": 0, "cap_ms": 2**53},
        {"base_ms": 0, "cap_ms": 9, "more": 1},
        [right[2]],
        [right[5]],
        [None],
    ]
    messages = [message | {field: value} for message in right for field in message for value in values]
    messages += [{key: message[key] for key in message if key != field} for message in right for field in message]
    messages += [{**message, "more": [{}], "__proto__": {"rev": 2}} for message in right]
    texts = [json.dumps(message) for message in messages]
    texts += ["", "{", "[]", "null", "7", '"beacon"', '{"t":"beacon","now":NaN,"rev":1}', "[" * 100]
    answers = asked(messages=texts)["messages"]
    for text, answer in zip(texts, answers, strict=True):
        try:
            message = wire.decode_to_device(text.encode(), wire.Encoding.JSON)
        except wire.WireError:
            assert answer == "refused", text
        else:
            assert near(answer, message and json.loads(wire.encode(message, wire.Encoding.JSON))), text
    assert 20 < answers.count("refused") < len(answers) - 20


def test_near_tells_what_differs() -> None:
    assert near({"a": [1, 2.001, None, "x"]}, {"a": [1.005, 2, None, "x"]})
    for got, expected in [
        (1, 1.02),
        (1, True),
        (True, 1),
        (None, 0),
        ([1], [1, 2]),
        ({}, {"a": 1}),
        ("1", 1),
        (None, []),
    ]:
        assert not near(got, expected)
