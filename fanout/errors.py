"""What can go wrong, split by whose fault it is.

A bug of ours is an ``assert``. The peer's fault is an `InvalidInput` (the API turns it into a problem, the
gateway into a close code). The network's or the store's fault is any other `FanoutError`.
"""

from __future__ import annotations


class FanoutError(Exception):
    """Anything this project raises on purpose."""


class InvalidInput(FanoutError):
    """What was asked cannot be done as asked. The message says what was sent, what is allowed, what to do.

    Attributes:
        path: Of the field that it is about, such as ``$.window_s``; "" if it is about no single one.
    """

    def __init__(self, message: str, path: str = "") -> None:
        super().__init__(message)
        self.path = path


class Refused(FanoutError):
    """The request is well formed, but the state of things forbids it (phase, gate, permission to press)."""


class VersionConflict(Refused):
    """The record changed since the caller last read it.

    Attributes:
        sent: The version the caller based the change on.
        current: The version the store holds.
    """

    def __init__(self, sent: int, current: int) -> None:
        super().__init__(
            f"version {sent} was sent, the current version is {current}; read the campaign again and retry"
        )
        self.sent = sent
        self.current = current


class TooLate(Refused):
    """An instant that the change rested on has come in the meantime.

    Attributes:
        now_ms: The store's clock.
        deadline_ms: The instant.
    """

    def __init__(self, now_ms: int, deadline_ms: int) -> None:
        super().__init__(f"it is {now_ms} (Unix ms), the instant {deadline_ms} has come; read the campaign again")
        self.now_ms = now_ms
        self.deadline_ms = deadline_ms


class ChainMoved(Refused):
    """Somebody else's change came first in the audit chain, so this one's entry does not follow it."""

    def __init__(self) -> None:
        super().__init__("something else was done at the same moment; nothing was changed, try again")


class NotFound(FanoutError):
    """No such campaign, bundle or key."""


class StoreUnavailable(FanoutError):
    """The store did not answer, and nothing was changed."""


class ProviderFailed(FanoutError):
    """The OpenID provider does not answer, or not as it should; the text is for whoever wanted to sign in."""


class OutcomeUnknown(FanoutError):
    """A publication was sent, but nothing proved in time that it is safe. Retry with the same key.

    Attributes:
        key: The idempotency key to retry with.
    """

    def __init__(self, key: str, detail: str) -> None:
        super().__init__(f"outcome unknown: {detail}; retry with the same Idempotency-Key {key!r}")
        self.key = key
