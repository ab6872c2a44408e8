"""Instants, Unix ms inside, as text for people and back."""

from __future__ import annotations

import datetime


def iso(at_ms: int) -> str:
    """Return an instant in UTC, ISO 8601: 2026-07-01T20:00:00Z; one out of range as the number it is."""
    epoch = datetime.datetime.fromtimestamp(0, datetime.UTC)
    try:
        when = epoch + datetime.timedelta(milliseconds=at_ms)
    except OverflowError:
        return str(at_ms)
    return when.isoformat(timespec="milliseconds" if at_ms % 1000 else "seconds").replace("+00:00", "Z")
