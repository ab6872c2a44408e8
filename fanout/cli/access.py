"""``fanout key …`` and ``fanout account …``: who may do what. Straight to the store: the first has nobody to ask."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import IO, TYPE_CHECKING, Any, Final

import click

if TYPE_CHECKING:
    from fanout.store.accounts import AccountStore

STORE: Final = click.option(
    "--redis-url",
    envvar="FANOUT_REDIS_URL",
    required=True,
    help="The store: redis://, rediss://, unix:// or redis+sentinel://host,host/primary.",
)
_ROLES: Final = ("viewer", "editor", "publisher", "admin")
_ROLE: Final = click.option(
    "--role", type=click.Choice(_ROLES), required=True, help="What its owner may do; each includes those before."
)


@click.group()
def key() -> None:
    """Make, list and revoke API keys, in the store itself."""


@key.command(name="create")
@click.argument("name")
@_ROLE
@STORE
def key_create(name: str, role: str, redis_url: str) -> None:
    """Make a key for NAME and print it, this once."""
    from fanout.roles import Role

    click.echo(_with_keys(redis_url, lambda keys: keys.create(name, Role(role))))


@key.command(name="list")
@STORE
def key_list(redis_url: str) -> None:
    """List whose keys there are, and what they may do."""
    for entry in _with_keys(redis_url, lambda keys: keys.list()):
        click.echo(f"{entry.name}\t{entry.role.value}")


@key.command(name="revoke")
@click.argument("name")
@STORE
def key_revoke(name: str, redis_url: str) -> None:
    """End the key of NAME at once."""
    _with_keys(redis_url, lambda keys: keys.revoke(name))


def _with_keys(redis_url: str, act: Callable[[Any], Any]) -> Any:
    from fanout.connect import connect
    from fanout.store.keys import KeyStore

    async def work() -> Any:
        async with connect(redis_url) as redis:
            return await act(KeyStore(redis))

    return asyncio.run(work())


@click.group()
def account() -> None:
    """Make, list, change and remove the accounts people sign in with, in the store itself."""


_PASSWORD: Final = click.option(
    "--password-file",
    type=click.File("r"),
    default=None,
    help="Read the password from this file, - for standard input; default: it is asked for.",
)


@account.command(name="create")
@click.argument("name")
@click.option(
    "--role", type=click.Choice(_ROLES), required=True, help="What they may do; each includes those before."
)
@_PASSWORD
@STORE
def account_create(name: str, role: str, password_file: IO[str] | None, redis_url: str) -> None:
    """Make an account for NAME, an address or a short name."""
    from fanout.roles import Role
    from fanout.store.accounts import check_name

    check_name(name)
    password = _password(password_file)
    _with_accounts(redis_url, "account create", name, {"role": role}, lambda a: a.create(name, Role(role), password))


@account.command(name="list")
@STORE
def account_list(redis_url: str) -> None:
    """List who may sign in, and what they may do."""
    found = _with_accounts(redis_url, None, "", {}, lambda accounts: accounts.list())
    if not found:
        click.echo("no accounts yet; make one with: fanout account create NAME --role admin", err=True)
    for entry in found:
        click.echo(f"{entry.name}\t{entry.role.value}")


@account.command(name="role")
@click.argument("name")
@click.argument("role", type=click.Choice(_ROLES))
@STORE
def account_role(name: str, role: str, redis_url: str) -> None:
    """Change what NAME may do, at once, where they are signed in too."""
    from fanout.roles import Role

    _with_accounts(redis_url, "account role", name, {"role": role}, lambda a: a.set_role(name, Role(role)))


@account.command(name="password")
@click.argument("name")
@_PASSWORD
@STORE
def account_password(name: str, password_file: IO[str] | None, redis_url: str) -> None:
    """Give NAME another password."""
    password = _password(password_file)
    _with_accounts(redis_url, "account password", name, {}, lambda a: a.set_password(name, password))


@account.command(name="remove")
@click.argument("name")
@STORE
def account_remove(name: str, redis_url: str) -> None:
    """Remove NAME's account, at once, where they are signed in too."""
    _with_accounts(redis_url, "account remove", name, {}, lambda accounts: accounts.remove(name))


def _password(file: IO[str] | None) -> str:
    if file is not None:
        return file.read().rstrip("\r\n")
    return str(click.prompt("Password", hide_input=True, confirmation_prompt=True))


def _with_accounts(
    redis_url: str, action: str | None, name: str, details: dict[str, str], act: Callable[[AccountStore], Any]
) -> Any:
    """Do something to the accounts, and note it in the audit chain unless it only looks."""
    from fanout.connect import connect
    from fanout.store.accounts import AccountStore
    from fanout.store.audit import AuditStore

    async def work() -> Any:
        async with connect(redis_url) as redis:
            done = await act(AccountStore(redis))
            if action is not None:
                now_ms = int(time.time() * 1000)
                await AuditStore(redis).append("command line", action, now_ms, {"account": name, **details})
            return done

    return asyncio.run(work())
