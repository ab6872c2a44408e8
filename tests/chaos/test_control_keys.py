"""Whoever tries keys is turned away, cheaply, and nobody else with them."""

from __future__ import annotations

import asyncio
from typing import Any

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st
from redis.asyncio import Redis

from chaos.control_serving import Desk, desk
from fanout.control.config import ControlConfig
from fanout.control.guesses import Guesses, client
from fanout.embedded import EmbeddedValkey
from fanout.roles import Role
from fanout.store.keys import KeyStore

TRIES = 3
# None comes back while a test lasts.
LIMITS: dict[str, Any] = {"key_tries_max": TRIES, "key_tries_per_min": 0.001}
PATH = "/v1/campaigns"


def guess(n: int) -> str:
    return f"fanout_{n:043}"


async def exhaust(control: Desk, **headers: str) -> None:
    for n in range(TRIES):
        assert (await control.get(PATH, guess(n), **headers)).status_code == 401
    assert (await control.get(PATH, guess(TRIES), **headers)).status_code == 429


async def look_ups(redis: Redis) -> int:
    stats: Any = await redis.info("commandstats")
    return int(stats["cmdstat_hgetall"]["calls"])


async def test_after_a_few_unknown_keys_an_address_is_told_when_to_try_again_and_costs_no_look_up(
    valkey: EmbeddedValkey, redis: Redis
) -> None:
    async with desk(valkey, redis, **LIMITS) as control:
        await exhaust(control)
        before = await look_ups(redis)
        for n in range(20):
            answer = await control.get(PATH, guess(n))
            assert answer.status_code == 429
            assert answer.json()["type"] == "urn:fanout:problem:too-many-keys"
            assert int(answer.headers["retry-after"]) > 1
            assert guess(n) not in answer.text
        assert await look_ups(redis) == before
        # What needs no key is not refused: a device behind the same address must get its bundle.
        assert (await control.get("/healthz", guess(0))).status_code == 200


async def test_guesses_at_the_same_time_count_each(valkey: EmbeddedValkey, redis: Redis) -> None:
    async with desk(valkey, redis, **LIMITS) as control:
        answers = await asyncio.gather(*(control.get(PATH, guess(n)) for n in range(30)))
        assert sorted(answer.status_code for answer in answers) == [401] * TRIES + [429] * (30 - TRIES)


async def test_a_key_in_use_works_on_whoever_guesses_from_its_address(valkey: EmbeddedValkey, redis: Redis) -> None:
    other = await KeyStore(redis).create("other", Role.VIEWER)
    async with desk(valkey, redis, **LIMITS) as control:
        assert (await control.get(PATH)).status_code == 200
        await exhaust(control)
        assert {(await control.get(PATH)).status_code for _ in range(20)} == {200}
        # Its calls give the guesser nothing back. A key that was never used here cannot be told from a guess.
        assert (await control.get(PATH, guess(0))).status_code == 429
        assert (await control.get(PATH, other)).status_code == 429


async def test_good_keys_use_up_no_tries_and_a_revoked_one_is_a_guess_from_then_on(
    valkey: EmbeddedValkey, redis: Redis
) -> None:
    keys = KeyStore(redis)
    async with desk(valkey, redis, **LIMITS) as control:
        for n in range(3 * TRIES):
            assert (await control.get(PATH, await keys.create(f"k{n}", Role.VIEWER))).status_code == 200
        gone = await keys.create("gone", Role.VIEWER)
        assert (await control.get(PATH, gone)).status_code == 200
        await keys.revoke("gone")
        # The first only tells that it is gone.
        statuses = [(await control.get(PATH, gone)).status_code for _ in range(TRIES + 2)]
        assert statuses == [401] * (TRIES + 1) + [429]


