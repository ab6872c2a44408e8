"""The short way for requests: what one device asked, the next ones ask too, but for what cannot matter.

The library judges a request of a new kind. When it has said yes, and the device was let in, the head is kept here
without what differs from device to device: query, key and token, and the fields that nobody reads. A later
head that is the same byte for byte, with a plain query, key and token in the same places, is answered from here;
the library would say the same, which tests/gateway/test_precedents.py holds. It may only say yes: everything
else goes to the library. It is no judge of tokens; they are verified either way.
"""

from __future__ import annotations

import base64
import hashlib
import re
from typing import Final, NamedTuple

from websockets.http11 import MAX_LINE_LENGTH, MAX_NUM_HEADERS
from websockets.utils import GUID

from fanout import wire

# A fleet sends a dozen kinds of heads, one a client library, origin and encoding. Only holders of a good token add to
# them; were it to fill, emptying it costs each kind one visit to the library, while keeping it would shut others out.
KINDS_MAX: Final = 256
_HEAD_END: Final = b"\r\n\r\n"
_GUID: Final = GUID.encode()
# Stands where something was cut out. No head that the library accepts contains it.
_CUT: Final = b"\0"

# Possessive quantifiers: whatever is sent, every byte is looked at a few times only.
_REQUEST_LINE: Final = re.compile(rb"GET " + re.escape(wire.PATH.encode()) + rb"(?:\?([!-~]*+))? HTTP/1\.1(?=\r\n)")
_KEY: Final = re.compile(rb"\r\n(?i:sec-websocket-key): ([A-Za-z0-9+/]{22}==)")
# Of the characters of a JWT, none of which ends a list's entry or a line. What follows it is not cut out.
_TOKEN: Final = re.compile(
    rb"\r\n(?i:authorization: bearer |sec-websocket-protocol: fanout\.v1\.[a-z]++, ?bearer\.)([-\w.]++)"
)
# Any other field than those that the library or we read: often not the same twice, above all behind a proxy. With a
# value that the library takes: a line that is not well formed stays, and so there is no precedent for it.
_UNREAD: Final = re.compile(
    rb"\r\n(?!(?i:authorization|connection|content-length|origin|sec-websocket-[a-z]++|transfer-encoding|upgrade):)"
    rb"[-!#$%&'*+.^_`|~0-9A-Za-z]++:[\t -~\x80-\xff]*+(?=\r\n)"
)


class Upgradable(NamedTuple):
    """A request that may be upgraded, as far as HTTP goes; token and query are yet to be checked.

    Attributes:
        response: The 101.
        query: What follows the path's question mark.
    """

    response: bytes
    encoding: wire.Encoding
    query: str
    token: str


class _Parts(NamedTuple):
    kind: bytes  # what is left of the head
    query: bytes
    key: bytes
    token: bytes
    end: int


class _Precedent(NamedTuple):
    encoding: wire.Encoding
    before: bytes  # the response up to the accept value
    after: bytes


class Precedents:
    """The kinds of requests that one worker has upgraded.

    Args:
        head_bytes_max: Longest request.
    """

    def __init__(self, head_bytes_max: int) -> None:
        # A head within this has no line that is too long for the library.
        self._head_bytes_max = min(head_bytes_max, MAX_LINE_LENGTH)
        self._kinds: dict[bytes, _Precedent] = {}

    def __len__(self) -> int:
        return len(self._kinds)

    def find(self, data: bytes) -> tuple[Upgradable, int] | None:
        """Return the request that ``data`` begins with, and where it ends; None for "ask the library"."""
        parts = _parts(data, self._head_bytes_max)
        if parts is None or (precedent := self._kinds.get(parts.kind)) is None:
            return None
        response = precedent.before + _accept(parts.key) + precedent.after
        asked = Upgradable(response, precedent.encoding, parts.query.decode(), parts.token.decode())
        return asked, parts.end

    def add(self, head: bytes, judged: Upgradable) -> None:
        """Remember a request that the library accepted and whose token was good, if it has the usual form.

        Args:
            head: The whole request, as it was sent.
            judged: What was found in it.
        """
        parts = _parts(head, self._head_bytes_max)
        # What was judged must be what would be cut out of the next one, and be nowhere else: then it is read there.
        if parts is None or parts.token != judged.token.encode() or parts.token in parts.kind:
            return
        before, accept, after = judged.response.partition(_accept(parts.key))
        if accept:
            if len(self._kinds) >= KINDS_MAX:
                self._kinds.clear()
            self._kinds[parts.kind] = _Precedent(judged.encoding, before, after)


def _parts(data: bytes, bytes_max: int) -> _Parts | None:
    """Take a head apart; None if it is cut short, too long, or not in the usual form."""
    last = data.find(_HEAD_END, 0, bytes_max) + 2  # where the last field's line ends
    line, key, token = _REQUEST_LINE.match(data), _KEY.search(data, 0, last), _TOKEN.search(data, 0, last)
    if last < 2 or line is None or key is None or token is None:
        return None
    if data.count(b"\r\n", 0, last) > MAX_NUM_HEADERS:
        return None
    (a, b), (c, d) = sorted((key.span(1), token.span(1)))
    kind = _UNREAD.sub(b"", data[line.end() : a] + _CUT + data[b:c] + _CUT + data[d:last])
    return _Parts(kind, line[1] or b"", key[1], token[1], last + 2)


def _accept(key: bytes) -> bytes:
    """Return the accept value for a key (RFC 6455 section 4.2.2)."""
    return base64.b64encode(hashlib.sha1(key + _GUID).digest())
