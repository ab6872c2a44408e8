"""Says a verdict: what each limit is called, as tables, as sentences, as JSON.

Decides nothing: the numbers are `capacity`'s, how to raise a limit is `advice`'s.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final

import msgspec
from rich.console import Console
from rich.markup import escape
from rich.table import Column, Table

from fanout.doctor.advice import advise
from fanout.doctor.capacity import DELIVERY_S, UNLIMITED, Bound, Costs, Limits, Plan, Quantity, Verdict, judge

TITLES: Final = {
    "files": "open files of a process",
    "nr_open": "fs.nr_open",
    "connections_max": "--connections-max, a worker",
    "files_system": "fs.file-max",
    "memory": "memory available",
    "memory_cgroup": "memory of the cgroup",
    "tcp_mem": "net.ipv4.tcp_mem, pages",
    "conntrack": "nf_conntrack_max",
    "ports": "local ports x source addresses",
    "cores": "cores",
    "cores_quota": "cores, by the cgroup's quota",
    "workers": "--workers",
    "admit_per_s": "--admit-per-s, a worker",
    "somaxconn": "net.core.somaxconn",
    "syn_backlog": "net.ipv4.tcp_max_syn_backlog",
}
_BYTES: Final = ("memory", "memory_cgroup")


class Case(msgspec.Struct, frozen=True):
    """What was asked, and everything the answer rests on."""

    limits: Limits
    plan: Plan
    costs: Costs
    gateway: Verdict
    with_swarm: Verdict

    def raise_to(self, bound: Bound, amount: int, *, with_swarm: bool) -> str:
        """Return how to make this limit allow so many, in the words of where we are."""
        advice = advise(bound, amount, self.limits, self.plan, with_swarm=with_swarm)
        return advice.kubernetes if self.limits.kubernetes else advice.command


def case_of(limits: Limits, plan: Plan, costs: Costs) -> Case:
    """Judge a machine for both purposes."""
    gateway, both = (judge(limits, plan, costs, with_swarm=swarm) for swarm in (False, True))
    return Case(limits, plan, costs, gateway, both)


# --- For people


def show(case: Case) -> None:
    """Print the tables, then what it comes to."""
    console = Console()
    console.print(_table(case, ("devices", case.gateway.devices), ("with the swarm here", case.with_swarm.devices)))
    rates = ("connects/s", case.gateway.connects_per_s), ("sends/s", case.gateway.sends_per_s)
    console.print(_table(case, *rates))
    for line in sentences(case):
        # Commands are there to be copied: no line breaks of ours.
        console.print(line, markup=False, highlight=False, soft_wrap=True)


def _table(case: Case, *columns: tuple[str, Quantity]) -> Table:
    """Return every limit with its value, what it allows, and how to have twice as much; ">" marks what binds."""
    quantities = [quantity for _, quantity in columns]
    first, last = Column("limit", overflow="fold"), Column("for twice as much", overflow="fold")
    made = Table(first, "value", *(title for title, _ in columns), last)
    for name in TITLES:
        bounds = [bound for quantity in quantities for bound in quantity.bounds if bound.limit == name]
        if bounds:
            cells = [_cell(quantity, name) for quantity in quantities]
            made.add_row(TITLES[name], _value(bounds[0], case.limits), *cells, escape(_more(case, quantities, name)))
    return made


def _cell(quantity: Quantity, name: str) -> str:
    allows = next((bound.allows for bound in quantity.bounds if bound.limit == name), None)
    if allows is None:
        return "-"
    binds = quantity.binding is not None and quantity.binding.limit == name
    return f"[bold]> {allows:,}[/bold]" if binds else f"{allows:,}"


def _more(case: Case, quantities: list[Quantity], name: str) -> str:
    """Return how to raise a limit if it stands in the way of twice as much."""
    for quantity in quantities:
        twice = 2 * max(1, quantity.total or 0)
        for bound in quantity.too_small_for(twice):
            if bound.limit == name:
                both = quantity is case.with_swarm.devices
                return case.raise_to(bound, twice, with_swarm=both)
    return ""


def _value(bound: Bound, limits: Limits) -> str:
    if bound.value is None:
        return "none or unknown"
    if bound.value >= UNLIMITED:
        return "unlimited"
    if bound.limit in _BYTES:
        return f"{float(bound.value) / 2**30:,.1f} GiB"
    if bound.limit == "files" and limits.files_soft not in (None, limits.files_hard):
        return f"{int(bound.value):,} (soft {limits.files_soft:,}; the gateway raises it)"
    return f"{float(bound.value):g}" if bound.value < 1000 else f"{int(bound.value):,}"


def sentences(case: Case) -> Iterator[str]:
    """Yield what it comes to, for each purpose: how many, how fast, what binds, what to change."""
    for verdict in (case.gateway, case.with_swarm):
        held, connects, sends = verdict.devices, verdict.connects_per_s, verdict.sends_per_s
        purpose = "With the swarm on the same machine" if verdict.with_swarm else "As a gateway"
        crew = f"--workers {case.plan.workers}"
        crew += f", --processes {case.plan.processes}" if verdict.with_swarm else ""
        line = f"{purpose} ({crew}): {_amount(held)} devices"
        line += f", {_amount(connects)} connects/s, {_amount(sends)} sends/s"
        if held.total and connects.total and sends.total:
            back, told = _time(held.total / connects.total), _time(held.total / sends.total)
            line += f"; all of them connect in {back} and are told in {told}"
        yield line + "."
        if held.binding is not None:
            more = case.raise_to(held.binding, 2 * max(1, held.total or 0), with_swarm=verdict.with_swarm)
            yield f"  What binds is {TITLES[held.binding.limit]}. For twice as many: {more}."


def _amount(quantity: Quantity) -> str:
    return f"{quantity.total:,}" if quantity.total is not None else "any number of"


def _time(seconds: float) -> str:
    return f"{seconds:.1f} s" if seconds < 10 else f"{seconds:,.0f} s"


def refusal(case: Case, devices: int, *, with_swarm: bool) -> str | None:
    """Return why so many devices do not fit, and every change that is needed; None if they do."""
    verdict = case.with_swarm if with_swarm else case.gateway
    short = verdict.devices.too_small_for(devices)
    if not short:
        return None
    where = " with the swarm on the same machine" if with_swarm else ""
    reasons = (
        f"{TITLES[each.limit]} ({_value(each, case.limits)}) allows {each.allows:,}, "
        f"change it: {case.raise_to(each, devices, with_swarm=with_swarm)}"
        for each in short
    )
    return f"{devices:,} devices do not fit{where}; " + "; ".join(reasons)


# --- For machines


def as_json(case: Case) -> dict[str, Any]:
    """Return everything as plain values: unknown or not in force is null, no limit is "unlimited"."""
    return {
        "limits": {name: _plain(value) for name, value in msgspec.structs.asdict(case.limits).items()},
        "plan": msgspec.structs.asdict(case.plan),
        "costs": msgspec.structs.asdict(case.costs),
        "delivery_s": DELIVERY_S,
        "gateway": _verdict(case, case.gateway),
        "with_swarm": _verdict(case, case.with_swarm),
    }


def _verdict(case: Case, verdict: Verdict) -> dict[str, Any]:
    parts = {name: getattr(verdict, name) for name in ("devices", "connects_per_s", "sends_per_s")}
    return {
        name: {
            "total": part.total,
            "binds": part.binding.limit if part.binding else None,
            "bounds": [_bound(case, bound, verdict.with_swarm) for bound in part.bounds],
        }
        for name, part in parts.items()
    }


def _bound(case: Case, bound: Bound, with_swarm: bool) -> dict[str, Any]:
    value = None if bound.value is None else _plain(float(bound.value))
    said: dict[str, Any] = {
        "limit": bound.limit,
        "title": TITLES[bound.limit],
        "value": value,
        "allows": bound.allows,
    }
    if bound.allows is not None:
        advice = advise(bound, 2 * max(1, bound.allows), case.limits, case.plan, with_swarm=with_swarm)
        said |= {"for_twice": advice.command, "for_twice_in_kubernetes": advice.kubernetes}
    return said


def _plain(value: Any) -> Any:
    if isinstance(value, bool) or not isinstance(value, int | float):
        return value
    if value >= UNLIMITED:
        return "unlimited"
    return int(value) if value == int(value) else value
