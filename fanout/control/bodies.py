"""Reading a request's body into a struct, within limits, and saying what is wrong with it."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Iterator
from typing import Any, Final, TypeVar

import msgspec
from msgspec import inspect
from starlette.requests import ClientDisconnect, Request

from fanout.control.problems import Problem

_SENT_CHARS_MAX: Final = 200
_AT: Final = re.compile(r"^(?P<what>.*?)(?: - at `(?P<path>(?:key in )?\$.*)`)?$", re.DOTALL)
_STEP: Final = re.compile(r"\.([^.\[\]]+)|\[(\d+)\]")
# A body that will not be read is still on its way; the connection is of no use to the next request.
_GOODBYE: Final = {"Connection": "close"}

T = TypeVar("T")


async def read(request: Request, bytes_max: int, timeout_s: float) -> bytes:
    """Return the body.

    Raises:
        Problem: 413 as soon as it is known to be too long, 408 if it takes too long.
    """
    declared = request.headers.get("content-length", "")
    if declared.isascii() and declared.isdigit() and int(declared) > bytes_max:
        raise _too_large(int(declared), bytes_max)
    chunks: list[bytes] = []
    size = 0
    try:
        async with asyncio.timeout(timeout_s):
            async for chunk in request.stream():
                size += len(chunk)
                if size > bytes_max:
                    raise _too_large(size, bytes_max)
                chunks.append(chunk)
    except TimeoutError as exc:
        raise Problem(
            408, "slow-body", "Body too slow", f"The body took more than {timeout_s:g} s.", dict(_GOODBYE)
        ) from exc
    except ClientDisconnect as exc:
        raise Problem(400, "broken-off", "Body broken off", "The connection ended within the body.") from exc
    return b"".join(chunks)


def decode(request: Request, raw: bytes, kind: type[T], *, optional: bool) -> T:
    """Return the body as ``kind``.

    Args:
        optional: An empty body stands for ``{}``.
    Raises:
        Problem: 415 for another content type, 400 for what is no JSON, 422 for JSON of another shape.
    """
    if not raw and optional:
        raw = b"{}"
    else:
        sent = request.headers.get("content-type", "")
        if sent.partition(";")[0].strip().lower() != "application/json":
            raise Problem(
                415,
                "content-type",
                "Not JSON",
                f"Content-Type is {sent[:80]!r}; send application/json.",
                {"Accept": "application/json"},
            )
    try:
        return msgspec.json.decode(raw, type=kind)
    except msgspec.ValidationError as exc:
        raise _wrong_shape(str(exc), raw, kind) from exc
    except (msgspec.DecodeError, UnicodeDecodeError) as exc:
        raise Problem(400, "bad-json", "Not JSON", f"The body cannot be read as JSON: {exc}") from exc
    except RecursionError as exc:
        raise Problem(400, "bad-json", "Not JSON", "The body is nested too deeply to be read.") from exc


def query(request: Request, kind: type[T]) -> T:
    """Return the query string as this struct. Raises Problem 422: its field, what is allowed, what was sent."""
    sent = dict(request.query_params)
    try:
        return msgspec.convert(sent, kind, strict=False)
    except msgspec.ValidationError as exc:
        raise _wrong_shape(str(exc), msgspec.json.encode(sent), kind) from exc


def _too_large(size: int, bytes_max: int) -> Problem:
    return Problem(
        413,
        "too-large",
        "Body too large",
        f"The body has {size} bytes or more, the limit is {bytes_max} bytes.",
        dict(_GOODBYE),
        sent=size,
        allowed=bytes_max,
    )


def _wrong_shape(message: str, raw: bytes, kind: type[Any]) -> Problem:
    match = _AT.match(message)
    assert match is not None, "the pattern matches every text"
    what, path = match["what"], match["path"] or "$"
    extra: dict[str, Any] = {"path": path, "allowed": what}
    if "unknown field" in what and (allowed := _fields_at(path, kind)):
        extra["allowed"] = allowed
        what += f"; allowed are {', '.join(extra['allowed'])}"
    elif (found := _at(path, raw)) is not None:
        extra["sent"] = found
    return Problem(422, "invalid-input", "Invalid input", f"{what}, at {path}", **extra)


def _fields_at(path: str, kind: type[Any]) -> list[str]:
    """Return the fields that are allowed at a path such as ``$.variants[0].bundle``; none if it is no struct."""
    here = [inspect.type_info(kind)]
    for name, _ in _STEP.findall(path):
        here = [inner for each in here for inner in _within(each, name)]
    fields = [field.encode_name for each in here if isinstance(each, inspect.StructType) for field in each.fields]
    return sorted(fields)


def _within(kind: inspect.Type, name: str) -> Iterator[inspect.Type]:
    """Yield what a kind holds in a field, or, without a name, as an item; of a union, what any of its kinds holds."""
    match kind:
        case inspect.UnionType(types=types):
            for each in types:
                yield from _within(each, name)
        case inspect.StructType(fields=fields):
            yield from (field.type for field in fields if field.encode_name == name)
        case inspect.ListType(item_type=item):
            yield item
        case inspect.DictType(value_type=value):
            yield value


def _at(path: str, raw: bytes) -> str | None:
    """Return what was sent at a path such as ``$.variants[0].match``, cut short; None if it is not there."""
    try:
        value = msgspec.json.decode(raw)
        for name, index in _STEP.findall(path):
            value = value[name] if name else value[int(index)]
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError, KeyError, IndexError, TypeError):
        # The first wrong value was reported before the rest of the body was read: it may be anything.
        return None
    return msgspec.json.encode(value).decode()[:_SENT_CHARS_MAX]