async def test_a_store_that_does_not_answer_uses_up_no_tries(valkey: EmbeddedValkey, redis: Redis) -> None:
    async with desk(valkey, redis, **LIMITS) as control:
        valkey.kill()
        for n in range(2 * TRIES):
            assert (await control.get(PATH, guess(n))).status_code == 503
        valkey.start()
        assert (await control.get(PATH)).status_code == 200
        await exhaust(control)


async def test_a_trusted_proxy_names_the_address_and_nobody_can_name_another(
    valkey: EmbeddedValkey, redis: Redis
) -> None:
    def by_proxy(*addresses: str) -> dict[str, str]:
        return {"X-Forwarded-For": ", ".join(addresses)}

    async with desk(valkey, redis, **LIMITS) as control:
        await exhaust(control, **by_proxy("203.0.113.7"))
        assert (await control.get(PATH, **by_proxy("203.0.113.8"))).status_code == 200
        # The proxy adds the address it saw; what stood there before is the client's own word.
        for n in range(5):
            forged = by_proxy(f"198.51.100.{n}", "203.0.113.7")
            assert (await control.get(PATH, guess(n), **forged)).status_code == 429

        elsewhere = httpx.AsyncHTTPTransport(local_address="127.0.0.2")
        async with httpx.AsyncClient(transport=elsewhere, base_url=control.http.base_url) as untrusted:
            control.http, trusted = untrusted, control.http
            for n in range(TRIES):
                assert (await control.get(PATH, guess(n), **by_proxy(f"198.51.100.{n}"))).status_code == 401
            assert (await control.get(PATH, guess(0), **by_proxy("198.51.100.99"))).status_code == 429
            control.http = trusted


@pytest.mark.parametrize("place", ["cookie", "query", "body", "basic"])
async def test_a_key_counts_in_its_header_only(valkey: EmbeddedValkey, redis: Redis, place: str) -> None:
    async with desk(valkey, redis) as control:
        answer = await control.http.request(
            "GET",
            PATH,
            params={"key": control.key, "access_token": control.key} if place == "query" else None,
            headers={"Cookie": f"key={control.key}; Authorization=Bearer {control.key}"}
            if place == "cookie"
            else None,
            json={"key": control.key, "Authorization": control.key} if place == "body" else None,
            auth=("Bearer", control.key) if place == "basic" else None,
        )
        assert answer.status_code == 401
        assert control.key not in answer.text


def test_an_ipv6_household_is_one_client_and_an_address_is_one_however_it_is_written() -> None:
    assert client("2001:db8::1") == client("2001:DB8:0:0:ffff::2") != client("2001:db8:0:1::1")
    assert client("::ffff:192.0.2.1") == client("192.0.2.1") != client("192.0.2.2")
    assert client("x" * 10_000) == "x" * 45


@given(st.lists(st.tuples(st.integers(0, 30), st.floats(0, 100), st.booleans()), max_size=200))
def test_no_address_ever_gets_more_tries_than_its_limit_allows(steps: list[tuple[int, float, bool]]) -> None:
    config = ControlConfig(key_tries_max=TRIES, key_tries_per_min=6, key_addresses_max=100)
    guesses, now_s, taken = Guesses.of_addresses(config), 0.0, dict.fromkeys(range(31), 0)
    for address, later_s, was_good in steps:
        now_s += later_s
        wait_s = guesses.take(str(address), now_s)
        if wait_s:
            assert wait_s <= 10
            continue
        if was_good:
            guesses.give_back(str(address))
        else:
            taken[address] += 1
        assert taken[address] <= TRIES + now_s / 10 + 1e-6


def test_who_waits_as_told_may_try_again_and_memory_is_bounded() -> None:
    config = ControlConfig(key_tries_max=1, key_tries_per_min=6, key_addresses_max=100)
    guesses = Guesses.of_addresses(config)
    assert guesses.take("a", 0.0) == 0
    assert guesses.take("a", 4.0) == pytest.approx(6.0)
    assert guesses.take("a", 10.1) == 0
    for n in range(1000):
        guesses.take(str(n), 11.0)
    assert len(guesses) == 100
