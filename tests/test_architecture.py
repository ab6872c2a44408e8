"""Holds the arrows between the parts, the purity of the pure modules, and the tidiness of every module.

It reads sources and imports nothing, so it judges whatever exists, finished or not. The checks are functions
of a module's name and text; the last tests give them offenders, to prove that they notice.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PARTS = ("docsite", "fanout", "gateway", "loadtest")
LINES_MAX = 400

# These compose everything, so they may see everything.
COMPOSERS = ("fanout.cli", "fanout.demo")

# The control plane knows nothing of its pages; the process that serves both puts them together.
CONSOLES_COMPOSER = "fanout.control.server"

# What devices are judged by is what goes over the wire.
BEHIND_THE_WIRE = ("fanout.bus", "fanout.control", "fanout.console", "fanout.store")

# The load test may not know more than a device in the field does, or it could cheat. Its devices need tokens,
# so it mints them, as an operator would.
LOADTEST_MAY = (
    "fanout.arming",
    "fanout.device",
    "fanout.errors",
    "fanout.forecast",
    "fanout.limits",
    "fanout.measured",
    "fanout.slots",
    "fanout.tokens",
    "fanout.wire",
)

# What a thousand workers ask of the store is measured with their own reader; there are no devices in it.
BUS_BENCHMARK = ("loadtest.bench.bus", "loadtest.bench.bus_crowd")
BUS_BENCHMARK_MAY = ("fanout.bus", "fanout.connect", "fanout.embedded")

# The package itself, as a source tree: where it lies, and its version.
LOADTEST_MAY_NAME = ("fanout", "fanout.__file__", "fanout.__path__", "fanout.__version__")

# `now` is an argument there, and nothing waits. Whatever they build on is held to the same.
PURE = (
    "fanout.arming",
    "fanout.planning",
    "fanout.checks",
    "fanout.audit",
    "fanout.bus.publication",
    "fanout.bus.retained",
    "fanout.campaign",
    "fanout.device.clock",
    "fanout.device.machine",
    "fanout.errors",
    "fanout.forecast",
    "fanout.keyspace",
    "fanout.limits",
    "fanout.measured",
    "fanout.slots",
    "fanout.wire",
)
IMPURE = (
    "asyncio",
    "datetime",
    "httpx",
    "os",
    "pathlib",
    "redis",
    "secrets",
    "select",
    "selectors",
    "signal",
    "socket",
    "subprocess",
    "threading",
    "time",
    "uvloop",
    "websockets",
)


def sources() -> Iterator[tuple[str, Path]]:
    """Yield every module of the product: its dotted name and its file."""
    for part in PARTS:
        for path in sorted((ROOT / part).rglob("*.py")):
            parts = path.relative_to(ROOT).with_suffix("").parts
            yield ".".join(parts[:-1] if parts[-1] == "__init__" else parts), path


def under(module: str, *prefixes: str) -> bool:
    """Tell whether the module is one of these, or inside one."""
    return any(module == prefix or module.startswith(prefix + ".") for prefix in prefixes)


def imports(module: str, text: str, *, package: bool = False) -> set[str]:
    """Return everything a module imports, anywhere in it, as dotted names.

    ``from a import b`` counts as ``a.b``, whether b is a module or a name in a: the prefix decides. So does
    ``a.b`` after ``import a``, for b may be a module that somebody else has imported.
    """
    tree = ast.parse(text)
    found: set[str] = set()
    bound: dict[str, str] = {}
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
            for alias in node.names:
                top = alias.name.partition(".")[0]
                bound[alias.asname or top] = alias.name if alias.asname else top
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level:
                here = module.split(".")
                up = node.level - 1 if package else node.level
                base = ".".join([*here[: len(here) - up], *([base] if base else [])])
            found |= {f"{base}.{alias.name}" for alias in node.names}
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id in bound:
            found.add(f"{bound[node.value.id]}.{node.attr}")
    return found


def broken_arrows(module: str, imported: set[str]) -> list[str]:
    """Return which imports point the wrong way, each with the rule it breaks."""
    broken: list[str] = []
    for name in sorted(imported):
        if under(module, "fanout") and not under(module, *COMPOSERS) and under(name, "gateway", "loadtest"):
            broken.append(f"{module} imports {name}: of fanout, only {' and '.join(COMPOSERS)} may")
        if under(module, "gateway") and under(name, "loadtest", "fanout.control", "fanout.store", "fanout.device"):
            broken.append(f"{module} imports {name}: a gateway meets the control plane on the bus only")
        if under(module, "fanout.bus") and under(name, "fanout.store", "fanout.control", "fanout.device"):
            broken.append(f"{module} imports {name}: the bus knows nobody who uses it")
        if under(module, "fanout.control") and module != CONSOLES_COMPOSER and under(name, "fanout.console"):
            broken.append(f"{module} imports {name}: of the control plane, only {CONSOLES_COMPOSER} may")
        if under(module, "fanout.store") and under(name, "fanout.control", "fanout.console"):
            broken.append(f"{module} imports {name}: the control plane uses the store, not the other way round")
        if under(module, "fanout.conformance") and under(name, *BEHIND_THE_WIRE):
            broken.append(f"{module} imports {name}: the conformance kit knows the wire, and nothing behind it")
        if under(module, "gateway", "loadtest") and under(name, *COMPOSERS):
            broken.append(f"{module} imports {name}: it is composed, it does not compose")
        if not under(module, "docsite") and under(name, "docsite"):
            broken.append(f"{module} imports {name}: the site is made of the product, and is not installed with it")
        if under(module, "loadtest") and under(name, "gateway"):
            broken.append(f"{module} imports {name}: the load test would test itself")
        if under(module, "loadtest") and under(name, "fanout") and not allowed_to_loadtest(module, name):
            broken.append(f"{module} imports {name}: of fanout, only {', '.join(LOADTEST_MAY)} are allowed")
    return broken


def allowed_to_loadtest(module: str, name: str) -> bool:
    if module in BUS_BENCHMARK and under(name, *BUS_BENCHMARK_MAY):
        return True
    return under(name, *LOADTEST_MAY) or name in LOADTEST_MAY_NAME


def impurities(graph: dict[str, set[str]]) -> list[str]:
    """Return what the pure modules, and all they build on, import and may not.

    Args:
        graph: What each module imports, by module.
    """
    faults: list[str] = []
    because = {module: "" for module in PURE if module in graph}
    queue = list(because)
    for module in queue:
        outside = [name for name in sorted(graph[module]) if under(name, *IMPURE)]
        faults += [f"{module} is to be pure{because[module]}, but imports {name}" for name in outside]
        for name in sorted(graph[module]):
            used = resolved(name, graph)
            if used is not None and used not in because:
                because[used] = f" (as {module} builds on it)"
                queue.append(used)
    return faults


def resolved(name: str, graph: dict[str, set[str]]) -> str | None:
    """Return the module an imported name comes from, None if it is none of ours."""
    while name and name not in graph:
        name = name.rpartition(".")[0]
    return name or None


def untidiness(module: str, text: str) -> list[str]:
    """Return what is wrong with a module as a piece of writing."""
    wrong: list[str] = []
    lines = text.count("\n")
    if lines > LINES_MAX:
        wrong.append(f"{module} has {lines} lines, the limit is {LINES_MAX}: it is two modules")
    if not (ast.get_docstring(ast.parse(text)) or "").strip():
        wrong.append(f"{module} has no docstring: say what it owns and what it does not know")
    for number, line in enumerate(text.splitlines(), 1):
        for word in ("TODO", "FIXME"):
            if word in line:
                wrong.append(f"{module}:{number} says {word}: do it, or open an issue")
    return wrong


@cache
def everywhere() -> list[tuple[str, str, set[str]]]:
    read = [(module, path, path.read_text("utf-8")) for module, path in sources()]
    return [(m, text, imports(m, text, package=path.name == "__init__.py")) for m, path, text in read]


# --- The house


def test_there_is_something_to_judge() -> None:
    assert {"fanout.wire", "fanout.slots", "fanout.bus.publication"} <= {module for module, _ in sources()}


def test_every_arrow_points_one_way() -> None:
    assert not [fault for module, _, imported in everywhere() for fault in broken_arrows(module, imported)]


def test_pure_modules_know_no_clock_no_loop_and_no_store() -> None:
    assert not impurities({module: imported for module, _, imported in everywhere()})


def test_every_module_is_short_introduces_itself_and_leaves_nothing_undone() -> None:
    assert not [fault for module, text, _ in everywhere() for fault in untidiness(module, text)]


def test_every_module_of_the_javascript_sdk_is_short_and_introduces_itself() -> None:
    modules = sorted((ROOT / "sdk/js/src").glob("*.js"))
    assert modules
    for path in modules:
        text = path.read_text("utf-8")
        assert text.count("\n") <= LINES_MAX, f"{path.name} has {text.count(chr(10))} lines, the limit is {LINES_MAX}"
        assert text.startswith("// "), f"{path.name} does not say what it owns and what it does not know"


# --- The checks themselves


@pytest.mark.parametrize(
    ("module", "text"),
    [
        ("fanout.control.http", "import gateway.worker"),
        ("fanout.control.http", "from gateway import worker"),
        ("fanout.device.client", "def late():\n    from gateway.worker import Worker"),
        ("fanout.bus.reader", "import loadtest"),
        ("fanout.clients", "import gateway"),
        ("gateway.worker", "from fanout.store.campaigns import CampaignStore"),
        ("gateway.worker", "from fanout import control"),
        ("gateway.worker", "import fanout.device"),
        ("gateway.worker", "from loadtest import swarm"),
        ("gateway.worker", "from fanout.cli import main"),
        ("gateway.a.b", "from ...fanout.device import client"),
        ("loadtest.swarm", "from fanout.bus import publication"),
        ("loadtest.swarm", "import fanout.campaign"),
        ("loadtest.swarm", "import gateway.connection"),
        ("loadtest.swarm", "import fanout\nfanout.campaign.advance"),
        ("loadtest.swarm", "import fanout as f\nf.bus"),
        ("loadtest.swarm", "from fanout.store import keys"),
        ("fanout.control.handlers", "from fanout.console import words"),
        ("fanout.store.flights", "from fanout.control.views import CampaignView"),
        ("fanout.bus.reader", "from fanout.store import campaigns"),
        ("fanout.conformance.gateway", "from fanout.bus import publication"),
        ("fanout.cli.fleet", "from docsite import markdown"),
    ],
)
def test_an_arrow_the_wrong_way_is_noticed(module: str, text: str) -> None:
    if text.startswith("from ..."):
        # Beyond the top of the tree there is nothing to resolve against but the part's own name.
        assert imports(module, text) == {"fanout.device.client"}
    assert broken_arrows(module, imports(module, text))


@pytest.mark.parametrize(
    ("module", "text"),
    [
        ("fanout.cli", "import gateway.supervisor"),
        ("fanout.demo.run", "from gateway import supervisor"),
        ("gateway.worker", "from fanout.bus import reader\nfrom fanout import wire"),
        ("gateway.worker", "from . import cohorts\nfrom gateway.config import GatewayConfig"),
        ("loadtest.swarm", "from fanout import wire, slots, arming\nfrom fanout.device import Device"),
        ("loadtest.swarm", "from fanout.tokens import mint"),
        ("loadtest.bench", "import fanout\nprint(fanout.__file__, fanout.__version__)"),
        ("fanout.control.http", "from fanout.store import campaigns"),
        ("fanout.control.server", "from fanout.console.app import routes"),
        ("docsite.api_page", "from fanout.control import openapi\nfrom docsite import markdown"),
    ],
)
def test_an_arrow_the_right_way_is_let_be(module: str, text: str) -> None:
    assert not broken_arrows(module, imports(module, text))


def a_graph(**texts: str) -> dict[str, set[str]]:
    """Return a device package of these modules."""
    names = {f"fanout.device.{name}": text for name, text in texts.items()}
    return {"fanout.device": set(), **{name: imports(name, text) for name, text in names.items()}}


@pytest.mark.parametrize(
    "text",
    [
        "import asyncio",
        "import time",
        "from time import monotonic",
        "from datetime import datetime",
        "import redis.asyncio",
        "import socket",
        "def f():\n    import time",
    ],
)
def test_an_impurity_is_noticed_in_a_pure_module_only(text: str) -> None:
    assert impurities(a_graph(machine=text))
    assert not impurities(a_graph(client=text, machine="import random"))


@pytest.mark.parametrize(
    "text",
    [
        "from fanout.device import helper",
        "from . import helper",
        "from .helper import now",
        "import fanout.device.helper",
    ],
)
def test_an_impurity_is_noticed_in_what_a_pure_module_builds_on(text: str) -> None:
    (fault,) = impurities(a_graph(machine=text, helper="import time"))
    assert "fanout.device.helper" in fault
    assert "as fanout.device.machine builds on it" in fault
    assert not impurities(a_graph(machine=text, helper="import math"))


def test_relative_imports_are_resolved() -> None:
    assert imports("fanout.bus.reader", "from . import publication") == {"fanout.bus.publication"}
    assert imports("fanout.bus", "from .reader import Reader", package=True) == {"fanout.bus.reader.Reader"}
    assert imports("fanout.bus.reader", "from ..wire import Beacon") == {"fanout.wire.Beacon"}


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("x = 1\n", "no docstring"),
        ("", "no docstring"),
        ('"""Owns it."""\n' + "x = 1\n" * LINES_MAX, "401 lines"),
        ('"""Owns it."""\nx = 1  # TODO: later\n', ":2 says TODO"),
        ('"""Owns it."""\n# FIXME\n', ":2 says FIXME"),
    ],
)
def test_untidiness_is_noticed(text: str, says: str) -> None:
    (fault,) = untidiness("fanout.x", text)
    assert says in fault
