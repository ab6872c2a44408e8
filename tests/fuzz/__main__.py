"""``python -m tests.fuzz [--seconds N] [LAW ...]``: every law under the fuzzer, one after the other.

The corpus grows in build/fuzz and is taken up again by the next run. What breaks a law is written there, too, as
``LAW-crash-…``; ``python -m tests.fuzz.target LAW build/fuzz/LAW FILE`` tells it again.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
from pathlib import Path

from tests.fuzz import laws

ROOT = Path(__file__).parents[2]
# Longer than any message, handshake or few frames here; more only makes each try slower.
INPUT_BYTES_MAX = 1_000


def known(law: str) -> str:
    if law not in laws.LAWS:
        raise argparse.ArgumentTypeError(f"{law} is no law; they are {', '.join(laws.LAWS)}")
    return law


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz", description="Look for bytes that break a law.")
    parser.add_argument("--seconds", type=int, default=60, help="for each law (default: %(default)s)")
    parser.add_argument("laws", nargs="*", type=known, metavar="LAW", help=f"default: {', '.join(laws.LAWS)}")
    args = parser.parse_args()
    build = ROOT / "build" / "fuzz"
    build.mkdir(parents=True, exist_ok=True)
    broken = []
    for law in args.laws or laws.LAWS:
        print(f"{law}: {args.seconds} s", flush=True)
        target = [sys.executable, "-m", "tests.fuzz.target", law, str(build / law)]
        # The seeds stay, even where the fuzzer sees no difference between them: msgspec's C shows it none.
        flags = [f"-max_total_time={args.seconds}", f"-max_len={INPUT_BYTES_MAX}", "-keep_seed=1"]
        flags += [f"-artifact_prefix={build / law}-"]
        if subprocess.run([*target, *flags], cwd=ROOT, check=False).returncode:
            broken.append(law)
    print(f"broken: {', '.join(broken)}; the bytes are in {build}" if broken else "every law held")
    return bool(broken)


if __name__ == "__main__":
    sys.exit(main())
