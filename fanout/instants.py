"""Instants, Unix ms inside, as text for people."""

from __future__ import annotations

import datetime


def iso(at_ms: int) -> str:
    """Return an instant in UTC to the second, 2026-07-01T20:00:00Z; one out of range as the number it is."""
    epoch = datetime.datetime.fromtimestamp(0, datetime.UTC)
    try:
        when = epoch + datetime.timedelta(milliseconds=at_ms)
    except OverflowError:
        return str(at_ms)
    return when.isoformat(timespec="seconds").replace("+00:00", "Z")
