"""Minting device tokens, for demos, tests and load. In production the operator's own login service does it."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from typing import Final

AUDIENCE: Final = "fanout"
TTL_S: Final = 24 * 3600


def mint(
    key: bytes,
    device_id: str,
    topics: Sequence[str],
    attrs: Mapping[str, str] | None = None,
    *,
    ttl_s: float = TTL_S,
    audience: str = AUDIENCE,
) -> str:
    """Return a token (JWT, HS256) for one device.

    Args:
        key: The secret the gateways verify with.
        device_id: At most 128 characters.
        topics: What the device may listen to, at most 16.
        attrs: Such as ``{"platform": "tv"}``, at most 8.
        ttl_s: Seconds until it expires.
        audience: What the gateways expect in ``aud``.
    """
    # Not before it is needed: with all the cryptography under it, it takes longer to load than the rest of a command.
    import jwt

    now_s = time.time()
    claims = {
        "sub": device_id,
        "iat": int(now_s),
        "exp": int(now_s + ttl_s),
        "aud": audience,
        "topics": list(topics),
        "attrs": dict(attrs or {}),
    }
    return jwt.encode(claims, key, algorithm="HS256")
