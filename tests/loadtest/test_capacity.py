"""Impossible targets are refused with the number, the limit and the way out; possible ones get their addresses."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fanout.errors import InvalidInput
from fanout.measured import SOCKET_BYTES, SWARM_DEVICE_BYTES, SWARM_PROCESS_BYTES
from loadtest.capacity import (
    FILES_RESERVED,
    check_files,
    check_memory,
    check_sources,
    choose_sources,
    memory_available_bytes,
    parse_sources,
    shares,
)

HERE = ("ws://127.0.0.1:8081/v1/connect",)
ELSEWHERE = ("ws://192.0.2.1:8081/v1/connect",)
PORTS = 28_232


@given(st.integers(1, 10**6), st.integers(1, 64))
def test_processes_share_all_devices_evenly(devices: int, processes: int) -> None:
    each = shares(devices, processes)
    assert sum(each) == devices
    assert max(each) - min(each) <= 1


def test_more_devices_than_open_files_are_refused_and_told_how_many_processes_do() -> None:
    with pytest.raises(InvalidInput, match=r"40192 open files, the limit is 20000; use --processes 3 or more"):
        check_files(40_000, 1, 20_000)
    check_files(40_000, 3, 20_000)
    check_files(20_000 - FILES_RESERVED, 1, 20_000)
    with pytest.raises(InvalidInput, match="ulimit"):
        check_files(1, 1, FILES_RESERVED)


@given(st.integers(1, 10**8), st.integers(1, 512), st.integers(0, 2**45))
def test_devices_that_do_not_fit_into_memory_are_refused_and_told_how_many_do(
    devices: int, processes: int, available: int
) -> None:
    each, own = SWARM_DEVICE_BYTES + SOCKET_BYTES, processes * SWARM_PROCESS_BYTES
    check_memory(devices, processes, None)
    if devices * each + own <= available:
        check_memory(devices, processes, available)
        return
    with pytest.raises(InvalidInput, match="GB are available; use ") as refused:
        check_memory(devices, processes, available)
    said = re.search(r"use --devices (\d+) or fewer", str(refused.value))
    fits = int(said[1]) if said else 0
    assert said or "use fewer --processes" in str(refused.value)
    if fits:
        check_memory(fits, processes, available)
    assert (fits + 1) * each + own > available


def test_this_machine_says_what_memory_it_has() -> None:
    available = memory_available_bytes()
    assert available is None or 10**7 < available < 2**50


def test_an_address_is_named_alone_or_in_a_range() -> None:
    assert parse_sources(["127.0.0.254-127.0.1.1", "10.0.0.5", "127.0.0.255"]) == (
        *("127.0.0.254", "127.0.0.255", "127.0.1.0", "127.0.1.1"),
        "10.0.0.5",
    )


@pytest.mark.parametrize(
    "word", ["", "localhost", "::1", "127.0.0.9-127.0.0.2", "127.0.0.1-", "127.0.0.1-128.0.0.1", "127.0.0.256"]
)
def test_what_is_no_range_of_addresses_is_refused(word: str) -> None:
    with pytest.raises(InvalidInput, match="--source"):
        parse_sources([word])


def test_the_system_chooses_the_address_while_ports_suffice() -> None:
    assert choose_sources(20_000, ELSEWHERE, (), PORTS) == ()
    assert choose_sources(40_000, (*HERE, *ELSEWHERE), (), PORTS) == (), "a port serves once for every destination"


def test_on_one_machine_addresses_are_added_before_ports_become_hard_to_find() -> None:
    chosen = choose_sources(1_000_000, HERE, (), PORTS)
    assert chosen[0] == "127.0.0.2"
    assert 1_000_000 / len(chosen) <= PORTS / 4
    assert len(choose_sources(1, HERE, (), PORTS)) == 1
    assert len(set(chosen)) == len(chosen)
    check_sources(chosen)


def test_towards_another_machine_they_have_to_be_named() -> None:
    with pytest.raises(InvalidInput, match=r"name 5 addresses of this machine with --source"):
        choose_sources(100_000, ELSEWHERE, (), PORTS)


def test_too_few_named_addresses_are_refused() -> None:
    named = parse_sources(["127.0.0.2-127.0.0.5"])
    with pytest.raises(InvalidInput, match=r"100000 ports, 4 addresses have 90340 .* name 5 addresses"):
        choose_sources(100_000, HERE, named, PORTS)
    assert choose_sources(90_000, HERE, named, PORTS) == named


def test_an_address_of_another_machine_is_refused() -> None:
    with pytest.raises(InvalidInput, match=r"cannot connect from 192\.0\.2\.1"):
        check_sources(["127.0.0.1", "192.0.2.1"])
