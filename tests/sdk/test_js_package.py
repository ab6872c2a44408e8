"""What is published of the JavaScript SDK: small enough, old enough, whole, and the same as what is committed."""

from __future__ import annotations

import gzip
import json
import os
import random
import shutil
import subprocess
from pathlib import Path

import pytest

import fanout

from .lives import life
from .node import MODULES, NO_MODULES, NODE, ROOT, SDK, asked, near, needs_modules, run

# Of the script that televisions load, all of it, compressed as a CDN does.
GZIP_BYTES_MAX = 10_240
LIVES = 30
PUBLISHED = {
    "README.md",
    "RECIPES.md",
    "package.json",
    "dist/fanout-device.d.ts",
    "dist/fanout-device.mjs",
    "dist/fanout-device.umd.js",
    "dist/fanout-device.umd.min.js",
    "dist/package.json",
}
COMMITTED = ROOT / "fanout/console/static/vendor/fanout-device.mjs"
LOCKS = {
    "package-lock.json",
    "npm-shrinkwrap.json",
    "yarn.lock",
    "pnpm-lock.yaml",
    "bun.lock",
    "uv.lock",
    "poetry.lock",
}
# In two pieces, so that this file holds neither.
DOWNLOADS = ("registry" + ".npmjs.org", '"resolv' + 'ed":', "files.python" + "hosted.org")
# Newer than ES5, or ES5 that calls what Chrome 38 has not.
TOO_NEW = [
    "var f = () => 1;",
    "let x = 1;",
    "f(...a);",
    "Object.assign({}, {});",
    "[1].includes(1);",
    "new Proxy({}, {});",
]


@pytest.fixture(scope="module")
def package(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, set[str]]:
    """Pack a copy of the SDK; return where it was built, and what would be published."""
    npm = shutil.which("npm")
    assert npm is not None, "npm installed the tools, so it is there"
    place = tmp_path_factory.mktemp("package")
    for part in ("src", "build.mjs", "package.json", "README.md", "RECIPES.md"):
        if (SDK / part).is_dir():
            shutil.copytree(SDK / part, place / part)
        elif (SDK / part).exists():
            shutil.copy(SDK / part, place / part)
    (place / "node_modules").symlink_to(MODULES)
    # `make test` has just built it; whoever starts pytest themselves may not have.
    sources = [SDK / "build.mjs", SDK / "package.json", *(SDK / "src").rglob("*")]
    built = SDK / "dist/fanout-device.umd.min.js"
    fresh = built.exists() and built.stat().st_mtime > max(source.stat().st_mtime for source in sources)
    if fresh:
        shutil.copytree(SDK / "dist", place / "dist")
    (packed,) = json.loads(run(npm, "pack", "--dry-run", "--json", *(["--ignore-scripts"] * fresh), cwd=place))
    assert (packed["name"], packed["version"]) == ("fanout-device", fanout.__version__)
    return place, {file["path"] for file in packed["files"]}


def gate(*files: Path) -> subprocess.CompletedProcess[str]:
    assert NODE is not None
    return subprocess.run([NODE, SDK / "gate.mjs", *files], capture_output=True, encoding="utf-8", check=False)


@needs_modules
def test_what_televisions_load_is_small_and_runs_on_the_oldest(package: tuple[Path, set[str]]) -> None:
    dist = package[0] / "dist"
    judged = gate(dist / "fanout-device.umd.js", dist / "fanout-device.umd.min.js")
    assert judged.returncode == 0, judged.stdout + judged.stderr
    # Shortening names may break what was right.
    rng = random.Random(8)
    told, expected = zip(*(life(rng) for _ in range(LIVES)), strict=True)
    assert near(asked(dist / "fanout-device.umd.min.js", lives=told)["lives"], list(expected))
    compressed = len(gzip.compress((dist / "fanout-device.umd.min.js").read_bytes(), compresslevel=9))
    assert compressed <= GZIP_BYTES_MAX


