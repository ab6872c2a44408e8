"""Accounts and sessions, on a real store."""

from __future__ import annotations

import asyncio

import pytest
from argon2 import PasswordHasher
from redis.asyncio import Redis

from fanout import keyspace
from fanout.errors import InvalidInput, NotFound, Refused
from fanout.roles import Role
from fanout.store.accounts import AccountStore
from fanout.store.sessions import SessionStore
from tests.support.waiting import until

PASSWORD = "correct horse battery"
# The least the algorithm allows: what is tested is what we do with hashes, not how slow they are.
QUICK = PasswordHasher(time_cost=1, memory_cost=8, parallelism=1)


@pytest.fixture
def accounts(redis: Redis) -> AccountStore:
    return AccountStore(redis, QUICK)


async def test_an_account_opens_with_its_password_and_no_other(accounts: AccountStore) -> None:
    await accounts.create("mia@example.org", Role.EDITOR, PASSWORD)
    found = await accounts.check("mia@example.org", PASSWORD)
    assert found is not None
    assert (found.name, found.role) == ("mia@example.org", Role.EDITOR)
    for name, password in (
        ("mia@example.org", PASSWORD.title()),
        ("mia@example.org", ""),
        ("mia@example.org", "x" * 100_000),
        ("nobody", PASSWORD),
        ("", PASSWORD),
        ("x" * 10_000, PASSWORD),
    ):
        assert await accounts.check(name, password) is None


async def test_the_store_never_holds_a_password(accounts: AccountStore, redis: Redis) -> None:
    await accounts.create("mia", Role.ADMIN, PASSWORD)
    stored = b"".join(await redis.hvals(keyspace.ACCOUNTS))
    assert b"$argon2id$" in stored
    assert PASSWORD.encode() not in stored


async def test_a_name_belongs_to_one_account_however_many_ask(accounts: AccountStore) -> None:
    made = await asyncio.gather(
        *(accounts.create("mia", Role.EDITOR, PASSWORD) for _ in range(4)), return_exceptions=True
    )
    assert sum(isinstance(each, Refused) for each in made) == 3
    assert len(await accounts.list()) == 1


async def test_passwords_and_roles_can_be_changed_and_accounts_removed(accounts: AccountStore) -> None:
    await accounts.create("mia", Role.EDITOR, PASSWORD)
    await accounts.set_role("mia", Role.PUBLISHER)
    await accounts.set_password("mia", "another few words")
    assert await accounts.check("mia", PASSWORD) is None
    found = await accounts.check("mia", "another few words")
    assert found is not None
    assert found.role is Role.PUBLISHER
    await accounts.remove("mia")
    assert await accounts.check("mia", "another few words") is None
    for gone in (
        accounts.remove("mia"),
        accounts.set_role("mia", Role.VIEWER),
        accounts.set_password("mia", PASSWORD),
    ):
        with pytest.raises(NotFound, match="no account named 'mia'"):
            await gone


async def test_a_hash_of_older_parameters_is_made_anew_at_the_next_sign_in(redis: Redis) -> None:
    await AccountStore(redis, QUICK).create("mia", Role.EDITOR, PASSWORD)
    newer = AccountStore(redis, PasswordHasher(time_cost=2, memory_cost=8, parallelism=1))
    assert await newer.check("mia", PASSWORD) is not None
    (account,) = await newer.list()
    assert "t=2" in account.password


@pytest.mark.parametrize("name", ["", "Mia", "mia smith", "x" * 65, "-mia", "mia\n", "<b>"])
async def test_a_bad_name_is_refused_and_shown(accounts: AccountStore, name: str) -> None:
    with pytest.raises(InvalidInput, match="allowed are 1 to 64"):
        await accounts.create(name, Role.VIEWER, PASSWORD)


@pytest.mark.parametrize("password", ["", "short", "x" * 257])
async def test_a_password_that_is_too_short_or_too_long_is_refused_and_not_shown(
    accounts: AccountStore, password: str
) -> None:
    with pytest.raises(InvalidInput, match=f"has {len(password)} characters; send 12 to 256"):
        await accounts.create("mia", Role.VIEWER, password)


async def test_a_session_opens_with_its_token_until_it_ends(redis: Redis) -> None:
    sessions = SessionStore(redis, 60)
    token, session = await sessions.begin("mia")
    other, _ = await sessions.begin("mia")
    assert await sessions.find(token) == session
    assert session.csrf not in token
    for wrong in ("", token[:-1], token + "x", token.swapcase(), "ü" * 43):
        assert await sessions.find(wrong) is None
    await sessions.end(token)
    assert await sessions.find(token) is None
    assert await sessions.find(other) is not None


async def test_a_session_is_over_after_its_time(redis: Redis) -> None:
    sessions = SessionStore(redis, 0.05)
    token, _ = await sessions.begin("mia", Role.ADMIN)

    async def over() -> bool:
        return await sessions.find(token) is None

    await until(over)


async def test_the_store_never_holds_a_sessions_token(redis: Redis) -> None:
    token, _ = await SessionStore(redis, 60).begin("mia")
    keys = await redis.keys("*session*")
    assert len(keys) == 1
    assert token.encode() not in keys[0] + (await redis.get(keys[0]))
