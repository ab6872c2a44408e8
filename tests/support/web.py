"""A browser without a window, for what serves on this machine."""

from __future__ import annotations

from typing import Any

import httpx


def web(**options: Any) -> httpx.AsyncClient:
    """Return an HTTP client; the options are httpx's.

    Nothing here speaks TLS, and to read all the certificates that httpx trusts takes longer than most answers.
    """
    return httpx.AsyncClient(trust_env=False, verify=False, **options)
