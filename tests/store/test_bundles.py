"""Bundles: what canonical means, and that they keep."""

from __future__ import annotations

import hashlib
import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from redis.asyncio import Redis

from fanout import keyspace, limits
from fanout.embedded import EmbeddedValkey
from fanout.errors import InvalidInput, NotFound, StoreUnavailable
from fanout.store.bundles import BundleStore, canonical, check_stages, stages_of

values = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=12,
)
contents = st.dictionaries(
    st.sampled_from(["upcoming", "live", "ended"]),
    st.dictionaries(st.text(max_size=8), values, max_size=4),
    min_size=1,
)


@settings(deadline=None)
@given(contents)
def test_canonical_bytes_mean_what_was_sent_and_are_named_by_their_digest(
    stages: dict[str, dict[str, Any]],
) -> None:
    content = canonical(stages)
    assert json.loads(content.data) == {"stages": stages}
    assert content.sha256 == hashlib.sha256(content.data).hexdigest()
    assert set(stages_of(content.data)) == set(stages)


@settings(deadline=None)
@given(contents, st.randoms())
def test_the_order_of_fields_does_not_change_the_name(stages: dict[str, dict[str, Any]], rng: Any) -> None:
    def shuffled(value: Any) -> Any:
        if isinstance(value, dict):
            items = [(k, shuffled(v)) for k, v in value.items()]
            rng.shuffle(items)
            return dict(items)
        return [shuffled(v) for v in value] if isinstance(value, list) else value

    assert canonical(shuffled(stages)) == canonical(stages)


def test_canonical_bytes_have_sorted_keys_no_spaces_and_plain_utf8() -> None:
    assert canonical({"live": {"b": [1, 2.5], "a": "試合 ✓"}}).data == (
        '{"stages":{"live":{"a":"試合 ✓","b":[1,2.5]}}}'.encode()
    )


@pytest.mark.parametrize(
    ("stages", "says"),
    [
        ({}, "0 stages"),
        ({f"s{n}": {} for n in range(limits.STAGES_MAX + 1)}, "17 stages"),
        ({"Live!": {}}, "Live!"),
        ({"live": {"n": float("nan")}}, "cannot be written"),
        ({"live": {"t": "\ud800"}}, "cannot be written"),
        ({"live": {"t": "x" * limits.BUNDLE_BYTES_MAX}}, str(limits.BUNDLE_BYTES_MAX)),
    ],
)
def test_content_that_is_no_bundle_is_refused_with_what_is_allowed(stages: Any, says: str) -> None:
    with pytest.raises(InvalidInput, match=says):
        canonical(stages)


def test_a_bundle_without_a_stage_of_its_campaign_is_refused_by_name() -> None:
    check_stages("variants[0].bundle", ["live", "ended"], ["live"])
    with pytest.raises(InvalidInput, match="no content for stage ended"):
        check_stages("variants[0].bundle", ["live"], ["live", "ended"])


async def test_a_bundle_is_stored_once_and_read_by_everyone(redis: Redis) -> None:
    content = canonical({"live": {"title": "LIVE"}})
    store, other = BundleStore(redis), BundleStore(redis)
    assert not await store.exists(content.sha256)
    await store.put(content)
    await store.put(content)
    assert await other.get(content.sha256) == content.data
    assert await other.exists(content.sha256)
    with pytest.raises(NotFound):
        await other.get("0" * 64)


async def test_a_bundle_in_memory_survives_the_store(valkey: EmbeddedValkey, redis: Redis) -> None:
    content, unseen = canonical({"live": {}}), canonical({"ended": {}})
    store = BundleStore(redis)
    await store.put(content)
    valkey.kill()
    assert await store.get(content.sha256) == content.data
    with pytest.raises(StoreUnavailable):
        await store.get(unseen.sha256)


async def test_memory_is_bounded_and_keeps_what_was_used_last(redis: Redis) -> None:
    old, used, new = (canonical({"live": {"n": n}}) for n in range(3))
    store = BundleStore(redis, cache_bytes_max=2 * len(old.data))
    await store.put(used)
    await store.put(old)
    await store.get(used.sha256)
    await store.put(new)
    await redis.delete(*(keyspace.bundle(c.sha256) for c in (old, used, new)))
    assert await store.get(used.sha256) == used.data
    assert await store.get(new.sha256) == new.data
    with pytest.raises(NotFound):
        await store.get(old.sha256)
