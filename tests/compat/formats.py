"""What one version writes and another reads: the types of it, as a schema that can be compared over versions."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final

import msgspec
from msgspec import inspect

from fanout import keyspace, wire
from fanout.audit import Entry
from fanout.bus.presence import WorkerRecord
from fanout.bus.publication import Publication
from fanout.campaign import Campaign
from fanout.store.accounts import Account
from fanout.store.flights import Flight, Sample
from fanout.store.keys import ApiKey
from fanout.store.replies import Reply
from fanout.store.sessions import Session, Trip

STORED: Final[dict[str, Any]] = {
    "account": Account,
    "api key": ApiKey,
    "audit entry": Entry,
    "campaign": Campaign,
    "first answer": Reply,
    "flight": Flight,
    "flight sample": Sample,
    "presence": WorkerRecord,
    "publication": Publication,
    "session": Session,
    "trip": Trip,
    "wire, from devices": wire.FromDevice,
    "wire, to devices": wire.ToDevice,
}
# Where in the store msgpack of one of them is, by how its key begins; the longer beginnings first.
KEYS: Final[dict[str, Any]] = {
    keyspace.ACCOUNTS: Account,
    keyspace.API_KEYS: ApiKey,
    keyspace.campaign(""): Campaign,
    f"{keyspace.PREFIX}flight:": Flight,
    f"{keyspace.PREFIX}samples:": Sample,
    keyspace.presence(""): WorkerRecord,
    f"{keyspace.PREFIX}reply:": Reply,
    keyspace.session(""): Session,
    keyspace.trip(""): Trip,
    keyspace.LOG: Publication,
    keyspace.RETAINED: Publication,
}
_PROSE: Final = ("description", "title")


def schema() -> dict[str, Any]:
    """Return what is written now: for each stored thing, and everything in it, a JSON Schema without its prose."""
    names = list(STORED)
    refs, components = msgspec.json.schema_components([STORED[name] for name in names])
    everything = {**dict(zip(names, refs, strict=True)), **{f"#{name}": each for name, each in components.items()}}
    # As JSON has it, for that is where it is kept.
    return dict(_plain(msgspec.json.decode(msgspec.json.encode(everything))))


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        # A property may be called title; there, it is a schema itself.
        return {k: _plain(v) for k, v in value.items() if not (k in _PROSE and isinstance(v, str))}
    return [_plain(each) for each in value] if isinstance(value, list) else value


def breaks(old: dict[str, Any], new: dict[str, Any]) -> list[str]:
    """Return what of an older version's schema does not hold any more.

    Fields may be added if they may be missing; values of an enumeration may be added. Nothing else may change, but
    bounds (which only wire messages have) may be loosened by leaving them out.
    """
    faults: list[str] = []
    for name, before in old.items():
        if name not in new:
            faults.append(f"{name} is gone")
            continue
        after = new[name]
        fields, still = before.get("properties", {}), after.get("properties", {})
        faults += [f"{name}.{field} is gone" for field in fields.keys() - still.keys()]
        faults += [
            f"{name}.{field} was {fields[field]}, is {still[field]}"
            for field in fields.keys() & still.keys()
            if not _grown(fields[field], still[field])
        ]
        demanded = set(after.get("required", ())) - set(before.get("required", ()))
        faults += [f"{name}.{field} has to be there, and older versions did not write it" for field in demanded]
        rest = {k: v for k, v in before.items() if k not in ("properties", "required")}
        if not _grown(rest, {k: after.get(k) for k in rest}):
            faults.append(f"{name} was {rest}, is {after}")
    return sorted(faults)


def _grown(old: Any, new: Any) -> bool:
    if isinstance(old, dict) and isinstance(new, dict):
        return all(name in new and _grown(value, new[name]) for name, value in old.items())
    if isinstance(old, list) and isinstance(new, list):
        return all(any(_grown(each, other) for other in new) for each in old)
    return bool(old == new)


def grown(value: Any, kind: Any) -> Any:
    """Return plain data of this type as a later version might write it: with a field more in every struct."""
    return _add(value, inspect.type_info(kind))


def _add(value: Any, kind: inspect.Type) -> Any:
    if isinstance(kind, inspect.Metadata):
        return _add(value, kind.type)
    if isinstance(kind, inspect.UnionType):
        fitting = next(_fitting(value, kind), None)
        return value if fitting is None else _add(value, fitting)
    if isinstance(kind, inspect.StructType) and isinstance(value, dict):
        fields = {field.encode_name: field.type for field in kind.fields}
        inside = {k: _add(v, fields[k]) if k in fields else v for k, v in value.items()}
        return {"of_the_future": {"colour": ["red", 1, None]}, **inside}
    if isinstance(kind, inspect.DictType) and isinstance(value, dict):
        return {k: _add(v, kind.value_type) for k, v in value.items()}
    if isinstance(kind, inspect.ListType | inspect.VarTupleType) and isinstance(value, list):
        return [_add(each, kind.item_type) for each in value]
    return value


def _fitting(value: Any, union: inspect.UnionType) -> Iterator[inspect.Type]:
    for each in union.types:
        if isinstance(each, inspect.StructType) and isinstance(value, dict):
            if each.tag_field is None or value.get(each.tag_field) == each.tag:
                yield each
        elif isinstance(each, inspect.DictType | inspect.ListType) and isinstance(value, dict | list):
            yield each
