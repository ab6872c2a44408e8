"""What a scenario has in its hands: campaigns of its own, and ways to say, to wait and to hold the device to it."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, Final, NamedTuple, TypeVar

from fanout import wire
from fanout.conformance import messages
from fanout.conformance.gateway import Get, ScriptedGateway
from fanout.conformance.messages import Message
from fanout.conformance.peer import Handshake, Heard, Peer, mono_ms
from fanout.conformance.verdicts import Broken, NotShown, Tolerances
from fanout.slots import slot_ms

# From saying something to the instant it is for: longer than the way to the device and back.
AHEAD_MS: Final = 600
# Width of most windows, and where in it the device's slot is to be: far from both ends, so that whoever acts
# at an end is seen to.
WINDOW_MS: Final = 1_600
MIDDLE: Final = (700, 1_200)
# How long a device may take to come back under the walk's own backoff; a slow one opens a socket in a second.
RETURN_MS: Final = 5_000

T = TypeVar("T")


class Told(NamedTuple):
    """A report, and when it arrived, monotonic ms."""

    at_ms: float
    report: wire.Report

    def __str__(self) -> str:
        kind, rev, via, ms = self.report.kind, self.report.rev, self.report.via, self.report.ms
        return f"report {kind} for rev {rev}, via {via}, ms {ms}"


class Scene:
    """One scenario on its way.

    Args:
        gateway: The server's side.
        name: Of the scenario; its campaigns bear it.
        walk: Of this walk alone: a device that was walked before knows other campaigns.
        tolerances: How late is late.
    """

    def __init__(self, gateway: ScriptedGateway, name: str, walk: str, tolerances: Tolerances) -> None:
        self.gateway = gateway
        self.tolerances = tolerances
        self._prefix = f"check-{walk}-{name}"
        self._campaigns: list[str] = []
        self._sent: dict[tuple[str, int], float] = {}  # when a revision was first said
        self._began = len(gateway.heard)

    # --- Making messages

    def campaign(self) -> str:
        """Return a new campaign of this scenario."""
        self._campaigns.append(f"{self._prefix}-{len(self._campaigns)}")
        return self._campaigns[-1]

    def prefetch(self, campaign: str, content: str, window_ms: int = 0, **more: Any) -> Message:
        """Return a prefetch whose window begins now; where it has a width, the slot is in its middle."""
        rev = self.gateway.rev(window_ms, middle(window_ms))
        return messages.prefetch(campaign, rev, content, self.gateway.now_ms(), window_ms, **more)

    def activate(
        self,
        campaign: str,
        bundle: str,
        *,
        ahead_ms: int = AHEAD_MS,
        window_ms: int = WINDOW_MS,
        slot: tuple[int, int] | None = None,
        **more: Any,
    ) -> Message:
        """Return an activation ``ahead_ms`` from now, with the device's slot in the middle of the window."""
        rev = self.gateway.rev(window_ms, slot or middle(window_ms))
        return messages.activate(campaign, rev, bundle, self.gateway.now_ms() + ahead_ms, window_ms, **more)

    def cancel(self, campaign: str) -> Message:
        return messages.cancel(campaign, self.gateway.rev())

    def close(self, campaign: str) -> Message:
        return messages.close(campaign, self.gateway.rev())

    # --- Saying

    async def peer(self) -> Peer:
        """Return the device's connection; wait for it if it is on its way."""
        found = await self.gateway.until(lambda: self.gateway.peer, mono_ms() + RETURN_MS)
        if found is None:
            raise NotShown(f"the device was not connected within {RETURN_MS} ms")
        return found

    async def say(self, *publications: Message) -> None:
        """Publish these, in this order."""
        peer = await self.peer()
        for message in publications:
            self.withhold(message)
            await peer.say(message)

    def withhold(self, message: Message) -> None:
        """Publish this without a word: the device can only learn it by asking or coming back."""
        self.gateway.ledger.add(message)
        self._sent.setdefault((message["campaign"], message["rev"]), mono_ms())

    async def held(self, **more: Any) -> tuple[str, str]:
        """Return a new campaign, and the digest of its bundle, which the device has taken in."""
        campaign = self.campaign()
        content = messages.content_of(campaign)
        fetch = self.prefetch(campaign, content, inline=content, **more)
        await self.say(fetch)
        await self.ready(fetch, "inline")
        return campaign, messages.sha256(content)

    async def end(self) -> None:
        """Close this scenario's campaigns, so that the device has room for the next."""
        for campaign in self._campaigns:
            message = self.close(campaign)
            self.gateway.ledger.add(message)
            if (peer := self.gateway.peer) is not None:
                await peer.say(message)

    # --- Seeing

    def reports(self, campaign: str, rev: int | None = None, kind: str | None = None) -> list[Told]:
        """Return the reports for a campaign, without those that repeat an earlier one."""
        return [
            told
            for told in self.all_reports(campaign)
            if rev in (None, told.report.rev) and kind in (None, told.report.kind) and told.report.via != "resume"
        ]

    def all_reports(self, campaign: str) -> list[Told]:
        return [
            Told(heard.at_ms, heard.message)
            for _, heard in self.gateway.heard[self._began :]
            if isinstance(heard.message, wire.Report) and heard.message.campaign == campaign
        ]

    def reported(self, campaign: str, kind: str = "ready") -> list[int]:
        """Return the revisions of which this was reported."""
        return [told.report.rev for told in self.reports(campaign, kind=kind)]

    def syncs(self, since_ms: float) -> list[Heard]:
        """Return the syncs from this instant on."""
        return [
            heard
            for _, heard in self.gateway.heard
            if isinstance(heard.message, wire.Sync) and heard.at_ms >= since_ms
        ]

    def gets(self, path: str) -> list[Get]:
        return [get for get in self.gateway.gets if get.path == path]

    def due_ms(self, message: Message) -> float:
        """Return the device's own instant in the window of a prefetch or activation, monotonic ms."""
        start = message["from"] if message["t"] == "prefetch" else message["at"]
        return self.gateway.mono_of(start) + self.slot_of(message, message["window_ms"])

    def slot_of(self, message: Message, window_ms: int) -> int:
        return slot_ms(self.gateway.device_id, message["rev"], window_ms)

    def sent_ms(self, message: Message) -> float:
        """Return when a message was first said."""
        return self._sent[message["campaign"], message["rev"]]

    # --- Holding the device to it

    async def seen(self, check: Callable[[], T | None], until_ms: float, expected: str, seen: str = "nothing") -> T:
        """Wait for what is expected, until this instant and a little longer.

        Raises:
            Broken: It did not come.
        """
        found = await self.gateway.until(check, until_ms + self.tolerances.late_ms)
        if found is None:
            raise Broken(expected, f"{seen}, {self.tolerances.late_ms} ms after it was due")
        return found

    async def report(self, message: Message, kind: str, by_ms: float) -> Told:
        """Wait for the first report for this message, which is to be of this kind."""
        expected = f"report {kind} for rev {message['rev']}"

        def found() -> Told | None:
            return next(iter(self.reports(message["campaign"], message["rev"])), None)

        told = await self.seen(found, by_ms, expected, "no report")
        if told.report.kind != kind:
            raise Broken(expected, str(told))
        return told

    def on_time(self, at_ms: float, due_ms: float, what: str) -> int:
        """Hold something that was seen to its instant; return how late it was, ms."""
        late = round(at_ms - due_ms)
        if late < -self.tolerances.early_ms:
            raise Broken(f"{what} at its own slot", f"{-late} ms too early")
        if late > self.tolerances.late_ms:
            raise Broken(f"{what} at its own slot", f"{late} ms too late")
        return late

    async def acts(self, message: Message, due_ms: float | None = None, via: str = "cache") -> int:
        """Hold the device to this activation's instant; return how late it was, ms."""
        due = self.due_ms(message) if due_ms is None else due_ms
        told = await self.report(message, "active", due)
        late = self.on_time(told.at_ms, due, "the flip")
        self._via(told, via)
        if told.report.ms > max(0, late) + self.tolerances.early_ms:
            raise Broken("ms to be how late the flip was", f"{told.report.ms} ms, and it was {late} ms late")
        return late

    async def ready(self, fetch: Message, via: str, by_ms: float | None = None) -> Told:
        """Wait for the device to hold the bundle of a prefetch."""
        told = await self.report(fetch, "ready", mono_ms() if by_ms is None else by_ms)
        self._via(told, via)
        return told

    def _via(self, told: Told, via: str) -> None:
        if told.report.via != via:
            raise Broken(f"via {via}", str(told))

    async def still(self, campaign: str, until_ms: float, expected: str, *, but: Iterable[int] = ()) -> None:
        """Hold that until this instant, and a little longer, nothing is reported for a campaign.

        Args:
            but: Revisions that may be.
        """
        allowed = set(but)

        def unwanted() -> list[Told]:
            return [told for told in self.reports(campaign) if told.report.rev not in allowed]

        found = await self.gateway.until(unwanted, until_ms + self.tolerances.late_ms)
        if found:
            raise Broken(expected, str(found[0]))

    async def idle_past(self, message: Message, expected: str, but: Message | None = None) -> None:
        """Hold that the campaign of an activation acts neither at its instant nor a little later.

        Args:
            but: Another activation, which may.
        """
        campaign, allowed = message["campaign"], but["rev"] if but else None

        def unwanted() -> list[Told]:
            return [told for told in self.reports(campaign, kind="active") if told.report.rev != allowed]

        if found := await self.gateway.until(unwanted, self.due_ms(message) + self.tolerances.late_ms):
            raise Broken(expected, str(found[0]))

    def once(self, campaign: str, kind: str) -> None:
        """Hold that the campaign has reported this kind once."""
        if (count := len(self.reports(campaign, kind=kind))) != 1:
            raise Broken(f"{kind} once", f"{count} times")

    def only(self, campaign: str, message: Message) -> None:
        """Hold that of a campaign this activation has acted, and no other."""
        found = [told for told in self.reports(campaign, kind="active") if told.report.rev != message["rev"]]
        if found:
            raise Broken(f"only rev {message['rev']} acts", str(found[0]))

    def nothing_active(self, campaign: str, expected: str) -> None:
        """Hold that the campaign has not acted so far."""
        if found := self.reports(campaign, kind="active"):
            raise Broken(expected, str(found[0]))

    # --- Connections

    async def back(self, after_ms: float, within_ms: float = RETURN_MS, why: str = "") -> Handshake:
        """Wait for the first handshake after an instant."""
        handshake = await self.gateway.until(lambda: self.handshake_after(after_ms), after_ms + within_ms)
        if handshake is None:
            raise Broken(f"a new connection {why}".strip(), f"none within {within_ms:.0f} ms")
        return handshake

    def handshake_after(self, after_ms: float) -> Handshake | None:
        return next((h for h in self.gateway.handshakes if h.at_ms > after_ms), None)

    async def drop(self, code: int = 1012) -> float:
        """Close the device's connection with this code; return when."""
        peer = await self.peer()
        now = mono_ms()
        await peer.drop(code)
        return now


def middle(window_ms: int) -> tuple[int, int] | None:
    """Return where in a window of this width the slot is to be; None if it has no width."""
    if not window_ms:
        return None
    return (MIDDLE[0] * window_ms // WINDOW_MS, MIDDLE[1] * window_ms // WINDOW_MS)
