"""A short way for the commonest request there is: a whole GET in one read, plain ASCII, nothing odd.

It may only say "this is the request". Whatever is cut, malformed, too long or unusual goes to the library's
parser, whose word is final. A regular expression without backtracking checks the whole head at once, in a
quarter of the time; tests/gateway/test_plainrequest.py holds that the library reads the same.
"""

from __future__ import annotations

import re
from typing import Final

from websockets.datastructures import Headers
from websockets.http11 import Request

# The library's own limits, per line and per request; one read that is shorter cannot break the first.
_BYTES_MAX: Final = 8192
_FIELDS_MAX: Final = 128
# Possessive quantifiers: every byte is looked at once, whatever is sent. Tokens are those of RFC 9110.
_HEAD: Final = re.compile(
    rb"GET (/[!-~]*+) HTTP/1\.1\r\n"
    rb"((?:[-!#$%&'*+.^_`|~0-9A-Za-z]++:[\t -~]*+\r\n)++)\r\n"
)


def plain_request(data: bytes) -> tuple[Request, int] | None:
    """Return the request that ``data`` begins with, and where it ends; None for "ask the library"."""
    if len(data) > _BYTES_MAX or (found := _HEAD.match(data)) is None:
        return None
    headers = Headers()
    lines = found[2].decode("ascii").split("\r\n")
    if len(lines) > _FIELDS_MAX:
        return None
    for line in lines[:-1]:
        name, _, value = line.partition(":")
        headers.set_insecure(name, value.strip(" \t"))
    if "Content-Length" in headers or "Transfer-Encoding" in headers:
        return None
    return Request(found[1].decode("ascii"), headers), found.end()
