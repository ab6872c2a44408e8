"""What callers send: one struct per body, and the reading of instants and windows. Pure.

Seconds are for people, so requests have ``…_s``; inside and in answers everything is whole milliseconds.
"""

from __future__ import annotations

import datetime
import re
from typing import Annotated, Any

from msgspec import Meta, Struct, field

from fanout import limits, wire
from fanout.control.config import PAST_MS_MAX
from fanout.durations import in_words
from fanout.errors import InvalidInput
from fanout.instants import iso

Seconds = Annotated[float, Meta(description="Seconds; fractions are allowed.")]
Instant = Annotated[int | str, Meta(description="Unix milliseconds, or ISO 8601 with a zone: 2026-07-01T20:00:00Z.")]
Reason = Annotated[str, Meta(max_length=limits.REASON_CHARS_MAX, description="Why; it is kept with the activation.")]
# Unless asked otherwise: long enough before the instant that a worker which was restarting has it too.
ARM_AHEAD_S = 60.0
# No number of seconds that is meant seriously has more milliseconds; beyond it floats stop being exact.
_SECONDS_MAX = 1e12
# Control characters move a terminal's cursor or end a line in a log; direction overrides show a text as another.
_UNSEEN = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069\ud800-\udfff]")


class BundleInput(Struct, forbid_unknown_fields=True):
    """A bundle: its content, or the name of one uploaded before, or one in the operator's own CDN.

    Attributes:
        stages: Content: an object per stage.
        sha256: Name of a bundle uploaded before; with ``bytes`` and ``url``, of one that lives elsewhere.
        bytes: Length of the content at ``url``.
        url: Absolute http(s) URL.
    """

    stages: dict[str, dict[str, Any]] | None = None
    sha256: str | None = None
    bytes: int | None = None
    url: Annotated[str, Meta(max_length=2048)] | None = None


class VariantInput(Struct, forbid_unknown_fields=True):
    """A bundle for the devices whose attributes include every pair of ``match``; the last matches all."""

    bundle: BundleInput
    match: dict[str, str] = {}


class CreateCampaign(Struct, forbid_unknown_fields=True, kw_only=True):
    """A new campaign; see `fanout.campaign.Campaign`."""

    id: str
    title: str
    topic: str
    stages: list[str]
    variants: list[VariantInput]
    threshold: float = 0.95
    miss: wire.Miss = "fetch"
    shadow: bool = False
    retract_stage: str | None = None
    two_keys: bool = False
    origin_per_s: float = limits.ORIGIN_PER_S_DEFAULT


class UploadBundle(Struct, forbid_unknown_fields=True):
    """A bundle's content: an object per stage."""

    stages: dict[str, dict[str, Any]]


class PrefetchRequest(Struct, forbid_unknown_fields=True, kw_only=True):
    """Devices get the bundle over this window, which starts now, at ``from``, or in ``in_s`` seconds."""

    window_s: Seconds
    from_: Instant | None = field(name="from", default=None)
    in_s: Seconds | None = None


class ActivateRequest(Struct, forbid_unknown_fields=True, kw_only=True):
    """Devices show this stage over this window, which starts now, at ``at``, or in ``in_s`` seconds.

    Attributes:
        share: Of the fleet, more than 0 and at most 1.
        force: Activate although too few devices are ready; needs a reason.
        miss: What a device without the bundle does; None leaves it to the campaign.
    """

    stage: str
    window_s: Seconds
    at: Instant | None = None
    in_s: Seconds | None = None
    share: float = 1.0
    force: bool = False
    reason: Reason = ""
    miss: wire.Miss | None = None


class RetractRequest(Struct, forbid_unknown_fields=True, kw_only=True):
    """Devices go back to the stage shown before the newest activation, from now on, over this window."""

    reason: Reason
    window_s: Seconds = 0.0


class EventMoved(Struct, forbid_unknown_fields=True, kw_only=True):
    """From the production's own schedule: this campaign's event is at another time."""

    campaign: str
    at: Instant


class ScheduleRequest(Struct, forbid_unknown_fields=True, kw_only=True):
    """The stage happens at ``at``, or in ``in_s`` seconds, by itself.

    Attributes:
        window_s: The activation's.
        arm_ahead_s: How long before its instant the activation is published and sits on the devices.
        prefetch_at: When the prefetch is published; None if it has been, or people will.
        prefetch_window_s: The prefetch's.
    """

    stage: str
    window_s: Seconds
    at: Instant | None = None
    in_s: Seconds | None = None
    arm_ahead_s: Seconds = ARM_AHEAD_S
    prefetch_at: Instant | None = None
    prefetch_window_s: Seconds = 0.0


