"""The store: what is put comes back or is missing, and is never something else."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from optc.cache import Cache, MemoryStore, digest_of, open_cache, parse_size
from optc.errors import OutputError

DATA = bytes(range(256)) * 8
KEY = digest_of("key")


def entry(cache: Cache, kind: str = "graph", key: str = KEY) -> Path:
    return cache.folder / "v1" / kind / key[:2] / key


def damage(path: Path, number: int) -> None:
    """One of 20 ways in which a file can be other than it was written."""
    data = bytearray(path.read_bytes())
    head = data.index(b"\n") + 1
    if number < 8:  # one bit, in the header and in the content
        data[[0, 15, head // 2, head - 2, head, head + 1, len(data) // 2, -1][number]] ^= (
            1 << number
        )
    elif number < 13:  # cut off
        del data[[0, 1, head, head + 1, len(data) - 1][number - 8] :]
    elif number < 15:  # more at the end
        data += b"\0" * (number - 12)
    elif number < 17:  # a gap
        del data[head + number - 15 : head + number - 13]
    elif number < 19:  # zeros, as of a disk that lost a block
        data[head * (number - 17) :] = bytes(len(data) - head * (number - 17))
    else:  # the length of another
        data = bytearray(data.replace(b" %d\n" % (len(data) - head), b" 7\n"))
    path.write_bytes(data)


def test_what_is_put_comes_back(tmp_path: Path) -> None:
    cache = Cache(tmp_path)
    assert cache.get("graph", KEY) is None
    cache.put("graph", KEY, DATA)
    assert cache.get("graph", KEY) == DATA
    assert Cache(tmp_path).get("graph", KEY) == DATA
    assert cache.get("step", KEY) is None
    assert (cache.hits, cache.misses, cache.damaged) == (1, 2, 0)
    cache.put("graph", KEY, b"")
    assert cache.get("graph", KEY) == b""


def test_files_come_back_as_files(tmp_path: Path) -> None:
    cache = Cache(tmp_path / "cache")
    source = tmp_path / "source"
    source.write_bytes(DATA * 1000)  # more than is read at a time
    cache.put_file("file", KEY, source)
    assert cache.get_file("file", KEY, tmp_path / "copy")
    assert (tmp_path / "copy").read_bytes() == DATA * 1000
    assert not cache.get_file("file", digest_of("other"), tmp_path / "none")
    assert not (tmp_path / "none").exists()


@pytest.mark.parametrize("number", range(20))
def test_damage_is_found_and_removed(tmp_path: Path, number: int) -> None:
    cache = Cache(tmp_path)
    cache.put("graph", KEY, DATA)
    before = entry(cache).read_bytes()
    damage(entry(cache), number)
    assert entry(cache).read_bytes() != before
    assert cache.get("graph", KEY) is None
    assert cache.damaged == 1
    assert not entry(cache).exists()
    cache.put("graph", KEY, DATA)
    assert cache.get("graph", KEY) == DATA


@pytest.mark.parametrize("number", range(20))
def test_damage_of_a_file_leaves_no_copy(tmp_path: Path, number: int) -> None:
    cache = Cache(tmp_path / "cache")
    (tmp_path / "source").write_bytes(DATA)
    cache.put_file("file", KEY, tmp_path / "source")
    damage(entry(cache, "file"), number)
    assert not cache.get_file("file", KEY, tmp_path / "copy")
    assert not (tmp_path / "copy").exists()
    assert cache.damaged == 1


def test_an_entry_under_another_key_or_kind_is_damaged(tmp_path: Path) -> None:
    cache, other = Cache(tmp_path), digest_of("other")
    for kind, key in (("graph", other), ("step", KEY)):
        cache.put("graph", KEY, DATA)
        entry(cache, kind, key).parent.mkdir(parents=True, exist_ok=True)
        entry(cache).rename(entry(cache, kind, key))
        assert cache.get(kind, key) is None
    assert cache.damaged == 2


def test_what_was_read_longest_ago_goes_first(tmp_path: Path) -> None:
    cache = Cache(tmp_path, limit=10_000)
    keys = [digest_of(number) for number in range(4)]
    for number, key in enumerate(keys):
        cache.put("graph", key, bytes(2_000))
        os.utime(entry(cache, "graph", key), (number, number))
    assert cache.get("graph", keys[0]) is not None  # read just now
    cache.put("graph", digest_of("more"), bytes(2_000))
    left = Cache(tmp_path, limit=7_000).trim()
    assert left <= 7_000
    assert cache.get("graph", keys[0]) is not None
    assert cache.get("graph", keys[1]) is None
    assert cache.get("graph", digest_of("more")) is not None


def test_the_limit_holds_while_entries_are_put(tmp_path: Path) -> None:
    cache = Cache(tmp_path, limit=20_000)
    for number in range(50):
        cache.put("graph", digest_of(number), bytes(1_000))
        assert cache.stats().size <= 20_000 + 2_000
    assert cache.get("graph", digest_of(49)) is not None
    cache.put("graph", KEY, bytes(30_000))  # more than all of it
    assert cache.get("graph", KEY) is None


def test_stats_verify_and_clear(tmp_path: Path) -> None:
    cache = Cache(tmp_path)
    (tmp_path / "mine.txt").write_text("not of the cache")
    for number in range(5):
        cache.put("graph" if number % 2 else "step", digest_of(number), DATA)
    stats = cache.stats()
    assert stats.entries == 5
    assert {kind: count for kind, (count, _) in stats.kinds.items()} == {"graph": 2, "step": 3}
    assert stats.to_dict()["bytes"] == stats.size > 5 * len(DATA)
    assert cache.verify() == (5, [])
    damage(entry(cache, "step", digest_of(2)), 6)
    assert cache.verify() == (5, [entry(cache, "step", digest_of(2))])
    assert cache.verify() == (4, [])
    assert cache.clear() == 4
    assert [path.name for path in tmp_path.iterdir()] == ["mine.txt"]


def test_verifying_is_no_use_of_an_entry(tmp_path: Path) -> None:
    cache = Cache(tmp_path)
    cache.put("graph", KEY, DATA)
    os.utime(entry(cache), (7, 7))
    cache.verify()
    assert entry(cache).stat().st_mtime == 7


def test_drafts_of_killed_processes_go(tmp_path: Path) -> None:
    cache = Cache(tmp_path)
    cache.put("graph", KEY, DATA)
    drafts = tmp_path / "v1" / "drafts"
    (drafts / "1-dead").write_bytes(b"half")
    (drafts / "2-alive").write_bytes(b"half")
    os.utime(drafts / "1-dead", (time.time() - 2e5,) * 2)
    cache.trim()
    assert [path.name for path in drafts.iterdir()] == ["2-alive"]


def test_a_store_that_cannot_be_written_says_why_and_is_no_error(tmp_path: Path) -> None:
    (tmp_path / "v1").write_text("a file where the folder should be")
    cache = Cache(tmp_path)
    cache.put("graph", KEY, DATA)
    assert cache.get("graph", KEY) is None
    assert cache.problem is not None
    assert cache.problem.startswith(f"cannot write to {tmp_path}: ")


WRITER = """
import sys
from optc.cache import Cache, digest_of
cache = Cache(sys.argv[1], limit=60_000)
for turn in range(300):
    key = digest_of(turn % 40)
    found = cache.get("graph", key)
    assert found in (None, key.encode() * 30), "a foreign entry"
    cache.put("graph", key, key.encode() * 30)
