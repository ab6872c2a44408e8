"""What a soak has to find, or the promise is broken. Pure.

An accepted activation reaches every device that is there or comes back, once; what was taken back in time reaches
none; and what runs for long grows no larger.
"""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from typing import Final

from msgspec import Struct

from fanout.arming import standing
from fanout.wire import GRACE_BEACONS
from loadtest.soak.faults import STORE_AWAY_S_MAX
from loadtest.soak.presses import Pressed
from loadtest.soak.system import BEACON_S

# A device that has heard nothing for its grace fires nothing; until then a gateway that the store has left alone
# may vouch with its beacons for what has been taken back. It reads on within about two of its probes.
TAKEN_BACK_MS: Final = round((GRACE_BEACONS * BEACON_S + STORE_AWAY_S_MAX + 3) * 1000)
# Last third of a run to its first: no process that flat memory was promised for grows by a tenth in minutes.
GROWTH_MAX: Final = 1.1


class Checkpoint(Struct, frozen=True):
    """A quiet moment, at which everyone has to show the newest stage.

    Attributes:
        rev: The activation that stands.
        shown: Devices that show it.
        seconds: From its press until they did, or until nobody waited any more.
    """

    rev: int
    devices: int
    shown: int
    seconds: float


class Memory(Struct, frozen=True):
    """Resident bytes at one moment: of the worker that nothing ends, and of the first control plane."""

    worker: int
    control: int


def newest(log: Sequence[Pressed]) -> int:
    """Return the revision of the activation that every device has to show, 0: none."""
    activations = [each for each in log if each.kind != "cancel"]
    stand = standing(activations, [each.rev for each in log if each.kind == "cancel"])
    return stand[-1].rev if stand else 0


def taken_back(log: Sequence[Pressed]) -> list[int]:
    """Return the activations that were cancelled or moved so long before their instant that nobody may flip."""
    found: list[int] = []
    for each in log:
        later = [other.rev for other in log if other.rev > each.rev]
        if each.kind != "cancel" and later and each.at - min(later) >= TAKEN_BACK_MS:
            found.append(each.rev)
    return found


def growth(samples: Sequence[int]) -> float:
    """Return the median of the last third of the samples ÷ that of the first; 1 if there are too few."""
    third = len(samples) // 3
    return statistics.median(samples[-third:]) / statistics.median(samples[:third]) if third else 1.0


def flips_broken(
    log: Sequence[Pressed], devices: int, flipped_for: Mapping[int, int], flipped_twice: int
) -> list[str]:
    """Return how the devices' flips break the promise, a sentence each."""
    said: list[str] = []
    if flipped_twice:
        said.append(f"{flipped_twice} flips were repeated, or went back to an older revision")
    said += [
        f"{count} flips were for revision {rev}, of {devices} devices"
        for rev, count in flipped_for.items()
        if count > devices
    ]
    said += [
        f"{flipped_for[rev]} devices flipped for revision {rev}, which had been taken back in time"
        for rev in taken_back(log)
        if flipped_for.get(rev)
    ]
    known = {each.rev for each in log}
    said += [f"revision {rev} flipped devices, and nobody had it accepted" for rev in flipped_for if rev not in known]
    return said


def checkpoints_broken(checkpoints: Sequence[Checkpoint]) -> list[str]:
    """Return which devices did not come to show the newest stage, a sentence a checkpoint."""
    said = [
        f"{each.devices - each.shown} of {each.devices} devices did not show revision {each.rev} "
        f"{each.seconds:.0f} s after its press"
        for each in checkpoints
        if each.shown != each.devices
    ]
    return said if checkpoints else ["it ended before anything could be held"]


def memory_broken(samples: Sequence[Memory]) -> list[str]:
    """Return what has grown, a sentence each."""
    found = {"a gateway's worker": [s.worker for s in samples], "the control plane": [s.control for s in samples]}
    return [
        f"{name} has grown to {growth(sizes):.2f} times its size; {GROWTH_MAX:g} is allowed"
        for name, sizes in found.items()
        if growth(sizes) > GROWTH_MAX
    ]
