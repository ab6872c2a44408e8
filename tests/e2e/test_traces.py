"""One press is one trace, from the button to every worker's broadcast, whoever is connected; off, it is nothing."""

from __future__ import annotations

import asyncio
import os
import socket
import subprocess
import sys
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from typing import Any

import httpx
import pytest
from support.collector import Collector, Recorded, collector
from support.product import ControlProcess, definition
from support.stack import ROOT, Stack, activated, connecting, receive, stack, token
from support.waiting import PATIENCE_S, until
from support.web import web

from fanout import __version__, keyspace
from fanout.bus.publication import pack
from fanout.roles import Role
from fanout.store.keys import KeyStore

WORKERS = 2
DEVICES = 5
CALLER = "4bf92f3577b34da6a3ce929d0e0e4736"


@contextmanager
def environment(values: dict[str, str]) -> Iterator[None]:
    """Have processes that are started meanwhile find these variables."""
    before = {name: os.environ.get(name) for name in values}
    os.environ.update(values)
    try:
        yield
    finally:
        for name, value in before.items():
            os.environ.pop(name) if value is None else os.environ.update({name: value})


@asynccontextmanager
async def traced(variables: dict[str, str]) -> AsyncIterator[tuple[Stack, ControlProcess, httpx.AsyncClient]]:
    """Run control plane and gateway as processes with these variables; yields them and a caller of the API."""
    async with AsyncExitStack() as ends:
        with environment(variables):
            s = await ends.enter_async_context(stack(workers=WORKERS))
            control = ControlProcess("--redis-url", s.valkey.url)
        ends.callback(control.stop)
        key = await KeyStore(s.redis).create("tests", Role.ADMIN)
        http = web(base_url=control.url, timeout=PATIENCE_S, headers={"Authorization": f"Bearer {key}"})
        yield s, control, await ends.enter_async_context(http)


async def press(http: httpx.AsyncClient, action: str, body: dict[str, Any], **headers: str) -> httpx.Response:
    return await http.post(f"/v1/campaigns/cup/{action}", json=body, headers=headers)


def one(spans: list[Recorded], name: str) -> Recorded:
    (found,) = (span for span in spans if span.name == name)
    return found


async def complete(c: Collector, spans: int) -> None:
    await until(lambda: len(c.spans) >= spans, f"{spans} spans, of {Counter(span.name for span in c.spans)}")


async def test_a_press_is_one_trace_from_the_button_to_every_workers_broadcast_and_no_device_is_in_it() -> None:
    async with collector() as c, traced(c.environment()) as (s, control, http), AsyncExitStack() as devices:
        for number in range(DEVICES):
            device = await devices.enter_async_context(connecting(s.url, token(f"secret-tv-{number}")))
            assert (await receive(device))["t"] == "welcome"
        assert (await http.post("/v1/campaigns", json=definition())).status_code == 201
        parent = f"00-{CALLER}-00f067aa0ba902b7-01"
        prefetch = (await press(http, "prefetch", {"window_s": 0}, traceparent=parent)).json()["rev"]
        # What reaches workers is told by each; what the control plane does, once.
        await complete(c, 5 + 2 * WORKERS)
        spans, c.spans = c.spans, []
        assert {span.trace for span in spans} == {CALLER}, "it goes on with the caller's"
        assert Counter(span.name for span in spans) == {
            "POST /v1/campaigns/{id}/prefetch": 1,
            "press prefetch": 1,
            "publish": 1,
            "append": 1,
            "vouch": 1,
            "receive": WORKERS,
            "broadcast": WORKERS,
        }
        served, published = one(spans, "POST /v1/campaigns/{id}/prefetch"), one(spans, "publish")
        assert (served.kind, served.parent) == ("SERVER", "00f067aa0ba902b7")
        assert served.attributes["http.response.status_code"] == 200
        assert one(spans, "press prefetch").parent == served.id
        assert published.parent == one(spans, "press prefetch").id
        assert (published.kind, published.attributes["fanout.rev"]) == ("PRODUCER", prefetch)
        for name in ("append", "vouch", "receive", "broadcast"):
            assert {span.parent for span in spans if span.name == name} == {published.id}, name
        received = [span for span in spans if span.name == "receive"]
        assert {span.kind for span in received} == {"CONSUMER"}
        assert all(0 <= span.attributes["fanout.bus_lag_ms"] < 60_000 for span in received)
        instances = {span.resource["service.instance.id"] for span in received}

        async def known() -> bool:
            return {record.worker for record in await s.records()} == instances

        await until(known, f"the records of {instances}")
        assert {span.resource["service.name"] for span in spans} == {"fanout-control", "fanout-gateway"}
        assert {span.resource["service.version"] for span in spans} == {__version__}
        broadcasts = [span for span in spans if span.name == "broadcast"]
        assert sum(span.attributes["fanout.sends"] for span in broadcasts) == DEVICES
        assert all(span.began_ns <= span.ended_ns for span in spans)

        assert (await press(http, "activate", {"stage": "live", "window_s": 0})).status_code == 409
        await complete(c, 2)
        refused = one(c.spans, "press activate")
        assert (refused.failed, refused.attributes["error.type"]) == (True, "GateRefused")
        c.spans.clear()
        forced = {"stage": "live", "window_s": 0, "force": True, "reason": "a test"}
        assert (await press(http, "activate", forced)).status_code == 200
        await complete(c, 5 + 2 * WORKERS)
        assert len({span.trace for span in c.spans}) == 1
        assert {span.trace for span in c.spans} != {CALLER}
        assert "secret-tv" not in repr([*spans, *c.spans])
        assert http.headers["Authorization"].split()[1] not in repr([*spans, *c.spans])
        assert control.stop() == 0


