"""How a store with Sentinels is named: whatever a server may need can be said, and what cannot be read is refused."""

from __future__ import annotations

import pytest
from redis.asyncio.connection import SSLConnection

from fanout.connect import connect, has_sentinels
from fanout.errors import InvalidInput


async def test_an_address_names_sentinels_primary_database_and_every_password() -> None:
    url = "redis+sentinel://app:se%40cret@one,two:1,[::1]:2/main/3?sentinel_username=eye&sentinel_password=p&max_connections=9"
    async with connect(url) as client:
        assert has_sentinels(client)
        pool = client.connection_pool
        told = pool.connection_kwargs
        assert (told["username"], told["password"], told["db"]) == ("app", "se@cret", 3)
        assert pool.max_connections == 9
        assert pool.service_name == "main"
        asked = [sentinel.connection_pool.connection_kwargs for sentinel in pool.sentinel_manager.sentinels]
        assert [(to["host"], to["port"]) for to in asked] == [("one", 26379), ("two", 1), ("::1", 2)]
        assert {(to["username"], to["password"], to["db"]) for to in asked} == {("eye", "p", 0)}


async def test_with_tls_the_primary_and_the_sentinels_are_spoken_to_in_tls() -> None:
    async with connect("rediss+sentinel://one/main?ssl_cert_reqs=none") as client:
        pool = client.connection_pool
        for each in (pool, *(sentinel.connection_pool for sentinel in pool.sentinel_manager.sentinels)):
            assert issubclass(each.connection_class, SSLConnection)
            assert each.connection_kwargs["ssl_cert_reqs"] == "none"


@pytest.mark.parametrize(
    "url",
    [
        "redis+sentinel://one",
        "redis+sentinel:///main",
        "redis+sentinel://one,,two/main",
        "redis+sentinel://one:port/main",
        "redis+sentinel://one/main/two",
        "sentinel://one/main",
        "redis+sentinel://[::1/main",
        "one",
        "redis+sentinel://one/main?max_connections=many",
    ],
)
def test_an_address_that_cannot_be_read_is_refused_with_the_form_it_should_have(url: str) -> None:
    with pytest.raises(InvalidInput, match="redis\\+sentinel://host,host/primary-name"):
        connect(url)


async def test_a_single_server_has_no_sentinels() -> None:
    async with connect("redis://one") as client:
        assert not has_sentinels(client)


@pytest.mark.parametrize(
    "url",
    [
        "redis+sentinel://app:secret@one",
        "redis+sentinel://one?sentinel_password=secret",
        "redis://app:secret@one?health_check_interval=x",
        "nothing://app:sec@secret@one",
        "redis+sentinel://app:secret?@one/main?sentinel_password=sec@secret",
    ],
)
def test_no_password_is_shown_with_what_is_refused(url: str) -> None:
    with pytest.raises(InvalidInput, match="scheme") as refused:
        connect(url)
    assert "secret" not in str(refused.value)
