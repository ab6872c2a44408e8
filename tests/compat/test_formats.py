"""What a version wrote, later ones read; and what a later one may add does not stop this one."""

from __future__ import annotations

import asyncio
import base64
import copy
import json
from collections.abc import Iterator
from typing import Any

import msgpack
import pytest
from redis.asyncio import Redis
from support.product import product
from support.stack import connecting, receive, token

import fanout
from fanout import keyspace, limits, wire
from fanout.bus.entry import read_retained
from fanout.connect import connect
from fanout.embedded import EmbeddedValkey

from . import formats, keeping
from .__main__ import FOLDER, understood

VERSIONS = sorted(FOLDER.glob("*.json"))


@pytest.fixture(params=VERSIONS, ids=lambda file: file.stem)
def kept(request: pytest.FixtureRequest) -> dict[str, Any]:
    """What a version has left."""
    return dict(json.loads(request.param.read_text("utf-8")))


def test_there_is_something_to_read() -> None:
    assert "0.1.0" in {file.stem for file in VERSIONS}


# --- Formats.


def test_formats_only_grow(kept: dict[str, Any]) -> None:
    assert formats.breaks(kept["schema"], formats.schema()) == []


def test_what_is_kept_of_this_version_is_what_it_writes() -> None:
    """Or a field that came after the file was written would be promised to nobody."""
    file = FOLDER / f"{fanout.__version__}.json"
    if not file.exists():
        pytest.skip(f"{fanout.__version__} has not been kept yet: docs/releasing.md, step 4")
    said = json.loads(file.read_text("utf-8"))["schema"]
    assert said == formats.schema(), "not released yet? PYTHONPATH=.:tests python -m compat --again"


SCHEMA: dict[str, Any] = {
    "#A": {
        "type": "object",
        "properties": {"x": {"type": "integer"}, "y": {"enum": ["a", "b"]}},
        "required": ["x"],
    }
}


def changed(**changes: Any) -> dict[str, Any]:
    new = copy.deepcopy(SCHEMA)
    new["#A"]["properties"].update(changes.pop("properties", {}))
    new["#A"].update(changes)
    return new


@pytest.mark.parametrize(
    "new",
    [
        SCHEMA,
        changed(properties={"z": {"type": "string", "default": ""}}),
        changed(properties={"y": {"enum": ["a", "b", "c"]}}),
        changed(required=[]),
        {**SCHEMA, "#B": {"type": "object", "required": ["q"]}},
    ],
)
def test_growth_is_no_break(new: dict[str, Any]) -> None:
    assert formats.breaks(SCHEMA, new) == []


@pytest.mark.parametrize(
    ("new", "says"),
    [
        ({}, "#A is gone"),
        ({"#A": {"type": "object", "properties": {"x": {"type": "integer"}}}}, "#A.y is gone"),
        (changed(properties={"x": {"type": "string"}}), "#A.x was"),
        (changed(properties={"y": {"enum": ["a"]}}), "#A.y was"),
        (changed(required=["x", "y"]), "#A.y has to be there"),
        (changed(properties={"z": {"type": "string"}}, required=["x", "z"]), "#A.z has to be there"),
        (changed(type="array"), "#A was"),
    ],
)
def test_a_break_is_noticed(new: dict[str, Any], says: str) -> None:
    [fault] = formats.breaks(SCHEMA, new)
    assert fault.startswith(says)


# --- The wire.


def messages(kept: dict[str, Any]) -> Iterator[tuple[wire.Encoding, bytes, dict[str, Any], str]]:
    for each in kept["wire"]:
        yield wire.Encoding.JSON, each["json"].encode(), each["message"], each["direction"]
        yield wire.Encoding.MSGPACK, bytes.fromhex(each["msgpack"]), each["message"], each["direction"]


def test_every_message_of_a_version_means_the_same(kept: dict[str, Any]) -> None:
    for encoding, data, means, direction in messages(kept):
        assert list(keeping.less(means, understood(data, encoding, direction))) == []


