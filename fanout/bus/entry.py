"""How one log entry is framed, on the doorbell, in the retained hash and in the stream. Pure.

The script writes "<rev> <prev> <key> " and then the body, so the header can be read without decoding it.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple, TypeAlias

from fanout.bus.publication import NotAPublication, Publication, unpack

# As the stream has it: its id, and its fields.
StreamEntry: TypeAlias = tuple[bytes, dict[bytes, bytes]]


class Stored(NamedTuple):
    """What the store retains in one field.

    Attributes:
        field: The field's name.
        campaign: Whose it is.
        own: The revision it was first accepted under; the publication's is later if it was put back under another.
        publication: None if this version cannot read it.
    """

    field: str
    campaign: str
    own: int
    publication: Publication | None


def from_doorbell(entry: bytes) -> Publication:
    """Read a doorbell message or a retained value. Raises NotAPublication."""
    parts = entry.split(b" ", 3)
    try:
        rev, prev, key, body = int(parts[0]), int(parts[1]), parts[2].decode(), parts[3]
    except (ValueError, IndexError) as exc:
        raise NotAPublication(f"entry begins {entry[:60]!r}, not with revision, predecessor and key") from exc
    return unpack(body, rev=rev, prev=prev, key=key)


def retained_name(field: bytes) -> tuple[str, int]:
    """Return campaign and revision from a retained field's name.

    The revision is the one under which the entry was first accepted, if it was put back under a later one.

    Raises:
        NotAPublication: The name is none the script gives.
    """
    words = field.split(b" ")
    try:
        return words[0].decode(), int(words[-1])
    except ValueError as exc:
        raise NotAPublication(f"retained field {field[:60]!r} names no campaign and revision") from exc


def read_retained(fields: Mapping[bytes, bytes]) -> tuple[list[Stored], list[str]]:
    """Read the retained hash.

    Returns:
        What has a name the script gives, and why the rest, and some of that, cannot be read.
    """
    stored: list[Stored] = []
    unreadable: list[str] = []
    for name, value in fields.items():
        try:
            campaign, own = retained_name(name)
        except NotAPublication as exc:
            unreadable.append(str(exc))
            continue
        publication = None
        try:
            publication = from_doorbell(value)
        except NotAPublication as exc:
            unreadable.append(str(exc))
        stored.append(Stored(name.decode(), campaign, own, publication))
    return stored, unreadable


def rev_of(stream_id: bytes) -> int:
    """Return the revision in a stream id ``<rev>-0``."""
    return int(stream_id.split(b"-", 1)[0])


def from_stream(stream_id: bytes, fields: Mapping[bytes, bytes]) -> Publication:
    """Read a stream entry. Raises NotAPublication."""
    try:
        return unpack(fields[b"body"], rev=rev_of(stream_id), prev=int(fields[b"prev"]), key=fields[b"key"].decode())
    except (KeyError, ValueError) as exc:
        raise NotAPublication(f"stream entry {stream_id!r} lacks {exc}") from exc
