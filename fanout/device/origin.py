"""Fetching a bundle: from its own URL, or from the usual path on the origin. The digest decides, not the sender.

Knows nothing of retries; the state machine plans those.
"""

from __future__ import annotations

import asyncio
import hashlib
from typing import Final
from urllib.parse import urljoin, urlsplit, urlunsplit

import httpx

from fanout import limits, wire
from fanout.errors import FanoutError

# A slow mobile network moves the largest bundle in this time.
FETCH_TIMEOUT_S: Final = 30.0
# Whoever asks for more has a mistake in a configuration. A TV that keeps away for a day has missed the evening.
RETRY_AFTER_S_MAX: Final = 3600


class FetchFailed(FanoutError):
    """The origin did not deliver the bundle.

    Attributes:
        retry_after_ms: What it asked to be left alone for, 0 if it did not.
    """

    def __init__(self, detail: str, retry_after_ms: int = 0) -> None:
        super().__init__(detail)
        self.retry_after_ms = retry_after_ms


def retry_after_ms(value: str | None) -> int:
    """Return a Retry-After header in milliseconds, at most an hour; 0 if there is none or it is a date.

    A date needs a wall clock, which a TV does not reliably have.
    """
    if not (value and value.isascii() and value.isdigit()):
        return 0
    # Nine digits are more than the limit, and no number is so long that reading it takes time.
    return min(int(value[:9]), RETRY_AFTER_S_MAX) * 1000


def default_origin(url: str) -> str:
    """Return the origin on the host of a WebSocket URL."""
    parts = urlsplit(url)
    return urlunsplit(("https" if parts.scheme == "wss" else "http", parts.netloc, "", "", ""))


class Origin:
    """Where bundles come from.

    Args:
        http: Client to use; the device's token is never given to it, bundles are public and cacheable.
        base_url: For bundles whose URL is a path or missing.
    """

    def __init__(self, http: httpx.AsyncClient, base_url: str) -> None:
        self._http = http
        self._base_url = base_url

    async def get(self, bundle: wire.Bundle) -> str:
        """Return the bundle's content, checked against its digest.

        Raises:
            FetchFailed: It could not be had, is too large, or is not what was asked for.
        """
        url = bundle.url or wire.BUNDLE_PATH + bundle.sha256
        try:
            url = urljoin(self._base_url, url)
            # Over all of it: an origin that drips keeps every single read short, and the device waiting for ever.
            async with asyncio.timeout(FETCH_TIMEOUT_S):
                content = await self._read(url, bundle.bytes or limits.BUNDLE_BYTES_MAX)
        except TimeoutError as exc:
            raise FetchFailed(f"{url}: not delivered within {FETCH_TIMEOUT_S:g} s") from exc
        except (httpx.HTTPError, httpx.InvalidURL, ValueError) as exc:
            # ValueError: a URL so wrong that it cannot even be taken apart.
            raise FetchFailed(f"{url}: {exc or type(exc).__name__}") from exc
        digest = hashlib.sha256(content).hexdigest()
        if digest != bundle.sha256:
            raise FetchFailed(f"{url}: sha256 is {digest}, {bundle.sha256} was expected")
        try:
            return content.decode()
        except UnicodeDecodeError as exc:
            raise FetchFailed(f"{url}: not UTF-8: {exc}") from exc

    async def _read(self, url: str, bytes_max: int) -> bytes:
        content = bytearray()
        async with self._http.stream("GET", url, timeout=FETCH_TIMEOUT_S, follow_redirects=True) as response:
            if response.status_code != httpx.codes.OK:
                after_ms = retry_after_ms(response.headers.get("retry-after"))
                raise FetchFailed(f"{url}: HTTP {response.status_code}", after_ms)
            async for chunk in response.aiter_bytes():
                content += chunk
                if len(content) > bytes_max:
                    raise FetchFailed(f"{url}: more than the {bytes_max} bytes that were announced")
        return bytes(content)
