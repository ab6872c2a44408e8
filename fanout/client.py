"""Calling the control plane's API, for the CLI and the demo. Knows HTTP and problems, nothing of terminals."""

from __future__ import annotations

import ssl
import uuid
from types import TracebackType
from typing import Any, Final
from urllib.parse import urlencode

import httpx

from fanout.errors import FanoutError, InvalidInput

TIMEOUT_S: Final = 15.0
# An action whose outcome is unknown is sent again under its key, so nobody has to do that by hand.
_TRIES: Final = 3


class ApiError(FanoutError):
    """The API refused, or could not be reached.

    Attributes:
        status: HTTP status, 0 if there was no answer.
        problem: The problem document (RFC 9457), empty if there was none.
    """

    def __init__(self, status: int, message: str, problem: dict[str, Any]) -> None:
        super().__init__(message)
        self.status = status
        self.problem = problem


class ControlClient:
    """One control plane.

    Args:
        url: Such as ``http://127.0.0.1:8080``.
        key: API key, "" for none.
    Raises:
        InvalidInput: The URL or the key cannot be sent.
    """

    def __init__(self, url: str, key: str) -> None:
        self.url = url
        headers = {"Authorization": f"Bearer {key}"} if key else {}
        # To read all the certificates there are takes longer than most calls, and without TLS none is needed: then
        # there is not one that is trusted.
        tls = True if url.lower().startswith("https:") else ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        try:
            self._http = httpx.Client(base_url=url, headers=headers, timeout=TIMEOUT_S, trust_env=False, verify=tls)
        except httpx.InvalidURL as exc:
            raise InvalidInput(f"the control plane's URL is {url!r}: {exc}") from exc
        except UnicodeEncodeError as exc:
            raise InvalidInput("the API key is not ASCII; send it as it was printed") from exc

    def __enter__(self) -> ControlClient:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._http.close()

    def get(self, path: str, query: dict[str, Any] | None = None) -> Any:
        """Return the JSON at ``path``. Raises ApiError."""
        return self._json("GET", f"{path}?{urlencode(query)}" if query else path, None, {})

    def text(self, path: str) -> str:
        """Return the text at ``path``. Raises ApiError."""
        return self._call("GET", path, None, {}).text

    def post(self, path: str, body: dict[str, Any], *, if_match: str | None = None) -> Any:
        """Send one action under a key of its own; retried under that key while its outcome is unknown.

        Raises:
            ApiError: It was refused, or its outcome is still unknown.
        """
        return self._act("POST", path, body, if_match)

    def put(self, path: str, body: dict[str, Any], *, if_match: str | None = None) -> Any:
        """Replace what is at ``path``, as `post` does its action."""
        return self._act("PUT", path, body, if_match)

    def _act(self, method: str, path: str, body: dict[str, Any], if_match: str | None) -> Any:
        headers = {"Idempotency-Key": str(uuid.uuid4())}
        if if_match is not None:
            headers["If-Match"] = if_match
        for last in (False,) * (_TRIES - 1) + (True,):
            try:
                return self._json(method, path, body, headers)
            except ApiError as exc:
                if last or exc.status not in (0, 503):
                    raise
        raise AssertionError("unreachable")

    def _json(self, method: str, path: str, body: dict[str, Any] | None, headers: dict[str, str]) -> Any:
        response = self._call(method, path, body, headers)
        try:
            return response.json()
        except ValueError as exc:
            raise ApiError(response.status_code, f"{self.url} answers, but it is no control plane", {}) from exc

    def _call(self, method: str, path: str, body: dict[str, Any] | None, headers: dict[str, str]) -> httpx.Response:
        try:
            response = self._http.request(method, path, json=body, headers=headers)
        except httpx.HTTPError as exc:
            raise ApiError(0, f"the control plane at {self.url} does not answer: {exc}", {}) from exc
        except (TypeError, ValueError) as exc:
            # The body has no JSON form: a date out of a YAML file, or a number that is not one.
            raise InvalidInput(f"this cannot be sent as JSON: {exc}") from exc
        if response.is_success:
            return response
        try:
            problem = response.json()
        except ValueError:
            problem = {}
        if not isinstance(problem, dict):
            problem = {}
        said = problem.get("detail") or problem.get("title") or " ".join(response.text.split())[:200]
        raise ApiError(response.status_code, f"{response.status_code}: {said}", problem)
