"""From what the fleet says of itself to a forecast of a press, with the warnings a person should see. Pure."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from typing import Final

from fanout.bus.presence import WorkerRecord
from fanout.campaign import Activation, Campaign, Phase, PrefetchPlan, Schedule
from fanout.control.publications import travels_inline
from fanout.control.requests import ForecastQuery
from fanout.durations import in_words
from fanout.forecast import Forecast, Load, Question, forecast, origin_per_s_peak
from fanout.instants import iso
from fanout.readiness import Readiness, reachable

# Two events closer together than this are in each other's way: people are still looking at the first.
NEAR_MS: Final = 10 * 60_000
# Floats: what differs by less is the same.
_EXACT: Final = 1e-6
_BUSY: Final = (Phase.ARMED, Phase.ACTIVATING, Phase.LIVE)


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
        warnings=[
            *_warnings(found, ready, devices, asked.share),
            *overlaps(campaign, others, ready.now + asked.in_s * 1000, asked.window_s * 1000),
        ],
    )


def fetched_bytes(campaign: Campaign) -> int:
    """Return the size of the largest bundle that devices fetch, 0 if all of them travel inline."""
    sizes = (variant.bundle.bytes for variant in campaign.variants)
    return max((size for size, inline in zip(sizes, travels_inline(campaign), strict=True) if not inline), default=0)


def cautions(
    campaign: Campaign,
    others: Iterable[Campaign],
    records: Sequence[WorkerRecord],
    ready: Readiness,
    plan: PrefetchPlan | Activation | Schedule,
    sends_per_s: float,
) -> list[str]:
    """Return what should be thought about after a press, in sentences.

    Args:
        plan: What was pressed; the rest is as in `foresee`.
    """
    if isinstance(plan, Activation):
        in_s = max(0, plan.at - ready.now) / 1000
        asked = ForecastQuery(window_s=plan.window_ms / 1000, in_s=in_s, share=plan.share)
        return foresee(campaign, others, records, ready, asked, sends_per_s).warnings
    loads = tuple(_loads(campaign, records, sends_per_s))
    devices = sum(load.devices for load in loads)
    if isinstance(plan, PrefetchPlan):
        return [*_crowded(campaign, devices, plan.window_ms)]
    prefetch = () if plan.prefetched else _crowded(campaign, devices, plan.prefetch_window_ms)
    # By then the fleet is another; but one that is no larger needs no less time to be told.
    question = Question(
        workers=loads,
        ready_share=1.0,
        window_s=plan.window_ms / 1000,
        ahead_s=(plan.at - plan.arm_at) / 1000,
        origin_per_s=campaign.origin_per_s,
    )
    return [*prefetch, *_hurried(forecast(question)), *overlaps(campaign, others, plan.at, plan.window_ms)]


def overlaps(campaign: Campaign, others: Iterable[Campaign], at: float, window_ms: float) -> Iterator[str]:
    """Yield a sentence for each other campaign that the same devices show, or are about to.

    Whoever listens to the topic is a device of both: the last variant of every campaign matches all.

    Args:
        at: When this one begins, Unix ms.
        window_ms: How long its devices flip.
    """
    for other in others:
        if other.id == campaign.id or other.topic != campaign.topic:
            continue
        where = f"on the same topic, {campaign.topic}"
        if other.phase in _BUSY and other.activation is not None:
            since = "for" if other.phase is Phase.ARMED else "since"
            yield (
                f"Campaign {other.id} is {other.phase} {where}, {since} {iso(other.activation.at)}: "
                "devices will hold both."
            )
        plan = other.schedule
        if plan is None or plan.armed or other.phase is Phase.CLOSED:
            continue
        if plan.at < at + window_ms + NEAR_MS and plan.at + plan.window_ms > at - NEAR_MS:
            apart_s = (plan.at - at) / 1000
            when = (
                f"{in_words(abs(apart_s))} {'after' if apart_s > 0 else 'before'} this one" if apart_s else "as this"
            )
            yield f"Campaign {other.id} is scheduled {where}, for {iso(plan.at)}, {when}: devices will hold both."


def _prefetch_left_s(campaign: Campaign, now_ms: int) -> float:
    plan = campaign.prefetch
    return 0.0 if plan is None else max(0, plan.from_ms + plan.window_ms - max(now_ms, plan.from_ms)) / 1000


def _loads(campaign: Campaign, records: Iterable[WorkerRecord], sends_per_s: float) -> Iterable[Load]:
    for record in records:
        yield Load(reachable(campaign.id, record), record.broadcast_per_s or sends_per_s)


def _warnings(found: Forecast, ready: Readiness, devices: int, share: float) -> Iterator[str]:
    if not devices:
        yield "Nobody is connected."
    elif not found.devices:
        yield f"A share of {share * 100:g} % of {devices:,} devices is most likely none of them."
    if devices and not ready.prefetch_rev:
        yield f"Nothing is prefetched yet; {devices:,} devices are connected."
    elif devices and not ready.met:
        yield (
            f"{ready.total.ready:,} of {ready.total.connected:,} connected devices are ready "
            f"({ready.total.coverage:.1%}); the threshold is {ready.threshold:.1%}."
        )
    if not found.within_budget:
        yield (
            f"The origin would see {found.origin_per_s_peak:,.0f} requests a second; its budget is "
            f"{found.origin_per_s:,.0f}. A window of {_tenths_up(found.window_s_safe):,.1f} s or more "
            "stays inside it."
        )
    yield from _hurried(found)


def _tenths_up(seconds: float) -> float:
    """Return a duration that is no less than this, to a tenth of a second."""
    return math.ceil(seconds * 10 - _EXACT) / 10


def _hurried(found: Forecast) -> Iterator[str]:
    if found.window_s < found.window_s_min:
        yield (
            f"Gateways need {in_words(found.window_s_min)} to tell everyone, "
            f"more than the window of {in_words(found.window_s)}."
        )


def _crowded(campaign: Campaign, devices: int, window_ms: int) -> Iterator[str]:
    """Yield what is to be said of a prefetch over this window."""
    asking = devices if fetched_bytes(campaign) else 0
    peak, budget = origin_per_s_peak(asking, window_ms / 1000), campaign.origin_per_s
    if peak > budget:
        yield (
            f"While devices prefetch, the origin would see {peak:,.0f} requests a second; its budget is "
            f"{budget:,.0f}. A window of {in_words(math.ceil(asking / budget))} or more stays inside it."
        )
