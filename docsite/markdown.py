"""What a Markdown page links to, and what in it can be linked to. Pure.

Anchors are those that GitHub makes; the site is set up to make the same.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Final, NamedTuple

from markdown_it import MarkdownIt
from markdown_it.token import Token

_PARSER: Final = MarkdownIt("commonmark").enable("table")
_NOT_IN_A_SLUG: Final = re.compile(r"[^\w\- ]")
_HTML_ANCHOR: Final = re.compile(r"<[^>]*\s(?:id|name)=\"([^\"]+)\"")
_HTML_LINK: Final = re.compile(r"<(?:a|img)\s[^>]*(?:href|src)=\"([^\"]+)\"")
_EXTERNAL: Final = re.compile(r"^([a-z][a-z0-9+.-]*:|//)", re.IGNORECASE)


class Link(NamedTuple):
    """One link or image.

    Attributes:
        target: As it is written.
        line: Of the paragraph it is in, from 1.
    """

    target: str
    line: int

    @property
    def is_external(self) -> bool:
        return bool(_EXTERNAL.match(self.target))


class Page(NamedTuple):
    """What matters of a page here.

    Attributes:
        title: Its first heading's text, empty if there is none.
        links: In order.
        anchors: What a fragment may name.
    """

    title: str
    links: list[Link]
    anchors: set[str]


def read(text: str) -> Page:
    """Read a page."""
    title = ""
    links: list[Link] = []
    anchors: set[str] = set()
    tokens = _PARSER.parse(text)
    for before, token in zip([None, *tokens], tokens, strict=False):
        line = token.map[0] + 1 if token.map else 0
        if token.type == "html_block":
            anchors.update(_HTML_ANCHOR.findall(token.content))
            links += [Link(target, line) for target in _HTML_LINK.findall(token.content)]
        if token.type != "inline":
            continue
        children = token.children or []
        links += [Link(target, line) for target in _targets(children)]
        anchors.update(name for child in children for name in _HTML_ANCHOR.findall(child.content))
        if before is not None and before.type == "heading_open":
            heading = "".join(child.content for child in children if child.type in ("text", "code_inline"))
            title = title or heading
            anchors.add(_unused(slug(heading), anchors))
    return Page(title, links, anchors)


def slug(heading: str) -> str:
    """Return the anchor of a heading."""
    return _NOT_IN_A_SLUG.sub("", heading.strip().lower()).replace(" ", "-")


def _unused(wanted: str, taken: set[str]) -> str:
    name, number = wanted, 0
    while name in taken:
        number += 1
        name = f"{wanted}-{number}"
    return name


def _targets(children: Iterable[Token]) -> Iterable[str]:
    for child in children:
        if child.type == "link_open":
            yield str(child.attrs["href"])
        elif child.type == "image":
            yield str(child.attrs["src"])
        elif child.type == "html_inline":
            yield from _HTML_LINK.findall(child.content)
