"""Puts the site's pages in one folder, and has Zensical make HTML of them.

The pages lie where readers of the repository look for them, and link to each other and to files beside them. Here
they are copied, with every link to what lies elsewhere now rewritten; a file that is no page becomes one that shows
it, so that the site needs no address of a repository.
"""

from __future__ import annotations

import itertools
import json
import posixpath
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Final

from docsite import markdown, navigation, repository
from fanout import processes

BUILD: Final = repository.ROOT / "build/site"
_STOP_S: Final = 5.0
_HERE: Final = Path(__file__).parent
_PICTURES: Final = (".png", ".jpg", ".jpeg", ".svg", ".gif", ".webp")
# The front page of the site is docs/index.md; the README is that of the repository.
_AT_HOME: Final = {"README.md": "index.md"}
_FENCE: Final = re.compile(r"^ *(```|~~~)")
_COLOUR: Final = re.compile(r"\x1b\[[0-9;]*m")
_TARGET: Final = re.compile(r"(?<=\]\()([^)\s]+)(?=[)\s])|(?<=^\[)([^\]]+)(\]: +)(\S+)$")


class _Site:
    """One assembly.

    Args:
        root: The repository.
        out: The folder the pages go to; emptied first.
    """

    def __init__(self, root: Path, out: Path) -> None:
        self._root = root
        self._out = out
        self._files = repository.files(root)
        self._there = {*self._files, *repository.folders(self._files)}
        self._folders = repository.folders(self._files)
        # In order of discovery: what a page links to comes with it.
        self._wanted: dict[str, None] = {}

    def assemble(self) -> str:
        """Write every page; return the navigation, as TOML."""
        texts = {path: (self._root / path).read_text("utf-8") for path in self._files if path.endswith(".md")}
        titles = {path: markdown.read(text).title or path for path, text in texts.items()}
        sections = dict(navigation.sections(self._files, titles))
        for path in (page.path for pages in sections.values() for page in pages):
            if path not in texts:
                raise FileNotFoundError(f"docsite/navigation.py names {path}, which is not in the repository")
            self._wanted[path] = None
        self._wanted |= dict.fromkeys(path for path in texts if path.startswith("docs/"))
        queue = list(self._wanted)
        for path in queue:
            for target in self._write(path, texts):
                if target not in self._wanted:
                    self._wanted[target] = None
                    queue.append(target)
        return _toml(sections)

    def _write(self, path: str, texts: Mapping[str, str]) -> list[str]:
        """Write what stands for a file or folder; return what it links to."""
        to = self._out / staged(path)
        to.parent.mkdir(parents=True, exist_ok=True)
        if path in texts:
            text, targets = rewritten(path, texts[path], self._there)
            to.write_text(text, "utf-8")
            return targets
        if path.endswith(_PICTURES):
            shutil.copyfile(self._root / path, to)
        elif path in self._folders:
            inside = [each for each in self._files if each.startswith(path + "/")]
            to.write_text(_shown(path, "\n".join(inside), ""), "utf-8")
        else:
            to.write_text(_shown(path, (self._root / path).read_text("utf-8"), _language(path)), "utf-8")
        return []


def staged(path: str) -> str:
    """Return where on the site a file or folder of the repository is."""
    if path in _AT_HOME:
        return _AT_HOME[path]
    if path.startswith("docs/"):
        return path.removeprefix("docs/")
    return f"repository/{path}" if path.endswith((".md", *_PICTURES)) else f"repository/{path}.md"


