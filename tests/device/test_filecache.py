"""The cache in a directory: what it keeps through restarts, damage, and neighbours on the same directory."""

from __future__ import annotations

import os
import random
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fanout import limits
from fanout.device import FileCache
from fanout.device.filecache import ASIDE_S, UNUSED_S

from .driving import BUNDLE, CONTENT, OTHER_BUNDLE, OTHER_CONTENT, sha

UMLAUTS = '{"live":{"title":"LIVE 試合 ü"}}'


class Wall:
    """A wall clock that a test sets."""

    def __init__(self) -> None:
        self.now_s = time.time()

    def __call__(self) -> float:
        self.now_s += 1  # so that two uses are told apart
        return self.now_s


@pytest.fixture
def wall() -> Wall:
    return Wall()


def test_what_is_kept_is_there_after_a_restart(tmp_path: Path) -> None:
    directory = tmp_path / "deep" / "down"
    assert list(FileCache(directory).put(sha(UMLAUTS), UMLAUTS)) == []
    again = FileCache(directory)
    assert list(again.digests()) == [sha(UMLAUTS)]
    assert again.get(sha(UMLAUTS)) == UMLAUTS
    again.drop([sha(UMLAUTS), BUNDLE])
    assert list(FileCache(directory).digests()) == []
    assert again.get(sha(UMLAUTS)) is None
    assert not list(directory.iterdir())


@settings(max_examples=40)
@given(st.lists(st.integers(0, 9), max_size=12))
def test_it_stays_within_its_bounds_and_says_what_had_to_go(numbers: list[int]) -> None:
    with tempfile.TemporaryDirectory() as directory:
        cache = FileCache(directory, bytes_max=30, bundles_max=3, wall_s=Wall())
        kept: dict[str, str] = {}
        for number in numbers:
            content = str(number) * (3 * number + 1)
            gone = list(cache.put(sha(content), content))
            kept = {key: value for key, value in kept.items() if key not in gone} | {sha(content): content}
            assert {key: cache.get(key) for key in cache.digests()} == kept
            assert len(kept) <= 3
            assert len(kept) == 1 or sum(map(len, kept.values())) <= 30


def test_what_was_used_the_longest_time_ago_goes_first(tmp_path: Path, wall: Wall) -> None:
    cache = FileCache(tmp_path, bundles_max=2, wall_s=wall)
    cache.put(BUNDLE, CONTENT)
    cache.put(OTHER_BUNDLE, OTHER_CONTENT)
    assert cache.get(BUNDLE) == CONTENT
    assert list(cache.digests()) == [OTHER_BUNDLE, BUNDLE]
    assert list(cache.put(sha(UMLAUTS), UMLAUTS)) == [OTHER_BUNDLE]


@pytest.mark.parametrize(
    "damage",
    [b"", CONTENT.encode()[:-1], b"\xff" * 9, b"x" * (limits.BUNDLE_BYTES_MAX + 9)],
    ids=["empty", "cut", "no text", "too large"],
)
def test_a_damaged_file_is_thrown_out_and_never_shown(tmp_path: Path, damage: bytes) -> None:
    cache = FileCache(tmp_path)
    for read in (lambda: cache.get(BUNDLE), lambda: list(cache.digests()) or None):
        cache.put(BUNDLE, CONTENT)
        (file,) = tmp_path.iterdir()
        file.write_bytes(damage)
        assert read() is None
        assert not list(tmp_path.iterdir())


def test_foreign_files_are_left_alone(tmp_path: Path) -> None:
    foreign = ["notes.txt", "A" * 64 + ".bundle", "a" * 63 + ".bundle", ".tmp", BUNDLE]
    for name in foreign:
        (tmp_path / name).write_text("mine")
    (tmp_path / f"{OTHER_BUNDLE}.bundle").mkdir()
    os.mkfifo(tmp_path / f"{'b' * 64}.bundle")
    (tmp_path / f"{'c' * 64}.bundle").symlink_to(tmp_path / "notes.txt")
    cache = FileCache(tmp_path, bundles_max=1)
    cache.put(BUNDLE, CONTENT)
    cache.put(sha(UMLAUTS), UMLAUTS)
    assert list(cache.digests()) == [sha(UMLAUTS)]
    assert [cache.get(name * 64) for name in "bc"] == [None, None]
    assert {*foreign, f"{OTHER_BUNDLE}.bundle"} < {path.name for path in tmp_path.iterdir()}


