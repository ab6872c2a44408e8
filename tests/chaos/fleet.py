"""A fleet in simulated time, what is known of it from outside, and the law it is held to.

Rules that only drive it are in `test_model`. Knows what was published and who vouched for it, and nothing of
what the parts made of it.
"""

from __future__ import annotations

import math
from typing import Final

import msgspec
from device.driving import CONTENT, OTHER_CONTENT, sha

from fanout import keyspace
from fanout.arming import standing
from fanout.bus.entry import from_doorbell
from fanout.bus.publication import Activated, Cancelled, Closed, Prefetched, Publication
from fanout.bus.publisher import Publisher, Receipt
from fanout.connect import Commands
from fanout.device import Flip
from fanout.errors import OutcomeUnknown
from fanout.slots import in_share, slot_ms

from .simulated_store import Client, SimulatedStore, at_once
from .simulation import BEACON_MS, EPOCH_MS, Network, Screen, SimulatedGateway

CONTENTS: Final = {sha(content): content for content in (CONTENT, OTHER_CONTENT)}
WELCOME_TIMEOUT_MS: Final = 15_000
Look = tuple[str, str | None]


class _Publisher(Publisher):
    """The real one, which asks one after the other, without an event loop."""

    async def _vouched(self, connection: Commands, receipt: Receipt) -> bool:
        by_store = await self._store_vouches(connection, receipt)
        return by_store or await self._applied(receipt)


