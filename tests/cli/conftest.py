"""What tests of processes share: a place to look for what those leave behind."""

from __future__ import annotations

import json
import os
import secrets
import signal
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from click.testing import Result
from support.product import definition

from fanout.embedded import EmbeddedValkey

from .running import Traces, fanout, first_line, good, process

ADMIN_KEY = "an admin key that only these tests use, long enough"


@pytest.fixture
def traces() -> Iterator[Traces]:
    with tempfile.TemporaryDirectory(prefix="traces-", dir="/tmp") as directory:
        made = Traces(Path(directory))
        yield made
        # After a test that failed; the others have seen to it that there are none.
        for pid in made.processes:
            os.kill(pid, signal.SIGKILL)


@pytest.fixture(scope="module")
def store() -> Iterator[str]:
    with EmbeddedValkey() as valkey:
        yield valkey.url


@pytest.fixture(scope="module")
def control_url(store: str) -> Iterator[str]:
    variables = {"FANOUT_REDIS_URL": store, "FANOUT_ADMIN_KEY": ADMIN_KEY}
    with process("control", "--port", "0", "--json", **variables) as child:
        yield str(first_line(child)["url"])


class Terminal:
    """Somebody at a terminal, with the control plane's address and a key in the environment."""

    def __init__(self, control_url: str, key: str = ADMIN_KEY) -> None:
        self.environment = {"FANOUT_CONTROL_URL": control_url, "FANOUT_API_KEY": key}

    def __call__(self, *words: str, stdin: str | None = None, **environment: str) -> Result:
        return fanout("campaign", *words, stdin=stdin, **{**self.environment, **environment})

    def json(self, *words: str, stdin: str | None = None) -> dict[str, Any]:
        return dict(json.loads(good(self(*words, "--json", stdin=stdin))))

    def created(self, **fields: Any) -> str:
        """Create a campaign with a name of its own; return the name."""
        name = f"cup-{secrets.token_hex(4)}"
        self.json("create", "-", stdin=json.dumps(definition(name, **fields)))
        return name


@pytest.fixture
def campaign(control_url: str) -> Terminal:
    return Terminal(control_url)
