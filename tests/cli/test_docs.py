"""Every command line that a page names can be typed: the command is there, and so are its options."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from pathlib import Path

import click
import pytest

from fanout.cli import cli

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
# Either in a sentence, perhaps broken over two lines; or a line of a block, perhaps after its variables.
IN_A_SENTENCE = re.compile(r"`(fanout\s[^`]+)`")
A_LINE = re.compile(r"^\s*(?:\$ )?(?:\w+=\S+ )*(fanout [a-z].*)$", re.MULTILINE)
BLOCK = re.compile(r"^```\w*\n(.*?)^```", re.MULTILINE | re.DOTALL)
# What follows is another command's, or left to the reader.
END = ("--", "…", "...", "&", "&&", "|", ">", "\\", "[OPTIONS]")


def command_lines(page: str) -> Iterator[str]:
    """Yield every command line of fanout in a page."""
    for block in BLOCK.findall(page):
        yield from A_LINE.findall(block)
    for line in IN_A_SENTENCE.findall(BLOCK.sub("", page)):
        yield " ".join(line.split())


def fault(line: str) -> str:
    """Return what of a command line is not known, "" if all of it is."""
    words = shlex.split(line, comments=True)[1:]
    command: click.Command = cli
    # With the settings of the real one: a command keeps the help option that it is asked for first.
    context = click.Context(cli, info_name="fanout", **cli.context_settings)
    for word in words:
        if word in END:
            break
        if word.startswith("-"):
            name = word.partition("=")[0]
            known = {opt for param in command.get_params(context) for opt in (*param.opts, *param.secondary_opts)}
            if name not in known:
                return f"{context.command_path} has no option {name}"
        elif isinstance(command, click.Group):
            found = command.get_command(context, word)
            if found is None:
                return f"{context.command_path} has no command {word}"
            command, context = found, click.Context(found, parent=context, info_name=word)
    return ""


def test_every_command_line_in_the_pages_can_be_typed() -> None:
    lines = [(page.name, line) for page in PAGES for line in command_lines(page.read_text("utf-8"))]
    assert len(lines) > 60
    assert not [(name, line, wrong) for name, line in lines if (wrong := fault(line))]


@pytest.mark.parametrize(
    ("page", "says"),
    [
        ("flown (`fanout campaign rehearse`) with", "fanout campaign has no command rehearse"),
        ("over\n`fanout\ngateway --wrokers 2`", "fanout gateway has no option --wrokers"),
        ("`fanout gateway\n--wrokers 2`", "fanout gateway has no option --wrokers"),
        ("```\nA=1 fanout plan --devices=5 --sky 3   # why\n```\n", "fanout plan has no option --sky"),
        (
            "```sh\n$ fanout campaign activate x live --window 5 &\nfanout nothing\n```\n",
            "fanout has no command nothing",
        ),
        ("`fanout check-device -- node device.mjs --wrokers {url}` and `fanout key …`", ""),
    ],
)
def test_a_command_line_that_cannot_be_typed_is_noticed(page: str, says: str) -> None:
    assert "".join(map(fault, command_lines(page))) == says
