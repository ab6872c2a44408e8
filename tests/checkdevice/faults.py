"""Devices that each break one rule, as people break them: the Python SDK with one thing wrong.

`FAULTS` says for each what it does, and the scenario that is there to catch it.
"""

from __future__ import annotations

import hashlib
import time
from typing import Any, NamedTuple

from msgspec.structs import replace

from fanout import wire
from fanout.device import Action, DeviceMachine, Reopen, Resume, Send
from fanout.device.clock import ServerClock
from fanout.device.driver import Driver
from fanout.slots import slot_ms


class Machine(DeviceMachine):
    """A machine that looks at each message first, and at each action afterwards."""

    __slots__ = ("attempt", "pending", "seen")

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.seen: set[tuple[str, int]] = set()  # activations received
        self.attempt = 0  # connections lost

    def reads(self, message: Any, mono_ms: float) -> Any:
        """Return what it makes of a message; None if it takes no notice."""
        return message

    def does(self, action: Action) -> bool:
        return True

    def received(self, message: wire.ToDevice, mono_ms: float) -> list[Action]:
        if isinstance(message, wire.Welcome):
            told = [read for each in message.state if (read := self.reads(each, mono_ms)) is not None]
            read: wire.ToDevice | None = replace(message, state=told)
        else:
            read = self.reads(message, mono_ms)
        return [] if read is None else [a for a in super().received(read, mono_ms) if self.does(a)]

    def due(self, mono_ms: float) -> list[Action]:
        return [action for action in super().due(mono_ms) if self.does(action)]


class FlipsAtOnce(Machine):
    def reads(self, message: Any, mono_ms: float) -> Any:
        return replace(message, window_ms=0) if isinstance(message, wire.Activate) else message


class SlotsOfAnotherId(Machine):
    def __init__(self, device_id: str, **kwargs: Any) -> None:
        super().__init__(device_id.upper(), **kwargs)


class IgnoresShares(Machine):
    def reads(self, message: Any, mono_ms: float) -> Any:
        return replace(message, share=1.0) if isinstance(message, wire.Activate) else message


class FlipsOnReplay(Machine):
    def received(self, message: wire.ToDevice, mono_ms: float) -> list[Action]:
        actions = super().received(message, mono_ms)
        if isinstance(message, wire.Activate) and self.shown(message.campaign):
            actions.append(Send(wire.Report(message.campaign, message.rev, "active")))
        return actions


class IgnoresRehearsals(Machine):
    def reads(self, message: Any, mono_ms: float) -> Any:
        return None if isinstance(message, wire.Activate) and message.shadow else message


class IgnoresCancels(Machine):
    def reads(self, message: Any, mono_ms: float) -> Any:
        return None if isinstance(message, wire.Cancel) else message


class CancelsWhatHasBegun(Machine):
    def reads(self, message: Any, mono_ms: float) -> Any:
        return wire.Close(message.campaign, message.rev) if isinstance(message, wire.Cancel) else message


class ForgetsEarlyCancels(Machine):
    def reads(self, message: Any, mono_ms: float) -> Any:
        lanes = self._campaigns.find(getattr(message, "campaign", ""))
        if not isinstance(message, wire.Cancel) or (lanes and lanes.armed):
            return message
        self._since = max(self._since, message.rev)  # or the next beacon would bring the cancel again
        return None


class ForgetsCloses(Machine):
    def received(self, message: wire.ToDevice, mono_ms: float) -> list[Action]:
        actions = super().received(message, mono_ms)
        if isinstance(message, wire.Close) and (lanes := self._campaigns.find(message.campaign)):
            lanes.closed_rev = lanes.floor_rev = 0
        return actions


class ShowsWhatIsOverAtOnce(Machine):
    def reads(self, message: Any, mono_ms: float) -> Any:
        now = self.server_ms(mono_ms) or 0
        over = isinstance(message, wire.Activate) and message.at + message.window_ms < now
        return replace(message, at=int(now), window_ms=0) if over else message


class AlwaysFetches(Machine):
    def reads(self, message: Any, mono_ms: float) -> Any:
        return replace(message, miss="fetch") if isinstance(message, wire.Activate) else message


class FetchesAtOnce(Machine):
    def reads(self, message: Any, mono_ms: float) -> Any:
        return replace(message, window_ms=0) if isinstance(message, wire.Prefetch) else message


class BelievesInline(Machine):
    def received(self, message: wire.ToDevice, mono_ms: float) -> list[Action]:
        if not isinstance(message, wire.Prefetch) or message.bundle.inline is None:
            return super().received(message, mono_ms)
        wrong = hashlib.sha256(message.bundle.inline.encode()).hexdigest() != message.bundle.sha256
        if not wrong:
            return super().received(message, mono_ms)
        super().received(replace(message, bundle=replace(message.bundle, inline=None)), mono_ms)
        return self.stored(message.bundle.sha256, mono_ms, via="inline")


class BelievesTheOrigin(Machine):
    def fetch_failed(self, sha256: str, mono_ms: float, *, retry_after_ms: int = 0) -> list[Action]:
        return self.stored(sha256, mono_ms)


