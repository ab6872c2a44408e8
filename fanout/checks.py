"""What a campaign may be made of: names, stages, variants, windows. Pure; each refusal says what is allowed."""

from __future__ import annotations

import re
from typing import Final

from fanout import limits
from fanout.bus.publication import Variant
from fanout.campaign import Campaign
from fanout.errors import InvalidInput

NAME: Final = re.compile(rf"[a-z0-9][a-z0-9_.:-]{{0,{limits.NAME_CHARS_MAX - 1}}}")
# The field of a campaign's definition that each kind of name stands in.
_ABOUT: Final = {"id": "$.id", "topic": "$.topic", "stage": "$.stages"}
SHA256: Final = re.compile(r"[0-9a-f]{64}")


def check_name(what: str, value: str) -> str:
    """Return ``value`` if it can name a campaign, topic or stage.

    Raises:
        InvalidInput: Saying what is allowed.
    """
    if not NAME.fullmatch(value):
        raise InvalidInput(
            f"{what} is {value[:80]!r}; allowed are 1 to {limits.NAME_CHARS_MAX} characters of a-z 0-9 _ . : - , "
            "starting with a letter or digit",
            _ABOUT.get(what, ""),
        )
    return value


def check(campaign: Campaign) -> Campaign:
    """Return the campaign if it can be stored.

    Raises:
        InvalidInput: Names the field, what was sent and what is allowed.
    """
    check_name("id", campaign.id)
    check_name("topic", campaign.topic)
    if not 1 <= len(campaign.title) <= limits.TITLE_CHARS_MAX:
        raise InvalidInput(
            f"title has {len(campaign.title)} characters; 1 to {limits.TITLE_CHARS_MAX} are allowed", "$.title"
        )
    if not 1 <= len(campaign.stages) <= limits.STAGES_MAX:
        raise InvalidInput(
            f"{len(campaign.stages)} stages were sent; 1 to {limits.STAGES_MAX} are allowed", "$.stages"
        )
    for stage in campaign.stages:
        check_name("stage", stage)
    if len(set(campaign.stages)) < len(campaign.stages):
        raise InvalidInput(f"stages are {list(campaign.stages)}; each name may occur once", "$.stages")
    check_stage(campaign, campaign.retract_stage, "retract_stage")
    if not 0 <= campaign.threshold <= 1:
        raise InvalidInput(
            f"threshold is {campaign.threshold}; send a share between 0 and 1, such as 0.95",
            "$.threshold",
        )
    if not 1 <= campaign.origin_per_s <= limits.ORIGIN_PER_S_MAX:
        raise InvalidInput(
            f"origin_per_s is {campaign.origin_per_s}; send how many requests a second the origin may see, "
            f"1 to {limits.ORIGIN_PER_S_MAX:,}",
            "$.origin_per_s",
        )
    _check_variants(campaign.variants)
    return campaign


def _check_variants(variants: tuple[Variant, ...]) -> None:
    if not 1 <= len(variants) <= limits.VARIANTS_MAX:
        raise InvalidInput(
            f"{len(variants)} variants were sent; 1 to {limits.VARIANTS_MAX} are allowed", "$.variants"
        )
    if variants[-1].match:
        raise InvalidInput(
            f"the last variant matches {variants[-1].match}; it must match all: send an empty match",
            f"$.variants[{len(variants) - 1}].match",
        )
    for index, variant in enumerate(variants):
        bundle, where = variant.bundle, f"variants[{index}].bundle"
        if not SHA256.fullmatch(bundle.sha256):
            raise InvalidInput(
                f"{where}.sha256 is {bundle.sha256[:80]!r}; send 64 lower-case hex digits", f"$.{where}.sha256"
            )
        if not 1 <= bundle.bytes <= limits.BUNDLE_BYTES_MAX:
            raise InvalidInput(
                f"{where} has {bundle.bytes} bytes; 1 to {limits.BUNDLE_BYTES_MAX} are allowed", f"$.{where}"
            )


def check_stage(campaign: Campaign, stage: str, field: str = "stage") -> str:
    """Return ``stage``, sent in this field, if it is one of the campaign's; InvalidInput otherwise."""
    if stage not in campaign.stages:
        raise InvalidInput(
            f"{field} is {stage[:80]!r}; campaign {campaign.id} has {', '.join(campaign.stages)}", f"$.{field}"
        )
    return stage


def check_window(what: str, window_ms: int, window_ms_max: int, field: str = "window_s") -> int:
    """Return ``window_ms``, sent in this field, if it is within 0 and its limit; InvalidInput otherwise."""
    if not 0 <= window_ms <= window_ms_max:
        raise InvalidInput(
            f"{what} window is {window_ms} ms, the limit is {window_ms_max} ms; "
            f"send between 0 and {window_ms_max / 1000:g} s",
            f"$.{field}",
        )
    return window_ms
