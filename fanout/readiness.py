"""What presence records say: who is ready, who has flipped, how the fleet is. Pure.

Adds up what gateway workers report; knows nothing of the store, and decides nothing: the gate is in
`fanout.control.actions`.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence

from msgspec import Struct

from fanout.bus.presence import CampaignGauge, Group, WorkerRecord, merged_lag
from fanout.campaign import Campaign, Phase

UNKNOWN = "unknown"


class Audience(Struct, frozen=True):
    """Devices that listen to a campaign's topic.

    Attributes:
        connected: All of them.
        ready: How many hold the bundle of the newest prefetch.
        active: How many have acted on the newest activation.
        coverage: ready ÷ connected, 0 if nobody is connected.
    """

    connected: int
    ready: int
    active: int
    coverage: float


class FlipLag(Struct, frozen=True):
    """Milliseconds between a device's slot and its flip, as devices reported it."""

    count: int
    p50_ms: float
    p99_ms: float
    p999_ms: float
    max_ms: float


class Readiness(Struct, frozen=True, kw_only=True):
    """One campaign across the fleet, now.

    Attributes:
        reachable: Whom the next message may reach: as ``total.connected``, and every connection of a worker that
            counts nobody for this campaign, which none does before its first prefetch.
        met: True if coverage reaches the threshold, so that going live needs no force.
        prefetch_rev: The prefetch that ``ready`` is about, 0 before the first.
        activate_rev: The activation that ``active``, ``failed`` and ``flip_lag`` are about, 0 if none stands.
        ahead_rev: An activation that devices are told of and the record does not know, for the store has lost it in a
            failover; 0 if there is none.
        expected: How many of the connected the newest activation is for, by its share.
        workers: Gateway workers with devices of this campaign.
        workers_behind: Of those, how many count for an older prefetch; their devices count as not ready.
    """

    campaign: str
    phase: Phase
    now: int
    reachable: int = 0
    threshold: float
    met: bool
    prefetch_rev: int
    activate_rev: int
    ahead_rev: int = 0
    total: Audience
    platforms: dict[str, Audience]
    regions: dict[str, Audience]
    expected: int
    failed: int
    flip_lag: FlipLag | None
    workers: int
    workers_behind: int


class WorkerView(Struct, frozen=True, kw_only=True):
    """One gateway worker."""

    worker: str
    health: str
    started_ms: int
    connections: int
    bus_rev: int
    behind: bool
    connects_per_s: float
    sends_per_s: float
    loop_lag_ms: float


class Fleet(Struct, frozen=True, kw_only=True):
    """Every gateway worker, and their sums.

    Attributes:
        devices: Open connections.
        health: How many workers say ok, degraded, unready.
        bus_rev: The newest revision of the log.
        workers_behind: Workers that have not applied it yet.
        bus_lag_ms: How long it has been out while some worker is behind, 0 if none is.
    """

    now: int
    devices: int
    health: dict[str, int]
    bus_rev: int
    workers_behind: int
    bus_lag_ms: int
    connects_per_s: float
    sends_per_s: float
    loop_lag_ms_max: float
    platforms: dict[str, int]
    regions: dict[str, int]
    workers: list[WorkerView]


def audience(campaign: Campaign, records: Iterable[WorkerRecord]) -> Audience:
    """Add up the devices of one campaign, and nothing else of it."""
    return _sum(_groups(campaign, _gauges(campaign, records)))


def readiness(campaign: Campaign, records: Sequence[WorkerRecord], now_ms: int) -> Readiness:
    """Add up one campaign. ``campaign`` is as of now (`fanout.campaign.advance`)."""
    gauges = _gauges(campaign, records)
    prefetch_rev, activate_rev = _revs(campaign)
    groups = _groups(campaign, gauges)
    total = _sum(groups)
    acting = [gauge for gauge in gauges if activate_rev and gauge.activate_rev == activate_rev]
    newest_rev = max((max(gauge.activate_rev, gauge.newest_rev) for gauge in gauges), default=0)
    share = campaign.activation.share if campaign.activation else 0.0
    return Readiness(
        campaign=campaign.id,
        phase=campaign.phase,
        now=now_ms,
        reachable=sum(reachable(campaign.id, record) for record in records),
        threshold=campaign.threshold,
        met=total.connected > 0 and prefetch_rev > 0 and total.coverage >= campaign.threshold,
        prefetch_rev=prefetch_rev,
        activate_rev=activate_rev,
        ahead_rev=newest_rev if newest_rev > max(campaign.activate_rev, activate_rev) else 0,
        total=total,
        platforms=_by("platform", groups),
        regions=_by("region", groups),
        expected=round(total.connected * share),
        failed=sum(gauge.failed for gauge in acting),
        flip_lag=_lag(acting),
        workers=len(gauges),
        workers_behind=sum(gauge.prefetch_rev != prefetch_rev for gauge in gauges),
    )


