"""``fanout demo``: ended at any moment, nothing of it is left behind.

That it does what it is there for is held where it runs from the wheel: tests/release/test_installed.py.
"""

from __future__ import annotations

import inspect
import signal
import subprocess
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest
from support.waiting import PATIENCE_S

from fanout.campaign import Phase
from fanout.connect import connect
from fanout.demo import CAMPAIGN
from fanout.errors import NotFound
from fanout.store.campaigns import CampaignStore

from .running import Traces, environment, process, variable_of, wait_until

pytestmark = pytest.mark.slow

# --- Ending it at awkward moments.


async def is_prefetching(traces: Traces) -> bool:
    """Tell, by the demo's own store, whether its campaign is prefetching."""
    for pid, line in traces.processes.items():
        if " swarm " in line:
            return await phase(variable_of(pid, "FANOUT_REDIS_URL")) is Phase.PREFETCHING
    return False


async def phase(store: str) -> Phase | None:
    async with connect(store) as redis:
        try:
            return (await CampaignStore(redis).get(CAMPAIGN)).phase
        except NotFound:
            return None


MOMENTS: dict[str, Callable[[Traces], bool | Awaitable[bool]]] = {
    "when its store has started": lambda traces: traces.has("valkey"),
    "when its gateway starts": lambda traces: traces.has(" gateway "),
    # Supervisor and nursery are there as soon as it starts; the third that goes by this name is a worker.
    "when its workers start": lambda traces: traces.count(" gateway ") >= 3,
    "when its devices start": lambda traces: traces.has(" swarm "),
    "while they prefetch": is_prefetching,
}
LONG = ("--headless", "--devices", "60", "--prefetch-window", "600")


def end_at(moment: str, number: int, traces: Traces, words: tuple[str, ...] = LONG) -> int:
    """Send the demo a signal at this moment; return its exit status once it has ended."""
    with process("demo", *words, **traces.variables) as demo:

        async def come() -> bool:
            here = MOMENTS[moment](traces)
            return (await here if inspect.isawaitable(here) else here) or demo.poll() is not None

        wait_until(come, moment)
        assert demo.poll() is None, "it has ended by itself"
        demo.send_signal(number)
        return demo.wait(PATIENCE_S)


@pytest.mark.parametrize("moment", MOMENTS)
def test_ctrl_c_leaves_no_process_behind(moment: str, traces: Traces) -> None:
    status = end_at(moment, signal.SIGINT, traces)
    assert status == 130
    traces.assert_none()


def test_sigterm_leaves_no_process_behind(traces: Traces) -> None:
    # By the same way out as Ctrl-C; the moments are that one's.
    status = end_at("when its workers start", signal.SIGTERM, traces)
    assert status == 130
    traces.assert_none()


def test_a_second_ctrl_c_makes_no_orphans(traces: Traces) -> None:
    with process("demo", *LONG, **traces.variables) as demo:
        wait_until(lambda: is_prefetching(traces), "the prefetch")

        def leave() -> bool:
            demo.send_signal(signal.SIGINT)  # does nothing once it has ended
            return demo.poll() is not None

        wait_until(leave, "its end")
        assert demo.wait() != 0
    wait_until(lambda: not traces.processes, "the end of its children")


def test_with_a_person_at_the_keyboard_it_runs_until_ctrl_c(traces: Traces) -> None:
    status = end_at("while they prefetch", signal.SIGINT, traces, LONG[1:])
    assert status == 130
    traces.assert_none()


@pytest.mark.parametrize("moment", ["when its workers start", "while they prefetch"])
def test_a_demo_that_is_killed_outright_takes_its_children_with_it(moment: str, traces: Traces) -> None:
    status = end_at(moment, signal.SIGKILL, traces)
    assert status == -signal.SIGKILL
    wait_until(lambda: not traces.processes, "the end of its children")


def test_a_demo_whose_gateway_dies_says_so_and_ends(traces: Traces) -> None:
    with process("demo", *LONG, stderr=subprocess.PIPE, **traces.variables) as demo:
        wait_until(lambda: is_prefetching(traces), "the prefetch")
        # The demo's own child: those that are forked off it go by the same name.
        children = Path(f"/proc/{demo.pid}/task/{demo.pid}/children").read_text().split()
        [gateway] = [pid for pid, line in traces.processes.items() if " gateway " in line and str(pid) in children]
        subprocess.run(["kill", "-KILL", str(gateway)], check=True, env=environment())
        _, errors = demo.communicate(timeout=PATIENCE_S)
        assert demo.returncode == 1
        assert b"gateway ended with status -9" in b" ".join(errors.split())
        assert b"Traceback" not in errors
    # Its workers are nobody's children now, and still have to drain.
    wait_until(lambda: not traces.processes, "the end of its workers")
