"""One law under atheris: ``python -m tests.fuzz.target LAW CORPUS [libFuzzer's own flags]``. Never returns.

What is instrumented is ours and the WebSocket library. `msgspec` is C, so there the fuzzer only sees what `wire`
makes of its answers, and lives on the seeds.
"""

from __future__ import annotations

import hashlib
import sys
from pathlib import Path

import atheris

with atheris.instrument_imports(include=["fanout.wire", "gateway.connection", "websockets"]):
    from tests.fuzz import laws


def main(name: str, corpus: str) -> None:
    """Try to break a law; what led further is kept in the corpus, and what broke it where libFuzzer is told to."""
    law = laws.LAWS[name]
    directory = Path(corpus)
    directory.mkdir(parents=True, exist_ok=True)
    for seed in laws.seeds(law):
        (directory / hashlib.sha1(seed).hexdigest()).write_bytes(seed)
    atheris.Setup([sys.argv[0], corpus, *sys.argv[3:]], law)
    atheris.Fuzz()


if __name__ == "__main__":
    main(*sys.argv[1:3])
