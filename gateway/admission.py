"""Who may come in now: handshakes beyond a rate, a count or a loop-lag limit are told when to come back.

Live fan-out comes first: a device that waits outside loses nothing, for it is told the state when it enters.
Pure: time is an argument.
"""

from __future__ import annotations

import random

from gateway.config import GatewayConfig


class Admission:
    """A token bucket over handshakes, with the two limits that need no bucket.

    Args:
        config: Limits.
        rng: For the jitter of Retry-After.
    """

    def __init__(self, config: GatewayConfig, rng: random.Random) -> None:
        self._config = config
        self._rng = rng
        # A burst of a quarter second lets a paced fleet through without refusing on noise.
        self._burst = max(1.0, config.admit_per_s / 4)
        self._tokens = self._burst
        self._filled_s = 0.0

    def refuses(self, now_s: float, connections: int, loop_lag_ms: float) -> str | None:
        """Return why a handshake cannot be taken now, None if it can (which uses up one token).

        Args:
            now_s: Monotonic seconds.
            connections: Open in this worker.
            loop_lag_ms: How late the event loop runs.
        """
        config = self._config
        if connections >= config.connections_max:
            return f"{connections} devices are connected, the limit is {config.connections_max}"
        if loop_lag_ms > config.loop_lag_max_ms:
            return f"the loop is {loop_lag_ms:.0f} ms late, the limit is {config.loop_lag_max_ms:g} ms"
        self._tokens = min(self._burst, self._tokens + (now_s - self._filled_s) * config.admit_per_s)
        self._filled_s = now_s
        if self._tokens < 1:
            return f"more than {config.admit_per_s:g} handshakes a second"
        self._tokens -= 1
        return None

    def retry_after_s(self) -> int:
        """Return whole seconds for Retry-After, jittered by half either way, at least 1."""
        return max(1, round(self._config.retry_after_s * self._rng.uniform(0.5, 1.5)))