@needs_modules
def test_a_device_made_of_what_televisions_load_passes_the_same_tests(package: tuple[Path, set[str]]) -> None:
    assert NODE is not None
    built = package[0] / "dist/fanout-device.umd.min.js"
    # Its units are not in there; what an app can touch is.
    said = run(NODE, "--test", "--test-reporter=tap", SDK / "test/shell/device.test.mjs", FANOUT_SDK=str(built))
    assert "\n# fail 0\n" in said
    assert "\n# pass 0\n" not in said


@needs_modules
def test_the_gate_lets_nothing_newer_through(tmp_path: Path) -> None:
    for n, code in enumerate(TOO_NEW):
        (tmp_path / f"{n}.js").write_text(code)
    judged = gate(*(tmp_path / f"{n}.js" for n in range(len(TOO_NEW))))
    assert judged.returncode == 1
    assert [line.split(": ")[0] for line in judged.stdout.splitlines()] == [
        str(tmp_path / f"{n}.js") for n in range(len(TOO_NEW))
    ], judged.stdout


@needs_modules
def test_the_package_is_whole_and_loads_either_way(package: tuple[Path, set[str]]) -> None:
    place, published = package
    assert published == PUBLISHED
    assert COMMITTED.read_bytes() == (place / "dist/fanout-device.mjs").read_bytes(), "run `make sdk` and commit"
    assert NODE is not None
    (place / "load.cjs").write_text("process.stdout.write(Object.keys(require('fanout-device')).sort().join())")
    (place / "load.mjs").write_text(
        "import * as all from 'fanout-device'; process.stdout.write(Object.keys(all).sort().join())"
    )
    names = run(NODE, "load.mjs", cwd=place)
    assert "Device" in names.split(",")
    assert run(NODE, "load.cjs", cwd=place) == names


@needs_modules
def test_the_types_fit_a_program(package: tuple[Path, set[str]]) -> None:
    place, _ = package
    shutil.copy(SDK / "test/types/app.ts", place)
    tsc, strict = place / "node_modules/.bin/tsc", ["--noEmit", "--strict", "--module", "nodenext", "--types", ""]
    run(tsc, *strict, "app.ts", cwd=place)
    # What the types are there to catch.
    wrong = (place / "app.ts").read_text("utf-8").replace("getToken:", "getTokn:")
    (place / "wrong.ts").write_text(wrong, "utf-8")
    done = subprocess.run([tsc, *strict, "wrong.ts"], cwd=place, capture_output=True, encoding="utf-8", check=False)
    assert done.returncode != 0
    assert "getTokn" in done.stdout


def test_where_ci_is_set_nothing_of_the_sdk_goes_untested() -> None:
    if not os.environ.get("CI"):
        pytest.skip("CI is not set: on somebody's own machine the SDK is tested where its tools are")
    assert not NO_MODULES, f"{NO_MODULES}; without them the tests of sdk/js and examples/node-device are skipped"


def test_no_file_says_where_to_download() -> None:
    if not (ROOT / ".git").exists():
        pytest.skip("not a checkout: what is committed is not known")
    listed = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT, capture_output=True, encoding="utf-8", check=True,
    ).stdout.split("\0")  # fmt: skip
    files = [ROOT / name for name in listed if name and (ROOT / name).is_file()]
    assert SDK / "package.json" in files
    assert not [path for path in files if path.name in LOCKS]
    for path in files:
        text = path.read_bytes()
        assert not [address for address in DOWNLOADS if address.encode() in text], path


def test_every_tool_has_one_version() -> None:
    told = json.loads((SDK / "package.json").read_text("utf-8"))
    assert told["version"] == fanout.__version__
    assert "dependencies" not in told
    for name, version in told["devDependencies"].items():
        assert version.replace(".", "").isdigit(), f"{name} is {version}: name one version"
