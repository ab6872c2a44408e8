"""The law, as a state machine: an accepted activation reaches every device that is or comes back online, once.

Two gateways, five devices, two campaigns and one store, whose parts that decide are the real ones (`simulation`,
`fleet`), in simulated time: a step costs a millisecond, so thousands are explored where real servers would allow
dozens. The store alone is a model; `test_simulated_store` holds it against the real script.

`FANOUT_MODEL_EXAMPLES=2000 python -m pytest -n 0 -s tests/chaos/test_model.py` explores more, and says how much.
"""

from __future__ import annotations

import os
from typing import Final

import pytest
import structlog
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from fanout import wire
from fanout.bus.publication import Activated, Cancelled, Closed, Prefetched, Variant

from .fleet import CONTENTS, Fleet, with_rev
from .simulation import TOPIC

EXAMPLES: Final = int(os.environ.get("FANOUT_MODEL_EXAMPLES", "100"))
STEPS: Final = 50
DEVICES: Final = 5
# A failover takes longer than revisions ever run ahead of the clock, so none is given out twice.
FAIL_OVER_MS: Final = 2_000

campaigns = st.sampled_from(["cup", "gala"])
safeties = st.sampled_from(["replica", "gateways", "gateways", "nobody"])
gateways = st.integers(0, 1)
devices = st.integers(0, DEVICES - 1)


