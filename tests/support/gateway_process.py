"""Runs a gateway (supervisor and workers) as a program of its own: ``gateway_process.py CONFIG_JSON PORTS_FILE``.

Once it serves, the file holds its two ports. The command line does the same with options and progress.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

import msgspec
import uvloop

from fanout.logs import configure_logs
from gateway.config import GatewayConfig
from gateway.nursery import Seed


def main() -> None:
    config = msgspec.json.decode(sys.argv[1], type=GatewayConfig)
    ports = Path(sys.argv[2])

    def on_ready(port: int, admin_port: int | None) -> None:
        draft = ports.with_suffix(".new")
        draft.write_text(json.dumps([port, admin_port]))
        draft.rename(ports)  # so that whoever waits for it never reads half of it

    configure_logs()
    with Seed.forked() as seed:
        from gateway.supervisor import supervise

        uvloop.run(supervise(config, 0, on_ready, seed))


if __name__ == "__main__":
    main()
