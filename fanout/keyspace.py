"""Every key and channel this project uses in Redis or Valkey, in one place.

All share one hash tag, so that scripts may touch several of them on a cluster too.
"""

from __future__ import annotations

from typing import Final

PREFIX: Final = "{fanout}:"

# --- The bus
LOG: Final = f"{PREFIX}log"  # stream: id "<rev>-0"; fields prev, key, body
DOORBELL: Final = f"{PREFIX}doorbell"  # channel: "<rev> <prev> <key> " + body
# hash: "<campaign> <rev>[ <original rev>]" -> "<rev> <prev> <key> " + body; the third word only after a put-back
# that had to take a new revision
RETAINED: Final = f"{PREFIX}retained"
FENCE: Final = f"{PREFIX}fence"  # string: the revision whose safety was last asked for again
PRESENCE: Final = f"{PREFIX}presence"  # sorted set: worker -> Unix ms at which its record expires
AVERAGE: Final = f"{PREFIX}average"  # string: how many devices how many workers serve, msgpack, with a TTL


def outcome(key: str) -> str:
    """String "<rev> <prev> <digest of what was asked>": what a publication with this idempotency key did."""
    return f"{PREFIX}outcome:{key}"


def probe(worker: str) -> str:
    """Channel on which one reader hears its own probes."""
    return f"{PREFIX}probe:{worker}"


def presence(worker: str) -> str:
    """String: one worker's presence record, msgpack, with a TTL."""
    return f"{PREFIX}presence:{worker}"


# --- The store
CAMPAIGNS: Final = f"{PREFIX}campaigns"  # set of campaign ids
API_KEYS: Final = f"{PREFIX}api-keys"  # hash: sha256 of the key -> {name, role}
AUDIT: Final = f"{PREFIX}audit"  # list: "<hash> <JSON>" of everything that was done, in order; fanout/audit.py
LEADER: Final = f"{PREFIX}leader"  # string: the control plane that leads the schedule, with a TTL
FLIGHTS: Final = f"{PREFIX}flights"  # sorted set: "<campaign> <rev>" -> Unix ms of the activation's instant
FLIGHTS_OPEN: Final = f"{PREFIX}flights-open"  # the same of those flights that have not ended
ACCOUNTS: Final = f"{PREFIX}accounts"  # hash: name -> msgpack, the password hashed


def campaign(campaign_id: str) -> str:
    """Hash: doc (msgpack), version, rev:prefetch, rev:activate."""
    return f"{PREFIX}campaign:{campaign_id}"


def bundle(sha256: str) -> str:
    """String: the bundle's canonical bytes."""
    return f"{PREFIX}bundle:{sha256}"


def reply(principal: str, key: str) -> str:
    """String: the API's first answer to this caller's Idempotency-Key."""
    return f"{PREFIX}reply:{principal}:{key}"


def session(token_sha256: str) -> str:
    """String: who has signed in with this token, msgpack, with a TTL."""
    return f"{PREFIX}session:{token_sha256}"


def trip(state_sha256: str) -> str:
    """String: who is at the identity provider with this state, msgpack, with a TTL."""
    return f"{PREFIX}trip:{state_sha256}"


def waits(campaign_id: str) -> str:
    """String: why the schedule's next step has not been taken, with a TTL of a few ticks."""
    return f"{PREFIX}waits:{campaign_id}"


def flight(campaign_id: str, rev: int) -> str:
    """String: one activation's flight record without its samples, msgpack."""
    return f"{PREFIX}flight:{campaign_id}:{rev}"


def samples(campaign_id: str, rev: int) -> str:
    """Hash: second after the instant (negative before) -> how far it was, msgpack."""
    return f"{PREFIX}samples:{campaign_id}:{rev}"
