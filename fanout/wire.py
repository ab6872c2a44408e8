"""The device protocol, version 1: messages to and from devices, their two encodings, close codes. Pure.

Knows nothing of sockets, frames or the bus. docs/protocol.md is the same in prose, for other languages.
Unknown fields are ignored by both sides and unknown message types decode to None, so that either side may
learn new ones first.
"""

from __future__ import annotations

import enum
from collections.abc import Callable
from typing import Annotated, Any, Final, Generic, Literal, TypeVar, get_args

import msgspec
from msgspec import Meta, Struct, field

from fanout import limits

PATH: Final = "/v1/connect"
BUNDLE_PATH: Final = "/v1/bundles/"
# A browser cannot set headers on a WebSocket, so its token travels as a second subprotocol entry.
BEARER_SUBPROTOCOL: Final = "bearer."
# A device that learns of an activation after its window is over spreads over min(this, the window).
CATCH_UP_MS: Final = 5_000
# Without a beacon for this many beacon periods a device stops trusting what it has armed.
GRACE_BEACONS: Final = 3


class Encoding(enum.StrEnum):
    """How messages become bytes. Fixed per connection by the subprotocol."""

    MSGPACK = "msgpack"
    JSON = "json"

    @property
    def subprotocol(self) -> str:
        return f"fanout.v1.{self.value}"


BY_SUBPROTOCOL: Final = {encoding.subprotocol: encoding for encoding in Encoding}

Name = Annotated[str, Meta(min_length=1, max_length=limits.NAME_CHARS_MAX)]
Miss = Literal["fetch", "generic", "silent"]
ReportKind = Literal["ready", "active", "failed"]
# How a device came by it: the bundle inline, from the origin, from its cache; or told again on resuming.
Via = Literal["inline", "fetch", "cache", "generic", "resume"]
# Whole numbers that a double holds exactly, so that every language reads the same.
Natural = Annotated[int, Meta(ge=0, le=2**53 - 1)]
Milliseconds = Natural
Revision = Natural
# A device puts digests into URLs and file names, so nothing else may come in their place. (The pattern has no `$`,
# which would let a line break follow.)
Digest = Annotated[str, Meta(pattern=r"^[0-9a-f]{64}\Z", max_length=64)]
# Bounds that leave no room for NaN and infinity, with which a device would wait for ever.
Share = Annotated[float, Meta(ge=0, le=1)]
Seconds = Annotated[float, Meta(ge=0, le=1e9)]


class Bundle(Struct, frozen=True, omit_defaults=True):
    """Where a bundle's canonical bytes are: named by SHA-256, at a URL, or right here.

    Attributes:
        sha256: 64 lower-case hex digits of the content's SHA-256.
        bytes: Length of the content.
        url: Absolute, or a path on the origin the device was configured with.
        inline: The content itself, UTF-8 text; encode it to check the digest.
    """

    sha256: Digest
    bytes: Natural
    url: str | None = None
    inline: str | None = None


class Prefetch(Struct, frozen=True, tag_field="t", tag="prefetch"):
    """Get this bundle at your slot in the window that starts at ``from`` (Unix ms), and keep it."""

    campaign: Name
    rev: Revision
    bundle: Bundle
    from_ms: Milliseconds = field(name="from")
    window_ms: Milliseconds
    shadow: bool = False


class Activate(Struct, frozen=True, tag_field="t", tag="activate"):
    """Show this stage of that bundle at ``at`` (Unix ms) + your slot. ``bundle`` is its SHA-256."""

    campaign: Name
    rev: Revision
    stage: Name
    bundle: Digest
    at: Milliseconds
    window_ms: Milliseconds
    share: Share = 1.0
    miss: Miss = "fetch"
    shadow: bool = False


class Cancel(Struct, frozen=True, tag_field="t", tag="cancel"):
    """Forget what is armed and had not begun when this was published: every earlier activation with at > rev."""

    campaign: Name
    rev: Revision


class Close(Struct, frozen=True, tag_field="t", tag="close"):
    """Drop the campaign and its cached content."""

    campaign: Name
    rev: Revision


class ReconnectPolicy(Struct, frozen=True):
    """Backoff after a lost connection: full jitter between 0 and min(cap_ms, base_ms * 2**attempt)."""

    base_ms: Milliseconds
    cap_ms: Milliseconds


StateMessage = Prefetch | Activate | Cancel | Close


class Welcome(Struct, frozen=True, tag_field="t", tag="welcome"):
    """The first message on every connection.

    Attributes:
        session: Names this connection in the gateway's logs.
        now: The server's clock, Unix ms.
        beacon_s: Seconds between beacons.
        reconnect: How to back off.
        state: What stands and is newer than the device's ``since``, in order of ``rev``.
    """

    session: str
    now: Milliseconds
    beacon_s: Seconds
    reconnect: ReconnectPolicy
    state: list[StateMessage] = []


class Beacon(Struct, frozen=True, tag_field="t", tag="beacon"):
    """Liveness, a clock sample, and the newest ``rev`` this device should have seen."""

    now: Milliseconds
    rev: Revision


class Reconnect(Struct, frozen=True, tag_field="t", tag="reconnect"):
    """Open a new socket at a random instant within ``within_ms``, then leave this one."""

    within_ms: Milliseconds


class Report(Struct, frozen=True, tag_field="t", tag="report"):
    """What happened to this device: it holds the bundle, it flipped, or it could not.

    Attributes:
        ms: ready: how long the fetch took. active: how late the flip was against its slot. failed: 0.
    """

    campaign: Name
    rev: Revision
    kind: ReportKind
    ms: Milliseconds = 0
    via: Via = "cache"


