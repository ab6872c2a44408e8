"""From a create request to a campaign in draft, with its bundles. Owns what a new campaign must satisfy."""

from __future__ import annotations

from dataclasses import dataclass
from urllib.parse import urlsplit

from fanout import limits, wire
from fanout.bus.publication import Variant
from fanout.campaign import Campaign
from fanout.checks import SHA256, check
from fanout.control.config import ControlConfig
from fanout.control.requests import BundleInput, CreateCampaign, check_text
from fanout.errors import InvalidInput, NotFound
from fanout.store.bundles import BundleStore, Content, canonical, check_stages, stages_of


@dataclass(frozen=True, slots=True)
class Draft:
    """A campaign that may be stored, and the content that has to be stored before it."""

    campaign: Campaign
    contents: tuple[Content, ...]


async def draft(
    request: CreateCampaign, author: str, now_ms: int, bundles: BundleStore, config: ControlConfig
) -> Draft:
    """Return the campaign that was asked for; nothing is stored yet.

    Raises:
        InvalidInput: Says which field, what was sent, what is allowed.
        StoreUnavailable: A bundle uploaded before could not be looked up.
    """
    contents: dict[str, Content] = {}
    variants: list[Variant] = []
    if len(request.variants) > limits.VARIANTS_MAX:
        raise InvalidInput(
            f"{len(request.variants)} variants were sent; 1 to {limits.VARIANTS_MAX} are allowed", "$.variants"
        )
    for index, variant in enumerate(request.variants):
        _check_match(index, variant.match, config.attr_keys)
        bundle = await _bundle(index, variant.bundle, request.stages, bundles, contents)
        variants.append(Variant(variant.match, bundle))
    campaign = Campaign(
        id=request.id,
        title=check_text("title", request.title),
        topic=request.topic,
        stages=tuple(request.stages),
        variants=tuple(variants),
        threshold=request.threshold,
        miss=request.miss,
        shadow=request.shadow,
        retract_stage=request.retract_stage or next(iter(request.stages), ""),
        two_keys=request.two_keys,
        origin_per_s=request.origin_per_s,
        author=author,
        editors=(author,),
        created_ms=now_ms,
        updated_ms=now_ms,
    )
    return Draft(check(campaign), tuple(contents.values()))


def _check_match(index: int, match: dict[str, str], attr_keys: tuple[str, ...]) -> None:
    # A misspelt attribute would match nobody, and be noticed on the night.
    for name, value in match.items():
        if name not in attr_keys:
            raise InvalidInput(
                f"variants[{index}].match names {name[:80]!r}; devices have {', '.join(attr_keys)}",
                f"$.variants[{index}].match",
            )
        if not 1 <= len(value) <= limits.ATTR_VALUE_CHARS_MAX or not value.isprintable():
            raise InvalidInput(
                f"variants[{index}].match.{name} has {len(value)} characters; "
                f"1 to {limits.ATTR_VALUE_CHARS_MAX} printable ones are allowed, as in tokens",
                f"$.variants[{index}].match",
            )


async def _bundle(
    index: int, sent: BundleInput, stages: list[str], bundles: BundleStore, contents: dict[str, Content]
) -> wire.Bundle:
    where = f"variants[{index}].bundle"
    elsewhere = (sent.bytes, sent.url)
    if sent.stages is not None and sent.sha256 is None and elsewhere == (None, None):
        content = canonical(sent.stages)
        check_stages(where, sent.stages, stages)
        contents[content.sha256] = content
        return wire.Bundle(content.sha256, len(content.data))
    if sent.stages is None and sent.sha256 is not None:
        _check_digest(where, sent.sha256)
        if elsewhere == (None, None):
            return await _uploaded(where, sent.sha256, stages, bundles)
        if sent.bytes is not None and sent.url is not None:
            _check_url(where, sent.url)
            return wire.Bundle(sent.sha256, sent.bytes, sent.url)
    given = [name for name in ("stages", "sha256", "bytes", "url") if getattr(sent, name) is not None]
    raise InvalidInput(
        f"{where} has {', '.join(given) or 'nothing'}; send stages (the content), or sha256 (uploaded "
        "before), or sha256, bytes and url (in your own CDN)",
        f"$.{where}",
    )


async def _uploaded(where: str, sha256: str, stages: list[str], bundles: BundleStore) -> wire.Bundle:
    try:
        data = await bundles.get(sha256)
    except NotFound as exc:
        raise InvalidInput(f"{where}: {exc}", f"$.{where}") from exc
    check_stages(where, stages_of(data), stages)
    return wire.Bundle(sha256, len(data))


def _check_digest(where: str, sha256: str) -> None:
    if not SHA256.fullmatch(sha256):
        raise InvalidInput(f"{where}.sha256 is {sha256[:80]!r}; send 64 lower-case hex digits", f"$.{where}.sha256")


def _check_url(where: str, url: str) -> None:
    try:
        parts = urlsplit(url)
        good = parts.scheme in ("http", "https") and bool(parts.hostname) and url.isprintable()
    except ValueError:
        good = False
    if not good or " " in url:
        raise InvalidInput(f"{where}.url is {url[:80]!r}; send an absolute http or https URL", f"$.{where}.url")
