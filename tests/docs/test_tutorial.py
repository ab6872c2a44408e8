"""A reader who pastes the commands of the quickstart and of the night gets where the pages say."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from loadtest.ports import reserved_ports

from .commands import commands, run

PAGES = ("docs/quickstart.md", "docs/tutorial.md")
# The pages are written for people, on a machine of their own: these words, and nothing else, are different here.
WINDOW = (re.compile(r"--window \d+"), "--window 1")
POLL = (re.compile(r"\bsleep 1\b"), "sleep 0.3")


def test_the_night_goes_as_it_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    blocks = [block for page in PAGES for block in commands(page)]
    assert len(blocks) > 12, "the pages' commands were not found"
    script = "\n".join(blocks)
    monkeypatch.chdir(tmp_path)
    with reserved_ports(3) as [control, gateway, admin]:
        for pattern, shorter in (WINDOW, POLL, (re.compile(r"127\.0\.0\.1:8081"), f"127.0.0.1:{gateway}")):
            script, times = pattern.subn(shorter, script)
            assert times, f"{pattern.pattern} is not on the pages any more"
        said = run(
            script,
            FANOUT_CONTROL_PORT=str(control),
            FANOUT_CONTROL_URL=f"http://127.0.0.1:{control}",
            FANOUT_GATEWAY_PORT=str(gateway),
            FANOUT_GATEWAY_ADMIN_PORT=str(admin),
        )
    assert "go live at 95%: met" in said
    assert "flip lag: " in said
    [*_, total] = [line for line in said.splitlines() if re.match(r"\W*all\b", line)]
    assert re.findall(r"\d+", total)[:3] == ["200", "200", "200"], "connected, ready, active: every device flipped"


def test_every_block_of_commands_is_run_or_is_no_script() -> None:
    """What begins as a script and is marked as none would rot unseen."""
    for page in PAGES:
        text = (Path(__file__).parents[2] / page).read_text("utf-8")
        assert text.count("```sh\n") == len(commands(page)), f"{page} has an ```sh block that is not run"