class HammersTheOrigin(Machine):
    def fetch_failed(self, sha256: str, mono_ms: float, *, retry_after_ms: int = 0) -> list[Action]:
        actions = super().fetch_failed(sha256, mono_ms)
        for want in self._campaigns.shelf.wants():
            want.due_ms = 0
        return actions


class NeverSyncs(Machine):
    def does(self, action: Action) -> bool:
        return not (isinstance(action, Send) and isinstance(action.message, wire.Sync))


class TrustsSilence(Machine):
    def received(self, message: wire.ToDevice, mono_ms: float) -> list[Action]:
        actions = super().received(message, mono_ms)
        self._live.grace_ms = 0
        return actions


class NeverReopens(Machine):
    def does(self, action: Action) -> bool:
        return not isinstance(action, Reopen)


class KeepsStillAfterResuming(Machine):
    def does(self, action: Action) -> bool:
        return getattr(getattr(action, "message", None), "via", None) != "resume"


class ForgetsSince(Machine):
    def resume(self) -> Resume:
        return Resume(super().resume().have, 0)


class ForgetsHave(Machine):
    def resume(self) -> Resume:
        return Resume([], super().resume().since)


class Hurries(Machine):
    def disconnected(self, mono_ms: float, **why: Any) -> float | None:
        super().disconnected(mono_ms, **why)
        return mono_ms


class WaitsWithoutJitter(Machine):
    def disconnected(self, mono_ms: float, **why: Any) -> float | None:
        super().disconnected(mono_ms, **why)
        policy = self._live.policy
        self.attempt = 0 if policy.cap_ms < 1_000 else self.attempt + 1
        return mono_ms + min(policy.cap_ms, policy.base_ms * 2**self.attempt)


class IgnoresRetryAfter(Machine):
    def disconnected(self, mono_ms: float, **why: Any) -> float | None:
        return super().disconnected(mono_ms, **{**why, "retry_after_ms": None})


class ComesBackAlways(Machine):
    def disconnected(self, mono_ms: float, **why: Any) -> float | None:
        return super().disconnected(mono_ms, **{**why, "code": 1011})


class TakesUnknownCodesForTheEnd(Machine):
    def disconnected(self, mono_ms: float, **why: Any) -> float | None:
        known = why.get("code") is None or why["code"] in (1006, *wire.CloseCode)
        return super().disconnected(mono_ms, **why) if known else None


class _WallClock(ServerClock):
    def sample(self, now_ms: int, mono_ms: float) -> None:
        super().sample(int(time.time() * 1000), mono_ms)


class _LastSample(ServerClock):
    def sample(self, now_ms: int, mono_ms: float) -> None:
        self.__init__()  # type: ignore[misc]
        super().sample(now_ms, mono_ms)


class _OnlyForwards(ServerClock):
    def _restart(self, offset: float) -> None:
        pass


class OnTheWallClock(Machine):
    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._clock = _WallClock()


class BelievesTheLastSample(Machine):
    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._clock = _LastSample()


class NeverStepsBack(Machine):
    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._clock = _OnlyForwards()


class Chatters(Machine):
    def received(self, message: wire.ToDevice, mono_ms: float) -> list[Action]:
        report = Send(wire.Report("none", 1, "failed"))
        actions = super().received(message, mono_ms)
        return actions + [report] * 250 if isinstance(message, wire.Welcome) else actions


class Mute(Machine):
    """Acts, and says nothing of it."""

    def does(self, action: Action) -> bool:
        return getattr(getattr(action, "message", None), "kind", None) != "active"


