"""What travels on the bus: publications, and how each becomes a message for a device. Pure.

A publication is the same for the whole fleet; it lists an audience's variants, and a gateway resolves them
once per cohort. Revision, predecessor and key are the log's own fields, not the publisher's.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Final

import msgspec
from msgspec import UNSET, Struct, UnsetType

from fanout import wire
from fanout.errors import FanoutError


class Variant(Struct, frozen=True):
    """A bundle for the devices whose attributes include every pair of ``match`` (empty matches all)."""

    match: dict[str, str]
    bundle: wire.Bundle


class _Published(Struct, frozen=True, kw_only=True, tag_field="kind"):
    campaign: str
    topic: str
    key: str = ""
    rev: int = 0
    prev: int = 0
    # The traceparent of who published it, if traces are on (fanout/tracing.py). Versions that do not know it skip it.
    trace: str | UnsetType = UNSET


class Prefetched(_Published, frozen=True, kw_only=True, tag="prefetch"):
    variants: tuple[Variant, ...]
    from_ms: int
    window_ms: int
    shadow: bool = False


class Activated(_Published, frozen=True, kw_only=True, tag="activate"):
    variants: tuple[Variant, ...]
    stage: str
    at: int
    window_ms: int
    share: float = 1.0
    miss: wire.Miss = "fetch"
    shadow: bool = False


class Cancelled(_Published, frozen=True, kw_only=True, tag="cancel"):
    pass


class Closed(_Published, frozen=True, kw_only=True, tag="close"):
    pass


Publication = Prefetched | Activated | Cancelled | Closed

_encoder: Final = msgspec.msgpack.Encoder()
_decode: Final[Callable[[bytes], Publication]] = msgspec.msgpack.Decoder(Publication).decode


class NotAPublication(FanoutError):
    """An entry of the log or the doorbell that this version cannot read."""


def pack(publication: Publication) -> bytes:
    """Return the body the log stores: everything but revision, predecessor and key."""
    return _encoder.encode(msgspec.structs.replace(publication, key="", rev=0, prev=0))


def unpack(body: bytes, *, rev: int, prev: int, key: str) -> Publication:
    """Read a log entry.

    Raises:
        NotAPublication: The body is of no known kind.
    """
    try:
        publication = _decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as exc:
        raise NotAPublication(f"entry {rev}: {exc}") from exc
    return msgspec.structs.replace(publication, key=key, rev=rev, prev=prev)


def variant_for(variants: tuple[Variant, ...], attrs: Mapping[str, str]) -> int | None:
    """Return the index of the first variant that matches these attributes, None if there is none."""
    for index, variant in enumerate(variants):
        if all(attrs.get(name) == value for name, value in variant.match.items()):
            return index
    return None


def message_for(publication: Publication, variant: int | None, *, inline: bool = True) -> wire.StateMessage | None:
    """Return what devices of one cohort kind are told.

    Args:
        publication: From the log, with its revision.
        variant: Index from `variant_for`.
        inline: False for a device that already holds the bundle: it is spared the content.
    Returns:
        None if the publication has nothing for these devices.
    """
    if isinstance(publication, Cancelled):
        return wire.Cancel(publication.campaign, publication.rev)
    if isinstance(publication, Closed):
        return wire.Close(publication.campaign, publication.rev)
    if variant is None:
        return None
    bundle = publication.variants[variant].bundle
    if isinstance(publication, Prefetched):
        if not inline and bundle.inline is not None:
            bundle = msgspec.structs.replace(bundle, inline=None)
        return wire.Prefetch(
            publication.campaign,
            publication.rev,
            bundle,
            from_ms=publication.from_ms,
            window_ms=publication.window_ms,
            shadow=publication.shadow,
        )
    return wire.Activate(
        publication.campaign,
        publication.rev,
        publication.stage,
        bundle.sha256,
        at=publication.at,
        window_ms=publication.window_ms,
        share=publication.share,
        miss=publication.miss,
        shadow=publication.shadow,
    )
