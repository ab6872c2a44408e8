"""Campaign records, on a real store."""

from __future__ import annotations

import asyncio

import msgspec
import pytest
from redis.asyncio import Redis

from fanout import campaign as lifecycle
from fanout import keyspace, wire
from fanout.audit import verify
from fanout.bus.publication import Activated, Cancelled, Closed, Variant
from fanout.bus.publisher import Publisher
from fanout.campaign import Activation, Campaign, PrefetchPlan
from fanout.connect import connect
from fanout.embedded import EmbeddedValkey
from fanout.errors import ChainMoved, NotFound, StoreUnavailable, VersionConflict
from fanout.store.audit import AuditStore, Sealed
from fanout.store.campaigns import REV_ACTIVATE, REV_PREFETCH, CampaignStore, record, with_rev

BUNDLE = wire.Bundle("a" * 64, 100)


def campaign(campaign_id: str = "cup-final", **fields: object) -> Campaign:
    base = Campaign(
        id=campaign_id,
        title="Cup final",
        topic="sport",
        stages=("upcoming", "live"),
        variants=(Variant({}, BUNDLE),),
        retract_stage="upcoming",
    )
    return msgspec.structs.replace(base, **fields)


async def told(redis: Redis, after: Campaign) -> Sealed:
    """Return the entry of the audit chain for a change."""
    head = await AuditStore(redis).head()
    return head.follow(at=1, by="mia", action="test", campaign=after.id, version=after.version)


async def create(redis: Redis, new: Campaign) -> None:
    await CampaignStore(redis).write(new.id, record(0, new, await told(redis, new)))


async def test_what_is_created_is_read_back_and_listed(redis: Redis) -> None:
    store = CampaignStore(redis)
    await create(redis, campaign("a", updated_ms=1))
    await create(redis, campaign("b", updated_ms=2))
    assert await store.get("a") == campaign("a", updated_ms=1)
    assert [c.id for c in await store.list()] == ["b", "a"]


async def test_an_id_is_given_once_however_many_ask(redis: Redis) -> None:
    tries = (create(redis, campaign(title=f"try {n}")) for n in range(10))
    made = await asyncio.gather(*tries, return_exceptions=True)
    assert sum(isinstance(each, VersionConflict | ChainMoved) for each in made) == 9
    assert (await CampaignStore(redis).get("cup-final")).title == f"try {made.index(None)}"
    assert await redis.llen(keyspace.AUDIT) == 1


async def test_a_change_is_written_with_its_entry_or_not_at_all(redis: Redis) -> None:
    store = CampaignStore(redis)
    await create(redis, campaign())
    second = campaign(title="second", version=2)
    stale = await told(redis, second)
    await create(redis, campaign("other"))
    with pytest.raises(ChainMoved):
        await store.write("cup-final", record(1, second, stale))
    entry = await told(redis, second)
    with pytest.raises(VersionConflict):
        await store.write("cup-final", record(4, campaign(version=5), entry))
    assert (await store.get("cup-final")).title == "Cup final"
    await store.write("cup-final", record(1, second, entry))
    assert await store.get("cup-final") == second
    lines = [line async for line in AuditStore(redis).lines()]
    assert verify(lines, {"cup-final": 2, "other": 1}).faults == ()


async def test_a_publication_is_written_with_its_entry_or_not_at_all(redis: Redis) -> None:
    publisher = Publisher(redis)
    await create(redis, campaign())
    closed = lifecycle.closed(await CampaignStore(redis).get("cup-final"), 5)
    stale = await told(redis, closed)
    await create(redis, campaign("other"))
    body = Closed(campaign="cup-final", topic="sport", key="k")
    with pytest.raises(ChainMoved):
        await publisher.publish(body, record=record(1, closed, stale))
    assert await redis.xlen(keyspace.LOG) == 0
    for _ in range(2):  # again under its key, it is the same publication and the same entry
        await publisher.publish(body, record=record(1, closed, await told(redis, closed)))
    assert await redis.llen(keyspace.AUDIT) == 3


