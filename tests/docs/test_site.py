"""The site: every page of docs/ is on it, every link of what is built works, and nothing is fetched from anybody."""

from __future__ import annotations

import posixpath
import re
from html.parser import HTMLParser
from pathlib import Path

import pytest

from docsite import assemble, navigation, repository

# A page may lead a reader elsewhere; what a browser loads by itself must be here.
LOADED = {("script", "src"), ("img", "src"), ("link", "href"), ("iframe", "src"), ("source", "src")}


class Html(HTMLParser):
    """What a page can be linked by, leads to, and loads."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.ids: set[str] = set()
        self.hrefs: list[str] = []
        self.loads: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        for name, value in attrs:
            if name in ("id", "name") and value:
                self.ids.add(value)
            if tag == "a" and name == "href" and value:
                self.hrefs.append(value)
            if (tag, name) in LOADED and value:
                self.loads.append(value)


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Html]:
    """The built pages, by their paths."""
    pytest.importorskip("zensical", reason="the site's generator is not installed: pip install '.[docs]'")
    out = tmp_path_factory.mktemp("site")
    assert assemble.build(out) == 0, "Zensical warned; python -m docsite says of what"
    html = out / "html"
    pages = {page.relative_to(html).as_posix(): Html(page.read_text("utf-8")) for page in html.rglob("*.html")}
    for other in html.rglob("*"):
        if other.is_file() and other.suffix != ".html":
            pages[other.relative_to(html).as_posix()] = Html("")
    return pages


def test_every_link_of_what_is_built_works(site: dict[str, Html]) -> None:
    assert "protocol.html" in site
    broken = []
    for path, page in site.items():
        for target in (*page.hrefs, *page.loads):
            if re.match(r"[a-z]+:|//", target) or path == "404.html":
                continue
            place, _, fragment = target.partition("#")
            to = posixpath.normpath(posixpath.join(posixpath.dirname(path), place)) if place else path
            to = f"{to}/index.html" if f"{to}/index.html" in site else to
            to = "index.html" if to == "." else to
            # What begins with two underscores is for the page's own script.
            if to not in site or (fragment and not fragment.startswith("__") and fragment not in site[to].ids):
                broken.append(f"{path}: {target}")
    assert not broken, "\n".join(broken)


def test_a_reader_without_a_network_misses_nothing(site: dict[str, Html]) -> None:
    foreign = {f"{path}: {url}" for path, page in site.items() for url in page.loads if re.match(r"https?:|//", url)}
    assert not foreign


def test_every_page_of_the_docs_is_in_the_navigation() -> None:
    files = repository.files()
    titles = {path: path for path in files}
    shown = {path for _, pages in navigation.sections(files, titles) for path in (page.path for page in pages)}
    written = {path for path in files if path.startswith("docs/") and path.endswith(".md")}
    assert written - shown == set(), "add it to docsite/navigation.py"
    assert shown - set(files) == set(), "the navigation names what is not there"


def test_a_link_to_what_is_no_page_is_shown_on_the_site() -> None:
    there = {"docs/a.md", "src/x.py", "src", "other/README.md", "other", "README.md"}
    text = "[x](../src/x.py) [s](../src) [o](../other) [h](../README.md#x)\n\n```\n[x](../src/x.py)\n```\n"
    page, found = assemble.rewritten("docs/a.md", text, there)
    assert page == (
        "[x](repository/src/x.py.md) [s](repository/src.md) [o](repository/other/README.md) [h](index.md#x)\n\n"
        "```\n[x](../src/x.py)\n```\n"
    )
    assert found == ["src/x.py", "src", "other/README.md", "README.md"]


def test_a_page_that_is_missing_is_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(navigation, "NAVIGATION", (("Start", (("Nowhere", "docs/nowhere.md"),)),))
    with pytest.raises(FileNotFoundError, match=r"navigation\.py names docs/nowhere\.md"):
        assemble.assemble(tmp_path)
