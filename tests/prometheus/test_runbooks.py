"""Holds docs/runbooks and docs/monitoring.md: every alert has its page, and every command on it can be typed.

The tables between the marks are made from the rules: ``PYTHONPATH=.:tests python -m prometheus.test_runbooks``.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import click
import pytest

from fanout.cli import cli

from .rules import ROOT, RULES, RUNBOOKS, alert_names, alerts, alerts_of, runbook_of

BEGIN: Final = "<!-- made by: PYTHONPATH=.:tests python -m prometheus.test_runbooks -->"
END: Final = "<!-- end of what is made -->"
INDEX: Final = RUNBOOKS / "index.md"
MONITORING: Final = ROOT / "docs/monitoring.md"
PAGES: Final = sorted(path for path in RUNBOOKS.glob("*.md") if path != INDEX)
HEADINGS: Final = (
    "Symptom",
    "What viewers notice",
    "Causes, the likeliest first",
    "Tell them apart",
    "What to do",
    "It is over when",
)
# Programs of others that a page may ask for.
TOOLS: Final = {"kubectl", "curl", "valkey-cli", "ss", "export"}
each_page = pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)


def waits(rule: dict[str, str]) -> str:
    return str(rule.get("for", "at once"))


def table(folder: str) -> str:
    """Return a row for each rule, with links as seen from a page that has the runbooks in ``folder``."""
    rows = ["| alert | severity | lasts for | says |", "| --- | --- | --- | --- |"]
    for path in RULES:
        for rule in alerts_of(path):
            name, labels = rule["alert"], rule["labels"]
            said = re.sub(r"\{\{ \$labels\.campaign \}\}", "…", rule["annotations"]["summary"])
            said = re.sub(r"\{\{ \$value \}\}", "Several", said)
            link = f"[{name}]({folder}{runbook_of(name).name})"
            rows.append(f"| {link} | {labels['severity']} | {waits(rule)} | {said} |")
    return "\n".join(rows)


def rewritten(path: Path) -> str:
    folder = "" if path == INDEX else "runbooks/"
    before, _, rest = path.read_text("utf-8").partition(BEGIN)
    return f"{before}{BEGIN}\n\n{table(folder)}\n\n{END}{rest.partition(END)[2]}"


@pytest.mark.parametrize("path", [INDEX, MONITORING], ids=lambda path: path.stem)
def test_the_tables_list_every_alert_as_it_is(path: Path) -> None:
    assert path.read_text("utf-8") == rewritten(path), f"{path} is behind the rules; see this module's docstring"


def test_there_is_a_page_for_every_alert_and_no_other() -> None:
    assert set(PAGES) == {runbook_of(name) for name in alert_names()}


@each_page
def test_a_page_begins_with_its_alert_and_answers_the_same_six_questions(page: Path) -> None:
    text = page.read_text("utf-8")
    title = text.splitlines()[0].removeprefix("# ")
    assert runbook_of(title) == page
    assert tuple(re.findall(r"^## (.+)$", text, re.MULTILINE)) == HEADINGS
    for severity in {rule["labels"]["severity"] for rule in alerts() if rule["alert"] == title}:
        assert severity in text.partition("## Symptom")[0], f"{page.name} does not say that it is {severity}"
    causes = text.partition("## Causes, the likeliest first")[2].partition("## ")[0]
    assert len(re.findall(r"^\d\. ", causes, re.MULTILINE)) >= 3
    assert len(blocks(text)) >= 1, "no command tells the causes apart"


def blocks(text: str) -> list[str]:
    """Return the blocks of commands."""
    return re.findall(r"^```\n(.*?)^```", text, re.MULTILINE | re.DOTALL)


def commands(text: str) -> Iterator[str]:
    """Yield every command line of a page: those in blocks, and ours in the text."""
    for block in blocks(text):
        yield from (line for line in block.splitlines() if line.strip())
    outside = re.sub(r"^```\w*\n.*?^```", "", text, flags=re.MULTILINE | re.DOTALL)
    yield from (" ".join(found.split()) for found in re.findall(r"`(fanout [^`]+)`", outside))


def understood(line: str) -> None:
    """Parse one of our command lines as the command line does. Raises click's errors."""
    words = ["7" if word == "REV" else word for word in shlex.split(line.partition(" |")[0], comments=True)]
    command: click.Command = cli
    # With the settings of the real one: a command keeps the help option that it is asked for first.
    context = click.Context(cli, **cli.context_settings)
    rest = words[1:]
    while isinstance(command, click.Group):
        if not rest:
            return  # a group, named as such
        name, rest = rest[0], rest[1:]
        found = command.get_command(context, name)
        if found is None:
            raise click.UsageError(f"no command {name}")
        command = found
    command.make_context(command.name, rest, parent=context)


@each_page
def test_every_command_on_a_page_can_be_typed(page: Path) -> None:
    ours = 0
    for line in commands(page.read_text("utf-8")):
        program = shlex.split(line, comments=True)[0]
        if program != "fanout":
            assert program in TOOLS, line
            continue
        ours += 1
        try:
            understood(line)
        except click.ClickException as exc:
            pytest.fail(f"{line}: {exc.format_message()}")
    assert ours, "no command of ours"


@pytest.mark.parametrize(
    "line", ["fanout fleets", "fanout fleet --all", "fanout campaign readiness", "fanout campaign flight ID soon"]
)
def test_a_command_that_cannot_be_typed_is_noticed(line: str) -> None:
    with pytest.raises(click.ClickException):
        understood(line)


def options(command: click.Command = cli) -> Iterator[str]:
    """Yield every flag there is."""
    if isinstance(command, click.Group):
        context = click.Context(command)
        for name in command.list_commands(context):
            child = command.get_command(context, name)
            assert child is not None
            yield from options(child)
    for option in command.params:
        yield from (*option.opts, *option.secondary_opts)


def test_every_flag_of_ours_that_is_named_exists() -> None:
    there = set(options())
    places = {path: path.read_text("utf-8") for path in (*PAGES, *RULES, MONITORING, INDEX)}
    named = {
        (path.name, flag) for path, text in places.items() for flag in re.findall(r"[`(](--[a-z][a-z-]+[a-z])", text)
    }
    assert len(named) > 20
    assert not {(path, flag) for path, flag in named if flag not in there}


def anchors(page: Path) -> set[str]:
    """Return what a page's headings are called in links."""
    headings = re.findall(r"^#+ (.+)$", page.read_text("utf-8"), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def test_every_link_of_these_pages_leads_somewhere() -> None:
    for path in (*PAGES, INDEX, MONITORING):
        for target, anchor in re.findall(r"\]\(([^)#:]+)(?:#([^)]*))?\)", path.read_text("utf-8")):
            page = path.parent / target
            assert page.exists(), f"{path.name}: {target}"
            assert not anchor or anchor in anchors(page), f"{path.name}: {target}#{anchor}"


def test_what_a_page_calls_a_panel_is_one() -> None:
    titles = "".join(path.read_text("utf-8") for path in (ROOT / "deploy/grafana/panels").glob("*.yaml"))
    for path in PAGES:
        for name in re.findall(r"(?<!\*)\*([A-Z][^*\n]+)\*(?!\*)", path.read_text("utf-8")):
            assert f"title: {name.partition(':')[0]}" in titles, f"{path.name}: {name}"


def main() -> None:
    for path in (INDEX, MONITORING):
        path.write_text(rewritten(path), "utf-8")


if __name__ == "__main__":
    main()
