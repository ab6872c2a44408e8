"""``python -m docsite [build | serve | pages | links]``.

build: the site into build/site/html, every warning a failure. serve: the same, at 127.0.0.1:8000, built again when
a page changes. pages: those that are made from the code. links: every link of every Markdown page.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable
from typing import Final

from docsite import api_page, assemble, cli_page, links, repository

# The pages that are made from the code; a test holds that they are as they would be made now.
MADE: Final[dict[str, Callable[[], str]]] = {
    "docs/cli.md": cli_page.made,
    "docs/api-reference.md": api_page.made,
}


def pages() -> int:
    for path, made in MADE.items():
        (repository.ROOT / path).write_text(made(), "utf-8")
        print(path)
    return 0


def check_links() -> int:
    read = links.pages()
    faults = links.broken(read, repository.files())
    print("\n".join([*faults, f"{sum(len(page.links) for page in read.values())} links, {len(faults)} broken"]))
    return bool(faults)


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m docsite", description="Build the documentation site.")
    parser.add_argument("what", nargs="?", choices=("build", "serve", "pages", "links"), default="build")
    parser.add_argument("--port", type=int, default=8000, help="of serve (default: %(default)s)")
    words = parser.parse_args()
    if words.what == "pages":
        return pages()
    if words.what == "links":
        return check_links()
    return assemble.serve(words.port) if words.what == "serve" else assemble.build()


if __name__ == "__main__":
    sys.exit(main())