print(cache.damaged)
"""


def test_processes_share_a_store_without_locks(tmp_path: Path) -> None:
    command = [sys.executable, "-c", WRITER, str(tmp_path)]
    running = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(3)]
    assert [process.communicate()[0] for process in running] == ["0\n"] * 3
    assert [process.returncode for process in running] == [0] * 3
    assert Cache(tmp_path).verify()[1] == []


def test_keys_do_not_depend_on_the_order_of_mappings() -> None:
    assert digest_of({"a": 1, "b": [2]}) == digest_of({"b": [2], "a": 1})
    different = {digest_of(*parts) for parts in (("a", "b"), ("ab",), (["a", "b"],), ("b", "a"))}
    assert len(different) == 4


def test_where_the_cache_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def folder(given: Path | None = None) -> str | None:
        found = open_cache(given)
        return None if found is None else str(found.folder)

    monkeypatch.setenv("OPTC_CACHE_DIR", "off")
    assert folder() is None
    assert folder(tmp_path) == str(tmp_path)
    assert folder(Path("off")) is None
    monkeypatch.setenv("OPTC_CACHE_DIR", "/somewhere")
    assert folder() == "/somewhere"
    monkeypatch.delenv("OPTC_CACHE_DIR")
    monkeypatch.setenv("XDG_CACHE_HOME", "/xdg")
    assert folder() == "/xdg/optc"
    monkeypatch.setenv("XDG_CACHE_HOME", "not/absolute")
    monkeypatch.setenv("HOME", "/home/user")
    assert folder() == "/home/user/.cache/optc"
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputError, match="there is a file where the cache should be"):
        open_cache(tmp_path / "file")


def test_sizes(monkeypatch: pytest.MonkeyPatch) -> None:
    sizes = {"7": 7, "1k": 1024, "2 MiB": 2 << 20, "5G": 5 << 30, "1tb": 1 << 40, "0": 0}
    assert {text: parse_size(text) for text in sizes} == sizes
    for text in ("", "five", "5X", "-1", "1.5G"):
        with pytest.raises(OutputError, match="is no size"):
            parse_size(text)
    monkeypatch.setenv("OPTC_CACHE_SIZE", "3M")
    found = open_cache("x")
    assert found is not None
    assert found.limit == 3 << 20


def test_a_store_in_memory() -> None:
    store = MemoryStore()
    store.put("graph", KEY, DATA)
    assert store.get("graph", KEY) == DATA
    assert store.get("step", KEY) is None