def reachable(campaign_id: str, record: WorkerRecord) -> int:
    """Return how many devices of a worker the campaign's next message may reach."""
    gauge = record.campaigns.get(campaign_id)
    return record.connections if gauge is None else sum(group.connected for group in gauge.groups)


def fleet(records: Sequence[WorkerRecord], bus_rev: int, now_ms: int) -> Fleet:
    """Add up every worker.

    Args:
        bus_rev: The newest revision of the log, 0 for an empty one.
        now_ms: The store's clock, which revisions are on.
    """
    groups = [group for record in records for group in record.groups]
    behind = sum(record.bus_rev < bus_rev for record in records)
    return Fleet(
        now=now_ms,
        devices=sum(record.connections for record in records),
        health=dict(Counter(record.health for record in records)),
        bus_rev=bus_rev,
        workers_behind=behind,
        # A revision is the instant of its publication, so this needs no other record of it.
        bus_lag_ms=max(0, now_ms - bus_rev) if behind else 0,
        connects_per_s=sum(record.connects_per_s for record in records),
        sends_per_s=sum(record.sends_per_s for record in records),
        loop_lag_ms_max=max((record.loop_lag_ms for record in records), default=0.0),
        platforms={name: a.connected for name, a in _by("platform", groups).items() if a.connected},
        regions={name: a.connected for name, a in _by("region", groups).items() if a.connected},
        workers=[_worker(record, bus_rev) for record in sorted(records, key=lambda r: r.worker)],
    )


def _gauges(campaign: Campaign, records: Iterable[WorkerRecord]) -> list[CampaignGauge]:
    return [gauge for record in records if (gauge := record.campaigns.get(campaign.id)) is not None]


def _revs(campaign: Campaign) -> tuple[int, int]:
    """Return the revisions of the newest prefetch and the newest activation, 0 for none."""
    return (
        campaign.prefetch.rev if campaign.prefetch else 0,
        campaign.activation.rev if campaign.activation else 0,
    )


def _groups(campaign: Campaign, gauges: Iterable[CampaignGauge]) -> list[Group]:
    prefetch_rev, activate_rev = _revs(campaign)
    return [_counted(group, gauge, prefetch_rev, activate_rev) for gauge in gauges for group in gauge.groups]


def _counted(group: Group, gauge: CampaignGauge, prefetch_rev: int, activate_rev: int) -> Group:
    """Return the group without what it says of revisions other than these."""
    ready = group.ready if prefetch_rev and gauge.prefetch_rev == prefetch_rev else 0
    active = group.active if activate_rev and gauge.activate_rev == activate_rev else 0
    return Group(group.attrs, group.connected, ready, active)


def _sum(groups: Iterable[Group]) -> Audience:
    connected = ready = active = 0
    for group in groups:
        connected += group.connected
        ready += group.ready
        active += group.active
    return Audience(connected, ready, active, ready / connected if connected else 0.0)


def _by(attr: str, groups: Iterable[Group]) -> dict[str, Audience]:
    split: dict[str, list[Group]] = {}
    for group in groups:
        split.setdefault(group.attrs.get(attr, UNKNOWN), []).append(group)
    return {value: _sum(split[value]) for value in sorted(split)}


def _lag(gauges: Iterable[CampaignGauge]) -> FlipLag | None:
    total = merged_lag(gauge.flip_lag for gauge in gauges)
    if not total.get_total_count():
        return None
    p50, p99, p999 = (float(total.get_value_at_percentile(p)) for p in (50, 99, 99.9))
    return FlipLag(int(total.get_total_count()), p50, p99, p999, float(total.get_max_value()))


def _worker(record: WorkerRecord, bus_rev: int) -> WorkerView:
    return WorkerView(
        worker=record.worker,
        health=record.health,
        started_ms=record.started_ms,
        connections=record.connections,
        bus_rev=record.bus_rev,
        behind=record.bus_rev < bus_rev,
        connects_per_s=record.connects_per_s,
        sends_per_s=record.sends_per_s,
        loop_lag_ms=record.loop_lag_ms,
    )
