"""A second locustfile, beside `loadtest.locustfile`: notes by the millisecond when each device of locust flips.

Locust's figures say how late flips were, not when: it rounds times and keeps no curve. Its event of a request comes
at the flip itself, so a listener reads the wall clock there, and leaves the counts in a file when locust quits.
"""

from __future__ import annotations

import json
import os
import signal
import time
from collections import Counter
from pathlib import Path
from typing import Any, Final

from locust import events
from locust.env import Environment
from locust.runners import MasterRunner

from loadtest.agreement.engines import FLIPS_FILE

# While a load shape runs headless, locust has no handler for SIGTERM yet and would end without a word; Ctrl-C is what
# it takes for the end of the test.
signal.signal(signal.SIGTERM, signal.default_int_handler)

flips: Final[Counter[int]] = Counter()


def _request(request_type: str, name: str, exception: Exception | None, **_: Any) -> None:
    if request_type == "fanout" and name == "flip_error" and exception is None:
        flips[int(time.time() * 1000)] += 1


def _quitting(environment: Environment, **_: Any) -> None:
    file = os.environ.get(FLIPS_FILE)
    if file and not isinstance(environment.runner, MasterRunner):
        draft = Path(f"{file}.part")
        draft.write_text(json.dumps(flips), "utf-8")
        draft.replace(file)


events.request.add_listener(_request)
events.quitting.add_listener(_quitting)
