"""``make release-check``: what docs/releasing.md asks of a release, for real, and from the commit alone.

Builds sdist and wheel twice, from what is committed; installs the wheel into an empty environment, every dependency
from the registry in its pinned version; runs the demo there; writes what is installed as an SBOM. The results are in
dist/. It takes some minutes, nearly all of it downloads.
"""

from __future__ import annotations

import argparse
import json
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from support.stack import ROOT
from support.wheel import clean_environment

import fanout

from .figures import DEVICES, judge


def say(what: str, since: float) -> None:
    print(f"{time.monotonic() - since:6.1f} s  {what}", flush=True)


def run(*words: str | Path, cwd: Path, **variables: str) -> str:
    """Run a command; it must succeed. Return what it printed."""
    ran = subprocess.run(
        [*map(str, words)], cwd=cwd, env=clean_environment(**variables), stdout=subprocess.PIPE, text=True
    )
    if ran.returncode:
        sys.exit(f"{' '.join(map(str, words))} ended with status {ran.returncode}\n{ran.stdout}")
    return ran.stdout


def commit(folder: Path) -> str:
    """Unpack the commit that is checked out; return when it was made, Unix seconds."""
    if changed := run("git", "status", "--porcelain", cwd=ROOT):
        sys.exit(f"a release is a commit, and this tree has changes:\n{changed}commit them, or stash them")
    archive = folder / "commit.tar"
    run("git", "archive", "--output", archive, "HEAD", cwd=ROOT)
    source = folder / "source"
    shutil.unpack_archive(archive, source)
    return run("git", "log", "-1", "--format=%ct", cwd=ROOT).strip()


def build(source: Path, out: Path, epoch: str) -> tuple[Path, Path]:
    """Build as a release is built, in an environment that `build` makes for it; return sdist and wheel."""
    pins = {"PIP_CONSTRAINT": str(source / "constraints.txt"), "SOURCE_DATE_EPOCH": epoch}
    run(sys.executable, "-m", "build", "--outdir", out, source, cwd=source, **pins)
    [sdist], [wheel] = out.glob("*.tar.gz"), out.glob("*.whl")
    return sdist, wheel


def sbom(installed: list[dict[str, Any]]) -> dict[str, Any]:
    """Return what is installed as a CycloneDX document, from pip's own report."""
    components = []
    for each in sorted(installed, key=lambda each: str(each["metadata"]["name"]).lower()):
        data = each["metadata"]
        name, version = data["name"], data["version"]
        licence = data.get("license_expression") or data.get("license", "").partition("\n")[0]
        components.append(
            {
                "type": "library",
                "name": name,
                "version": version,
                "purl": f"pkg:pypi/{name.lower().replace('_', '-')}@{version}",
                **({"licenses": [{"license": {"name": licence}}]} if licence else {}),
            }
        )
    return {"bomFormat": "CycloneDX", "specVersion": "1.6", "version": 1, "components": components}


def main() -> int:
    parser = argparse.ArgumentParser(prog="make release-check", description="Check a release.")
    parser.add_argument("--out", type=Path, default=ROOT / "dist", help="where the packages go (default: dist/)")
    out: Path = parser.parse_args().out
    since = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="release-") as scratch:
        folder = Path(scratch)
        epoch = commit(folder)
        source, empty, bin_ = folder / "source", folder / "empty", folder / "environment/bin"
        empty.mkdir()
        sdist, wheel = build(source, folder / "packages", epoch)
        say(f"built {sdist.name} and {wheel.name}", since)
        _, again = build(source, folder / "again", epoch)
        if again.read_bytes() != wheel.read_bytes():
            sys.exit("the wheel is not the same bytes when it is built again: something of today is in it")
        say("built again, the same wheel", since)
        run(sys.executable, "-m", "venv", folder / "environment", cwd=empty)
        pip = (bin_ / "python", "-m", "pip", "--disable-pip-version-check")
        run(*pip, "install", "--quiet", "--constraint", source / "constraints.txt", wheel, cwd=empty)
        run(*pip, "check", cwd=empty)
        say("installed into an empty environment, with the pinned dependencies", since)
        said = run(bin_ / "fanout", "--version", cwd=empty).strip()
        if said != f"fanout, version {fanout.__version__}":
            sys.exit(f"it says {said!r}, and {fanout.__version__} is released")
        words = ("--headless", "--devices", str(DEVICES), "--prefetch-window", "2", "--activate-window", "2")
        print(run(bin_ / "fanout", "demo", *words, "--json", empty / "out.json", cwd=empty))
        judge(json.loads((empty / "out.json").read_text("utf-8")))
        say(f"both phases on {DEVICES} devices, from the installed wheel", since)
        installed = json.loads(run(*pip, "inspect", "--local", cwd=empty))["installed"]
        out.mkdir(parents=True, exist_ok=True)
        bill = out / f"fanout-{fanout.__version__}.cdx.json"
        bill.write_text(json.dumps(sbom(installed), indent=1) + "\n", "utf-8")
        for package in (sdist, wheel):
            shutil.copy(package, out)
        say(f"{len(installed)} packages in {bill.name}; everything is in {out}", since)
    return 0


if __name__ == "__main__":
    sys.exit(main())
