"""``fanout demo``: the whole product on one machine, as the processes it has in production.

A private Valkey, the control plane, a gateway and a swarm of devices, each a process of its own; this one
starts them, presses the buttons through the API, watches, and ends them all.
"""

from __future__ import annotations

import json
import os
import secrets
import selectors
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import webbrowser
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import Any, Final

from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

from fanout import processes
from fanout.client import ControlClient
from fanout.embedded import EmbeddedValkey
from fanout.errors import FanoutError
from fanout.slots import slot_ms

TOPIC: Final = "demo"
CAMPAIGN: Final = "big-match"
_START_TIMEOUT_S: Final = 30.0
# Beyond a phase's window: catch-up, presence (1 s) and a slow machine.
_PHASE_GRACE_S: Final = 60.0
_POLL_S: Final = 0.25
# Time for an activation to be armed on every device before its instant.
_ARM_S: Final = 2.0
_CONNECTS_PER_S: Final = 1_000
_STOP_GRACE_S: Final = 15.0


@dataclass(frozen=True, slots=True)
class DemoConfig:
    """What the demo is made of; windows in seconds."""

    devices: int
    prefetch_window_s: float
    activate_window_s: float
    workers: int


class DemoFailed(FanoutError):
    """A part did not start, or a phase did not complete in time."""


class _Stopped(KeyboardInterrupt):
    """Ctrl-C or SIGTERM.

    Not the KeyboardInterrupt itself: one that comes while a library executes code it has made, a dataclass or a named
    tuple, has CPython end itself by SIGINT at the very end, whoever has caught it and whatever the status was to be.
    """


def _stop(number: int, frame: FrameType | None) -> None:
    raise _Stopped


@dataclass(slots=True)
class Stack:
    """What runs: where it is, and the children in the order they were started."""

    api: ControlClient
    tally_file: Path
    gateway_url: str
    admin_url: str
    environment: dict[str, str]
    children: dict[str, subprocess.Popen[bytes]]

    def tally(self) -> dict[str, Any]:
        """Return what the devices have seen so far, by their own count."""
        try:
            return dict(json.loads(self.tally_file.read_text()))
        except FileNotFoundError:
            return {}

    def check(self) -> None:
        """Raise DemoFailed if a child has ended by itself."""
        for name, child in self.children.items():
            if child.poll() is not None:
                raise DemoFailed(f"{name} ended with status {child.returncode}; its log is above")


def run_demo(config: DemoConfig, *, headless: bool, json_file: Path | None) -> int:
    """Run the demo; return the exit status: 0 only if every device activated."""
    console = Console(stderr=True)
    # Ctrl-C and SIGTERM both leave through the context managers, which end every child.
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, _stop)
    try:
        with _stack(config, console, open_console=not headless) as stack:
            if not headless:
                _show(stack, config, console)
                return 0
            figures = _drive(stack, config, console)
    except KeyboardInterrupt:
        console.print("stopped; every process of the demo has ended")
        return 130
    except FanoutError as exc:
        console.print(f"[red]demo failed:[/] {escape(str(exc))}")
        return 1
    _table(figures, console)
    if json_file is not None:
        json_file.write_text(json.dumps(figures, indent=2) + "\n")
    good = figures["activated"] == figures["devices"] and not figures["flipped_twice"]
    if not good:
        console.print(f"[red]{figures['devices'] - figures['activated']} devices did not activate[/]")
    return 0 if good else 1


# --- Starting and stopping.