class ActsOnEverything(Machine):
    """Each activation at its slot, whatever else is known."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.pending: list[tuple[float, wire.Report]] = []  # monotonic ms

    def reads(self, message: Any, mono_ms: float) -> Any:
        if not isinstance(message, wire.Activate):
            return message
        at = message.at + slot_ms(self.device_id, message.rev, message.window_ms)
        self.pending.append((self._clock.mono_ms(at), wire.Report(message.campaign, message.rev, "active")))
        return None

    def due(self, mono_ms: float) -> list[Action]:
        now = [Send(report) for at, report in self.pending if at <= mono_ms]
        self.pending = [(at, report) for at, report in self.pending if at > mono_ms]
        return super().due(mono_ms) + now

    def next_due_ms(self) -> float | None:
        instants = [super().next_due_ms(), *(at for at, _ in self.pending)]
        return min((at for at in instants if at is not None), default=None)


class FollowsOnlyTheFirst(Machine):
    def reads(self, message: Any, mono_ms: float) -> Any:
        if isinstance(message, wire.Activate):
            self.seen.add((message.campaign, message.rev))
            if {rev for campaign, rev in self.seen if campaign == message.campaign} != {message.rev}:
                return None
        return message


class FollowsOnlyTheNewest(Machine):
    def reads(self, message: Any, mono_ms: float) -> Any:
        if isinstance(message, wire.Activate) and (lanes := self._campaigns.find(message.campaign)):
            lanes.armed = ()
        return message


class TakesOlderPrefetches(Machine):
    def reads(self, message: Any, mono_ms: float) -> Any:
        if isinstance(message, wire.Prefetch) and (lanes := self._campaigns.find(message.campaign)):
            lanes.content_rev = 0
        return message


class MissesWhatIsPast(Machine):
    def reads(self, message: Any, mono_ms: float) -> Any:
        now = self.server_ms(mono_ms) or 0
        return None if isinstance(message, wire.Activate) and message.at < now else message


class NeverFetchesLate(Machine):
    def reads(self, message: Any, mono_ms: float) -> Any:
        return replace(message, miss="silent") if isinstance(message, wire.Activate) else message


class FetchesInline(Machine):
    def reads(self, message: Any, mono_ms: float) -> Any:
        bundle = getattr(message, "bundle", None)
        return replace(message, bundle=replace(bundle, inline=None)) if isinstance(bundle, wire.Bundle) else message


class FetchesWhatItHas(Machine):
    def reads(self, message: Any, mono_ms: float) -> Any:
        if isinstance(message, wire.Prefetch):
            self.evicted(message.bundle.sha256)
        return message


class NamesNonsense(Machine):
    def resume(self) -> Resume:
        return Resume(["AB"], 0)


class GivesTheOldOneUp(Driver):
    def _failed(self, *args: Any, **kwargs: Any) -> None:
        super()._failed(*args, **kwargs)
        if self._link is not None:
            self._start(self._link.close())


class BreaksBeforeMaking(Driver):
    def _act(self, actions: list[Action]) -> None:
        if any(isinstance(action, Reopen) for action in actions) and self._link is not None:
            self._start(self._link.close())
        super()._act(actions)


class LeavesTheOldOne(Driver):
    """Keeps both connections for good."""

    def _take(self, link: Any, message: wire.ToDevice) -> None:
        if isinstance(message, wire.Welcome):
            self._link = None
        super()._take(link, message)


class DiesOfGarbage(Driver):
    def _malformed(self, detail: str) -> None:
        if self._link is not None:
            self._start(self._link.close(1007))


class Fault(NamedTuple):
    """A device that breaks a rule, and the scenario meant for it."""

    caught_by: str
    made_of: type[DeviceMachine] | type[Driver]

    @property
    def name(self) -> str:
        """Its device id, too: one module makes the devices of all faults, and knows them by it."""
        return f"{self.made_of.__name__}-{self.caught_by}"


FAULTS = (
    Fault("slots", FlipsAtOnce),
    Fault("slots", SlotsOfAnotherId),
    Fault("share", IgnoresShares),
    Fault("duplicate", FlipsOnReplay),
    Fault("reports-once", FlipsOnReplay),
    Fault("shadow", IgnoresRehearsals),
    Fault("cancel", IgnoresCancels),
    Fault("half-open", IgnoresCancels),
    Fault("cancel-begun", CancelsWhatHasBegun),
    Fault("reorder", ForgetsEarlyCancels),
    Fault("close", ForgetsCloses),
    Fault("late-over", ShowsWhatIsOverAtOnce),
    Fault("miss-generic", AlwaysFetches),
    Fault("fetch", FetchesAtOnce),
    Fault("inline-wrong", BelievesInline),
    Fault("fetch-wrong", BelievesTheOrigin),
    Fault("fetch-oversize", BelievesTheOrigin),
    Fault("fetch-busy", HammersTheOrigin),
    Fault("beacon", NeverSyncs),
    Fault("silence", TrustsSilence),
    Fault("half-open", NeverReopens),
    Fault("reconnect", NeverReopens),
    Fault("reconnect", BreaksBeforeMaking),
    Fault("reconnect", LeavesTheOldOne),
    Fault("resume", KeepsStillAfterResuming),
    Fault("resume", ForgetsSince),
    Fault("resume", ForgetsHave),
    Fault("backoff", Hurries),
    Fault("backoff", WaitsWithoutJitter),
    Fault("refused", Hurries),
    Fault("retry-after", IgnoresRetryAfter),
    Fault("forbidden", ComesBackAlways),
    Fault("codes", TakesUnknownCodesForTheEnd),
    Fault("clock-ahead", OnTheWallClock),
    Fault("clock-delayed", BelievesTheLastSample),
    Fault("clock-back", NeverStepsBack),
    Fault("frames", Chatters),
    Fault("malformed", DiesOfGarbage),
    Fault("no-window", Mute),
    Fault("unknown", Mute),
    Fault("fragments", Mute),
    Fault("large-welcome", Mute),
    Fault("moved", ActsOnEverything),
    Fault("fallen", ActsOnEverything),
    Fault("overtaken", ActsOnEverything),
    Fault("share-widened", FollowsOnlyTheFirst),
    Fault("begun-and-newer", FollowsOnlyTheNewest),
    Fault("old-prefetch", TakesOlderPrefetches),
    Fault("late-open", MissesWhatIsPast),
    Fault("miss-fetch", NeverFetchesLate),
    Fault("miss-silent", AlwaysFetches),
    Fault("inline", FetchesInline),
    Fault("cached", FetchesWhatItHas),
    Fault("handshake", NamesNonsense),
    Fault("reconnect-fails", GivesTheOldOneUp),
    Fault("terminal", ComesBackAlways),
)
