"""Every link inside this repository leads somewhere: to a file that is in git, to a heading that is there.

What lies on other hosts is not asked for: a test that needs the network is no test.
"""

from __future__ import annotations

import posixpath
from collections.abc import Mapping
from pathlib import Path
from urllib.parse import unquote

from docsite import markdown, repository


def pages(root: Path = repository.ROOT) -> dict[str, markdown.Page]:
    """Return every Markdown page of the repository by its path."""
    paths = [path for path in repository.files(root) if path.endswith(".md")]
    return {path: markdown.read((root / path).read_text("utf-8")) for path in paths}


def broken(read: Mapping[str, markdown.Page], files: list[str]) -> list[str]:
    """Return what is wrong, a line for each link: where it is, what it says, why it leads nowhere.

    Args:
        read: The pages, by path.
        files: Everything that is in the repository.
    """
    there = {*files, *repository.folders(files)}
    faults: list[str] = []
    for path, page in read.items():
        for link in page.links:
            if not link.is_external and (why := _fault(path, unquote(link.target), read, there)):
                faults.append(f"{path}:{link.line}: {link.target}: {why}")
    return faults


def _fault(path: str, target: str, read: Mapping[str, markdown.Page], there: set[str]) -> str:
    place, _, fragment = target.partition("#")
    if place.startswith("/"):
        return "begins with a slash, which means something else everywhere; say where it is from this page"
    to = resolved(path, place)
    if to not in there:
        return f"there is no {to} in the repository"
    if fragment and to not in read:
        return "only Markdown pages have anchors"
    if fragment and fragment not in read[to].anchors:
        near = ", ".join(sorted(each for each in read[to].anchors if fragment[:4] in each)[:5])
        return f"{to} has no such heading" + (f"; it has {near}" if near else "")
    return ""


def resolved(path: str, place: str) -> str:
    """Return where a link's path leads, as a path of the repository; the page itself if it is empty."""
    return posixpath.normpath(posixpath.join(posixpath.dirname(path), place)) if place else path