class Machine(RuleBasedStateMachine):
    """Whatever people and the world may do to a fleet, in any order."""

    steps = checked = excused = 0

    def __init__(self) -> None:
        super().__init__()
        self.fleet = Fleet()

    # --- Editors.

    @initialize(ppms=st.lists(st.sampled_from([-100, 0, 0, 100]), min_size=DEVICES, max_size=DEVICES))
    def start(self, ppms: list[int]) -> None:
        self.fleet.begin(ppms)

    @rule(campaign=campaigns, content=st.sampled_from(list(CONTENTS)), inline=st.booleans(), safety=safeties)
    def prefetch(self, campaign: str, content: str, inline: bool, safety: str) -> None:
        bundle = wire.Bundle(content, len(CONTENTS[content]), inline=CONTENTS[content] if inline else None)
        self.fleet.publish(
            Prefetched(
                campaign=self.fleet.open_campaign(campaign),
                topic=TOPIC,
                key=self.fleet.a_key(),
                variants=(Variant({}, bundle),),
                from_ms=self.fleet.store_ms(),
                window_ms=2_000,
            ),
            safety,
        )

    @rule(
        campaign=campaigns,
        content=st.sampled_from(list(CONTENTS)),
        stage=st.sampled_from(["upcoming", "live", "ended"]),
        ahead_ms=st.sampled_from([-1_000, 0, 1_000, 5_000, 40_000]),
        window_ms=st.sampled_from([0, 1_000, 20_000]),
        share=st.sampled_from([1.0, 1.0, 0.5]),
        safety=safeties,
    )
    def activate(
        self, campaign: str, content: str, stage: str, ahead_ms: int, window_ms: int, share: float, safety: str
    ) -> None:
        self.fleet.publish(
            Activated(
                campaign=self.fleet.open_campaign(campaign),
                topic=TOPIC,
                key=self.fleet.a_key(),
                variants=(Variant({}, wire.Bundle(content, len(CONTENTS[content]))),),
                stage=stage,
                at=self.fleet.store_ms() + ahead_ms,
                window_ms=window_ms,
                share=share,
            ),
            safety,
        )

    @rule(campaign=campaigns, safety=safeties)
    def cancel(self, campaign: str, safety: str) -> None:
        self.fleet.publish(
            Cancelled(campaign=self.fleet.open_campaign(campaign), topic=TOPIC, key=self.fleet.a_key()), safety
        )

    @rule(campaign=campaigns, safety=safeties)
    def close(self, campaign: str, safety: str) -> None:
        """Close for good; the next event is another campaign."""
        campaign = self.fleet.open_campaign(campaign)
        self.fleet.publish(Closed(campaign=campaign, topic=TOPIC, key=self.fleet.a_key()), safety)

    @precondition(lambda self: self.fleet.published)
    @rule(safety=safeties)
    def press_the_last_again_with_its_key(self, safety: str) -> None:
        last = list(self.fleet.published.values())[-1]
        self.fleet.publish(with_rev(last, 0), safety)

    # --- Time and the network.

    @rule(ms=st.sampled_from([1, 300, 2_000, 11_000, 35_000]), flows=st.sampled_from([True, True, False]))
    def time_passes(self, ms: float, flows: bool) -> None:
        """With everything under way arriving at once, or with nothing arriving at all."""
        self.fleet.pass_ms(ms, flows=flows)

    @rule(number=devices, count=st.integers(1, 5), which=gateways)
    def a_device_reads(self, number: int, count: int, which: int) -> None:
        screen = self.fleet.screens[number]
        for _ in range(count):
            if len(screen.links) > which and screen.links[which].queue:
                screen.receive(screen.links[which])

    @rule(number=devices, data=st.data())
    def a_device_hears_something_again(self, number: int, data: st.DataObject) -> None:
        screen = self.fleet.screens[number]
        if screen.memory:
            screen.replay(data.draw(st.sampled_from(screen.memory)))

    @rule(number=gateways, count=st.integers(1, 3))
    def a_gateway_reads(self, number: int, count: int) -> None:
        self.fleet.gateways[number].hear(count)

    @rule(number=gateways)
    def a_gateway_paces(self, number: int) -> None:
        self.fleet.gateways[number].pace()

    # --- Faults.

    @rule(number=devices)
    def a_device_loses_its_sockets(self, number: int) -> None:
        for link in list(self.fleet.screens[number].links):
            self.fleet.screens[number].lose(link)

    @rule(number=devices)
    def a_socket_goes_half_open(self, number: int) -> None:
        for link in self.fleet.screens[number].links:
            if link.welcomed:
                link.hole = True

    @rule(number=devices)
    def a_device_is_asked_to_move(self, number: int) -> None:
        for link in self.fleet.screens[number].links:
            link.write(wire.Reconnect(1_000))

    @rule()
    def the_origin_breaks(self) -> None:
        self.fleet.origin_works = False

    @rule(number=gateways)
    def a_gateway_crashes(self, number: int) -> None:
        crashed, self.fleet.gateways[number] = self.fleet.gateways[number], self.fleet.new_gateway()
        for link in list(crashed.links):
            link.device.lose(link)
        self.fleet.count_the_lost()

    @rule(number=gateways, again=st.booleans())
    def a_subscription_is_lost(self, number: int, again: bool) -> None:
        self.fleet.gateways[number].cut()
        if again:
            self.fleet.gateways[number].subscribe()

    @rule(number=gateways, commands=st.integers(0, 4))
    def a_gateway_will_lose_the_store_in_the_middle(self, number: int, commands: int) -> None:
        self.fleet.gateways[number].client.patience = commands

    # One loss at a time. What goes back under a later revision, and is lost again before every gateway has heard of
    # that, may be taken for newer than what only a gateway that was behind holds; and what did not go back, because
    # something newer was there, may do so once that is lost, to those alone who have not heard of it. Nothing is
    # promised of that.

    @precondition(lambda self: self.fleet.caught_up)
    @rule(lag=st.integers(0, 4))
    def the_store_fails_over(self, lag: int) -> None:
        for gateway in self.fleet.gateways:
            gateway.cut()
        self.fleet.pass_ms(FAIL_OVER_MS, flows=False)
        self.fleet.store.fail_over(lag)
        self.fleet.caught_up = False
        self.fleet.count_the_lost()

    @precondition(lambda self: self.fleet.caught_up)
    @rule()
    def the_store_forgets_everything(self) -> None:
        self.fleet.pass_ms(FAIL_OVER_MS, flows=False)
        self.fleet.store.flush()
        self.fleet.caught_up = False
        self.fleet.count_the_lost()

    @rule(left=st.integers(1, 3))
    def the_log_is_trimmed(self, left: int) -> None:
        self.fleet.store.trim(left)

    # --- The law.

    @invariant()
    def every_step_counts(self) -> None:
        Machine.steps += 1
        self.fleet.note_who_is_behind()

    def teardown(self) -> None:
        if self.fleet.screens:
            self.fleet.end()
        Machine.checked += self.fleet.checked
        Machine.excused += self.fleet.excused


@pytest.mark.timeout(max(120, EXAMPLES))
def test_an_accepted_activation_reaches_every_device_once_whatever_breaks() -> None:
    Machine.steps = Machine.checked = Machine.excused = 0
    effort = settings(max_examples=EXAMPLES, stateful_step_count=STEPS)
    with structlog.testing.capture_logs():
        run_state_machine_as_test(Machine, settings=effort)
    print(
        f"\n{Machine.steps} steps explored in {EXAMPLES} examples; "
        f"{Machine.checked} campaigns checked at the end, {Machine.excused} excused"
    )
    # What both the store and every gateway had lost is nobody's promise; but the law must have been at work.
    assert Machine.checked > Machine.excused
