"""What a machine can hold, as laws of the arithmetic."""

from __future__ import annotations

from fractions import Fraction

import msgspec
from hypothesis import given
from hypothesis import strategies as st

import loadtest.capacity
from fanout.doctor import report
from fanout.doctor.advice import advise
from fanout.doctor.capacity import (
    SWARM_FILES,
    UNLIMITED,
    WORKER_FILES,
    Costs,
    Limits,
    Plan,
    Quantity,
    judge,
    one_a_core,
)
from gateway import worker
from gateway.config import GatewayConfig

COSTS = Costs()
USUAL = Plan(workers=2, processes=2, connections_max=100_000, admit_per_s=4_000)

_known = st.one_of(st.integers(0, 10**7), st.integers(0, 2**45), st.just(UNLIMITED))
_numbers = st.one_of(st.none(), _known)
LIMITS = st.builds(
    Limits,
    **{
        name: st.floats(0.01, 512) if name == "cores_quota" else _numbers
        for name in Limits.__struct_fields__
        if name != "kubernetes"
    },
)
PLANS = st.builds(
    Plan,
    workers=st.integers(1, 128),
    processes=st.integers(1, 128),
    connections_max=st.integers(1, 10**6),
    admit_per_s=st.floats(1, 1e6),
)
# What to set so that a limit is raised. More workers also cost memory: a limit on its own only for rates.
FIELDS = {
    "files": "files_hard",
    "nr_open": "nr_open",
    "files_system": "files_system",
    "memory": "memory_available_bytes",
    "memory_cgroup": "memory_cgroup_bytes",
    "tcp_mem": "tcp_pages",
    "conntrack": "conntrack",
    "ports": "ports",
    "cores": "cores",
    "cores_quota": "cores_quota",
    "somaxconn": "somaxconn",
    "syn_backlog": "syn_backlog",
}
RISING = sorted(FIELDS.values())
FALLING = ("files_system_used", "memory_cgroup_used_bytes", "conntrack_used")


def quantities(limits: Limits, plan: Plan, *, with_swarm: bool) -> tuple[Quantity, Quantity, Quantity]:
    verdict = judge(limits, plan, COSTS, with_swarm=with_swarm)
    return verdict.devices, verdict.connects_per_s, verdict.sends_per_s


def total(quantity: Quantity) -> int:
    """Return a total that can be compared: these always have one, for the plan limits them."""
    assert quantity.total is not None
    return quantity.total


@given(LIMITS, PLANS, st.booleans(), st.sampled_from((*RISING, *FALLING)), _known, st.integers(1, 2**40))
def test_more_of_a_limit_never_allows_less_and_more_in_use_never_more(
    limits: Limits, plan: Plan, with_swarm: bool, name: str, otherwise: int, more: int
) -> None:
    if getattr(limits, name) is None:
        limits = msgspec.structs.replace(limits, **{name: otherwise})
    raised = msgspec.structs.replace(limits, **{name: getattr(limits, name) + more})
    for before, after in zip(
        quantities(limits, plan, with_swarm=with_swarm), quantities(raised, plan, with_swarm=with_swarm), strict=True
    ):
        assert total(after) <= total(before) if name in FALLING else total(after) >= total(before)


@given(LIMITS, PLANS, st.booleans())
def test_what_binds_is_the_smallest_of_all_limits(limits: Limits, plan: Plan, with_swarm: bool) -> None:
    for quantity in quantities(limits, plan, with_swarm=with_swarm):
        allowed = [bound.allows for bound in quantity.bounds if bound.allows is not None]
        assert quantity.binding is not None
        assert quantity.binding.allows == total(quantity) == min(allowed)
        assert min(allowed) >= 0