class MoveRequest(Struct, forbid_unknown_fields=True, kw_only=True):
    """The event is at another time: ``at``, or ``in_s`` seconds from now."""

    at: Instant | None = None
    in_s: Seconds | None = None


class ForecastQuery(Struct, forbid_unknown_fields=True, kw_only=True):
    """An activation that is being thought about: over this window, in so many seconds, of this share."""

    window_s: Annotated[float, Meta(ge=0)]
    in_s: Annotated[float, Meta(ge=0)] = 0.0
    share: Annotated[float, Meta(gt=0, le=1)] = 1.0
    miss: wire.Miss | None = None


class AuditQuery(Struct, forbid_unknown_fields=True, kw_only=True):
    """The newest entries of the audit chain: so many, of this campaign or of all."""

    campaign: str | None = None
    count: Annotated[int, Meta(ge=1, le=limits.AUDIT_ENTRIES_SHOWN_MAX)] = 100


class ChainQuery(Struct, forbid_unknown_fields=True, kw_only=True):
    """The audit chain's lines from this place on, from 0."""

    start: Annotated[int, Meta(ge=0)] = 0


class NothingMore(Struct, forbid_unknown_fields=True):
    """This action takes no fields; the body may be left out."""


def check_text(name: str, text: str, *, lines: bool = False) -> str:
    """Return what a person wrote, as it was written: whoever shows it escapes it.

    Args:
        name: The field's, for messages.
        lines: It may have several lines.
    Raises:
        InvalidInput: It holds a character that is not to be seen, but changes how others are.
    """
    if found := _UNSEEN.search(text.replace("\n", "").replace("\t", "") if lines else text):
        raise InvalidInput(
            f"{name} holds the character {found[0]!r}; send text without control characters", f"$.{name}"
        )
    return text


def milliseconds(seconds: float) -> int:
    """Return seconds as whole milliseconds; the absurd ends up at a large number that limits will refuse."""
    return round(max(-_SECONDS_MAX, min(seconds, _SECONDS_MAX)) * 1000)


def instant_ms(
    name: str,
    instant: int | str | None,
    in_s: float | None,
    now_ms: int,
    ahead_ms_max: int,
    *,
    default: int | None = None,
    hint: str = "send an instant to come",
) -> int:
    """Return the instant asked for.

    Args:
        name: The field's, for messages: ``at`` or ``from``.
        instant: Unix ms or ISO 8601 text.
        in_s: Seconds from now; not beside ``instant``.
        now_ms: The store's clock, Unix ms.
        ahead_ms_max: How far ahead it may lie.
        default: What is meant if neither was sent, now; None asks for one of them.
        hint: What to do instead, where now is not meant.
    Raises:
        InvalidInput: Both were sent or neither, it cannot be read, or it lies too far off.
    """
    hint = hint if default is None else f"leave {name} out to mean now"
    if instant is not None and in_s is not None:
        raise InvalidInput(f"both {name} and in_s were sent; send one of them", f"$.{name}")
    if in_s is not None:
        name, at = "in_s", now_ms + milliseconds(in_s)
    elif instant is not None:
        at = instant if isinstance(instant, int) else _parse(name, instant)
    elif default is not None:
        return default
    else:
        raise InvalidInput(f"neither {name} nor in_s was sent; {hint}, or in how many seconds", f"$.{name}")
    # Not as 1e+09: nobody counts seconds so.
    said = iso(at) if in_s is None else f"{in_s:,.3f}".rstrip("0").rstrip(".")
    unit = " (a number is Unix milliseconds)" if in_s is None else ""
    off = in_words(abs(at - now_ms) / 1000)
    if at < now_ms - PAST_MS_MAX:
        raise InvalidInput(f"{name} is {said}, {off} in the past (now is {iso(now_ms)}); {hint}", f"$.{name}")
    if at > now_ms + ahead_ms_max:
        raise InvalidInput(
            f"{name} is {said}, {off} ahead; the limit is {in_words(ahead_ms_max / 1000)}{unit}", f"$.{name}"
        )
    return max(at, now_ms)


def _parse(name: str, text: str) -> int:
    allowed = "send Unix milliseconds, or ISO 8601 with a zone, such as 2026-07-01T20:00:00Z"
    try:
        when = datetime.datetime.fromisoformat(text)
        if when.tzinfo is None:
            raise InvalidInput(f"{name} is {text[:80]!r}, which has no time zone; {allowed}", f"$.{name}")
        return round(when.timestamp() * 1000)
    except (ValueError, OverflowError) as exc:
        raise InvalidInput(f"{name} is {text[:80]!r}, which cannot be read: {exc}; {allowed}", f"$.{name}") from exc
