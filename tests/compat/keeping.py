"""A store as some version left it: copied out of a real one, put into a real one, and read by this version."""

from __future__ import annotations

import base64
from collections.abc import Iterator
from typing import Any

import msgpack
import msgspec
from redis.asyncio import Redis

from fanout import audit, keyspace
from fanout.bus import presence
from fanout.bus.entry import from_stream, read_retained
from fanout.roles import Role
from fanout.store.accounts import AccountStore
from fanout.store.audit import AuditStore
from fanout.store.campaigns import CampaignStore
from fanout.store.flights import FlightStore
from fanout.store.keys import KeyStore
from fanout.store.replies import ReplyStore
from fanout.store.sessions import SessionStore

from . import formats

# A lease, and what is asked anew all the time: nobody reads what another version wrote there.
PASSING = ("leader", "probe", "fence", "waits")
ADMIN = "an admin key that only these fixtures use"
PASSWORD = "a password that only these fixtures use"


def _text(data: bytes) -> str:
    return base64.b64encode(data).decode()


async def dump(redis: Redis) -> dict[str, Any]:
    """Return everything of ours in a store: by key, its type and what it holds, bytes as base64."""
    found: dict[str, Any] = {}
    client: Any = redis
    for key in sorted(await client.keys(keyspace.PREFIX + "*")):
        name = key.decode()
        if name.removeprefix(keyspace.PREFIX).startswith(PASSING):
            continue
        kind = (await client.type(key)).decode()
        found[name] = {"type": kind, "value": await _read(client, key, kind)}
    return found


async def _read(client: Any, key: bytes, kind: str) -> Any:
    if kind == "string":
        return _text(await client.get(key))
    if kind == "hash":
        return {_text(field): _text(value) for field, value in sorted((await client.hgetall(key)).items())}
    if kind == "list":
        return [_text(value) for value in await client.lrange(key, 0, -1)]
    if kind == "set":
        return sorted(_text(value) for value in await client.smembers(key))
    if kind == "zset":
        return {_text(member): score for member, score in await client.zrange(key, 0, -1, withscores=True)}
    assert kind == "stream", f"{key!r} is a {kind}, which no version wrote before: tell this module how to copy one"
    entries = await client.xrange(key)
    return [[_text(name), {_text(k): _text(v) for k, v in fields.items()}] for name, fields in entries]


async def load(redis: Redis, kept: dict[str, Any]) -> None:
    """Put into an empty store what `dump` returned."""
    raw = base64.b64decode
    client: Any = redis
    async with client.pipeline(transaction=False) as pipe:
        for key, entry in kept.items():
            value = entry["value"]
            match entry["type"]:
                case "string":
                    pipe.set(key, raw(value))
                case "hash":
                    pipe.hset(key, mapping={raw(k): raw(v) for k, v in value.items()})
                case "list":
                    pipe.rpush(key, *map(raw, value))
                case "set":
                    pipe.sadd(key, *map(raw, value))
                case "zset":
                    pipe.zadd(key, {raw(member): score for member, score in value.items()})
                case "stream":
                    for name, fields in value:
                        pipe.xadd(key, {raw(k): raw(v) for k, v in fields.items()}, id=raw(name))
                case other:
                    raise AssertionError(f"a {other}")
        await pipe.execute()


async def read(redis: Redis, keepsakes: dict[str, str]) -> dict[str, Any]:
    """Return everything in a store as this version understands it, as plain data.

    Args:
        keepsakes: What is in no store but opens something in it: a session's token, a first answer's key.
    """
    client: Any = redis
    log = [from_stream(name, fields) for name, fields in await client.xrange(keyspace.LOG)]
    retained, unreadable = read_retained(await client.hgetall(keyspace.RETAINED))
    assert not unreadable
    flights = FlightStore(redis, 100)
    accounts = AccountStore(redis)
    campaigns = await CampaignStore(redis).list()
    listed = await flights.list()
    chain = [line async for line in AuditStore(redis).lines()]
    person, role = await accounts.check("mia", PASSWORD), Role.PUBLISHER
    assert person is not None
    assert person.role is role
    versions = {campaign.id: campaign.version for campaign in campaigns}
    found = {
        "log": log,
        "retained": sorted((each.field, each.own, each.publication) for each in retained),
        "campaigns": campaigns,
        "accounts": await accounts.list(),
        "keys": await KeyStore(redis).list(),
        "key": await KeyStore(redis).find(ADMIN),
        "session": await SessionStore(redis, 60).find(keepsakes["session"]),
        "reply": await ReplyStore(redis).get(keepsakes["principal"], keepsakes["key"]),
        "flights": [await flights.get(each.campaign, each.rev) for each in listed],
        "presence": await presence.read_all(redis),
        "audit": {"verified": audit.verify(chain, versions), "entries": [audit.read(line) for line in chain]},
    }
    return dict(msgspec.json.decode(msgspec.json.encode(found)))


def less(old: Any, new: Any, at: str = "") -> Iterator[str]:
    """Yield what was understood once and is not, or not the same, any more. More fields than then are no loss."""
    if isinstance(old, dict) and isinstance(new, dict):
        for name, value in old.items():
            if name in new:
                yield from less(value, new[name], f"{at}.{name}")
            else:
                yield f"{at}.{name} is gone, it was {value!r}"
    elif isinstance(old, list) and isinstance(new, list) and len(old) == len(new):
        for number, (before, after) in enumerate(zip(old, new, strict=True)):
            yield from less(before, after, f"{at}[{number}]")
    elif old != new:
        yield f"{at} was {old!r}, is {new!r}"


def grown(kept: dict[str, Any]) -> dict[str, Any]:
    """Return a store as a later version might have left it: in everything stored a field more, and a field more in
    every entry of the log."""
    return {key: {**entry, "value": _grown(key, entry["value"])} for key, entry in kept.items()}


def _grown(key: str, value: Any) -> Any:
    kind = next((kind for start, kind in formats.KEYS.items() if key.startswith(start)), None)
    if kind is None or key == keyspace.PRESENCE:
        return value
    if key == keyspace.LOG:
        more = {_text(b"of_the_future"): _text(b"x")}
        body = _text(b"body")
        return [[name, {**fields, body: _more(fields[body], kind), **more}] for name, fields in value]
    if key == keyspace.RETAINED:
        return {name: _more(entry, kind, words=3) for name, entry in value.items()}
    if isinstance(value, str):
        return _more(value, kind)
    single = {_text(b"version"), _text(b"rev:prefetch"), _text(b"rev:activate")}
    return {name: each if name in single else _more(each, kind) for name, each in value.items()}


def _more(text: str, kind: Any, words: int = 0) -> str:
    """Grow msgpack that comes after so many words."""
    *before, body = base64.b64decode(text).split(b" ", words) if words else [base64.b64decode(text)]
    more = msgpack.packb(formats.grown(msgpack.unpackb(body), kind))
    return _text(b" ".join([*before, more]))