class Sync(Struct, frozen=True, tag_field="t", tag="sync"):
    """Tell me what is newer than ``since``: answered by state messages, then a beacon."""

    since: Revision


Topics = Annotated[list[Name], Meta(min_length=1, max_length=limits.TOPICS_PER_DEVICE_MAX)]


class Subscribe(Struct, frozen=True, tag_field="t", tag="subscribe"):
    """Start receiving these topics; only ones the token allows."""

    topics: Topics


class Unsubscribe(Struct, frozen=True, tag_field="t", tag="unsubscribe"):
    """Stop receiving these topics."""

    topics: Topics


ToDevice = Welcome | Prefetch | Activate | Cancel | Close | Beacon | Reconnect
FromDevice = Report | Sync | Subscribe | Unsubscribe


class CloseCode(enum.IntEnum):
    """Why a socket is closed. Up to 4499 the device comes back with backoff, from 4500 on it does not.

    1002, 1003, 1007, 1008 and 1009 say that the device itself is broken: it comes back, with the longest backoff.
    """

    GOING_AWAY = 1001
    PROTOCOL_ERROR = 1002
    UNSUPPORTED_DATA = 1003
    INVALID_DATA = 1007
    POLICY = 1008
    TOO_BIG = 1009
    INTERNAL_ERROR = 1011
    SERVICE_RESTART = 1012
    TRY_AGAIN_LATER = 1013
    SLOW_CONSUMER = 4000
    TOKEN_EXPIRED = 4001
    UNRESPONSIVE = 4002
    TOPIC_FORBIDDEN = 4500


def may_return(code: int) -> bool:
    """Tell whether a device may open a new connection after this close code."""
    return code < 4500


class WireError(Exception):
    """The peer's bytes are no message: not the encoding agreed on, or a known type with wrong fields."""


class _Tag(Struct):
    t: str


M = TypeVar("M")


class _Codec(Generic[M]):
    """Decodes one direction's messages in both encodings.

    Args:
        union: The message types.
    """

    def __init__(self, union: Any) -> None:
        self._known = {cls.__struct_config__.tag for cls in get_args(union)}
        self._decoders: dict[Encoding, Callable[[bytes], M]] = {
            Encoding.MSGPACK: msgspec.msgpack.Decoder(union).decode,
            Encoding.JSON: msgspec.json.Decoder(union).decode,
        }

    def decode(self, data: bytes, encoding: Encoding) -> M | None:
        try:
            return self._decoders[encoding](data)
        except _UNREADABLE as exc:
            try:
                tag = _TAG_DECODERS[encoding](data).t
            except _UNREADABLE as inner:
                raise WireError(str(inner)) from inner
            if tag in self._known:
                raise WireError(f"{tag}: {exc}") from exc
            return None


# A deeply nested unknown field exhausts the decoder's stack: that is the sender's fault, too.
_UNREADABLE: Final = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)
_TAG_DECODERS: Final[dict[Encoding, Callable[[bytes], _Tag]]] = {
    Encoding.MSGPACK: msgspec.msgpack.Decoder(_Tag).decode,
    Encoding.JSON: msgspec.json.Decoder(_Tag).decode,
}
_ENCODERS: Final[dict[Encoding, Callable[[Any], bytes]]] = {
    Encoding.MSGPACK: msgspec.msgpack.Encoder().encode,
    Encoding.JSON: msgspec.json.Encoder().encode,
}
_to_device: Final = _Codec[ToDevice](ToDevice)
_from_device: Final = _Codec[FromDevice](FromDevice)


_state: Final = _Codec[StateMessage](StateMessage)


class _LaterWelcome(Struct):
    """A welcome whose state may hold types of a later version."""

    t: Literal["welcome"]
    session: str
    now: Milliseconds
    beacon_s: Seconds
    reconnect: ReconnectPolicy
    state: list[msgspec.Raw]


_LATER_WELCOMES: Final[dict[Encoding, Callable[[bytes], _LaterWelcome]]] = {
    Encoding.MSGPACK: msgspec.msgpack.Decoder(_LaterWelcome).decode,
    Encoding.JSON: msgspec.json.Decoder(_LaterWelcome).decode,
}


def _known_of(data: bytes, encoding: Encoding, refusal: WireError) -> Welcome:
    """Return a refused welcome without the types of state it was refused for; or raise the refusal."""
    try:
        later = _LATER_WELCOMES[encoding](data)
    except _UNREADABLE:
        raise refusal from None
    told = [_state.decode(bytes(raw), encoding) for raw in later.state]
    known = [message for message in told if message is not None]
    return Welcome(later.session, later.now, later.beacon_s, later.reconnect, known)


def tag_of(message: ToDevice | FromDevice) -> str:
    """Return a message's type as it is written on the wire, e.g. ``"activate"``."""
    tag = message.__struct_config__.tag
    assert isinstance(tag, str)
    return tag


def encode(message: ToDevice | FromDevice, encoding: Encoding) -> bytes:
    """Return the message's bytes; JSON is UTF-8 without spaces."""
    return _ENCODERS[encoding](message)


def decode_to_device(data: bytes, encoding: Encoding) -> ToDevice | None:
    """Read what a gateway sent.

    Returns:
        The message, or None for a type this version does not know.
    Raises:
        WireError: Not a message in this encoding.
    """
    try:
        return _to_device.decode(data, encoding)
    except WireError as refusal:
        return _known_of(data, encoding, refusal)


def decode_from_device(data: bytes, encoding: Encoding) -> FromDevice | None:
    """Read what a device sent; as `decode_to_device`."""
    return _from_device.decode(data, encoding)
