"""The audit chain: who did what and when, each entry sealed with the hash of the one before.

Pure. An entry is a line of text, ``<hash> <document>``, where the document is canonical JSON and the hash is the
SHA-256 of the hash before and the document. Whoever edits, cuts out, inserts or reorders entries breaks a link. A
cut at the end leaves all links whole; it is found by what is remembered elsewhere: a hash noted before, or a
campaign's version, which is the number of its entries.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Final

import msgspec
from msgspec import Struct

# What the first entry names as the hash before.
GENESIS: Final = "0" * 64
_HASH_CHARS: Final = 64


class Entry(Struct, frozen=True, kw_only=True):
    """One thing that was done.

    Attributes:
        n: Its place in the chain, from 1.
        at: Unix ms, the store's clock.
        by: Who: an account, an API key's name, or ``scheduler``.
        action: What was pressed.
        campaign: To which campaign, "" for none.
        version: Of the campaign after it, 0 for none.
        details: What was asked for and why, and what was known then: bundles, coverage, forecast.
    """

    n: int
    at: int
    by: str
    action: str
    campaign: str = ""
    version: int = 0
    details: dict[str, Any] = {}


_encoder: Final = msgspec.json.Encoder(order="sorted")
_decoder: Final = msgspec.json.Decoder(Entry)


class Fault(Struct, frozen=True):
    """Where the chain is broken: the place from 1, and how in words."""

    n: int
    words: str


class Verified(Struct, frozen=True):
    """What a look at the whole chain found.

    Attributes:
        entries: How many were read.
        head: The last one's hash, to note elsewhere and hand to the next verification.
        faults: The first of each kind a place has; empty if the chain is whole.
    """

    entries: int
    head: str
    faults: tuple[Fault, ...]


def sealed(before: str, entry: Entry) -> bytes:
    """Return the line of an entry that follows the line with hash ``before``."""
    document = _encoder.encode(entry)
    return _hash(before, document).encode() + b" " + document


def hash_of(line: bytes) -> str:
    """Return the hash that a line claims."""
    return line[:_HASH_CHARS].decode(errors="replace")


def read(line: bytes) -> Entry:
    """Return a line's entry. Raises msgspec.DecodeError or UnicodeDecodeError if it is none."""
    return _decoder.decode(line[_HASH_CHARS + 1 :])


def verify(lines: Iterable[bytes], versions: Mapping[str, int] | None = None, noted: str | None = None) -> Verified:
    """Check every link.

    Args:
        lines: The chain from its beginning.
        versions: Of campaigns, by id, read before the chain was; it must hold at least that many of their entries.
        noted: A hash that was the head once, and so must still be in the chain.
    """
    counted: Counter[str] = Counter()
    faults: list[Fault] = []
    before, n, seen = GENESIS, 0, noted in (None, GENESIS)
    for n, line in enumerate(lines, 1):
        faults += _faults_of(n, line, before, counted)
        before = hash_of(line)
        seen = seen or before == noted
    if not seen:
        faults.append(Fault(n, f"no entry has the hash {noted}, which was noted as the head: the end was cut off"))
    faults += _faults_of_versions(n, counted, versions or {})
    return Verified(n, before, tuple(faults))


def _faults_of(n: int, line: bytes, before: str, counted: Counter[str]) -> Iterator[Fault]:
    document = line[_HASH_CHARS + 1 :]
    if hash_of(line) != _hash(before, document):
        yield Fault(n, "its hash does not follow from the entry before and its own text: one of them was changed")
    try:
        entry = _decoder.decode(document)
    except (msgspec.DecodeError, UnicodeDecodeError) as exc:
        yield Fault(n, f"it cannot be read: {exc}")
        return
    if entry.n != n:
        yield Fault(n, f"it says it is entry {entry.n}: entries were cut out, inserted or reordered")
    if entry.campaign:
        counted[entry.campaign] += 1


def _faults_of_versions(n: int, counted: Counter[str], versions: Mapping[str, int]) -> Iterator[Fault]:
    for campaign, version in sorted(versions.items()):
        if counted[campaign] < version:
            yield Fault(
                n,
                f"campaign {campaign} is at version {version}, the chain holds {counted[campaign]} of its changes",
            )


def _hash(before: str, document: bytes) -> str:
    return hashlib.sha256(before.encode() + b"\n" + document).hexdigest()
