"""The messages of a script, as plain data: so that a scenario can say anything, also what no gateway would. Pure."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable
from typing import Any

import msgspec

from fanout import wire

Message = dict[str, Any]


def content_of(name: str) -> str:
    """Return a bundle's content that no other name has; it is not all ASCII, so its length is not its bytes."""
    return json.dumps({"stages": {"live": {"title": f"LIVE 試合 {name}"}}}, ensure_ascii=False)


def sha256(content: str) -> str:
    return hashlib.sha256(content.encode()).hexdigest()


def prefetch(
    campaign: str, rev: int, content: str, from_ms: int, window_ms: int, *, inline: str | None = None, **more: Any
) -> Message:
    """Return a prefetch.

    Args:
        content: What its digest and length name.
        inline: What it holds; None leaves it to be fetched.
        more: Further fields; ``url`` goes into the bundle.
    """
    bundle: Message = {"sha256": sha256(content), "bytes": len(content.encode())}
    if inline is not None:
        bundle["inline"] = inline
    if "url" in more:
        bundle["url"] = more.pop("url")
    return {
        "t": "prefetch",
        "campaign": campaign,
        "rev": rev,
        "bundle": bundle,
        "from": from_ms,
        "window_ms": window_ms,
        **more,
    }


def activate(campaign: str, rev: int, bundle: str, at: int, window_ms: int, **more: Any) -> Message:
    """Return an activation of the stage ``live``; what has a default is left out unless it is given."""
    known = {"t": "activate", "campaign": campaign, "rev": rev, "stage": "live", "bundle": bundle, "at": at}
    return {**known, "window_ms": window_ms, **more}


def cancel(campaign: str, rev: int) -> Message:
    return {"t": "cancel", "campaign": campaign, "rev": rev}


def close(campaign: str, rev: int) -> Message:
    return {"t": "close", "campaign": campaign, "rev": rev}


def encoded(message: Any, encoding: wire.Encoding) -> str | bytes:
    """Return what goes into the frame: text for JSON, bytes for MessagePack."""
    if encoding is wire.Encoding.JSON:
        return msgspec.json.encode(message).decode()
    return msgspec.msgpack.encode(message)


class Ledger:
    """Everything published in this walk: what a device that was away, or asks with a sync, is told."""

    def __init__(self) -> None:
        self._said: dict[str, list[Message]] = {}  # by campaign
        self.newest = 0  # highest revision

    def add(self, message: Message) -> None:
        """Write a publication down; a close takes what came before it out."""
        said = self._said.setdefault(message["campaign"], [])
        if message["t"] == "close":
            said[:] = [earlier for earlier in said if earlier["rev"] > message["rev"]]
        said.append(message)
        self.newest = max(self.newest, message["rev"])

    def missing(self, since: int, have: Iterable[str]) -> list[Message]:
        """Return what a device with this revision and these bundles lacks, by revision."""
        held = set(have)
        told: list[Message] = []
        for said in self._said.values():
            told += [m for m in said if m["t"] != "prefetch" and m["rev"] > since]
            newest = max((m for m in said if m["t"] == "prefetch"), key=lambda m: int(m["rev"]), default=None)
            if newest is None:
                continue
            if newest["bundle"]["sha256"] not in held:
                told.append(newest)
            elif newest["rev"] > since:
                bare = {name: value for name, value in newest["bundle"].items() if name != "inline"}
                told.append({**newest, "bundle": bare})
        return sorted(told, key=lambda m: int(m["rev"]))
