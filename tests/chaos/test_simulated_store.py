"""The model's store does what the real script does on a real server, answer by answer."""

from __future__ import annotations

import random

import msgspec
from redis.asyncio import Redis

from fanout import keyspace
from fanout.bus.publication import Closed, Publication
from fanout.bus.publisher import _SCRIPT, _args, _keys

from .simulated_store import Client, SimulatedStore
from .simulation import TOPIC


async def test_the_simulated_store_does_what_the_script_does(redis: Redis) -> None:
    rng = random.Random(4)
    clock = 0
    store = SimulatedStore(lambda: clock)
    real, model = redis.register_script(_SCRIPT), Client(store).register_script(_SCRIPT)
    known: list[Publication] = []
    for number in range(400):
        lost = number == 200 or (bool(known) and rng.random() < 0.3)
        if known and (lost or rng.random() < 0.2):
            publication = rng.choice(known)
        else:
            publication = Closed(campaign=rng.choice(["cup", "gala", "cup-2"]), topic=TOPIC, key=f"press-{number}")
        if lost:
            # Now and then what is put back is new to the store, or from a clock an hour ahead.
            key = f"lost-{number}" if number == 200 else rng.choice([publication.key, f"lost-{number}"])
            ahead_ms = 3_600_000 if number == 200 else rng.choice([-5, 0, 5])
            publication = msgspec.structs.replace(publication, key=key, rev=store.data.head + ahead_ms)
        dropped = [name.decode() for name in store.data.retained if rng.random() < 0.1]
        asked = {
            "keys": _keys(publication, None),
            "args": _args(publication, "digest", None, dropped, str(publication.rev) if lost else ""),
        }
        seconds, micros = await redis.time()
        said = await real(**asked)
        # While revisions follow the clock, they tell which millisecond it was; from the hour ahead on, they do not.
        follows = said[0] == b"done" and not lost and number < 200
        clock = int(said[1]) if follows else seconds * 1000 + micros // 1000
        answer = await model(**asked)
        # Which newer one is named depends on the order of a hash, and nobody reads it.
        assert answer[:1] == said[:1] if said[0] == b"newer" else answer == said
        if said[0] == b"done":
            known.append(msgspec.structs.replace(publication, rev=int(said[1])))
        if rng.random() < 0.05:
            await redis.delete(keyspace.outcome(publication.key))
            store.data.outcomes.pop(keyspace.outcome(publication.key), None)
    assert await redis.hgetall(keyspace.RETAINED) == store.data.retained
    entries = await redis.xrange(keyspace.LOG)
    assert entries == await Client(store).xrange(keyspace.LOG, min="0-0", count=1_000)
    assert entries[-1][0] > b"%d" % (clock + 3_000_000), "revisions ran ahead of the clock"