def rewritten(path: str, text: str, there: set[str]) -> tuple[str, list[str]]:
    """Return a page as it is on the site, and what of the repository it links to.

    Args:
        path: The page's.
        text: What it says.
        there: Every file and folder.
    """
    found: list[str] = []
    links = {link.target for link in markdown.read(text).links if not link.is_external}

    def moved(target: str) -> str:
        place, mark, fragment = target.partition("#")
        to = posixpath.normpath(posixpath.join(posixpath.dirname(path), place))
        if target not in links or not place or to not in there:
            return target
        # A folder that introduces itself is shown by its own page.
        to = next((page for page in (f"{to}/README.md", f"{to}/index.md") if page in there), to)
        found.append(to)
        return posixpath.relpath(staged(to), posixpath.dirname(staged(path)) or ".") + mark + fragment

    lines, fence = [], ""
    for line in text.split("\n"):
        mark = _FENCE.match(line)
        if mark and (not fence or mark[1] == fence):
            fence = "" if fence else mark[1]
        elif not fence:
            line = _TARGET.sub(lambda m: moved(m[1]) if m[1] else f"{m[2]}{m[3]}{moved(m[4])}", line)
        lines.append(line)
    return "\n".join(lines), found


def _shown(path: str, text: str, language: str) -> str:
    """Return a page that shows a file. The search leaves it out: it is for who follows a link."""
    fence = "`" * max(3, *(len(run) + 1 for run in re.findall(r"`+", text)), 3)
    return f"---\nsearch:\n  exclude: true\n---\n\n# {path}\n\n{fence}{language}\n{text.rstrip()}\n{fence}\n"


def _language(path: str) -> str:
    return {".py": "python", ".mjs": "js", ".yml": "yaml"}.get(Path(path).suffix, Path(path).suffix.lstrip("."))


def _toml(sections: Mapping[str, list[navigation.Page]]) -> str:
    """Return the navigation as the value of ``nav``."""
    lines = [f"  {_entry(section, pages)}," for section, pages in sections.items()]
    return "\n".join(("[", *lines, "]"))


def _entry(title: str, pages: Iterable[navigation.Page]) -> str:
    inside: list[str] = []
    for group, members in itertools.groupby(pages, key=lambda page: page.group):
        if group:
            inside.append(_entry(group, [page._replace(group="") for page in members]))
        else:
            inside += [f"{{ {_quoted(page.title)} = {_quoted(staged(page.path))} }}" for page in members]
    return f"{{ {_quoted(title)} = [{', '.join(inside)}] }}"


def _quoted(text: str) -> str:
    return json.dumps(text)  # a string in JSON is one in TOML


def assemble(out: Path) -> Path:
    """Put everything Zensical needs into one folder; return its settings."""
    shutil.rmtree(out / "pages", ignore_errors=True)
    nav = _Site(repository.ROOT, out / "pages").assemble()
    shutil.copytree(_HERE / "vendor", out / "pages/vendor")
    shutil.copyfile(_HERE / "site.css", out / "pages/site.css")
    settings = out / "zensical.toml"
    settings.write_text((_HERE / "zensical.toml").read_text("utf-8").replace("nav = []", f"nav = {nav}"), "utf-8")
    return settings


def build(out: Path = BUILD) -> int:
    """Build the site into a folder, as html/; a warning is a failure. Return an exit status."""
    settings = assemble(out)
    shutil.rmtree(out / "html", ignore_errors=True)
    words = _zensical("build", "--strict", "--clean", "--config-file", str(settings))
    built = subprocess.run(words, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    # What it is not content with it shows in colours, and then raises.
    said = _COLOUR.sub("", built.stdout).partition("Traceback (most recent")[0].strip()
    print(said if built.returncode else out / "html/index.html")
    return built.returncode


def serve(port: int) -> int:
    """Show the site on this machine, built again whenever a page changes, until Ctrl-C."""
    settings = assemble(BUILD)
    words = _zensical("serve", "--config-file", str(settings), "--dev-addr", f"127.0.0.1:{port}")
    seen = _changed()
    child = processes.start(words)
    try:
        while child.poll() is None:
            time.sleep(1)
            now = _changed()
            if now != seen:
                seen = now
                assemble(BUILD)
    except KeyboardInterrupt:
        pass
    finally:
        processes.stop(child, _STOP_S)
    return 0


def _changed() -> float:
    """Return when any of the repository's pages was changed last."""
    paths = (path for path in repository.files() if path.endswith((".md", *_PICTURES)))
    return max((repository.ROOT / path).stat().st_mtime for path in paths)


def _zensical(*words: str) -> list[str]:
    return [sys.executable, "-m", "zensical", *words]