async def test_a_gateway_that_reads_an_old_publication_adds_nothing_to_its_trace() -> None:
    old = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
    async with collector() as c:
        with environment(c.environment()):
            async with stack(workers=1) as s:
                assert s.gateway is not None
                # As a failover or a start has it: what is retained comes with the revision it had long ago.
                body = await _published(s, old)
                # Both of its spans, which need not come together: the second must not be taken for one of the next.
                await complete(c, 2)
                c.spans.clear()
                async with s.redis.pipeline(transaction=True) as pipe:
                    pipe.delete(keyspace.LOG)
                    pipe.hset(keyspace.RETAINED, "old 1000", b"1000 0 k-old " + body)
                    pipe.execute_command("XADD", keyspace.LOG, "1001-0", "prev", "1000", "key", "k", "body", body)
                    await pipe.execute()
                await until(lambda: "chain broken" in s.gateway.errors, "the reload")
                await _published(s, old)
                await until(lambda: len(c.named("broadcast")) == 1, "the newer one's broadcast")
                assert all(span.attributes["fanout.rev"] > 1_000_000 for span in c.spans)


async def _published(s: Stack, trace: str) -> bytes:
    publication = activated(trace=trace)
    await s.publisher.publish(publication)
    return pack(publication)


async def test_a_collector_that_is_away_delays_no_press_and_keeps_nobody_from_leaving() -> None:
    with socket.socket() as nobody:
        nobody.bind(("127.0.0.1", 0))
        away = {
            "OTEL_EXPORTER_OTLP_ENDPOINT": f"http://user:secret@127.0.0.1:{nobody.getsockname()[1]}/x?token=secret",
            "OTEL_BSP_SCHEDULE_DELAY": "50",
        }
        async with traced(away) as (s, control, http):
            assert (await http.post("/v1/campaigns", json=definition())).status_code == 201
            assert (await press(http, "prefetch", {"window_s": 0})).status_code == 200
            assert await asyncio.to_thread(control.stop) == 0
            assert s.gateway is not None
            s.gateway.process.terminate()
            assert await s.gateway.exited() == 0
            assert "did not drain in time" not in s.gateway.errors
            assert "secret" not in s.gateway.errors


SERVERS = "import fanout.cli.servers, fanout.control.server, gateway.worker"
# The Redis client imports OpenTelemetry's metrics by itself, where they are installed.
IMPORTS = """
import sys
from fanout import tracing
tracing.preload()
tracing.start("fanout-test")
parent = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
with tracing.span("press", tracing.SERVER, parent=parent) as span:
    costly = ("opentelemetry.sdk.trace", "opentelemetry.exporter", "opentelemetry.propagate", "requests", "google")
    print(repr(span.traceparent), sorted(name for name in sys.modules if name.startswith(costly)))
"""


def run(code: str, **variables: str) -> subprocess.CompletedProcess[str]:
    clean = {name: value for name, value in os.environ.items() if not name.startswith("OTEL_")}
    return subprocess.run(
        [sys.executable, "-c", code],
        env={**clean, "PYTHONPATH": str(ROOT), **variables},
        capture_output=True,
        text=True,
        check=True,
        timeout=PATIENCE_S,
    )


@pytest.mark.parametrize(
    ("before", "variables"),
    [
        (SERVERS, {}),
        ("", {"OTEL_SERVICE_NAME": "x"}),
        ("", {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:1", "OTEL_SDK_DISABLED": "true"}),
        ("", {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:1", "OTEL_TRACES_EXPORTER": "none"}),
    ],
)
def test_unless_the_environment_asks_for_traces_nothing_that_makes_them_is_imported(
    before: str, variables: dict[str, str]
) -> None:
    assert run(before + IMPORTS, **variables).stdout.strip() == "'' []"


@pytest.mark.parametrize(
    ("before", "variables", "says"),
    [
        ("import sys; sys.modules['opentelemetry'] = None\n", {}, "install fanout[otel]"),
        ("", {"OTEL_EXPORTER_OTLP_PROTOCOL": "grpc"}, "OTEL_EXPORTER_OTLP_PROTOCOL is 'grpc'; send http/protobuf"),
        ("", {"OTEL_TRACES_EXPORTER": "zipkin"}, "OTEL_TRACES_EXPORTER is 'zipkin'; send otlp, or none"),
    ],
)
def test_what_cannot_be_traced_is_said_in_one_line_and_everything_goes_on(
    before: str, variables: dict[str, str], says: str
) -> None:
    code = f"{before}import fanout.logs; fanout.logs.configure_logs(){IMPORTS}"
    done = run(code, **{"OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:1", **variables})
    assert done.stdout.startswith("''")
    (line,) = done.stderr.splitlines()
    assert says in line
