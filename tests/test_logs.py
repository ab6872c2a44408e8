"""One event a line, whoever writes it: this project, a library, Python itself, or a crash."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from typing import Any

from support.stack import ROOT
from support.waiting import PATIENCE_S

SECRET = "a-secret-in-a-local-variable"


def events(code: str) -> tuple[int, list[dict[str, Any]]]:
    """Run a program with our logs; return its exit status and every line of its standard error, read as JSON."""
    done = subprocess.run(
        [sys.executable, "-c", f"from fanout.logs import configure_logs\nconfigure_logs()\n{code}"],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=PATIENCE_S,
        check=False,
    )
    found = [json.loads(line) for line in done.stderr.splitlines()]
    assert all(each.keys() >= {"event", "level", "timestamp", "pid"} for each in found), found
    return done.returncode, found


def test_what_libraries_log_and_python_warns_of_are_events_like_ours() -> None:
    status, found = events(
        "import logging, warnings, structlog\n"
        "structlog.get_logger().info('ours', key='value')\n"
        "logging.getLogger('asyncio').error('first\\nsecond\\nthird')\n"
        "logging.getLogger('uvicorn.error').info('everyday life')\n"
        "logging.getLogger('library').log(35, 'a level of its own')\n"
        "try:\n    {}['x']\nexcept KeyError:\n    logging.getLogger('redis').exception('with a cause')\n"
        "warnings.warn('this is old', stacklevel=1)\n"
    )
    assert status == 0
    told = [(each["level"], each["event"].rpartition(": ")[2], each.get("library")) for each in found]
    assert told == [
        ("info", "ours", None),
        ("error", "first", "asyncio"),
        ("warning", "a level of its own", "library"),
        ("error", "with a cause", "redis"),
        ("warning", "this is old", "py.warnings"),
    ]
    assert found[1]["detail"] == "second\nthird"
    assert "KeyError" in found[3]["exception"]


def test_what_ends_a_process_or_a_thread_is_one_event() -> None:
    status, found = events(
        "import threading\n"
        "class Lost:\n    def __del__(self):\n        raise ValueError('in a destructor')\n"
        "Lost()\n"
        "def end():\n    raise ValueError('in a thread')\n"
        "thread = threading.Thread(target=end)\nthread.start()\nthread.join()\n"
        f"def last(secret):\n    raise ValueError('at the end')\nlast('{SECRET}')\n"
    )
    assert status == 1
    assert [each["event"] for each in found] == ["an exception was lost", "a thread crashed", "crashed"]
    for each, where in zip(found, ("in a destructor", "in a thread", "at the end"), strict=True):
        assert each["level"] == "critical"
        assert f"ValueError: {where}" in each["exception"]


def test_of_many_lines_alike_a_few_are_written_whoever_writes_them_and_the_rest_is_counted() -> None:
    _, found = events(
        "import asyncio, logging, structlog\n"
        "from fanout.storms import Storms, bounded\n"
        "async def run():\n"
        "    async with bounded(Storms(3, 1.0)):\n"
        "        for _ in range(10):\n"
        "            logging.getLogger('library').error('alike')\n"
        "            structlog.get_logger().info('ours')\n"
        "        await asyncio.sleep(1.2)\n"
        "asyncio.run(run())\n"
    )
    written = [each["event"] for each in found]
    assert (written.count("alike"), written.count("ours")) == (3, 3)
    counts = {each["of"]: each["left_out"] for each in found if each["event"] == "log lines like others"}
    assert counts == {"alike": 7, "ours": 7}


def test_a_line_and_its_end_are_one_write_though_python_buffers_nothing() -> None:
    # Each write is a packet of its own here.
    there, here = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    code = (
        "from fanout.logs import configure_logs\nconfigure_logs()\nimport structlog\nstructlog.get_logger().info('x')"
    )
    with here, there:
        subprocess.run(
            [sys.executable, "-c", code],
            env={**os.environ, "PYTHONPATH": str(ROOT), "PYTHONUNBUFFERED": "1"},
            stderr=there,
            timeout=PATIENCE_S,
            check=True,
        )
        there.close()
        assert json.loads(line := here.recv(65_536))["event"] == "x"
        assert line.endswith(b"\n")
        assert here.recv(65_536) == b"", "something was written apart"