class Fleet(Network):
    """Two gateways, some devices and a store.

    Attributes:
        published: By key, with its first revision, in that order.
        accepted: Keys somebody vouched for.
        doomed: Keys that the store and every gateway that had heard them have lost: no promise covers that.
        caught_up: Since the store last lost something, every gateway has read everything, and all they hold is back.
        renamed: When keys were first put back under a later revision than their own, because another campaign had
            moved on.
        checked: Campaigns found in the right stage at the end.
        excused: Campaigns of which only something lost, or a cancel that came back too late, could have said the
            right stage.
    """

    def __init__(self) -> None:
        self.now_ms: float = EPOCH_MS
        self.origin_works = True
        self.store = SimulatedStore(self.store_ms)
        self.store.ring = self.ring
        self.store.records = lambda: [g.record() for g in self.gateways if g.inbox is not None]
        self.publisher = _Publisher(Client(self.store), safe_timeout_s=0)
        self.born = 0
        self.gateways = [self.new_gateway(), self.new_gateway()]
        self.screens: list[Screen] = []
        self._turns: dict[int, int] = {}  # whose connections have gone to how many gateways
        self.published: dict[str, Publication] = {}
        self.accepted: set[str] = set()
        self.doomed: set[str] = set()
        self.caught_up = True
        self.renamed: dict[str, float] = {}
        self.key_of: dict[int, str] = {}  # by revision, as gateways were told
        self.shown: dict[tuple[str, str], int] = {}  # flips by device and key

        self.checked = self.excused = 0

    def begin(self, ppms: list[int]) -> None:
        """Let everyone be there, devices on timers that begin anywhere and drift so many parts in a million."""
        self.screens = [Screen(self, n, ppm, n * 3_600_000 - 7_200_000) for n, ppm in enumerate(ppms)]
        for gateway in self.gateways:
            gateway.subscribe()
        self.pass_ms(100, flows=True)

    # --- What the parts need.

    def new_gateway(self) -> SimulatedGateway:
        self.born += 1
        return SimulatedGateway(self, f"worker-{self.born}")

    def ring(self, entry: bytes) -> None:
        publication = from_doorbell(entry)
        first = self.published.get(publication.key)
        if first is not None and first.rev < publication.rev:
            self.renamed.setdefault(publication.key, self.now_ms)
        for gateway in self.gateways:
            if gateway.inbox is not None:
                gateway.inbox.append(entry)

    def told(self, publication: Publication) -> None:
        assert self.key_of.setdefault(publication.rev, publication.key) == publication.key, "a revision is unique"

    def nearest(self, screen: Screen) -> SimulatedGateway:
        """Let a device's connections go to one gateway after the other."""
        number = self.screens.index(screen)
        self._turns[number] = self._turns.get(number, number) + 1
        return self.gateways[self._turns[number] % len(self.gateways)]

    # --- What holds at every flip.

    def flipped(self, screen: Screen, flip: Flip) -> None:
        device, key = screen.machine.device_id, self.key_of[flip.rev]
        activation = self.published[key]
        assert isinstance(activation, Activated)
        assert (flip.campaign, flip.stage) == (activation.campaign, activation.stage)
        assert in_share(device, activation.campaign, activation.share)
        earliest = activation.at + slot_ms(device, flip.rev, activation.window_ms)
        drift_ms = abs(screen.ppm) / 1e6 * (self.now_ms - EPOCH_MS)
        if self.now_ms < activation.at + activation.window_ms:
            assert self.now_ms >= earliest - drift_ms - 2, "it flips early"
        assert self.now_ms >= activation.at - drift_ms - 2, "it flips early"
        revs = [one.rev for _, one in screen.flips if one.campaign == flip.campaign]
        assert revs == sorted(set(revs)), "it flips twice, or back, for one revision"
        struck = [rev for rev in screen.stages.get(flip.campaign, []) if flip.rev < rev < activation.at]
        assert not struck, "it flips though what cancelled or superseded it had been received"
        self.shown[device, key] = self.shown.get((device, key), 0) + 1
        assert self.shown[device, key] == 1 or self.may_return(device, activation), "it flips twice"

    def may_return(self, device: str, activation: Activated) -> bool:
        """Tell whether this may be shown again: put back as news, because those who showed newer were not everyone.

        The newer one is a share's, or began only after this had been put back; then it is shown again in its turn.
        Or it was a close, which a gateway that put this back had not heard of; it comes back after it.
        """
        since = self.renamed.get(activation.key)
        if since is None:
            return False
        ours = [p for p in self.published.values() if p.campaign == activation.campaign]
        if any(isinstance(p, Closed) and p.rev > activation.rev for p in ours):
            return True
        others = [p for p in ours if isinstance(p, Activated)]
        return any(
            (p.share < 1 or p.at > since)
            if p.rev > activation.rev
            else p.key in self.renamed and (device, p.key) in self.shown
            for p in others
            if p is not activation
        )

    # --- Editors.

    def publish(self, publication: Publication, safety: str) -> None:
        """Publish as the control plane does; see who vouches for it."""

        def vouch() -> bool:
            if safety == "replica":
                self.store.replicate()
                return True
            if safety == "gateways":
                for gateway in self.gateways:
                    gateway.hear(1_000)
            return False

        self.store.vouch = vouch
        try:
            receipt = at_once(self.publisher.publish(publication))
        except OutcomeUnknown:
            rev = self.store.data.head
        else:
            rev = receipt.rev
            self.accepted.add(publication.key)
        first = self.published.get(publication.key)
        if first is None:
            self.published[publication.key] = with_rev(publication, rev)
        self.pass_ms(2, flows=False)

    def open_campaign(self, name: str) -> str:
        closed = sum(isinstance(p, Closed) and p.campaign.startswith(name) for p in self.published.values())
        return f"{name}-{closed}"

    def a_key(self) -> str:
        return f"press-{len(self.published)}"

    # --- Time.

    def pass_ms(self, ms: float, *, flows: bool) -> None:
        """Let time pass, with everything under way arriving at once, or with nothing arriving at all."""
        end = self.now_ms + ms
        while True:
            if flows:
                self.settle_down()
            beacon = (math.floor((self.now_ms - EPOCH_MS) / BEACON_MS) + 1) * BEACON_MS + EPOCH_MS
            self.now_ms = min(end, beacon, *self.instants())
            if self.now_ms == beacon:
                for gateway in self.gateways:
                    gateway.probe()
                    for link in gateway.links:
                        gateway.beacon(link)
            self.act()
            if self.now_ms >= end:
                return

    def instants(self) -> list[float]:
        """Return when something is to be done, never before now."""
        found: list[float] = []
        for screen in self.screens:
            found += [at for at in (screen.due_ms(), screen.retry_ms) if at is not None]
            found += [link.opened_ms + WELCOME_TIMEOUT_MS for link in screen.links if not link.welcomed]
        # A hundredth of a millisecond on: timers are doubles, and never a hair too early.
        return [max(at + 0.01, self.now_ms) for at in found]

    def act(self) -> None:
        for screen in self.screens:
            for link in [one for one in screen.links if not one.welcomed]:
                if link.opened_ms + WELCOME_TIMEOUT_MS <= self.now_ms:
                    screen.lose(link)
            if screen.retry_ms is not None and screen.retry_ms <= self.now_ms:
                screen.connect(self.nearest(screen))
            screen.do([])

    def settle_down(self) -> None:
        """Deliver everything that is under way, and everything that this sets under way."""
        for _ in range(50):
            busy = False
            for gateway in self.gateways:
                if gateway.inbox is None:
                    gateway.subscribe()
                busy = busy or bool(gateway.inbox) or bool(gateway.paced)
                gateway.hear(1_000)
                while gateway.paced:
                    gateway.pace()
            for screen in self.screens:
                for link in list(screen.links):
                    while link.queue and link in screen.links:
                        busy = True
                        screen.receive(link)
            if not busy:
                return
        raise AssertionError("it never comes to rest")

    # --- The law.

    def in_store(self, key: str) -> bool:
        return keyspace.outcome(key) in self.store.data.outcomes

    def note_who_is_behind(self) -> None:
        """See whether every gateway is where the log is, and the store has all that any of them holds."""
        head = self.store.data.head
        self.caught_up |= all(
            gateway.inbox is not None
            and gateway.synced
            and gateway.reader.position == head
            and all(self.in_store(p.key) for kept in gateway.reader.retained.values() for p in kept)
            for gateway in self.gateways
        )

    def count_the_lost(self) -> None:
        """Note what nobody holds any more: no promise covers the store and every gateway that had seen it."""
        alive = set().union(*(gateway.heard for gateway in self.gateways))
        self.doomed |= {key for key in self.published if key not in alive and not self.in_store(key)}

    def end(self) -> None:
        """Heal everything, wait, and see that everyone ends in the newest stage."""
        for gateway in self.gateways:
            gateway.client.patience = None
        if not self.origin_works:
            # A device that has tried five times tries again with its next connection.
            self.origin_works = True
            self.pass_ms(0, flows=True)
            for screen in self.screens:
                for link in list(screen.links):
                    screen.lose(link)
        for _ in range(4):
            self.pass_ms(40_000, flows=True)
        for campaign in {p.campaign for p in self.published.values()}:
            expected = self.expected(campaign)
            if expected is None:
                self.excused += 1
                continue
            self.checked += 1
            for screen in self.screens:
                assert screen.machine.connected
                assert screen.machine.shown(campaign) in expected[screen.machine.device_id], (
                    campaign,
                    screen.machine.device_id,
                )

    def expected(self, campaign: str) -> dict[str, set[Look | None]] | None:
        """Return what each device may show; None if only a publication that is lost could say.

        What nobody vouched for may have been lost, and what had been accepted may be doomed. Devices that
        heard of it all the same are told by the next activation for the whole fleet, or by a close.
        """
        ours = [p for p in self.published.values() if p.campaign == campaign]
        gone = {p.key for p in ours if not self.in_store(p.key)}
        there = [p for p in ours if p.key not in gone]
        for lost in [p for p in ours if p.key in gone and p.key in self.accepted - self.doomed]:
            newer = [p for p in there if p.rev > lost.rev and in_one_lane(p, lost)]
            assert newer, "it was accepted, and nothing came after it"
        close = max((p.rev for p in there if isinstance(p, Closed)), default=0)
        stands = standing(
            [p for p in there if isinstance(p, Activated) and p.rev > close],
            [p.rev for p in there if isinstance(p, Cancelled) and p.rev > close],
        )
        decides = max((p.rev for p in stands if p.share >= 1), default=close)
        late_cancel = any(
            cancel.key in self.renamed and p.rev < cancel.rev < p.at <= self.renamed[cancel.key]
            for cancel in there
            if isinstance(cancel, Cancelled)
            for p in there
            if isinstance(p, Activated) and p.key not in self.renamed
        )
        if late_cancel or any(p.rev > decides for p in ours if p.key in gone):
            return None
        looks: dict[str, set[Look | None]] = {}
        for screen in self.screens:
            device = screen.machine.device_id
            # What came so late that a device had acted on what it strikes is for something newer to put right.
            acted = {self.key_of[flip.rev] for _, flip in screen.flips}
            mine = [p for p in there if isinstance(p, Activated) and in_share(device, campaign, p.share)]
            told = [p for p in mine if p in stands]
            shown = [p for p in mine if p.rev > close and (p in stands or p.key in acted)]
            looks[device] = {(p[-1].stage, p[-1].variants[0].bundle.sha256) if p else None for p in (told, shown)}
        return looks


def in_one_lane(one: Publication, other: Publication) -> bool:
    """Tell whether the newer of the two may end the older."""
    if isinstance(one, Closed) or isinstance(other, Closed):
        return True
    return isinstance(one, Prefetched) == isinstance(other, Prefetched)


def with_rev(publication: Publication, rev: int) -> Publication:
    """Return the publication under this revision."""
    return msgspec.structs.replace(publication, rev=rev)
