"""Any walk through a campaign's life: every button in every order, while the clock runs.

Beside the campaign walks a model that knows no phases at all: the log of what was published, as devices hear
it. What stands there, by `fanout.arming`, is what the record has to agree with after every step.
"""

from __future__ import annotations

from collections.abc import Callable

import msgspec
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from fanout import campaign as lifecycle
from fanout.arming import standing
from fanout.campaign import TRANSITIONS, Action, Activation, Campaign, Phase, PrefetchPlan
from fanout.errors import Refused

from .campaigns import PEOPLES, STAGES, a_campaign, an_activation, press


@settings(max_examples=150, stateful_step_count=20)
class Editorial(RuleBasedStateMachine):
    """Presses every button in every order while the clock runs, and checks each step against the log."""

    def __init__(self) -> None:
        super().__init__()
        self.now = 1_000
        self.campaign = a_campaign()
        # The log. Activations carry their revision and, as `before`, the stage shown when they were published.
        self.activations: list[Activation] = []
        self.cancel_revs: list[int] = []
        self.prefetched = False
        self.closed = False

    # --- The model

    def stands(self) -> list[Activation]:
        return standing(self.activations, self.cancel_revs)

    def begun(self) -> Activation | None:
        """Return the newest activation that devices follow already."""
        return next((a for a in reversed(self.stands()) if a.at <= self.now), None)

    def shown(self) -> str | None:
        """Return the stage of a device that no canary is for."""
        return next((a.stage for a in reversed(self.stands()) if a.at <= self.now and a.share >= 1), None)

    def phase(self) -> Phase:
        """Return the phase, from what is known to devices."""
        if self.closed:
            return Phase.CLOSED
        if not self.stands():
            return Phase.PREFETCHING if self.prefetched else Phase.DRAFT
        newest = self.stands()[-1]
        if self.now < newest.at:
            return Phase.ARMED
        return Phase.ACTIVATING if self.now < newest.at + newest.window_ms else Phase.LIVE

    def may(self) -> list[Action]:
        begun = self.begun()
        back = begun is not None and not begun.retracts
        return [a for a in PEOPLES if (self.phase(), a) in TRANSITIONS and (a is not Action.RETRACT or back)]

    # --- The buttons

    @initialize(started=st.booleans())
    def start(self, started: bool) -> None:
        if started:
            self.prefetch(ahead=0, window_ms=5)

    @rule(passed=st.integers(0, 60))
    def time_passes(self, passed: int) -> None:
        self.now += passed

    def _step(self, action: Action, change: Callable[[], Campaign]) -> bool:
        """Do it; return whether it was done. The caller then writes the log, and calls `_published`."""
        version, may = self.campaign.version, self.may()
        try:
            after = change()
        except Refused:
            # The one refusal that the model's list does not know is about a share; see `activate`.
            assert action not in may or action is Action.ACTIVATE
            return False
        assert action in may
        assert after.version == version + 1
        assert after.updated_ms == self.now
        self.campaign = after
        return True

    def _published(self) -> None:
        """Check the campaign in the very millisecond of the publication, then let that pass: it has its revision."""
        self.the_campaign_agrees_with_its_devices()
        self.now += 1

    def _appended(self, before: str | None) -> Activation:
        """Take the newest activation into the log; give it its revision, as the store does."""
        done = self.campaign.activation
        assert done is not None
        assert done.rev == 0
        assert done.before == before
        done = msgspec.structs.replace(done, rev=self.now)
        self.campaign = msgspec.structs.replace(self.campaign, activation=done)
        self.activations.append(done)
        return done

    @rule(ahead=st.integers(0, 40), window_ms=st.integers(0, 40))
    def prefetch(self, ahead: int, window_ms: int) -> None:
        plan = PrefetchPlan(0, self.now + ahead, window_ms)
        if self._step(Action.PREFETCH, lambda: lifecycle.prefetched(self.campaign, plan, self.now)):
            assert self.campaign.prefetch == plan
            self.prefetched = True
            self._published()

    @rule(
        stage=st.sampled_from(STAGES),
        ahead=st.integers(-10, 40),
        window_ms=st.integers(0, 40),
        share=st.sampled_from([0.1, 0.5, 1.0]),
    )
    def activate(self, stage: str, ahead: int, window_ms: int, share: float) -> None:
        asked = an_activation(stage, self.now + ahead, window_ms, share)
        running, shown, may = self.begun(), self.shown(), self.may()
        shrinks = running is not None and running.stage == stage and share < running.share
        done = self._step(Action.ACTIVATE, lambda: lifecycle.activated(self.campaign, asked, self.now))
        assert done == (Action.ACTIVATE in may and not shrinks)
        if done:
            logged = self._appended(before=shown)
            assert msgspec.structs.replace(logged, rev=0, before=None) == asked
            self._published()

    @rule()
    def cancel(self) -> None:
        begun = self.begun()
        if self._step(Action.CANCEL, lambda: lifecycle.cancelled(self.campaign, self.now)):
            self.cancel_revs.append(self.now)
            assert self.campaign.activation == begun
            self._published()

    @rule(window_ms=st.integers(0, 40))
    def retract(self, window_ms: int) -> None:
        begun, shown = self.begun(), self.shown()
        if self._step(
            Action.RETRACT,
            lambda: lifecycle.retracted(self.campaign, window_ms, "false alarm", "ada", self.now),
        ):
            assert begun is not None
            back = self._appended(before=shown)
            assert back.retracts
            assert (back.at, back.window_ms, back.share) == (self.now, window_ms, 1)
            assert back.stage == (begun.before or self.campaign.retract_stage)
            self._published()

    @rule()
    def close(self) -> None:
        if self._step(Action.CLOSE, lambda: lifecycle.closed(self.campaign, self.now)):
            self.closed = True
            self._published()

    @rule()
    def press_anything_with_plain_arguments(self) -> None:
        # Whatever is allowed can be done, and whatever is not is refused, and nothing worse.
        for action in PEOPLES:
            try:
                press(self.campaign, action, self.now)
            except Refused:
                assert action not in self.may()
            else:
                assert action in self.may()

    # --- What holds after every step

    @invariant()
    def the_campaign_agrees_with_its_devices(self) -> None:
        seen, stands = lifecycle.advance(self.campaign, self.now), self.stands()
        assert seen.phase is self.phase()
        assert [action for action in lifecycle.allowed(seen) if action in PEOPLES] == self.may()
        if self.closed:
            return
        assert seen.stage == self.shown()
        assert seen.activation == (stands[-1] if stands else None)
        if seen.phase is Phase.ARMED:
            assert seen.begun == self.begun()

    @invariant()
    def looking_changes_nothing_but_what_time_changed(self) -> None:
        seen = lifecycle.advance(self.campaign, self.now)
        assert lifecycle.advance(seen, self.now) == seen
        assert msgspec.structs.replace(seen, phase=self.campaign.phase, stage=self.campaign.stage) == self.campaign

    @invariant()
    def what_is_stored_is_what_is_read(self) -> None:
        assert msgspec.msgpack.decode(msgspec.msgpack.encode(self.campaign), type=Campaign) == self.campaign


TestEditorial = Editorial.TestCase
