"""What is published holds everything that it needs, and nothing else; and says whose it is."""

from __future__ import annotations

import email
import json
import tarfile
import zipfile
from email.message import Message

import pytest
from support.stack import ROOT
from support.wheel import Packages

import fanout
from docsite import repository

PARTS = ("fanout/", "gateway/", "loadtest/")
LICENCES = {"LICENSE", "fanout/console/static/vendor/uplot-LICENSE"}
BESIDE_THE_PACKAGES = {"CHANGELOG.md", "LICENSE", "MANIFEST.in", "README.md", "pyproject.toml"}
# What setuptools writes.
WRITTEN_INTO_THE_SDIST = {"PKG-INFO", "setup.cfg", "fanout.egg-info/"}
WRITTEN_INTO_THE_WHEEL = {"METADATA", "RECORD", "WHEEL", "entry_points.txt", "top_level.txt"}


def in_git() -> set[str]:
    """Every file of the packages."""
    return {path for path in repository.files() if path.startswith(PARTS)}


def contents(packages: Packages, kind: str) -> dict[str, bytes]:
    """Every file of a package, by its path in it."""
    if kind == "wheel":
        with zipfile.ZipFile(packages.wheel) as wheel:
            return {name: wheel.read(name) for name in wheel.namelist()}
    found: dict[str, bytes] = {}
    with tarfile.open(packages.sdist) as sdist:
        for member in sdist.getmembers():
            if (file := sdist.extractfile(member)) is not None:
                found[member.name.partition("/")[2]] = file.read()
    return found


def metadata(packages: Packages) -> Message:
    return email.message_from_bytes(contents(packages, "wheel")[f"fanout-{fanout.__version__}.dist-info/METADATA"])


def test_the_wheel_holds_the_packages_and_their_licences(packages: Packages) -> None:
    """It was built from the sdist, so this holds that what the sdist is missing is not missed."""
    info = f"fanout-{fanout.__version__}.dist-info/"
    written = {info + name for name in WRITTEN_INTO_THE_WHEEL} | {f"{info}licenses/{name}" for name in LICENCES}
    there = set(contents(packages, "wheel"))
    assert in_git() - there == set(), "missing: add them to [tool.setuptools.package-data]"
    assert there - in_git() == written


def test_the_sdist_holds_what_the_wheel_is_built_from(packages: Packages) -> None:
    there = {name for name in contents(packages, "sdist") if not name.startswith(tuple(WRITTEN_INTO_THE_SDIST))}
    assert there == in_git() | BESIDE_THE_PACKAGES


@pytest.mark.parametrize("kind", ["wheel", "sdist"])
def test_every_file_is_the_one_in_git(packages: Packages, kind: str) -> None:
    there = contents(packages, kind)
    changed = [path for path in in_git() if there.get(path) != (ROOT / path).read_bytes()]
    assert not changed


def test_the_wheel_says_what_it_is(packages: Packages) -> None:
    said = metadata(packages)
    assert said["Name"] == "fanout"
    assert said["Version"] == fanout.__version__
    assert said["License-Expression"] == "MIT"
    assert set(said.get_all("License-File", [])) == LICENCES
    assert said["Requires-Python"] == ">=3.11"
    assert said["Description-Content-Type"] == "text/markdown"
    assert str(said.get_payload()).startswith("# fanout")
    assert "Typing :: Typed" in said.get_all("Classifier", [])
    # Whoever installs the product gets none of what only its developers need.
    needed = {each for each in said.get_all("Requires-Dist", []) if "extra ==" not in each}
    assert not [each for each in needed if each.startswith(("pytest", "zensical", "build", "setuptools"))]


def test_the_version_is_written_in_one_place_and_once_more_for_npm() -> None:
    """npm reads its own; an SDK is released with the gateways that it was tested with."""
    package = json.loads((ROOT / "sdk/js/package.json").read_text("utf-8"))
    assert package["version"] == fanout.__version__
    assert "version" not in (ROOT / "pyproject.toml").read_text("utf-8").partition("[project.optional")[0].replace(
        'dynamic = ["version"]', ""
    )
    written = [
        path
        for path in repository.files()
        if path.startswith(PARTS)
        and path.endswith(".py")
        and f'"{fanout.__version__}"' in (ROOT / path).read_text("utf-8")
    ]
    assert written == ["fanout/__init__.py"]


def test_the_changelog_has_a_place_for_what_is_not_released() -> None:
    headings = [line for line in (ROOT / "CHANGELOG.md").read_text("utf-8").splitlines() if line.startswith("## ")]
    assert headings[0] == "## Unreleased"
