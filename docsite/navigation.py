"""Which page stands where on the site. Data, and how a pattern in it becomes pages. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from fnmatch import fnmatchcase
from typing import Final, NamedTuple

# A section is a title and its pages; a page is a title and its file. A pattern stands for every page it fits, under
# their own titles, as a group of the title here.
# Everything in docs/ has to be here; a test holds that.
NAVIGATION: Final[tuple[tuple[str, tuple[tuple[str, str], ...]], ...]] = (
    (
        "Start",
        (
            ("What it is", "docs/index.md"),
            ("Quickstart", "docs/quickstart.md"),
            ("Concepts", "docs/concepts.md"),
            ("A night, step by step", "docs/tutorial.md"),
        ),
    ),
    (
        "How to",
        (
            ("The control room", "docs/control-room.md"),
            ("A device in your app", "docs/devices.md"),
            ("The JavaScript SDK", "sdk/js/README.md"),
            ("Recipes for it", "sdk/js/RECIPES.md"),
            ("Check a device of your own", "docs/check-device.md"),
            ("Call the API", "docs/api.md"),
            ("Simulate a night", "docs/simulator.md"),
            ("Load it with locust", "docs/locust.md"),
            ("A million devices on one machine", "docs/million.md"),
        ),
    ),
    (
        "Reference",
        (
            ("The device protocol", "docs/protocol.md"),
            ("API", "docs/api-reference.md"),
            ("Command line", "docs/cli.md"),
            ("Metrics", "docs/metrics.md"),
            ("Limits", "docs/limits.md"),
        ),
    ),
    (
        "Operations",
        (
            ("How many gateways, and refusals", "docs/operations.md"),
            ("Kubernetes", "docs/kubernetes.md"),
            ("Kubernetes: why it is so", "docs/kubernetes-decisions.md"),
            ("Monitoring", "docs/monitoring.md"),
            ("Runbooks", "docs/runbooks/*.md"),
            ("Upgrading", "docs/upgrading.md"),
            ("Releasing", "docs/releasing.md"),
        ),
    ),
    (
        "Security",
        (
            ("Who is trusted with what", "docs/security.md"),
            ("Reporting a vulnerability", "SECURITY.md"),
        ),
    ),
    (
        "Figures",
        (
            ("Benchmarks", "BENCH.md"),
            ("Other servers", "docs/peers.md"),
            ("Agreement", "docs/agreement.md"),
        ),
    ),
    (
        "Project",
        (
            ("Changelog", "CHANGELOG.md"),
            ("Architecture", "ARCHITECTURE.md"),
            ("Contributing", "CONTRIBUTING.md"),
        ),
    ),
)


class Page(NamedTuple):
    """One page: where it is under which name; ``group`` if it stands with others under a name of theirs."""

    title: str
    path: str
    group: str = ""


def sections(files: Iterable[str], titles: Mapping[str, str]) -> Iterator[tuple[str, list[Page]]]:
    """Yield every section with its pages, patterns resolved.

    Args:
        files: Of the repository.
        titles: Of pages, for those that a pattern finds.
    """
    there = sorted(files)
    for section, entries in NAVIGATION:
        pages: list[Page] = []
        for title, path in entries:
            if "*" in path:
                found = [each for each in there if fnmatchcase(each, path)]
                # A folder's own page comes first.
                found.sort(key=lambda each: (not each.endswith(("/README.md", "/index.md")), each))
                pages += [Page(titles[each], each, title) for each in found]
            else:
                pages.append(Page(title, path))
        yield section, pages