@given(LIMITS, PLANS, st.booleans())
def test_changing_the_limit_that_binds_changes_the_total(limits: Limits, plan: Plan, with_swarm: bool) -> None:
    for place, quantity in enumerate(quantities(limits, plan, with_swarm=with_swarm)):
        binding, amount = quantity.binding, total(quantity) + 1
        assert binding is not None
        # Left out rather than assumed away, or most of what is drawn is thrown away for one quantity of three.
        if binding.limit == "workers" or (binding.limit == "ports" and not limits.source_addresses):
            continue
        need = binding.needed(amount)
        if binding.limit in FIELDS:
            shared = limits.source_addresses or 1 if binding.limit == "ports" else 1
            raised, changed = msgspec.structs.replace(limits, **{FIELDS[binding.limit]: -(-need // shared)}), plan
        else:
            raised, changed = limits, msgspec.structs.replace(plan, **{binding.limit: need})
        after = quantities(raised, changed, with_swarm=with_swarm)[place]
        others = [b.allows for b in quantity.bounds if b.limit != binding.limit and b.allows is not None]
        assert total(after) >= min([amount, *others])
        assert next(b.allows for b in after.bounds if b.limit == binding.limit) != total(quantity)


@given(LIMITS, PLANS, st.booleans(), st.integers(1, 10**9))
def test_the_value_that_is_asked_for_is_enough_and_no_more_than_needed(
    limits: Limits, plan: Plan, with_swarm: bool, amount: int
) -> None:
    for quantity in quantities(limits, plan, with_swarm=with_swarm):
        for bound in quantity.too_small_for(amount):
            need = bound.needed(amount)
            enough, short = (msgspec.structs.replace(bound, value=Fraction(n)) for n in (need, need - 1))
            assert enough.allows is None or enough.allows >= amount
            assert short.allows is None or short.allows < amount
            advice = advise(bound, amount, limits, plan, with_swarm=with_swarm)
            assert advice.command
            assert advice.kubernetes


@given(LIMITS, PLANS)
def test_a_swarm_on_the_same_machine_never_makes_room(limits: Limits, plan: Plan) -> None:
    alone, shared = (quantities(limits, plan, with_swarm=both) for both in (False, True))
    assert all(total(b) <= total(a) for a, b in zip(alone, shared, strict=True))


@given(LIMITS, PLANS, st.integers(1, 10**9), st.booleans())
def test_devices_are_refused_exactly_if_they_do_not_fit(
    limits: Limits, plan: Plan, devices: int, with_swarm: bool
) -> None:
    held = total(judge(limits, plan, COSTS, with_swarm=with_swarm).devices)
    case = report.case_of(limits, plan, COSTS)
    assert (report.refusal(case, devices, with_swarm=with_swarm) is None) == (devices <= held)


def test_every_limit_counts_what_a_device_takes_of_it_and_what_is_gone_before() -> None:
    """Worked by hand, with two workers and two processes of a swarm."""
    limits = Limits(
        files_hard=1000,
        nr_open=2000,
        files_system=10_000,
        files_system_used=500,
        memory_available_bytes=10**9,
        memory_cgroup_bytes=2 * 10**9,
        memory_cgroup_used_bytes=10**9,
        tcp_pages=1000,
        conntrack=1000,
        conntrack_used=100,
        ports=1000,
        source_addresses=2,
        cores=2,
        cores_quota=1.5,
        somaxconn=128,
        syn_backlog=256,
    )
    costs = Costs(
        device_bytes=1000,
        socket_bytes=4000,
        swarm_device_bytes=3000,
        worker_bytes=10**8,
        gateway_bytes=10**8,
        swarm_process_bytes=10**8,
        connects_per_core_s=1000,
        swarm_connects_per_core_s=1000,
        sends_per_core_s=10_000,
    )
    allowed: dict[tuple[str, str], list[int | None]] = {}
    for both in (False, True):
        verdict = judge(limits, USUAL, costs, with_swarm=both)
        for name in ("devices", "connects_per_s", "sends_per_s"):
            for bound in getattr(verdict, name).bounds:
                allowed.setdefault((name, bound.limit), []).append(bound.allows)
    assert allowed == {
        ("devices", "files"): [976, 976],
        ("devices", "nr_open"): [2976, 2976],
        ("devices", "connections_max"): [200_000, 200_000],
        ("devices", "files_system"): [8476, 4046],
        # Nine tenths of it, less 100 MB a process and as much once; 5,000 bytes a device, 12,000 with its other end.
        ("devices", "memory"): [120_000, 33_333],
        ("devices", "memory_cgroup"): [120_000, 33_333],
        ("devices", "tcp_mem"): [4000, 4000],
        ("devices", "conntrack"): [900, 900],
        ("devices", "ports"): [None, 1600],
        ("devices", "cores"): [400_000, 200_000],
        ("devices", "cores_quota"): [300_000, 150_000],
        ("devices", "workers"): [400_000, 400_000],
        ("connects_per_s", "cores"): [2000, 1000],
        ("connects_per_s", "cores_quota"): [1500, 750],
        ("connects_per_s", "workers"): [2000, 2000],
        ("connects_per_s", "admit_per_s"): [8000, 8000],
        ("connects_per_s", "somaxconn"): [5120, 5120],
        ("connects_per_s", "syn_backlog"): [2560, 2560],
        ("sends_per_s", "cores"): [20_000, 10_000],
        ("sends_per_s", "cores_quota"): [15_000, 7500],
        ("sends_per_s", "workers"): [20_000, 20_000],
    }


def test_a_refusal_names_every_limit_in_the_way_the_tightest_first() -> None:
    case = report.case_of(Limits(files_hard=1000, conntrack=500, somaxconn=1), USUAL, COSTS)
    assert [bound.limit for bound in case.gateway.devices.too_small_for(900)] == ["conntrack"]
    said = report.refusal(case, 1_000_000, with_swarm=False)
    assert said is not None
    places = [said.find(word) for word in ("nf_conntrack_max", "open files", "--connections-max")]
    assert -1 not in places
    assert places == sorted(places)


def test_of_a_machine_that_says_nothing_the_products_own_limits_are_known() -> None:
    devices, connects, sends = quantities(Limits(), USUAL, with_swarm=False)
    assert [q.binding.limit for q in (devices, connects, sends) if q.binding] == [
        "connections_max",
        "admit_per_s",
        "workers",
    ]
    assert total(devices) == 200_000


def test_every_limit_has_a_name_and_a_way_to_raise_it() -> None:
    named = {bound.limit for quantity in quantities(Limits(), USUAL, with_swarm=True) for bound in quantity.bounds}
    assert named == set(report.TITLES)


def test_processes_are_one_a_core_and_no_more_than_the_quota_pays_for() -> None:
    assert one_a_core(Limits()) == 1
    assert one_a_core(Limits(cores=8)) == 8
    assert one_a_core(Limits(cores=8, cores_quota=2.5)) == 2
    assert one_a_core(Limits(cores=8, cores_quota=0.5)) == 1


def test_processes_keep_as_many_files_for_themselves_as_is_taken_off_here() -> None:
    assert loadtest.capacity.FILES_RESERVED == SWARM_FILES
    config = GatewayConfig(redis_url="", connections_max=10**6)
    assert worker.within_open_files(config, 20_000).connections_max == 20_000 - WORKER_FILES


def test_more_open_files_than_the_kernel_grants_a_process_need_two_changes() -> None:
    limits = Limits(files_hard=20_000, nr_open=1_048_576)
    (files, *_) = judge(limits, USUAL, COSTS).devices.bounds
    assert "fs.nr_open" not in advise(files, 1_000_000, limits, USUAL, with_swarm=False).command
    assert advise(files, 4_000_000, limits, USUAL, with_swarm=False).command.startswith(
        "sysctl -w fs.nr_open=2000512"
    )
