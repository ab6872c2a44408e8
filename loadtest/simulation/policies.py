"""What each policy makes a device do: when it asks for content, if it has to, and when it flips.

All of them show the same event at the same instant, ``ahead_s`` after the press of two-phase. Two-phase is pressed
before it and flips by docs/protocol.md; the others learn of it when it happens. Capacity is the gate's business.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Final

import numpy as np
from msgspec import Struct

from fanout.wire import CATCH_UP_MS, GRACE_BEACONS
from loadtest.simulation import draws
from loadtest.simulation.crowd import SALT_JITTER, SALT_PHASE, Crowd, Places, seconds
from loadtest.simulation.gate import Retry
from loadtest.simulation.hashing import F32, slots_ms
from loadtest.simulation.scenario import Scenario

CATCH_UP_S: Final = CATCH_UP_MS / 1000


class Plan(Struct):
    """What the devices of a chunk do. Others may share its arrays: nobody writes into them.

    Attributes:
        due_s: When each flips if it has the content by then; infinite if it never hears.
        askers: Which of them ask for content; None: all.
        asks_s: When each of these sends its request.
    """

    due_s: F32
    askers: Places | None
    asks_s: F32


class Policy(Struct, frozen=True):
    """One way to tell a fleet.

    Attributes:
        words: For people.
        plan: What a chunk's devices do.
        gateways: Whether devices hold sockets.
        prefetches: Whether content is there before, from the origin.
        inline: Whether content is there before, through the gateways.
        asks: Whether what the origin gets depends on when devices hear.
    """

    words: str
    plan: Callable[[Crowd], Plan]
    gateways: bool = True
    prefetches: bool = False
    inline: bool = False
    asks: bool = False


def polling(crowd: Crowd) -> Plan:
    """Every device asks every ``poll_s`` from its own phase on; who was away, as soon as it is back."""
    asked = crowd.scenario
    phases = draws.unit(draws.again(crowd.whims, SALT_PHASE))
    phases *= np.float32(asked.poll_s)
    phases += np.float32(asked.ahead_s)
    away = crowd.back[crowd.offline[crowd.back]]
    returns_s = crowd.connects_s[crowd.offline[crowd.back]]
    phases[away] = np.where(returns_s > asked.ahead_s, returns_s, phases[away])
    return Plan(phases, None, phases)


def trigger(crowd: Crowd) -> Plan:
    """Every device asks as soon as it hears that something changed."""
    heard_s = crowd.heard_s(crowd.scenario.ahead_s)
    return Plan(heard_s, None, heard_s)


def trigger_jitter(crowd: Crowd) -> Plan:
    """Every device asks at a random instant of a window after it has heard."""
    asks_s = draws.unit(draws.again(crowd.whims, SALT_JITTER))
    asks_s *= np.float32(crowd.scenario.window_s)
    asks_s += crowd.heard_s(crowd.scenario.ahead_s)
    return Plan(asks_s, None, asks_s)


def two_phase(crowd: Crowd) -> Plan:
    """Content is there before; the press waits until the gate is content."""
    return _prefetched(crowd, crowd.scenario.ready_gate)


def two_phase_unready(crowd: Crowd) -> Plan:
    """Content is there before, on as many devices as happen to have it."""
    return _prefetched(crowd, crowd.scenario.ready_share)


def inline(crowd: Crowd) -> Plan:
    """Content came through the gateways, and comes with the welcome to those who were away: nobody asks."""
    due_s = crowd.once("due", lambda: _due_s(crowd))
    return Plan(due_s, np.zeros(0, np.intp), np.zeros(0, np.float32))


POLICIES: Final[Mapping[str, Policy]] = MappingProxyType(
    {
        "polling": Policy("polling", polling, gateways=False),
        "trigger": Policy("trigger, then fetch", trigger, asks=True),
        "trigger-jitter": Policy("trigger with jitter", trigger_jitter, asks=True),
        "two-phase-unready": Policy("two-phase, no gate", two_phase_unready, prefetches=True, asks=True),
        "two-phase": Policy("two-phase, readiness gate", two_phase, prefetches=True, asks=True),
        "inline": Policy("two-phase, inline bundles", inline, inline=True),
    }
)


def ready_of(name: str, scenario: Scenario) -> float:
    """Return which share of the connected devices is ready at the press."""
    return {"two-phase": scenario.ready_gate, "two-phase-unready": scenario.ready_share}.get(name, 1.0)


def held_s(name: str, scenario: Scenario) -> float:
    """Return how long the readiness gate holds the press."""
    if name != "two-phase":
        return 0.0
    return (scenario.ready_gate - scenario.ready_share) * scenario.prefetch_window_s


def fetching(scenario: Scenario) -> Retry:
    """Return what a device does whose request was refused (docs/protocol.md rule 10)."""
    return Retry(
        fixed_s=scenario.retry_after_s / 2,
        spread_s=scenario.retry_after_s,
        base_s=scenario.fetch_base_ms / 1000,
        cap_s=scenario.fetch_cap_ms / 1000,
        tries=scenario.fetch_tries,
    )


def retry_of(name: str, scenario: Scenario) -> Retry:
    """Return when a device of this policy asks again: a poller at its next poll, until the end."""
    return Retry(fixed_s=scenario.poll_s) if name == "polling" else fetching(scenario)


def _due_s(crowd: Crowd) -> F32:
    """Return when each device flips, by the protocol, if it has the content."""
    asked = crowd.scenario
    heard_s = crowd.heard_s(0.0)
    # Rules 5 and 13: its slot, by a clock that is late, on timers that may be late too.
    delay_s = crowd.clock_s + crowd.lateness_s
    due_s = crowd.slots_s + delay_s
    due_s += np.float32(asked.ahead_s)
    heard_s = _trusted_s(crowd, due_s, heard_s)
    # Rule 17: the window was over, by its own clock, when it learned of it. `seconds` keeps infinity what it is.
    over = np.flatnonzero(heard_s - crowd.clock_s >= np.float32(asked.ahead_s + asked.window_s))
    catch_up = seconds(slots_ms(crowd.hashes[over], round(min(CATCH_UP_S, asked.window_s) * 1000)))
    due_s[over] = heard_s[over] + catch_up + crowd.lateness_s[over]
    # Rule 16: past while the window is open means at once.
    return np.maximum(due_s, heard_s, out=due_s)


def _trusted_s(crowd: Crowd, due_s: F32, heard_s: F32) -> F32:
    """Rule 23: who lost its worker and is outside for longer than the grace learns of it anew from its welcome."""
    if crowd.dies_s is None:
        return heard_s
    heard_s = heard_s.copy()
    back, welcomed_s = crowd.back, crowd.welcomed_s
    doubtful_s = crowd.dies_s[back] + np.float32(GRACE_BEACONS * crowd.scenario.beacon_s)
    doubts = (due_s[back] > doubtful_s) & (welcomed_s > due_s[back])
    heard_s[back[doubts]] = welcomed_s[doubts]
    return heard_s


def _prefetched(crowd: Crowd, ready: float) -> Plan:
    """Return the plan where those whose slot of the prefetch is past have the content, and the others fetch it.

    They fetch at that slot if it comes first, else when they are due (rules 9 and 19).
    """
    asked = crowd.scenario
    due_s = crowd.once("due", lambda: _due_s(crowd))
    left_s = np.float32((1 - ready) * asked.prefetch_window_s)
    slots_s = crowd.prefetch_slots_s - np.float32(ready * asked.prefetch_window_s)
    # Devices that were away come with an empty shelf.
    askers = np.flatnonzero((slots_s >= 0) | crowd.offline)
    asks_s = slots_s[askers]
    away = np.flatnonzero(crowd.offline[askers])
    heard_s = crowd.heard_s(0.0)[askers[away]]
    # Rules 16 and 17 hold for a prefetch's window too.
    catch_up_s = min(CATCH_UP_S, asked.prefetch_window_s) / asked.prefetch_window_s
    late_s = heard_s + crowd.prefetch_slots_s[askers[away]] * np.float32(catch_up_s)
    asks_s[away] = np.where(heard_s < left_s, np.maximum(asks_s[away], heard_s), late_s)
    return Plan(due_s, askers, np.minimum(asks_s, due_s[askers]))
