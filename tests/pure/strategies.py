"""Random messages, publications and schedules for the property tests.

A message comes as a pair: the plain object that a device in another language would write or read, put
together by hand, and the struct that must stand for it here. So a test never asks our encoder what it means.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from hypothesis import strategies as st

from fanout import limits, wire
from fanout.bus import publication as bus

Plain = dict[str, Any]
Pair = tuple[Plain, Any]

names = st.text(min_size=1, max_size=limits.NAME_CHARS_MAX)
# What every JSON parser, JavaScript's included, reads without loss.
naturals = st.integers(0, 2**53 - 1)
shares = st.floats(0, 1)
digests = st.text("0123456789abcdef", min_size=64, max_size=64)
misses = st.sampled_from(["fetch", "generic", "silent"])
vias = st.sampled_from(["inline", "fetch", "cache", "generic", "resume"])
kinds = st.sampled_from(["ready", "active", "failed"])


def _pairs(struct: Callable[..., Any], tag: str, **fields: st.SearchStrategy[Any]) -> st.SearchStrategy[Pair]:
    """Return pairs for a message whose fields are plain values with the same name on the wire."""

    def pair(values: Plain) -> Pair:
        return {"t": tag, **values}, struct(**values)

    return st.fixed_dictionaries(fields).map(pair)


@st.composite
def bundles(draw: st.DrawFn) -> Pair:
    plain: Plain = {"sha256": draw(digests), "bytes": draw(naturals)}
    # Absent and null mean the same to a reader; a writer leaves them out.
    for optional in ("url", "inline"):
        if draw(st.booleans()):
            plain[optional] = draw(st.text(max_size=40))
    return plain, wire.Bundle(**plain)


@st.composite
def prefetches(draw: st.DrawFn) -> Pair:
    bundle, bundle_struct = draw(bundles())
    plain: Plain = {
        "t": "prefetch",
        "campaign": draw(names),
        "rev": draw(naturals),
        "bundle": bundle,
        "from": draw(naturals),
        "window_ms": draw(naturals),
        "shadow": draw(st.booleans()),
    }
    struct = wire.Prefetch(
        plain["campaign"],
        plain["rev"],
        bundle_struct,
        from_ms=plain["from"],
        window_ms=plain["window_ms"],
        shadow=plain["shadow"],
    )
    return plain, struct


activates = _pairs(
    wire.Activate,
    "activate",
    campaign=names,
    rev=naturals,
    stage=names,
    bundle=digests,
    at=naturals,
    window_ms=naturals,
    share=shares,
    miss=misses,
    shadow=st.booleans(),
)
cancels = _pairs(wire.Cancel, "cancel", campaign=names, rev=naturals)
closes = _pairs(wire.Close, "close", campaign=names, rev=naturals)
beacons = _pairs(wire.Beacon, "beacon", now=naturals, rev=naturals)
reconnects = _pairs(wire.Reconnect, "reconnect", within_ms=naturals)


@st.composite
def welcomes(draw: st.DrawFn) -> Pair:
    state = draw(st.lists(st.one_of(prefetches(), activates, cancels, closes), max_size=4))
    policy = {"base_ms": draw(naturals), "cap_ms": draw(naturals)}
    plain: Plain = {
        "t": "welcome",
        "session": draw(names),
        "now": draw(naturals),
        "beacon_s": draw(st.floats(0, 1e6)),
        "reconnect": policy,
        "state": [message for message, _ in state],
    }
    struct = wire.Welcome(
        plain["session"],
        plain["now"],
        plain["beacon_s"],
        wire.ReconnectPolicy(**policy),
        [message for _, message in state],
    )
    return plain, struct


to_device = st.one_of(welcomes(), prefetches(), activates, cancels, closes, beacons, reconnects)

topics = st.lists(names, min_size=1, max_size=limits.TOPICS_PER_DEVICE_MAX)
reports = _pairs(wire.Report, "report", campaign=names, rev=naturals, kind=kinds, ms=naturals, via=vias)
syncs = _pairs(wire.Sync, "sync", since=naturals)
subscribes = _pairs(wire.Subscribe, "subscribe", topics=topics)
unsubscribes = _pairs(wire.Unsubscribe, "unsubscribe", topics=topics)
from_device = st.one_of(reports, syncs, subscribes, unsubscribes)

# Whatever a sender of a later version may put into a field we do not know.
anything = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**63 - 1)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(max_size=9),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)

# --- The bus

attrs = st.dictionaries(
    st.sampled_from(["platform", "region", "tier"]), st.sampled_from(["tv", "phone", "jp", "br"]), max_size=3
)
variants = st.lists(
    st.builds(bus.Variant, match=attrs, bundle=bundles().map(lambda pair: pair[1])), min_size=1, max_size=4
).map(tuple)
_common: dict[str, st.SearchStrategy[Any]] = {
    "campaign": names,
    "topic": names,
    "key": names,
    "rev": naturals,
    "prev": naturals,
}
publications: st.SearchStrategy[bus.Publication] = st.one_of(
    st.builds(
        bus.Prefetched,
        variants=variants,
        from_ms=naturals,
        window_ms=naturals,
        shadow=st.booleans(),
        **_common,
    ),
    st.builds(
        bus.Activated,
        variants=variants,
        stage=names,
        at=naturals,
        window_ms=naturals,
        share=shares,
        miss=misses,
        shadow=st.booleans(),
        **_common,
    ),
    st.builds(bus.Cancelled, **_common),
    st.builds(bus.Closed, **_common),
)

# --- Schedules: one campaign's stage lane, on a short clock so that instants, windows and revisions collide.

CLOCK_MS = 40
instants = st.integers(0, CLOCK_MS)
widths = st.integers(0, CLOCK_MS // 2)


def activation(rev: int, at: int, window_ms: int = 0, share: float = 1.0) -> wire.Activate:
    """Return an activation of which only what `fanout.arming` looks at is of interest."""
    return wire.Activate("final", rev, "live", "0" * 64, at=at, window_ms=window_ms, share=share)


@st.composite
def schedules(draw: st.DrawFn) -> tuple[list[wire.Activate], list[int]]:
    """Return activations and cancels of one campaign, by revision; no two share one, as in the log."""
    revs = sorted(draw(st.sets(st.integers(1, CLOCK_MS), max_size=8)))
    activations: list[wire.Activate] = []
    cancel_revs: list[int] = []
    for rev in revs:
        if draw(st.integers(0, 3)) == 0:
            cancel_revs.append(rev)
        else:
            share = draw(st.sampled_from([1.0, 1.0, 0.5]))
            activations.append(activation(rev, draw(instants), draw(widths), share))
    return activations, cancel_revs