@contextmanager
def _stack(config: DemoConfig, console: Console, *, open_console: bool) -> Iterator[Stack]:
    """Start every process; end them, last one first, whatever happens.

    Args:
        open_console: Nobody has to sign in to the control room, which has a wall of TVs; it is on loopback only.
    """
    with ExitStack() as exits:
        with processes.signals_held():
            scratch = Path(tempfile.mkdtemp(prefix="fanout-demo-"))
            exits.callback(shutil.rmtree, scratch, ignore_errors=True)
            valkey = exits.enter_context(EmbeddedValkey())
        api_key = secrets.token_urlsafe(32)
        environment = {
            # A gateway takes one kind of device key, and here that is ours.
            **{k: v for k, v in os.environ.items() if k not in ("FANOUT_DEVICE_KEY_FILE", "FANOUT_DEVICE_JWKS")},
            "TMPDIR": str(scratch),  # so that even a child that is killed leaves nothing behind
            "FANOUT_REDIS_URL": valkey.url,
            "FANOUT_DEVICE_KEY": secrets.token_hex(32),
            "FANOUT_ADMIN_KEY": api_key,
        }
        children: dict[str, subprocess.Popen[bytes]] = {}

        def start(name: str, *words: str) -> subprocess.Popen[bytes]:
            log = exits.enter_context((scratch / f"{name}.log").open("wb"))
            command = [sys.executable, "-m", "fanout.cli", *words]
            with processes.signals_held():
                child = processes.start(command, env=environment, stdout=subprocess.PIPE, stderr=log)
                children[name] = child
                exits.callback(_end, child)
            return child

        def said(name: str, child: subprocess.Popen[bytes]) -> dict[str, str]:
            return _first_line(name, child, scratch / f"{name}.log")

        with console.status("starting the store, the control plane and the gateway"):
            control_words = ("control", "--port", "0", "--json", "--redis-url", valkey.url)
            gateway_words = (
                "gateway", "--port", "0", "--admin-port", "0", "--json", "--workers", str(config.workers),
                "--drain-s", "0.5", "--drain-close-s", "0.5",
            )  # fmt: skip
            if open_console:
                # The wall's devices are in a page, and that is told where the gateway is. Any origin may come, for
                # nobody gets in without a token, and those are given to that page alone.
                urls = said("gateway", start("gateway", *gateway_words, "--origins", "*"))
                wall = ("--open-console", "--wall-gateway-url", urls["url"], "--wall-topic", TOPIC)
                control_url = said("control", start("control", *control_words, *wall))["url"]
            else:
                control, gateway = start("control", *control_words), start("gateway", *gateway_words)
                control_url, urls = said("control", control)["url"], said("gateway", gateway)
        tally_file = scratch / "tally.json"
        start(
            "swarm", "swarm", "--url", urls["url"], "--origin", control_url, "--devices", str(config.devices),
            "--topics", TOPIC, "--connects-per-s", str(_CONNECTS_PER_S), "--give-up", "0", "--json", str(tally_file),
        )  # fmt: skip
        api = exits.enter_context(ControlClient(control_url, api_key))
        environment["FANOUT_CONTROL_URL"] = control_url
        environment["FANOUT_API_KEY"] = api_key
        yield Stack(api, tally_file, urls["url"], urls["admin_url"], environment, children)


def _end(child: subprocess.Popen[bytes]) -> None:
    processes.stop(child, _STOP_GRACE_S)
    if child.stdout is not None:
        child.stdout.close()


def _first_line(name: str, child: subprocess.Popen[bytes], log: Path) -> dict[str, str]:
    """Return what a child says of itself once it serves. Raises DemoFailed with its log if it does not."""
    assert child.stdout is not None
    with selectors.DefaultSelector() as selector:
        selector.register(child.stdout, selectors.EVENT_READ)
        ready = selector.select(_START_TIMEOUT_S)
    line = child.stdout.readline() if ready else b""
    if not line:
        raise DemoFailed(f"{name} did not start: {log.read_text()[-500:] or 'it said nothing'}")
    return dict(json.loads(line))


# --- Driving one campaign through both phases.


def seeded_campaign() -> dict[str, Any]:
    """Return the demo's campaign: two variants, three stages, small enough to travel inline."""

    def stages(layout: str) -> dict[str, dict[str, dict[str, str]]]:
        return {
            "stages": {
                "upcoming": {"layout": layout, "badge": "UPCOMING", "title": "The big match starts soon"},
                "live": {"layout": layout, "badge": "LIVE", "title": "The big match is on: watch now"},
                "ended": {"layout": layout, "badge": "REPLAY", "title": "Watch the big match again"},
            }
        }

    return {
        "id": CAMPAIGN,
        "title": "The big match",
        "topic": TOPIC,
        "stages": ["upcoming", "live", "ended"],
        "variants": [
            {"match": {"platform": "phone"}, "bundle": stages("card")},
            {"match": {}, "bundle": stages("billboard")},
        ],
    }


