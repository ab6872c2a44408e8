"""Prefetches: inline, from the origin at the device's slot, with an origin that fails or lies."""

from __future__ import annotations

import asyncio
from collections import deque

from fanout import wire
from fanout.conformance import messages
from fanout.conformance.gateway import Answer, Get
from fanout.conformance.messages import Message
from fanout.conformance.peer import mono_ms
from fanout.conformance.scenarios.registry import scenario
from fanout.conformance.scene import Scene
from fanout.conformance.verdicts import Broken

# Rule 10: the first wait is up to so long, where the window is short.
_RETRY_MS = 2_000
_RETRY_AFTER_S = 1


@scenario("inline", "8, 20")
async def inline(scene: Scene) -> str:
    """A bundle inside the message is ready at once, whatever the slot, with `via: "inline"`."""
    campaign = scene.campaign()
    content = messages.content_of(campaign)
    fetch = scene.prefetch(campaign, content, window_ms=60_000, inline=content)
    await scene.say(fetch)
    told = await scene.ready(fetch, "inline")
    return f"after {told.at_ms - scene.sent_ms(fetch):.0f} ms"


@scenario("inline-wrong", "8, 10")
async def inline_wrong(scene: Scene) -> str:
    """Wrong bytes inside the message are reported `failed`, then fetched if there is a `url`; never shown."""
    without, with_url = scene.campaign(), scene.campaign()
    bad = scene.prefetch(without, messages.content_of(without), inline="something else")
    content = messages.content_of(with_url)
    path = f"/{with_url}.json"
    scene.gateway.shelf[path] = deque([Answer(content.encode())])
    healed = scene.prefetch(with_url, content, inline="something else", url=path)
    await scene.say(bad, healed)
    await asyncio.gather(scene.report(bad, "failed", mono_ms()), scene.report(healed, "failed", mono_ms()))
    activation = scene.activate(without, bad["bundle"]["sha256"], window_ms=0, miss="generic")
    await scene.say(activation)
    await scene.acts(activation, via="generic")
    await scene.seen(lambda: scene.reports(with_url, kind="ready"), mono_ms(), "ready after a fetch from url")
    return "failed, not shown; fetched where there was a url"


@scenario("fetch", "9")
async def fetch(scene: Scene) -> str:
    """A bundle is fetched at the slot: from `url`, be it a path or absolute, or from the usual place."""
    scripts: list[tuple[Message, str]] = []
    for url in ("/{name}.json", "{origin}/{name}.json", None):
        campaign = scene.campaign()
        content = messages.content_of(campaign)
        path = f"/{campaign}.json" if url else wire.BUNDLE_PATH + messages.sha256(content)
        scene.gateway.shelf[path] = deque([Answer(content.encode())])
        where = {"url": url.format(name=campaign, origin=scene.gateway.origin)} if url else {}
        scripts.append((scene.prefetch(campaign, content, window_ms=1_600, **where), path))
    await scene.say(*(message for message, _ in scripts))
    late = await asyncio.gather(*(_fetched(scene, message, path) for message, path in scripts))
    return f"late by {', '.join(f'{ms} ms' for ms in late)}"


@scenario("cached", "9")
async def cached(scene: Scene) -> str:
    """A bundle that is there already is ready at the slot, with `via: "cache"`, without a fetch."""
    campaign, digest = await scene.held()
    content = messages.content_of(campaign)
    path = wire.BUNDLE_PATH + digest
    scene.gateway.shelf[path] = deque([Answer(content.encode())])
    again = scene.prefetch(scene.campaign(), content, window_ms=1_600)
    await scene.say(again)
    told = await scene.ready(again, "cache", scene.due_ms(again))
    scene.on_time(told.at_ms, scene.due_ms(again), "the report")
    if scene.gets(path):
        raise Broken("no fetch", f"GET {path}")
    return "ready, not fetched"


@scenario("fetch-busy", "10")
async def fetch_busy(scene: Scene) -> str:
    """After a 503 with `Retry-After: 1` the next try comes after that second and a random wait of up to 2 s."""
    first, second, fetch_ = await _retried(scene, Answer(b"busy", 503, {"Retry-After": str(_RETRY_AFTER_S)}))
    waited = second.at_ms - first.at_ms
    least, most = _RETRY_AFTER_S * 1000, _RETRY_AFTER_S * 1000 + _RETRY_MS
    if not least - scene.tolerances.early_ms <= waited <= most + scene.tolerances.late_ms:
        raise Broken(f"the next try {least} to {most} ms later", f"{waited:.0f} ms")
    scene.once(fetch_["campaign"], "ready")
    return f"again after {waited:.0f} ms"


@scenario("fetch-wrong", "10")
async def fetch_wrong(scene: Scene) -> str:
    """Bytes of another digest are not taken: the bundle is ready only after a try that brings the right ones."""
    _, second, fetch_ = await _retried(scene, Answer(b"something else that is as good as any other content"))
    scene.once(fetch_["campaign"], "ready")
    return f"ready after the right bytes, at {second.path}"


@scenario("fetch-oversize", "9, 10")
async def fetch_oversize(scene: Scene) -> str:
    """More bytes than were announced are not taken either."""
    _, second, fetch_ = await _retried(scene, Answer(b"x" * 200_000))
    scene.once(fetch_["campaign"], "ready")
    return f"ready after the right bytes, at {second.path}"


async def _fetched(scene: Scene, message: Message, path: str) -> int:
    due = scene.due_ms(message)
    get = await scene.seen(lambda: next(iter(scene.gets(path)), None), due, f"GET {path} at its slot")
    late = scene.on_time(get.at_ms, due, "the fetch")
    await scene.ready(message, "fetch", get.at_ms)
    if len(scene.gets(path)) > 1:
        raise Broken(f"GET {path} once", f"{len(scene.gets(path))} times")
    return late


async def _retried(scene: Scene, bad: Answer) -> tuple[Get, Get, Message]:
    """Give one bad answer, then the right one; return both requests, once the device is ready."""
    campaign = scene.campaign()
    content = messages.content_of(campaign)
    path = f"/{campaign}.json"
    scene.gateway.shelf[path] = deque([bad, Answer(content.encode())])
    message = scene.prefetch(campaign, content, window_ms=800, url=path)
    await scene.say(message)
    waits = scene.due_ms(message) + _RETRY_AFTER_S * 1000 + _RETRY_MS

    def told() -> bool:
        return bool(scene.reports(campaign)) or len(scene.gets(path)) > 1

    await scene.seen(told, waits, "a second try", f"{len(scene.gets(path))} tries")
    if len(scene.gets(path)) < 2:
        raise Broken("a second try", str(scene.reports(campaign)[0]))
    first, second = scene.gets(path)[:2]
    await scene.ready(message, "fetch", second.at_ms)
    return first, second, message