def test_a_message_with_fields_of_a_later_version_means_the_same(kept: dict[str, Any]) -> None:
    for encoding, data, _, direction in messages(kept):
        kind = wire.ToDevice if direction == "to_device" else wire.FromDevice
        json_ = encoding is wire.Encoding.JSON
        more = formats.grown(json.loads(data) if json_ else msgpack.unpackb(data), kind)
        later = json.dumps(more).encode() if json_ else msgpack.packb(more)
        assert b"of_the_future" in later
        assert understood(later, encoding, direction) == understood(data, encoding, direction)


# --- The store.


async def test_a_store_that_a_version_left_reads_as_it_did(kept: dict[str, Any], redis: Redis) -> None:
    await keeping.load(redis, kept["store"])
    assert list(keeping.less(kept["means"], await keeping.read(redis, kept["keepsakes"]))) == []


async def test_a_store_that_a_later_version_left_reads_the_same(kept: dict[str, Any], redis: Redis) -> None:
    """Later by what it may add: a field in every record, every publication, every entry of the log."""
    later = keeping.grown(kept["store"])
    changed = {key for key in later if later[key] != kept["store"][key]}
    stored = {start for start in formats.KEYS if any(key.startswith(start) for key in changed)}
    assert stored == set(formats.KEYS), "the fixture has none of these, so nothing was shown of them"
    await keeping.load(redis, later)
    means = await keeping.read(redis, kept["keepsakes"])
    assert list(keeping.less(kept["means"], means)) == []


async def test_the_product_goes_on_with_a_store_that_a_version_left(
    kept: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A device is told what stands, people see their campaigns, and the next press is the next entry."""
    # What was kept grows older every day, and after two weeks nobody need be told of a close any more.
    monkeypatch.setattr(limits, "CLOSED_RETENTION_S", 100 * 365 * 24 * 3600)
    with EmbeddedValkey() as valkey:
        async with connect(valkey.url) as redis:
            later = keeping.grown(kept["store"])
            await keeping.load(redis, later)
            await a_kind_of_the_future(redis)
        async with product(valkey=valkey, key_name="compat") as made:
            async with connecting(made.url, token("tv-9")) as device:
                welcome = await receive(device)
                assert welcome["t"] == "welcome"
                told = {(each["t"], each["campaign"], each["rev"]) for each in welcome["state"]}
                assert told == standing(kept)
            answer = await asyncio.to_thread(made.api.get, "/v1/campaigns")
            seen = {each["id"] for each in answer["campaigns"]}
            assert seen == {each["id"] for each in kept["means"]["campaigns"]}
            before = kept["means"]["log"][-1]["rev"]
            pressed = await made.force("ended", "cup", window_s=0)
            assert pressed["rev"] > before
            fields = await made.stack.redis.hgetall(keyspace.RETAINED)
            _, unreadable = read_retained(fields)
            assert len(unreadable) == 1, "what this version cannot read is left for those who can"
        valkey.kill()


async def a_kind_of_the_future(redis: Redis) -> None:
    """Publish something whose kind no version knows yet, as the script would, between what is known."""
    [(last, _)] = await redis.xrevrange(keyspace.LOG, count=1)
    prev = int(last.split(b"-")[0])
    body = msgpack.packb({"kind": "applause", "campaign": "loud", "topic": "t"})
    await redis.xadd(keyspace.LOG, {"prev": str(prev), "key": "k-future", "body": body}, id=f"{prev + 1}-0")
    await redis.hset(keyspace.RETAINED, f"loud {prev + 1}", f"{prev + 1} {prev} k-future ".encode() + body)


def standing(kept: dict[str, Any]) -> set[tuple[str, str, int]]:
    """Return what the retained state says, as it was understood when it was written."""
    found = set()
    for _, _, publication in kept["means"]["retained"]:
        body = base64.b64decode(kept["store"][keyspace.RETAINED]["value"][_field(publication)])
        kind = msgpack.unpackb(body.split(b" ", 3)[3])["kind"]
        found.add((kind, publication["campaign"], publication["rev"]))
    return found


def _field(publication: dict[str, Any]) -> str:
    return base64.b64encode(f"{publication['campaign']} {publication['rev']}".encode()).decode()
