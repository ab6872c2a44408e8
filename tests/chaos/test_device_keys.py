"""Row 17: tokens end, and the keys that sign them rotate, under a gateway that holds devices.

`tests/gateway/test_tokens.py` has the key set alone, `tests/e2e/test_gateways.py` the SDK whose token ends.
"""

from __future__ import annotations

import json
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import ed25519
from jwt.algorithms import OKPAlgorithm
from support import stack as support_stack
from support.stack import connecting, receive
from support.waiting import until
from websockets.exceptions import InvalidStatus

from fanout import wire
from fanout.device import Connected, Connecting, Device, Disconnected
from gateway import tokens

OLD, NEW = ed25519.Ed25519PrivateKey.generate(), ed25519.Ed25519PrivateKey.generate()
FAST = wire.ReconnectPolicy(base_ms=10, cap_ms=50)
Publish = Callable[..., None]


def signed(key: ed25519.Ed25519PrivateKey, kid: str, ttl_s: int = 3_600) -> str:
    claims = {"sub": "tv-1", "exp": int(time.time()) + ttl_s, "aud": "fanout", "topics": ["t"]}
    return jwt.encode(claims, key, "EdDSA", headers={"kid": kid})


@asynccontextmanager
async def keyed_gateway(
    path: Path, patch: pytest.MonkeyPatch, **settings: Any
) -> AsyncIterator[tuple[support_stack.Stack, Publish]]:
    """Run a gateway that reads its keys from a file; yield it, and what writes that file."""

    def publish(**keys: ed25519.Ed25519PrivateKey) -> None:
        public = [{**json.loads(OKPAlgorithm.to_jwk(key.public_key())), "kid": kid} for kid, key in keys.items()]
        # Whole or not at all, as whoever rotates keys must do it.
        path.with_suffix(".new").write_text(json.dumps({"keys": public}))
        path.with_suffix(".new").replace(path)

    publish(old=OLD)
    verifier = tokens.verifier_from_environment

    def from_file(audience: str, attr_keys: tuple[str, ...]) -> tokens.TokenVerifier:
        with pytest.MonkeyPatch.context() as environment:
            environment.delenv("FANOUT_DEVICE_KEY", raising=False)
            environment.setenv("FANOUT_DEVICE_JWKS", str(path))
            return verifier(audience, attr_keys)

    patch.setattr("gateway.worker.verifier_from_environment", from_file)
    patch.setattr(tokens.KeySet.__init__, "__defaults__", (0.2, 0.05))  # production looks every few minutes
    async with support_stack.stack(**settings) as running:
        yield running, publish


async def opens(url: str, bearer: str) -> bool:
    """Tell whether this token opens the door; a device that comes in leaves at once."""
    try:
        async with connecting(url, bearer) as socket:
            return (await receive(socket))["t"] == "welcome"
    except InvalidStatus as exc:
        if exc.response.status_code != 401:
            raise
        return False


async def test_while_keys_rotate_tokens_of_both_are_good_and_whoever_is_in_stays(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with (
        keyed_gateway(tmp_path / "jwks", monkeypatch) as (gateway, publish),
        connecting(gateway.url, signed(OLD, "old")) as resident,
    ):
        assert (await receive(resident))["t"] == "welcome"
        assert not await opens(gateway.url, signed(NEW, "new"))
        publish(old=OLD, new=NEW)
        await until(lambda: opens(gateway.url, signed(NEW, "new")), "the new key")
        assert await opens(gateway.url, signed(OLD, "old"))
        publish(new=NEW)

        async def retired() -> bool:
            return not await opens(gateway.url, signed(OLD, "old"))

        await until(retired, "the end of the old key")
        assert await opens(gateway.url, signed(NEW, "new"))
        # A connection lives as long as its token, not as its key.
        await gateway.publisher.publish(support_stack.activated())
        while (await receive(resident))["t"] != "activate":
            pass


async def test_a_device_whose_token_ends_after_its_key_was_retired_comes_back_with_one_of_the_new_key(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # The app's token service goes on with the old key for one answer too many.
    answers = [(OLD, "old", 6), (OLD, "old", 3_600), (NEW, "new", 3_600)]
    asked = iter(answers)
    async with keyed_gateway(tmp_path / "jwks", monkeypatch, beacon_s=1, ping_s=60) as (gateway, publish):

        async def retired() -> bool:
            return not await opens(gateway.url, signed(OLD, "old"))

        async def get_token() -> str:
            answer = next(asked)
            if answer is answers[1]:
                await until(retired, "the end of the old key")  # the gateway reads its keys in a thread of its own
            # Signed when it is asked for: the first is good for a few seconds from then on.
            return signed(*answer)

        device = Device(gateway.url, get_token=get_token, reconnect=FAST)
        events = device.events()
        async with device:
            assert [type(await anext(events)) for _ in range(2)] == [Connecting, Connected]
            publish(new=NEW)
            all_told = [await anext(events) for _ in range(5)]
        told = [event for event in all_told if not isinstance(event, Connecting)]
        assert [type(event) for event in told] == [Disconnected, Disconnected, Connected]
        assert isinstance(told[0], Disconnected)
        assert told[0].code == wire.CloseCode.TOKEN_EXPIRED
        assert isinstance(told[1], Disconnected)
        assert told[1].status == 401
        assert not list(asked)
