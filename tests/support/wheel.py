"""The packages that a release consists of, built from what is in git, and environments that have them.

Built once for a whole run, however many workers share it.
"""

from __future__ import annotations

import fcntl
import os
import shutil
import subprocess
import sys
import sysconfig
import tarfile
from pathlib import Path
from typing import NamedTuple

import pytest

from docsite import repository
from support.stack import ROOT

# The wheel is the same bytes whenever it is built: no time of today gets into it.
_EPOCH = "1767225600"


class Packages(NamedTuple):
    """Files."""

    sdist: Path
    wheel: Path


def build(source: Path, out: Path) -> Packages:
    """Build the sdist, and the wheel from it, as `python -m build` does, with what this environment has.

    The steps themselves, because `build` asks the backend for more and takes twice the time.
    """
    out.mkdir()
    sdist = out / _hook("build_sdist", source, out)
    with tarfile.open(sdist) as packed:
        packed.extractall(out, filter="data")
    wheel = out / _hook("build_wheel", out / sdist.name.removesuffix(".tar.gz"), out)
    return Packages(sdist, wheel)


def _hook(name: str, source: Path, out: Path) -> str:
    """Have the build backend do one thing; return the name of what it has made."""
    script = "import sys; from setuptools import build_meta; "
    script += f"made = build_meta.{name}(sys.argv[1]); print('made: ' + made)"
    words = [sys.executable, "-c", script, str(out)]
    environment = clean_environment(SOURCE_DATE_EPOCH=_EPOCH)
    ran = subprocess.run(words, cwd=source, env=environment, capture_output=True, text=True)
    assert ran.returncode == 0, ran.stdout + ran.stderr
    return ran.stdout.splitlines()[-1].removeprefix("made: ")


def exported(folder: Path) -> Path:
    """Copy what is, or would be, in git; whatever else lies about in this tree is not in it."""
    for path in repository.files():
        to = folder / path
        to.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(ROOT / path, to)
    return folder


def environment_of(wheel: Path, folder: Path) -> Path:
    """Make an environment that has this wheel, and as dependencies what this environment has; return its ``bin``.

    The dependencies' folder is on its path as a folder and no more: the editable install of this tree, which is a
    line in a file there, is not read.
    """
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(folder)], check=True)
    python = folder / "bin/python"
    [packages] = (folder / "lib").glob("python*/site-packages")
    (packages / "dependencies.pth").write_text(sysconfig.get_path("purelib") + "\n")
    words = [sys.executable, "-m", "pip", "--python", str(python), "install", "--quiet", "--no-deps", "--no-index"]
    quick = ["--no-compile", "--disable-pip-version-check"]
    installed = subprocess.run([*words, *quick, str(wheel)], capture_output=True, text=True, env=clean_environment())
    assert installed.returncode == 0, installed.stderr
    return folder / "bin"


def clean_environment(**variables: str) -> dict[str, str]:
    """Return this process's environment without what leads to this tree or belongs to the product."""
    clean = {k: v for k, v in os.environ.items() if not k.startswith(("FANOUT_", "PYTHON"))}
    return {**clean, **variables}


@pytest.fixture(scope="session")
def packages(tmp_path_factory: pytest.TempPathFactory) -> Packages:
    """The sdist and the wheel of this tree."""
    folder, lock = _shared(tmp_path_factory, "packages")
    with lock.open("w") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        if not (folder / "done").exists():
            build(exported(folder / "source"), folder / "out")
            (folder / "done").touch()
    [sdist], [wheel] = (folder / "out").glob("*.tar.gz"), (folder / "out").glob("*.whl")
    return Packages(sdist, wheel)


@pytest.fixture(scope="session")
def installed(packages: Packages, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the commands of an environment are that has the wheel of this tree."""
    folder, lock = _shared(tmp_path_factory, "installed")
    with lock.open("w") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        if not (folder / "done").exists():
            environment_of(packages.wheel, folder)
            (folder / "done").touch()
    return folder / "bin"


def _shared(factory: pytest.TempPathFactory, name: str) -> tuple[Path, Path]:
    """Return a folder that all workers of this run share, and a file to lock."""
    own = factory.getbasetemp()
    base = own.parent if "PYTEST_XDIST_WORKER" in os.environ else own
    folder = base / name
    folder.mkdir(exist_ok=True)
    return folder, base / f"{name}.lock"
