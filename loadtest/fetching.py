"""Bundles from the origin, for all the devices of a process: so many at once, checked, and not kept.

The HTTP client is loaded with the first of these, not with the module: most swarms never ask an origin.
"""

from __future__ import annotations

import asyncio
import hashlib
from typing import Final

_AT_ONCE: Final = 64
_TIMEOUT_S: Final = 10.0


class Fetcher:
    """Fetches bundles.

    Args:
        origin: Where relative URLs lead.
    """

    def __init__(self, origin: str) -> None:
        import httpx

        self._errors = httpx.HTTPError
        self._http = httpx.AsyncClient(base_url=origin, timeout=_TIMEOUT_S, trust_env=False)
        self._gate = asyncio.Semaphore(_AT_ONCE)

    async def fetch(self, url: str, sha256: str) -> bool:
        """Tell whether what the origin has there is the bundle of this digest."""
        try:
            async with self._gate:
                response = await self._http.get(url)
        except self._errors:
            return False
        return response.status_code == 200 and hashlib.sha256(response.content).hexdigest() == sha256

    async def close(self) -> None:
        """Let go of the connections."""
        await self._http.aclose()
