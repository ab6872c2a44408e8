"""``fanout account``: who may sign in, from the first account on; what was done to them is in the audit chain."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import TypeVar

import pytest
from argon2 import PasswordHasher

from fanout.connect import connect
from fanout.embedded import EmbeddedValkey
from fanout.roles import Role
from fanout.store.accounts import AccountStore
from fanout.store.audit import AuditStore

from .running import error, fanout, good

PASSWORD = "correct horse battery"
# The least the algorithm allows, for an account that only has to be there.
QUICK = PasswordHasher(time_cost=1, memory_cost=8, parallelism=1)
T = TypeVar("T")


def look(valkey: EmbeddedValkey, at: Callable[[AccountStore, AuditStore], Awaitable[T]]) -> T:
    """Return what there is in the store."""

    async def work() -> T:
        async with connect(valkey.url) as redis:
            return await at(AccountStore(redis), AuditStore(redis))

    return asyncio.run(work())


def test_an_account_is_made_listed_changed_and_removed_and_each_is_noted(
    valkey: EmbeddedValkey, tmp_path: Path
) -> None:
    store = {"FANOUT_REDIS_URL": valkey.url}
    file = tmp_path / "password"
    file.write_text(PASSWORD + "\n")
    result = fanout("account", "list", **store)
    assert "fanout account create" in result.stderr
    good(fanout("account", "create", "mia", "--role", "editor", "--password-file", str(file), **store))
    # From a terminal, typed twice; from another command, on standard input.
    typed = f"{PASSWORD}2\n{PASSWORD}2\n"
    good(fanout("account", "create", "kim@example.org", "--role", "viewer", stdin=typed, **store))
    assert good(fanout("account", "list", **store)) == "kim@example.org\tviewer\nmia\teditor\n"
    good(fanout("account", "role", "mia", "publisher", **store))
    good(fanout("account", "password", "mia", "--password-file", "-", stdin="another few words\n", **store))
    found = look(valkey, lambda accounts, audit: accounts.check("mia", "another few words"))
    assert found is not None
    assert found.role is Role.PUBLISHER
    assert look(valkey, lambda accounts, audit: accounts.check("kim@example.org", f"{PASSWORD}2")) is not None
    good(fanout("account", "remove", "mia", **store))
    assert look(valkey, lambda accounts, audit: accounts.find("mia")) is None
    entries = look(valkey, lambda accounts, audit: audit.newest(None, 10))
    assert [(entry.by, entry.action, entry.details["account"]) for entry in reversed(entries)] == [
        ("command line", "account create", "mia"),
        ("command line", "account create", "kim@example.org"),
        ("command line", "account role", "mia"),
        ("command line", "account password", "mia"),
        ("command line", "account remove", "mia"),
    ]
    assert not any(PASSWORD in str(entry.details) or "few words" in str(entry.details) for entry in entries)


@pytest.mark.parametrize(
    ("words", "stdin", "told"),
    [
        (("create", "Mia", "--role", "editor"), PASSWORD, "allowed are 1 to 64"),
        (("create", "mia"), PASSWORD, "--role"),
        (("create", "mia", "--role", "boss"), PASSWORD, "boss"),
        (("create", "mia", "--role", "editor"), "short", "has 5 characters; send 12 to 256"),
        (("create", "mia", "--role", "editor"), "x" * 257, "has 257 characters; send 12 to 256"),
        (("create", "kim", "--role", "editor"), PASSWORD, "'kim' exists"),
        (("role", "mia", "boss"), "", "boss"),
        (("role", "mia", "admin"), "", "no account named 'mia'"),
        (("password", "mia"), PASSWORD, "no account named 'mia'"),
        (("remove", "mia"), "", "no account named 'mia'"),
    ],
)
def test_what_cannot_be_done_is_said_in_a_line_and_noted_nowhere(
    valkey: EmbeddedValkey, words: tuple[str, ...], stdin: str, told: str
) -> None:

    async def kim() -> None:
        async with connect(valkey.url) as redis:
            await AccountStore(redis, QUICK).create("kim", Role.VIEWER, PASSWORD)

    asyncio.run(kim())
    source = ("--password-file", "-") if words[0] in ("create", "password") else ()
    result = fanout("account", *words, *source, stdin=stdin, FANOUT_REDIS_URL=valkey.url)
    line = error(result)
    assert told in line
    assert stdin not in line or not stdin
    assert look(valkey, lambda accounts, audit: audit.newest(None, 10)) == []
    assert [each.name for each in look(valkey, lambda accounts, audit: accounts.list())] == ["kim"]


def test_two_passwords_that_differ_make_no_account(valkey: EmbeddedValkey) -> None:
    result = fanout(
        "account", "create", "mia", "--role", "editor", stdin=f"{PASSWORD}\nanother\n", FANOUT_REDIS_URL=valkey.url
    )
    assert result.exit_code != 0
    assert good(fanout("account", "list", FANOUT_REDIS_URL=valkey.url)) == ""