async def test_what_is_not_there_is_not_found(redis: Redis) -> None:
    store = CampaignStore(redis)
    with pytest.raises(NotFound, match="no-such"):
        await store.get("no-such")
    assert await store.list() == []


async def test_a_record_learns_its_revision_from_the_log_and_forgets_it_with_a_cancel(redis: Redis) -> None:
    store, publisher = CampaignStore(redis), Publisher(redis)
    now_ms = await publisher.now_ms()
    draft = campaign(phase=lifecycle.Phase.PREFETCHING, prefetch=PrefetchPlan(7, now_ms, 0))
    await create(redis, draft)

    armed = lifecycle.activated(draft, Activation(0, "live", now_ms + 60_000, 1000), now_ms)
    body = Activated(
        campaign=draft.id,
        topic="sport",
        key="k1",
        variants=draft.variants,
        stage="live",
        at=now_ms + 60_000,
        window_ms=1000,
    )
    receipt = await publisher.publish(body, record=record(1, armed, await told(redis, armed), REV_ACTIVATE))
    stored = await store.get(draft.id)
    assert stored.activation is not None
    assert stored.activation.rev == receipt.rev
    assert stored.version == 2

    cancelled = lifecycle.cancelled(stored, now_ms)
    await publisher.publish(
        Cancelled(campaign=draft.id, topic="sport", key="k2"),
        record=record(2, cancelled, await told(redis, cancelled)),
    )
    stored = await store.get(draft.id)
    assert stored.activation is None
    assert stored.version == 3


async def test_what_a_press_is_judged_by_is_read_in_one_step(redis: Redis) -> None:
    store, publisher = CampaignStore(redis), Publisher(redis)
    await create(redis, campaign())
    before_ms = await publisher.now_ms()
    fresh = await store.standing("cup-final", "k")
    assert fresh.campaign == campaign()
    assert fresh.first is None
    assert fresh.head == await AuditStore(redis).head()
    assert before_ms <= fresh.now_ms <= await publisher.now_ms()

    closed = lifecycle.closed(fresh.campaign, fresh.now_ms)
    entry = fresh.head.follow(at=1, by="mia", action="close", campaign=closed.id, version=closed.version)
    receipt = await publisher.publish(
        Closed(campaign=closed.id, topic="sport", key="k"), digest="asked", record=record(1, closed, entry)
    )
    used = await store.standing("cup-final", "k")
    assert used.first is not None
    assert (used.first.rev, used.first.digest, used.first.repeated) == (receipt.rev, "asked", True)
    assert used.campaign.phase is lifecycle.Phase.CLOSED
    assert used.head.entries == 2
    assert used.head == await AuditStore(redis).head()
    assert (await store.standing("cup-final", "another")).first is None
    with pytest.raises(NotFound):
        await store.standing("no-such", "k")


async def test_a_revision_that_is_known_is_not_overwritten_by_the_one_of_what_was_cancelled() -> None:
    begun = campaign(activation=Activation(17, "live", 5, 0), prefetch=PrefetchPlan(16, 4, 0))
    assert with_rev(begun, REV_ACTIVATE, 99) == begun
    assert with_rev(begun, REV_PREFETCH, 99) == begun
    assert with_rev(campaign(), REV_ACTIVATE, 99) == campaign()


async def test_a_store_that_is_gone_says_so_in_our_words(valkey: EmbeddedValkey) -> None:
    client = connect(valkey.url)
    store = CampaignStore(client)
    await create(client, campaign())
    valkey.kill()
    for read in (
        store.get("cup-final"),
        store.standing("cup-final", "k"),
        store.list(),
        create(client, campaign("other")),
    ):
        with pytest.raises(StoreUnavailable):
            await read
    valkey.start()
    assert [c.id for c in await store.list()] == ["cup-final"]
    await client.aclose()


async def test_a_half_written_record_is_no_campaign(redis: Redis) -> None:
    await redis.sadd(keyspace.CAMPAIGNS, "ghost")
    await redis.hset(keyspace.campaign("ghost"), "version", "1")
    store = CampaignStore(redis)
    assert await store.list() == []
    for read in (store.get("ghost"), store.standing("ghost", "k")):
        with pytest.raises(NotFound):
            await read
