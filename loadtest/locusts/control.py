"""The night's presses: the few calls of the control plane's API that an operator makes, each under one key.

Knows HTTP and problem documents, nothing of nights.
"""

from __future__ import annotations

import uuid
from typing import Any, Final

import httpx

from fanout.errors import FanoutError

_TIMEOUT_S: Final = 15.0
# An action whose outcome is unknown is sent again under its key.
_TRIES: Final = 3


class Pressed(FanoutError):
    """A press was refused, or nobody answered.

    Attributes:
        status: Of HTTP, 0 without an answer.
    """

    def __init__(self, status: int, words: str) -> None:
        super().__init__(words)
        self.status = status


class Control:
    """One control plane.

    Args:
        url: Where its API is.
        key: An API key.
    """

    def __init__(self, url: str, key: str) -> None:
        headers = {"Authorization": f"Bearer {key}"}
        self._http = httpx.Client(base_url=url, headers=headers, timeout=_TIMEOUT_S, trust_env=False)

    def close(self) -> None:
        """Let go of the connections."""
        self._http.close()

    def post(self, path: str, body: dict[str, Any]) -> dict[str, Any]:
        """Press something; return the campaign after it.

        Raises:
            Pressed: It was refused, or what became of it is unknown.
        """
        headers = {"Idempotency-Key": str(uuid.uuid4())}
        failed = Pressed(0, "not sent")
        for _ in range(_TRIES):
            try:
                response = self._http.post(path, json=body, headers=headers)
            except httpx.HTTPError as exc:
                failed = Pressed(0, f"the control plane does not answer: {exc or type(exc).__name__}")
                continue
            if response.is_success:
                return dict(response.json())
            failed = Pressed(response.status_code, f"{response.status_code}: {_said(response)}")
            if response.status_code != 503:
                break
        raise failed


def _said(response: httpx.Response) -> str:
    try:
        return str(response.json()["detail"])
    except (ValueError, KeyError, TypeError):
        return " ".join(response.text.split())[:200]
