"""Runs a pass over all chunks, here or in processes, and adds up what they find. Knows nothing of what that is."""

from __future__ import annotations

import multiprocessing
import os
import signal
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from typing import Final

from fanout.errors import FanoutError
from loadtest.simulation.crowd import chunks_of
from loadtest.simulation.passes import Job, empty, run_chunks
from loadtest.simulation.scenario import Scenario
from loadtest.simulation.tally import Tally

# An errand of a process: so long that handing back its histograms costs little, so short that a bar moves.
BATCH_CHUNKS: Final = 8
PROCESSES_MAX: Final = 512

Sweep = Callable[[Job], Tally]


def cores() -> int:
    """Return how many processors this process may run on."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


@contextmanager
def sweeper(scenario: Scenario, processes: int, batch_chunks: int, done: Callable[[int], None]) -> Iterator[Sweep]:
    """Yield a function that runs a pass over the whole fleet.

    Args:
        scenario: Says how many chunks there are.
        processes: That share them; with 1 it all happens here.
        batch_chunks: How many a process takes at once.
        done: Told how many chunks were just finished.
    """
    chunks = chunks_of(scenario)
    batches = [range(first, min(chunks, first + batch_chunks)) for first in range(0, chunks, batch_chunks)]
    if min(processes, len(batches)) == 1:

        def here(job: Job) -> Tally:
            total = empty(scenario)
            for batch in batches:
                total.add(run_chunks(job, batch))
                done(len(batch))
            return total

        yield here
        return
    # A fork would copy the thread that draws the progress bar, locked as it happens to be.
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(min(processes, len(batches)), context, initializer=_leave_signals_to_parent) as pool:

        def there(job: Job) -> Tally:
            total = empty(scenario)
            running = {pool.submit(run_chunks, job, batch): len(batch) for batch in batches}
            for finished in as_completed(running):
                total.add(finished.result())
                done(running.pop(finished))
            return total

        try:
            yield there
        except BrokenProcessPool as exc:
            raise FanoutError(
                f"one of {processes} processes was ended from outside, for want of memory perhaps; use --processes 1"
            ) from exc
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            raise


def _leave_signals_to_parent() -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)
