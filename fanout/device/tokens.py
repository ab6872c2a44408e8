"""The device's token: had from the app, kept until a gateway refuses it."""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable
from typing import Final

from fanout.errors import InvalidInput

# What a header can carry (RFC 6750, section 2.1). Checked here, because the error of a library that is given anything
# else would hold the token, and errors are logged.
_TOKEN: Final = re.compile(r"[A-Za-z0-9._~+/-]+=*")


class TokenKeeper:
    """The token, from the app's ``get_token``: asked for at every connection it would only make a herd elsewhere."""

    def __init__(self, get_token: Callable[[], Awaitable[str] | str]) -> None:
        self._get_token = get_token
        self._token: str | None = None

    async def get(self) -> str:
        """Return the token.

        Raises:
            InvalidInput: The app's callback returned something else.
            Exception: Whatever the app's callback raises.
        """
        if self._token is None:
            given = self._get_token()
            token = given if isinstance(given, str) else await given
            if not isinstance(token, str):
                raise InvalidInput(f"get_token returned {type(token).__name__}; return the token as a str")
            if not _TOKEN.fullmatch(token):
                raise InvalidInput(f"get_token returned {len(token)} characters, and no token; return it as it came")
            self._token = token
        return self._token

    def refused(self) -> None:
        """Ask the app for another next time."""
        self._token = None
