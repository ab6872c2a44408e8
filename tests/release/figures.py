"""What a demo has to show."""

from __future__ import annotations

FIELDS = {
    "devices",
    "connected",
    "ready",
    "activated",
    "flip_error_ms",
    "flip_rate_peak_to_mean",
    "origin_requests",
    "prefetch_seconds",
    "activate_seconds",
}
DEVICES = 200


def judge(found: dict[str, object]) -> None:
    """Hold the figures that a demo has written."""
    assert set(found) >= FIELDS
    assert {found[name] for name in ("devices", "connected", "ready", "activated")} == {DEVICES}
    assert found["flipped_twice"] == 0
    assert found["origin_requests"] == 0, "everything travelled inline"
    error, flips = found["flip_error_ms"], found["flips_per_s"]
    peak, drawn = found["flip_rate_peak_to_mean"], found["slots_peak_to_mean"]
    assert isinstance(error, dict)
    assert set(error) == {"p50", "p99", "max"}
    assert isinstance(flips, list)
    assert sum(flips) == DEVICES
    assert isinstance(peak, float)
    assert isinstance(drawn, float)
    # Flips are as even as the slots they keep to, as far as devices keep to them: who is late may be counted in the
    # next second. In a hundred ms, that is a tenth of a second's devices; three times as many, for they are few.
    assert peak <= drawn + 0.15 + 3 * error["p99"] / 1000
