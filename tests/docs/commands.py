"""The commands on a page that says of them that a test runs them, in bash, as a reader would paste them.

What serves is started as a process. Commands that only ask are many, and each would spend half a second on imports;
the `fanout` on the script's PATH hands those to this process, which runs the very same command.
"""

from __future__ import annotations

import os
import re
import signal
import socket
import stat
import subprocess
import sys
from contextlib import ExitStack
from pathlib import Path
from typing import Final

from cli.running import fanout
from support.stack import ROOT
from support.waiting import PATIENCE_S

_BLOCK: Final = re.compile(r"^<!-- run by a test -->\n```sh\n(.*?)^```$", re.MULTILINE | re.DOTALL)
# Handed over in this order, then the words; none of them may hold the separator.
_VARIABLES: Final = ("FANOUT_API_KEY", "FANOUT_REDIS_URL", "FANOUT_CONTROL_URL")
_COMMAND: Final = """\
#!/bin/bash
case "$1" in control|gateway|swarm) exec "{python}" -m fanout.cli "$@" ;; esac
exec 3<>/dev/tcp/127.0.0.1/{port}
printf '%s\\x1f' {variables} "$@" >&3
printf '\\n' >&3
read -r status <&3
cat <&3
exit "$status"
"""


def commands(page: str) -> list[str]:
    """Return a page's blocks of commands, in order."""
    return _BLOCK.findall((ROOT / page).read_text("utf-8"))


def run(script: str, **variables: str) -> str:
    """Run a script in the current folder; return what it printed.

    Everything that it started and left running is ended.

    Raises:
        AssertionError: A command failed; the message has what was said.
    """
    folder = Path.cwd()
    with ExitStack() as ends:
        asked = ends.enter_context(socket.create_server(("127.0.0.1", 0)))
        asked.settimeout(0.1)
        tools = _tools(folder, asked.getsockname()[1])
        clean = {name: value for name, value in os.environ.items() if not name.startswith("FANOUT_")}
        out = ends.enter_context((folder / "said").open("w+b"))
        child = subprocess.Popen(
            ["bash", "-euo", "pipefail", "-c", script],
            env={**clean, "PYTHONPATH": str(ROOT), "PATH": f"{tools}:{clean['PATH']}", **variables},
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        ends.callback(_end, child)
        while child.poll() is None:
            _answer(asked)
        out.seek(0)
        said = out.read().decode()
    logs = "".join(f"\n--- {log.name}\n{log.read_text()}" for log in sorted(folder.glob("*.log")))
    assert child.returncode == 0, said + logs
    return said


def _tools(folder: Path, port: int) -> Path:
    tools = folder / "bin"
    tools.mkdir()
    command = tools / "fanout"
    variables = " ".join(f'"${{{name}-}}"' for name in _VARIABLES)
    command.write_text(_COMMAND.format(python=sys.executable, port=port, variables=variables))
    command.chmod(command.stat().st_mode | stat.S_IXUSR)
    return tools


def _answer(asked: socket.socket) -> None:
    """Run one command for the script, if it asks for one now."""
    try:
        connection, _ = asked.accept()
    except TimeoutError:
        return
    with connection, connection.makefile("rwb") as stream:
        given = stream.readline().decode().rstrip("\n").split("\x1f")[:-1]
        settings = dict(zip(_VARIABLES, given, strict=False))
        result = fanout(*given[len(_VARIABLES) :], **{name: value for name, value in settings.items() if value})
        stream.write(f"{result.exit_code}\n{result.output}".encode())


def _end(child: subprocess.Popen[bytes]) -> None:
    """End the script and whatever it has left in its session."""
    for number in (signal.SIGTERM, signal.SIGKILL):
        try:
            os.killpg(child.pid, number)
            child.wait(PATIENCE_S)
        except ProcessLookupError:
            return
        except subprocess.TimeoutExpired:
            continue
