"""All scenarios, in the order of a walk."""

from __future__ import annotations

from typing import Final

from fanout.conformance.scenarios import arming, clocks, content, frames, late, passive, returning, silence, slots
from fanout.conformance.scenarios.registry import Scenario, registered

# The clock goes last of what runs alone: a device that follows it wrongly is lost for the others.
_ORDER: Final = tuple(
    part.__name__ for part in (slots, arming, late, content, frames, silence, returning, clocks, passive)
)

ALL: Final[tuple[Scenario, ...]] = tuple(
    sorted(registered(), key=lambda scenario: (scenario.stage, _ORDER.index(scenario.module)))
)