def _drive(stack: Stack, config: DemoConfig, console: Console) -> dict[str, Any]:
    """Create, prefetch, activate; return the figures."""
    api, devices = stack.api, config.devices
    path = f"/v1/campaigns/{CAMPAIGN}"
    columns = TextColumn("{task.description:<10}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn()
    with Progress(*columns, console=console) as progress:

        def phase(what: str, count: Callable[[], int], limit_s: float) -> float:
            return _until(stack, progress, what, devices, count, limit_s)

        ramp_s = devices / _CONNECTS_PER_S
        phase("connect", lambda: int(api.get("/v1/fleet")["devices"]), ramp_s + _PHASE_GRACE_S)
        api.post("/v1/campaigns", seeded_campaign())
        api.post(f"{path}/prefetch", {"window_s": config.prefetch_window_s})
        prefetch_s = phase(
            "prefetch",
            lambda: int(api.get(f"{path}/readiness")["total"]["ready"]),
            config.prefetch_window_s + _PHASE_GRACE_S,
        )
        pressed = api.post(
            f"{path}/activate", {"stage": "live", "window_s": config.activate_window_s, "in_s": _ARM_S}
        )
        activate_s = phase(
            "activate",
            lambda: int(api.get(f"{path}/readiness")["total"]["active"]),
            _ARM_S + config.activate_window_s + _PHASE_GRACE_S,
        )
    total = api.get(f"{path}/readiness")["total"]
    connected = int(api.get("/v1/fleet")["devices"])
    origin_requests = _counter(api.text("/metrics"), "fanout_control_origin_requests_total")
    _end(stack.children["swarm"])
    tally = stack.tally()
    if not tally.get("final"):
        raise DemoFailed("the devices did not end in time, so their own count is missing")
    return {
        "devices": devices,
        "connected": connected,
        "ready": int(total["ready"]),
        # Both ends must say so: what the devices count themselves, and what presence adds up.
        "activated": min(int(total["active"]), int(tally["activated"])),
        "flipped_twice": tally["flipped_twice"],
        "flip_error_ms": {name: tally["flip_error_ms"].get(name) for name in ("p50", "p99", "max")},
        **flip_rates(tally["flips"], pressed["activation"]["at"], pressed["activation"]["window_ms"]),
        "slots_peak_to_mean": _slots_peak_to_mean(pressed["rev"], config),
        "origin_requests": origin_requests,
        "prefetch_seconds": round(prefetch_s, 2),
        "activate_seconds": round(activate_s, 2),
    }


def _until(
    stack: Stack, progress: Progress, what: str, total: int, count: Callable[[], int], limit_s: float
) -> float:
    """Show ``count`` grow to ``total``; return the seconds it took, also if time ran out first."""
    task = progress.add_task(what, total=total)
    started = time.monotonic()
    while (done := count()) < total and time.monotonic() - started < limit_s:
        stack.check()
        progress.update(task, completed=done)
        time.sleep(_POLL_S)
    progress.update(task, completed=done)
    return time.monotonic() - started


def flip_rates(flips: dict[str, int], at: int, window_ms: int) -> dict[str, Any]:
    """Return flips per second from the instant on, and the busiest second against the window's mean second."""
    # The last slot lies a millisecond before the window's end, and a flip is never early: it may fall behind it.
    seconds = [max(0, int(flipped_ms) - at) // 1000 for flipped_ms in flips]
    bins = [0] * (max(seconds, default=0) + 1)
    for second, count in zip(seconds, flips.values(), strict=True):
        bins[second] += count
    mean = sum(bins) / max(1.0, window_ms / 1000)
    return {"flip_rate_peak_to_mean": round(max(bins) / mean, 3) if mean else None, "flips_per_s": bins}


def _slots_peak_to_mean(rev: int, config: DemoConfig) -> float | None:
    """Return what the slots alone give: the sampling noise of so few devices, measured, not assumed."""
    window_ms = int(config.activate_window_s * 1000)
    slots = [slot_ms(f"device-{number}", rev, window_ms) for number in range(config.devices)]
    drawn: dict[str, int] = {}
    for slot in slots:
        drawn[str(slot)] = drawn.get(str(slot), 0) + 1
    ratio = flip_rates(drawn, 0, window_ms)["flip_rate_peak_to_mean"]
    return None if ratio is None else float(ratio)


def _counter(metrics: str, name: str) -> int:
    """Return the sum of one counter's samples in Prometheus' text format."""
    lines = (line for line in metrics.splitlines() if line.startswith(name))
    return sum(int(float(line.rsplit(" ", 1)[1])) for line in lines)


def _table(figures: dict[str, Any], console: Console) -> None:
    table = Table(title="one press, every device", show_header=False)
    errors = figures["flip_error_ms"]
    peak, drawn = figures["flip_rate_peak_to_mean"], figures["slots_peak_to_mean"]
    rows = {
        "devices": figures["devices"],
        "connected": figures["connected"],
        "ready": figures["ready"],
        "activated": figures["activated"],
        "flip error p50 / p99 / max": " / ".join("-" if ms is None else f"{ms} ms" for ms in errors.values()),
        "busiest second / mean second": f"{peak} (of the slots as drawn: {drawn})",
        "requests to the origin": figures["origin_requests"],
        "prefetch took": f"{figures['prefetch_seconds']} s",
        "activation took": f"{figures['activate_seconds']} s",
    }
    for name, value in rows.items():
        table.add_row(name, str(value))
    console.print(table)


# --- With a person at the keyboard.


def _show(stack: Stack, config: DemoConfig, console: Console) -> None:
    """Seed a campaign, open the control room, say what to press, and show the fleet until Ctrl-C."""
    stack.api.post("/v1/campaigns", seeded_campaign())
    stack.api.post(f"/v1/campaigns/{CAMPAIGN}/prefetch", {"window_s": config.prefetch_window_s})
    page = f"{stack.api.url}/campaigns/{CAMPAIGN}"
    console.print(f"\n{config.devices} devices are connecting and prefetching campaign [bold]{CAMPAIGN}[/].")
    console.print(f"\n  [bold]{page}[/]\n", highlight=False)
    console.print("Wait until the gate is open, then hold the red button: every device shows LIVE at its own slot.")
    console.print(f"For a wall of TVs in a window beside it, each a device too: [bold]{stack.api.url}/wall[/]")
    console.print("Press Retract to take it back at once; move the window and the forecast answers before you press.")
    console.print("Open the flight record afterwards: it has what was expected beside what came.\n")
    console.print("Or press from another terminal:\n")
    for name in ("FANOUT_CONTROL_URL", "FANOUT_API_KEY"):
        console.print(f"  export {name}={stack.environment[name]}", highlight=False)
    console.print(
        f"  fanout campaign activate {CAMPAIGN} live --window {config.activate_window_s:g}", highlight=False
    )
    console.print(f"\ngateway {stack.gateway_url}, health and metrics {stack.admin_url}; Ctrl-C ends everything.\n")
    _open(page)
    with console.status("") as status:
        while True:
            stack.check()
            now = stack.api.get(f"/v1/campaigns/{CAMPAIGN}")
            counts = stack.api.get(f"/v1/campaigns/{CAMPAIGN}/readiness")["total"]
            status.update(
                f"{now['phase']}, stage {now['stage'] or '-'}: {counts['connected']} connected, "
                f"{counts['ready']} ready, {counts['active']} active"
            )
            time.sleep(1)


def _open(page: str) -> None:
    """Open the page in this person's browser, if there is a person, and a screen to show it on."""
    screen = sys.platform in ("darwin", "win32") or bool(
        os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY")
    )
    if not screen or not sys.stdout.isatty():
        return
    try:
        webbrowser.open(page)
    except (OSError, webbrowser.Error):
        pass  # the address is on the terminal
