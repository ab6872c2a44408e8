"""A browser without a window, for what serves on this machine."""

from __future__ import annotations

from typing import Any

import httpx

from fanout.client import TIMEOUT_S


def web(**options: Any) -> httpx.AsyncClient:
    """Return an HTTP client; the options are httpx's.

    Nothing here speaks TLS, and to read all the certificates that httpx trusts takes longer than most answers. Nor
    are the five seconds that it would wait for an answer enough on a busy machine: it waits as our own clients do.
    """
    return httpx.AsyncClient(**{"trust_env": False, "verify": False, "timeout": TIMEOUT_S, **options})
