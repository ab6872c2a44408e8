"""What a device's state machine asks of whoever drives it. Pure data.

A driver carries actions out in the order given. The last four only tell the application something; nothing
depends on them.
"""

from __future__ import annotations

from msgspec import Struct

from fanout import wire


class Fetch(Struct, frozen=True, tag_field="do", tag="fetch"):
    """Get the bundle from the origin, check its SHA-256, then call `stored` or `fetch_failed`.

    Attributes:
        campaign: For whom, with ``rev``: for logs.
        bundle: ``url`` None means the usual path on the origin; ``bytes`` 0 means unknown.
    """

    campaign: str
    rev: int
    bundle: wire.Bundle


class Store(Struct, frozen=True, tag_field="do", tag="store"):
    """Keep this content, whose digest is checked already. The machine counts on it from now on."""

    sha256: str
    content: str


class Drop(Struct, frozen=True, tag_field="do", tag="drop"):
    """Forget these bundles; no campaign uses them any more."""

    campaign: str
    digests: tuple[str, ...]


class Send(Struct, frozen=True, tag_field="do", tag="send"):
    """Write this message on the newest socket that was welcomed."""

    message: wire.FromDevice


class Reopen(Struct, frozen=True, tag_field="do", tag="reopen"):
    """Open a new socket now; leave the old one once the new one has its welcome."""


class Flip(Struct, frozen=True, tag_field="do", tag="flip"):
    """Show this stage now. The report is a `Send` of its own.

    Attributes:
        bundle: Digest of the content, None for the built-in generic presentation.
        shadow: A rehearsal: everything happens, but the screen.
        due_ms: The device's own instant, Unix ms by the server's clock.
        late_ms: How long after ``due_ms`` this call came.
    """

    campaign: str
    rev: int
    stage: str
    bundle: str | None
    shadow: bool
    due_ms: int
    late_ms: float


class Prefetched(Struct, frozen=True, tag_field="do", tag="prefetched"):
    """The device holds the bundle of this prefetch."""

    campaign: str
    rev: int
    sha256: str
    via: wire.Via


class Cancelled(Struct, frozen=True, tag_field="do", tag="cancelled"):
    """Something this device had armed was taken back by the cancel ``rev``."""

    campaign: str
    rev: int


class Closed(Struct, frozen=True, tag_field="do", tag="closed"):
    """The campaign is over: stop showing it."""

    campaign: str
    rev: int


Action = Fetch | Store | Drop | Send | Reopen | Flip | Prefetched | Cancelled | Closed
