"""API keys and first answers, on a real store."""

from __future__ import annotations

import asyncio

import pytest
from redis.asyncio import Redis

from fanout import keyspace, limits
from fanout.errors import InvalidInput, NotFound, Refused
from fanout.roles import Role
from fanout.store.keys import ApiKey, KeyStore
from fanout.store.replies import Reply, ReplyStore


async def test_a_key_is_found_by_itself_and_by_nothing_else(redis: Redis) -> None:
    keys = KeyStore(redis)
    key = await keys.create("console", Role.EDITOR)
    found = await keys.find(key)
    assert found is not None
    assert (found.name, found.role) == ("console", Role.EDITOR)
    for other in (key[:-1], key + "x", key.swapcase(), "", "x" * 40, "ü" * 40, "x" * 10_000):
        assert await keys.find(other) is None


async def test_the_store_never_holds_the_key(redis: Redis) -> None:
    key = await KeyStore(redis).create("console", Role.ADMIN)
    stored = await redis.hgetall(keyspace.API_KEYS)
    assert key.encode() not in b"".join([*stored.keys(), *stored.values()])
    assert key.removeprefix("fanout_").encode() not in b"".join([*stored.keys(), *stored.values()])


async def test_a_revoked_key_is_nobody_at_once(redis: Redis) -> None:
    keys = KeyStore(redis)
    gone, stays = await keys.create("gone", Role.ADMIN), await keys.create("stays", Role.VIEWER)
    await keys.revoke("gone")
    assert await keys.find(gone) is None
    assert [entry.name for entry in await keys.list()] == ["stays"]
    assert await keys.find(stays) is not None
    with pytest.raises(NotFound):
        await keys.revoke("gone")


async def test_a_name_belongs_to_one_key_however_many_ask(redis: Redis) -> None:
    keys = KeyStore(redis)
    results = await asyncio.gather(*(keys.create("console", Role.EDITOR) for _ in range(4)), return_exceptions=True)
    assert sum(isinstance(result, str) for result in results) == 1
    assert sum(isinstance(result, Refused) for result in results) == 3


async def test_an_operators_own_key_may_be_created_at_every_start(redis: Redis) -> None:
    keys, secret = KeyStore(redis), "from-the-vault-" + "0123456789abcdef" * 2
    assert await keys.create("root", Role.ADMIN, key=secret) == secret
    assert await keys.create("root", Role.ADMIN, key=secret) == secret
    assert len(await keys.list()) == 1
    with pytest.raises(Refused, match="belongs to 'root'"):
        await keys.create("other", Role.ADMIN, key=secret)
    with pytest.raises(InvalidInput, match="5 characters"):
        await keys.create("short", Role.ADMIN, key="hello")


@pytest.mark.parametrize("name", ["", "Console", "a:b", "a/b", "a b", "x" * 65])
async def test_a_name_that_could_be_mistaken_is_refused(redis: Redis, name: str) -> None:
    with pytest.raises(InvalidInput, match="allowed are"):
        await KeyStore(redis).create(name, Role.VIEWER)


def test_each_role_includes_the_ones_before_it() -> None:
    order = [Role.VIEWER, Role.EDITOR, Role.PUBLISHER, Role.ADMIN]
    for n, role in enumerate(order):
        assert [role.includes(other) for other in order] == [m <= n for m in range(4)]


def test_what_is_listed_of_a_key_has_no_room_for_the_key() -> None:
    assert ApiKey.__struct_fields__ == ("name", "role", "created_ms")


async def test_the_first_answer_is_kept_and_expires_with_jitter(redis: Redis) -> None:
    replies = ReplyStore(redis)
    first, later = (Reply("d", 200, {"etag": f'"{n}"'}, b"{}") for n in range(2))
    assert await replies.get("console", "k") is None
    assert await replies.keep("console", "k", first) == first
    assert await replies.keep("console", "k", later) == first
    assert await replies.get("console", "k") == first
    assert await replies.get("other", "k") is None
    ttls = set()
    for n in range(20):
        await replies.keep("console", f"k{n}", first)
        ttls.add(await redis.ttl(keyspace.reply("console", f"k{n}")))
    assert min(ttls) >= limits.IDEMPOTENCY_TTL_S - 60
    assert len(ttls) > 5