def test_where_nothing_can_be_written_bundles_are_kept_in_memory(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "file").write_text("no directory")
    cache = FileCache(tmp_path / "file")
    for content in (CONTENT, OTHER_CONTENT):
        cache.put(sha(content), content)
        assert cache.get(sha(content)) == content
    assert list(cache.digests()) == [BUNDLE, OTHER_BUNDLE]
    cache.drop([BUNDLE])
    assert list(cache.digests()) == [OTHER_BUNDLE]
    assert [record.message for record in caplog.records if "in memory only" in record.message] != []
    assert len(caplog.records) == 1, "said once"


def test_unused_bundles_go_each_at_its_own_age(tmp_path: Path, wall: Wall) -> None:
    contents = [str(number) for number in range(20)]
    cache = FileCache(tmp_path, rng=random.Random(1), wall_s=wall)
    for content in contents:
        cache.put(sha(content), content)
    wall.now_s += UNUSED_S - 100
    assert len(list(cache.digests())) == 20
    wall.now_s += UNUSED_S / 2
    assert 2 < len(list(cache.digests())) < 18
    wall.now_s += UNUSED_S
    assert list(cache.digests()) == []


def test_a_clock_that_does_not_know_the_year_throws_nothing_out(tmp_path: Path, wall: Wall) -> None:
    now_s, wall.now_s = wall.now_s, 60.0
    FileCache(tmp_path, wall_s=wall).put(BUNDLE, CONTENT)
    wall.now_s = now_s
    cache = FileCache(tmp_path, wall_s=wall)
    assert list(cache.digests()) == [BUNDLE]
    cache.get(BUNDLE)
    wall.now_s = 60.0
    assert list(cache.digests()) == [BUNDLE]


def test_what_a_clock_ahead_of_its_time_has_dated_ages_from_now_on(tmp_path: Path, wall: Wall) -> None:
    now_s, wall.now_s = wall.now_s, wall.now_s + 10 * 365 * 24 * 3600
    FileCache(tmp_path, wall_s=wall).put(BUNDLE, CONTENT)
    wall.now_s = now_s
    cache = FileCache(tmp_path, bundles_max=2, wall_s=wall)
    assert list(cache.digests()) == [BUNDLE]
    cache.put(OTHER_BUNDLE, OTHER_CONTENT)
    assert list(cache.put(sha(UMLAUTS), UMLAUTS)) == [BUNDLE], "not the newest any more"
    wall.now_s += 2 * UNUSED_S + 100
    assert list(cache.digests()) == []


def test_what_a_killed_writer_left_is_swept_away(tmp_path: Path, wall: Wall) -> None:
    left = tmp_path / f".{BUNDLE}.{7:016x}.tmp"
    left.write_text("half")
    os.utime(left, (wall.now_s, wall.now_s))  # by the test's clock: the machine's goes on meanwhile
    cache = FileCache(tmp_path, wall_s=wall)
    assert list(cache.digests()) == []
    assert left.exists(), "somebody may be writing it"
    wall.now_s += ASIDE_S + 1
    assert list(cache.digests()) == []
    assert not left.exists()


def test_several_on_one_directory_do_no_harm(tmp_path: Path) -> None:
    contents = {sha(str(number)): str(number) for number in range(12)}

    def work(seed: int) -> None:
        rng = random.Random(seed)
        cache = FileCache(tmp_path, bundles_max=6)
        for _ in range(60):
            sha256 = rng.choice(list(contents))
            cache.put(sha256, contents[sha256])
            other = rng.choice(list(contents))
            assert cache.get(other) in (None, contents[other])
            assert set(cache.digests()) <= set(contents)
            cache.drop([rng.choice(list(contents))])

    with ThreadPoolExecutor(4) as pool:
        for done in [pool.submit(work, seed) for seed in range(4)]:
            done.result()
    assert not [path for path in tmp_path.iterdir() if path.suffix != ".bundle"]
