"""From what the fleet says of itself to a forecast of a press, with the warnings a person should see. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from fanout.bus.presence import WorkerRecord
from fanout.campaign import Campaign, Phase
from fanout.control.publications import travels_inline
from fanout.control.requests import ForecastQuery
from fanout.forecast import Forecast, Load, Question, forecast, origin_per_s_peak
from fanout.readiness import Readiness


class ForecastView(Forecast, frozen=True, kw_only=True):
    """What is expected if it is pressed now.

    Attributes:
        now: The store's clock, Unix ms.
        coverage, threshold, met: As in readiness.
        prefetch_per_s_peak: Requests to the origin if the newest prefetch were published now, over its window.
        warnings: What should be thought about before pressing, in sentences.
    """

    now: int
    coverage: float
    threshold: float
    met: bool
    prefetch_per_s_peak: float
    warnings: list[str]


def foresee(
    campaign: Campaign,
    others: Iterable[Campaign],
    records: Sequence[WorkerRecord],
    ready: Readiness,
    asked: ForecastQuery,
    sends_per_s: float,
) -> ForecastView:
    """Return the forecast.

    Args:
        campaign: As of now.
        others: Every campaign as of now; those on the same topic are warned of.
        records: The fleet.
        ready: The campaign's readiness.
        asked: What would be pressed.
        sends_per_s: Of a worker that has not measured its own yet.
    """
    fetched = fetched_bytes(campaign)
    loads = tuple(_loads(campaign, records, sends_per_s))
    found = forecast(
        Question(
            workers=loads,
            ready_share=ready.total.coverage,
            window_s=asked.window_s,
            ahead_s=asked.in_s,
            share=asked.share,
            miss=asked.miss or campaign.miss,
            fetched_bytes=fetched,
            prefetch_left_s=_prefetch_left_s(campaign, ready.now),
            origin_per_s=campaign.origin_per_s,
        )
    )
    window_s = campaign.prefetch.window_ms / 1000 if campaign.prefetch else 0.0
    devices = sum(load.devices for load in loads)
    return ForecastView(
        **{name: getattr(found, name) for name in Forecast.__struct_fields__},
        now=ready.now,
        coverage=ready.total.coverage,
        threshold=ready.threshold,
        met=ready.met,
        prefetch_per_s_peak=origin_per_s_peak(devices if fetched else 0, window_s),
        warnings=[*_warnings(found, ready), *overlaps(campaign, others)],
    )


def fetched_bytes(campaign: Campaign) -> int:
    """Return the size of the largest bundle that devices fetch, 0 if all of them travel inline."""
    sizes = (variant.bundle.bytes for variant in campaign.variants)
    return max((size for size, inline in zip(sizes, travels_inline(campaign), strict=True) if not inline), default=0)


def overlaps(campaign: Campaign, others: Iterable[Campaign]) -> list[str]:
    """Return a sentence for each other campaign that the same devices show or are about to."""
    busy = (Phase.ARMED, Phase.ACTIVATING, Phase.LIVE)
    return [
        f"Campaign {other.id} is {other.phase} on the same topic, {campaign.topic}: devices will hold both."
        for other in others
        if other.id != campaign.id and other.topic == campaign.topic and other.phase in busy
    ]


def _prefetch_left_s(campaign: Campaign, now_ms: int) -> float:
    plan = campaign.prefetch
    return 0.0 if plan is None else max(0, plan.from_ms + plan.window_ms - max(now_ms, plan.from_ms)) / 1000


def _loads(campaign: Campaign, records: Iterable[WorkerRecord], sends_per_s: float) -> Iterable[Load]:
    for record in records:
        gauge = record.campaigns.get(campaign.id)
        # Before its first prefetch nobody counts a campaign's devices: then it may be for all of them.
        devices = sum(group.connected for group in gauge.groups) if gauge else record.connections
        yield Load(devices, record.broadcast_per_s or sends_per_s)


def _warnings(found: Forecast, ready: Readiness) -> Iterable[str]:
    if not found.devices:
        yield "Nobody is connected."
    elif not ready.met:
        yield (
            f"{ready.total.ready:,} of {ready.total.connected:,} connected devices are ready "
            f"({ready.total.coverage:.1%}); the threshold is {ready.threshold:.1%}."
        )
    if not found.within_budget:
        yield (
            f"The origin would see {found.origin_per_s_peak:,.0f} requests a second; its budget is "
            f"{found.origin_per_s:,.0f}. A window of {found.window_s_safe:,.1f} s or more stays inside it."
        )
    if found.window_s < found.window_s_min:
        yield (
            f"Gateways need {found.window_s_min:,.1f} s to tell everyone, "
            f"more than the window of {found.window_s:g} s."
        )
