"""The pages that are made from the code say what the code says now, and leave nothing out."""

from __future__ import annotations

import json
import re

import click
import pytest
from cli.test_help import commands
from support.stack import ROOT

from docsite.__main__ import MADE
from fanout.control import openapi
from fanout.control.routes import OPERATIONS


def page(path: str) -> str:
    return (ROOT / path).read_text("utf-8")


@pytest.mark.parametrize("path", MADE)
def test_the_page_is_as_it_would_be_made_now(path: str) -> None:
    assert page(path) == MADE[path](), f"{path} is behind the code: python -m docsite pages"


def test_every_command_flag_and_variable_is_on_the_page() -> None:
    """Asked of click itself, so that what the page's maker overlooks is noticed."""
    said = page("docs/cli.md")
    for path, command in commands():
        assert f"# {' '.join(('fanout', *path))}\n" in said
        for option in command.params:
            if isinstance(option, click.Option):
                assert f"`{max(option.opts, key=len)}" in said
                assert option.is_eager or f"`{option.envvar}`" in said


def test_every_variable_the_code_reads_is_on_the_page() -> None:
    """Secrets have no flag, so no option tells of them."""
    read = re.compile(r"(?:environ\.get\(|environ\[|getenv\(|_secret\()\s*\"(FANOUT_[A-Z_]+)\"")
    sources = [*ROOT.glob("fanout/**/*.py"), *ROOT.glob("gateway/**/*.py")]
    names = {name for path in sources for name in read.findall(path.read_text("utf-8"))}
    assert names, "no module reads a variable this way any more: tell this test the new one"
    internal = {name for name in names if name.startswith("FANOUT_GATEWAY_")}
    missing = {name for name in names - internal if f"`{name}`" not in page("docs/cli.md")}
    assert not missing


def test_every_operation_and_body_is_on_the_page() -> None:
    said = page("docs/api-reference.md")
    document = json.loads(openapi.document(OPERATIONS))
    for path, item in document["paths"].items():
        for method in item:
            assert f"### {method.upper()} {path}\n" in said
    for name, schema in document["components"]["schemas"].items():
        section = said.partition(f"### {name}\n")[2].partition("\n### ")[0]
        assert section
        for field in schema.get("properties", {}):
            assert f"| `{field}` |" in section
