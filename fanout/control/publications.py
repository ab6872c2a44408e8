"""From a campaign to what is put on the bus for each action. Pure.

Owns which bundles travel inside a prefetch. An activation never carries content: it must stay tiny.
"""

from __future__ import annotations

from collections.abc import Mapping

import msgspec

from fanout import limits, wire
from fanout.bus.publication import Activated, Cancelled, Closed, Prefetched, Variant
from fanout.campaign import Activation, Campaign, PrefetchPlan
from fanout.control.config import ControlConfig
from fanout.control.views import with_urls


def may_inline(bundle: wire.Bundle) -> bool:
    """Tell whether a campaign's bundle is small enough to travel inline, and is kept here."""
    return bundle.url is None and bundle.bytes <= limits.INLINE_BYTES_MAX


def travels_inline(campaign: Campaign) -> list[bool]:
    """Return of each variant whether its bundle travels inside the prefetch, first come, first served."""
    left = limits.INLINE_BYTES_PER_PUBLICATION_MAX
    inline: list[bool] = []
    for variant in campaign.variants:
        inline.append(may_inline(variant.bundle) and variant.bundle.bytes <= left)
        left -= variant.bundle.bytes if inline[-1] else 0
    return inline


def prefetch(
    campaign: Campaign, plan: PrefetchPlan, contents: Mapping[str, bytes], key: str, config: ControlConfig
) -> Prefetched:
    """Return the publication of a prefetch.

    Args:
        contents: Canonical bytes by SHA-256, of those bundles that `may_inline`.
        key: The bus's idempotency key.
    """
    variants: list[Variant] = []
    for variant, inline in zip(with_urls(campaign.variants, config), travels_inline(campaign), strict=True):
        bundle = variant.bundle
        if inline:
            bundle = msgspec.structs.replace(bundle, inline=contents[bundle.sha256].decode())
        variants.append(msgspec.structs.replace(variant, bundle=bundle))
    return Prefetched(
        campaign=campaign.id,
        topic=campaign.topic,
        key=key,
        variants=tuple(variants),
        from_ms=plan.from_ms,
        window_ms=plan.window_ms,
        shadow=campaign.shadow,
    )


def activate(
    campaign: Campaign, activation: Activation, miss: wire.Miss, key: str, config: ControlConfig
) -> Activated:
    """Return the publication of an activation or of a retract."""
    return Activated(
        campaign=campaign.id,
        topic=campaign.topic,
        key=key,
        variants=with_urls(campaign.variants, config),
        stage=activation.stage,
        at=activation.at,
        window_ms=activation.window_ms,
        share=activation.share,
        miss=miss,
        shadow=campaign.shadow,
    )


def cancel(campaign: Campaign, key: str) -> Cancelled:
    """Return the publication of a cancel."""
    return Cancelled(campaign=campaign.id, topic=campaign.topic, key=key)


def close(campaign: Campaign, key: str) -> Closed:
    """Return the publication of a close."""
    return Closed(campaign=campaign.id, topic=campaign.topic, key=key)
