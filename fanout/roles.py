"""What callers may do. Knows nothing of how they prove who they are, so that settings and help need no store."""

from __future__ import annotations

import enum


class Role(enum.StrEnum):
    """What a caller may do; each role includes the ones before it."""

    VIEWER = "viewer"  # reads everything
    EDITOR = "editor"  # creates campaigns and bundles, prefetches
    PUBLISHER = "publisher"  # changes what devices show
    ADMIN = "admin"  # everything

    def includes(self, other: Role) -> bool:
        """Tell whether this role may do what ``other`` may."""
        order = list(Role)
        return order.index(self) >= order.index(other)
