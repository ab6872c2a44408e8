"""Holds docs/limits.md to the code: every limit is on the page, with its value and its reason.

The part between the marks is made from the code and the comments in it: ``python -m tests.test_limits_page``.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Final

import msgspec

from fanout import limits
from fanout.control.config import ControlConfig
from fanout.doctor.capacity import Costs
from fanout.settings import describe
from gateway.config import GatewayConfig

ROOT: Final = Path(__file__).resolve().parent.parent
PAGE: Final = ROOT / "docs" / "limits.md"
BEGIN: Final = "<!-- made from the code by: python -m tests.test_limits_page -->"
END: Final = "<!-- end of what is made -->"
NO_LIMITS: Final = (
    *("redis_url", "redis_read_url", "host", "port", "public_url", "origins", "audience", "console_url"),
    *("open_console", "wall_gateway_url", "wall_topic"),
    *("oidc_issuer", "oidc_client_id", "oidc_scope", "oidc_name_claim", "oidc_roles_claim", "oidc_roles"),
)


def comments(text: str, indent: str = "") -> Iterator[tuple[str, str, str]]:
    """Yield every name that is given a value at this depth: its section, and the comment above it or beside it."""
    section: str = ""
    above: list[str] = []
    for line in text.splitlines():
        if line.startswith(f"{indent}# --- "):
            section, above = line.split("# --- ")[1], []
        elif line.startswith(f"{indent}# "):
            above.append(line.split("# ", 1)[1])
        elif found := re.match(rf"{indent}(\w+): ", line):
            beside = line.split("  # ", 1)[1:]
            yield section, found[1], " ".join([*above, *beside])
            above = []
        elif not line.strip():
            above = []


def shown(value: Any) -> str:
    if isinstance(value, tuple):
        return ", ".join(value) or "none"
    return f"{value:,}" if isinstance(value, int) else f"{value:,.10g}"


def table(*titles: str, rows: Sequence[tuple[str, ...]]) -> str:
    cells = [titles, tuple("---" for _ in titles), *rows]
    return "\n".join("| " + " | ".join(each.replace("|", "\\|") for each in row) + " |" for row in cells)


def what_people_and_devices_send() -> str:
    parts: dict[str, list[tuple[str, ...]]] = {}
    for section, name, why in comments((ROOT / "fanout/limits.py").read_text("utf-8")):
        parts.setdefault(section, []).append((f"`{name}`", shown(getattr(limits, name)), why))
    made = [f"**{title}**\n\n{table('limit', 'value', 'why', rows=rows)}" for title, rows in parts.items()]
    return "## What people and devices send (`fanout/limits.py`)\n\n" + "\n\n".join(made)


def what_a_process_takes(title: str, command: str, file: str, kind: type[msgspec.Struct]) -> str:
    why = {name: text for _, name, text in comments((ROOT / file).read_text("utf-8"), "    ")}
    rows = [
        (
            f"`--{field.name.replace('_', '-')}`",
            shown(field.default),
            " ".join(filter(None, (describe(kind, field.name), why.get(field.name, "")))),
        )
        for field in msgspec.structs.fields(kind)
        if field.name not in NO_LIMITS
    ]
    return (
        f"## What {title} takes (`fanout {command}`, `{file}`)\n\nEvery flag is an environment variable "
        f"too: `FANOUT_{command.upper()}_…`.\n\n{table('flag', 'default', 'what, and why', rows=rows)}"
    )


def what_a_device_costs() -> str:
    notes = {
        name: text for _, name, text in comments((ROOT / "fanout/doctor/capacity.py").read_text("utf-8"), "    ")
    }
    rows = [(f"`{f.name}`", shown(f.default), notes[f.name]) for f in msgspec.structs.fields(Costs)]
    title = "## What `fanout doctor` counts with (`fanout/doctor/capacity.py`)"
    return f"{title}\n\n{table('figure', 'value', 'what, and where from', rows=rows)}"


def made() -> str:
    """Return the part of the page that is made from the code."""
    parts = (
        what_people_and_devices_send(),
        what_a_process_takes("a gateway", "gateway", "gateway/config.py", GatewayConfig),
        what_a_process_takes("the control plane", "control", "fanout/control/config.py", ControlConfig),
        what_a_device_costs(),
    )
    return "\n\n".join((BEGIN, *parts, END))


def rewritten(page: str) -> str:
    before, _, rest = page.partition(BEGIN)
    return before + made() + rest.partition(END)[2]


def test_the_page_says_what_the_code_says() -> None:
    page = PAGE.read_text("utf-8")
    assert page == rewritten(page), "docs/limits.md is behind the code: python -m tests.test_limits_page"


def test_every_limit_is_on_the_page() -> None:
    """Asked of the modules themselves, so that a limit the parser of comments overlooks is noticed."""
    page = PAGE.read_text("utf-8")
    names = {name for name in vars(limits) if name.isupper()}
    settings = {*GatewayConfig.__struct_fields__, *ControlConfig.__struct_fields__}
    names |= {f"--{name.replace('_', '-')}" for name in settings}
    left_out = {name for name in names if f"`{name}`" not in page}
    assert left_out == {f"--{name.replace('_', '-')}" for name in NO_LIMITS}


def test_every_limit_of_what_is_sent_is_in_a_section() -> None:
    assert all(section for section, *_ in comments((ROOT / "fanout/limits.py").read_text("utf-8")))


if __name__ == "__main__":
    PAGE.write_text(rewritten(PAGE.read_text("utf-8")), "utf-8")
