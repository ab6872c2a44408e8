"""What an operator may change about the control plane. Read once at the edge, checked, handed down."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final
from urllib.parse import urlsplit

from fanout import limits, wire
from fanout.bus.publisher import SAFE_TIMEOUT_S
from fanout.errors import InvalidInput

# A retract undoes a mistake, so its window is short by nature; a minute still spreads a very large fleet.
RETRACT_WINDOW_MS_MAX: Final = 60_000
# An instant a little in the past is one that was "now" when it was typed; it is taken as now. Further back
# the window would be partly over, and everybody whose slot is past would act together.
PAST_MS_MAX: Final = 5_000
# A bundle and the white space it was written with, or a campaign with a few of them. More bundles than fit
# are uploaded one by one first.
CONTENT_BODY_BYTES_MAX: Final = 8 * 1024 * 1024
# A button's body: a few names, and a reason of 500 characters.
ACTION_BODY_BYTES_MAX: Final = 16 * 1024
# Who sends a body more slowly than this holds a connection for nothing.
BODY_TIMEOUT_S: Final = 30.0


@dataclass(frozen=True, slots=True)
class ControlConfig:
    """Settings of the control plane.

    Attributes:
        public_url: Where devices reach this API or the CDN before it, for bundle URLs; None makes them paths
            on the origin each device is configured with.
        prefetch_window_ms_max: Longest window of a prefetch.
        activate_window_ms_max: Longest window of an activation.
        retract_window_ms_max: Longest window of a retract.
        at_ahead_ms_max: How far ahead an instant may lie.
        attr_keys: Attributes that a variant may match; the gateways' list.
        content_body_bytes_max: Longest body with bundle content.
        action_body_bytes_max: Longest body of everything else.
        body_timeout_s: How long a body may take to arrive.
        safe_timeout_s: How long to wait until something vouches for a publication.
    """

    public_url: str | None = None
    prefetch_window_ms_max: int = limits.PREFETCH_WINDOW_MS_MAX
    activate_window_ms_max: int = limits.ACTIVATE_WINDOW_MS_MAX
    retract_window_ms_max: int = RETRACT_WINDOW_MS_MAX
    at_ahead_ms_max: int = limits.AT_AHEAD_MS_MAX
    attr_keys: tuple[str, ...] = limits.ATTR_KEYS_DEFAULT
    content_body_bytes_max: int = CONTENT_BODY_BYTES_MAX
    action_body_bytes_max: int = ACTION_BODY_BYTES_MAX
    body_timeout_s: float = BODY_TIMEOUT_S
    safe_timeout_s: float = SAFE_TIMEOUT_S

    def __post_init__(self) -> None:
        if self.public_url is not None:
            parts = urlsplit(self.public_url)
            if parts.scheme not in ("http", "https") or not parts.netloc or parts.query or parts.fragment:
                raise InvalidInput(
                    f"public url is {self.public_url!r}; send http(s)://host[:port][/path], without a query"
                )
        for name in ("prefetch_window_ms_max", "activate_window_ms_max", "at_ahead_ms_max"):
            if getattr(self, name) < 1:
                raise InvalidInput(f"{name} is {getattr(self, name)}; send at least 1")
        if self.retract_window_ms_max < 0:
            raise InvalidInput(f"retract_window_ms_max is {self.retract_window_ms_max}; send 0 or more")
        if self.content_body_bytes_max < limits.BUNDLE_BYTES_MAX:
            raise InvalidInput(
                f"content_body_bytes_max is {self.content_body_bytes_max}; "
                f"a bundle alone may have {limits.BUNDLE_BYTES_MAX} bytes"
            )
        if self.action_body_bytes_max < 1024:
            raise InvalidInput(f"action_body_bytes_max is {self.action_body_bytes_max}; send at least 1024")
        if self.body_timeout_s <= 0 or self.safe_timeout_s <= 0:
            raise InvalidInput("body_timeout_s and safe_timeout_s must be more than 0 seconds")

    def bundle_url(self, sha256: str) -> str:
        """Return where devices fetch a bundle that was uploaded here."""
        return f"{(self.public_url or '').rstrip('/')}{wire.BUNDLE_PATH}{sha256}"
