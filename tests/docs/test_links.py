"""Every link inside this repository leads somewhere, on whichever page it is."""

from __future__ import annotations

import pytest

from docsite import links, markdown, repository


def test_every_link_leads_to_a_file_and_a_heading() -> None:
    read = links.pages()
    assert {"README.md", "docs/protocol.md", "sdk/js/README.md"} <= set(read)
    faults = links.broken(read, repository.files())
    assert not faults, "\n".join(faults)


HOUSE = {
    "README.md": '# House\n\n## Two words\n\n## Two words\n\n## `code`, & more: 1.0\n\n<a id="named"></a>\n',
    "docs/a.md": "# A\n",
}
FILES = [*HOUSE, "src/x.py"]


def faults(text: str, path: str = "docs/b.md") -> list[str]:
    read = {name: markdown.read(page) for name, page in {**HOUSE, path: text}.items()}
    return links.broken(read, [*FILES, path])


@pytest.mark.parametrize(
    "text",
    [
        "[a](a.md)",
        "[a](a.md#a)",
        "[r](../README.md#two-words)",
        "[r](../README.md#two-words-1)",
        "[r](../README.md#code--more-10)",
        "[r](../README.md#named)",
        "[x](../src/x.py) and [its folder](../src)",
        "# Here\n\n[here](#here)",
        "[out](https://example.org/nowhere#x) [mail](mailto:a@example.org)",
        "`[no](link.md)`\n\n```\n[no](link.md)\n```",
        "[a][ref]\n\n[ref]: a.md",
        "![alt](a.md)",
    ],
)
def test_a_link_that_leads_somewhere_is_let_be(text: str) -> None:
    assert not faults(text)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("x\n\n[a](b/a.md)", "docs/b.md:3: b/a.md: there is no docs/b/a.md"),
        ("[a](a.md#b)", "docs/a.md has no such heading"),
        ("[a](A.md)", "there is no docs/A.md"),
        ("[r](../README.md#two-words-2)", "it has two-words, two-words-1"),
        ("[a](/docs/a.md)", "begins with a slash"),
        ("[x](../src/x.py#L3)", "only Markdown pages have anchors"),
        ("[here](#there)", "docs/b.md has no such heading"),
        ("![alt](none.png)", "there is no docs/none.png"),
        ("[a][ref]\n\n[ref]: none.md", "there is no docs/none.md"),
        ('<img src="none.png">', "there is no docs/none.png"),
        ("| a |\n| --- |\n| [x](none.md) |", "there is no docs/none.md"),
    ],
)
def test_a_link_that_leads_nowhere_is_noticed(text: str, says: str) -> None:
    [fault] = faults(text)
    assert says in fault
